//! Pulls a small part of an image: its manifest, and the first bytes of its first layer.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;

use super::Failed;
use super::registry::{Purpose, Registry, Wanted};
use crate::diagnosis::{Cause, registry as causes};
use crate::feed::registry_host::RegistryHost;
use crate::feed::scope::{RepositoryName, RepositoryNameError};
use crate::values::excerpt::excerpt;

/// The number of bytes to read of the layer.
const FIRST_BYTES: usize = 512;

/// The media types of manifests and indexes, of OCI and of Docker.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json";

/// The maximum number of manifests to follow. An index may name another index, but real chains are shorter.
const LONGEST_CHAIN: usize = 4;

/// An image in one registry: `NAME`, `NAME:TAG`, `NAME@DIGEST` or `NAME:TAG@DIGEST`. The digest takes
/// precedence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageReference {
    name: RepositoryName,
    /// A tag, or a digest.
    reference: String,
}

/// A text that is not a valid [`ImageReference`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageReferenceError {
    /// The name is invalid.
    #[error(transparent)]
    Name(#[from] RepositoryNameError),
    /// It begins with another registry's name.
    #[error(
        "it names the registry {other}, and this feed's is {registry}: leave the registry out, or write \
         {registry}/{other}/… if that is the name of a repository there"
    )]
    OtherRegistry {
        /// The registry that it names.
        other: String,
        /// The feed's registry.
        registry: RegistryHost,
    },
    /// The tag is invalid.
    #[error("a tag has 1 to 128 letters, digits, “_”, “.” and “-”, and does not begin with “.” or “-”")]
    Tag,
    /// The digest is invalid.
    #[error("a digest is sha256: and 64 hexadecimal digits in lower case")]
    Digest,
}

impl ImageReference {
    /// Parses an image name as tools write it: it may begin with `docker://` or `oci://`, and with the name
    /// of `registry`. The default tag is `latest`.
    ///
    /// # Errors
    ///
    /// Returns [`ImageReferenceError`] if the text does not match OCI's grammar, or names another registry.
    pub fn parse(text: &str, registry: &RegistryHost) -> Result<Self, ImageReferenceError> {
        let text =
            ["docker://", "oci://"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
        let prefix = format!("{registry}/");
        let text = match text.strip_prefix(prefix.as_str()) {
            Some(own) => own,
            None => match text.split_once('/') {
                // Docker's rule to distinguish a registry from a repository.
                Some((other, _)) if other.contains(['.', ':']) || other == "localhost" => {
                    let (other, registry) = (excerpt(other), registry.clone());
                    return Err(ImageReferenceError::OtherRegistry { other, registry });
                }
                _ => text,
            },
        };
        let (name, reference) = if let Some((name, digest)) = text.split_once('@') {
            let digest = is_digest(digest).then_some(digest).ok_or(ImageReferenceError::Digest)?;
            let name = match name.split_once(':') {
                Some((name, tag)) => is_tag(tag).then_some(name).ok_or(ImageReferenceError::Tag)?,
                None => name,
            };
            (name, digest)
        } else if let Some((name, tag)) = text.split_once(':') {
            (name, is_tag(tag).then_some(tag).ok_or(ImageReferenceError::Tag)?)
        } else {
            (text, "latest")
        };
        Ok(Self { name: name.parse()?, reference: reference.to_owned() })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if is_digest(&self.reference) { '@' } else { ':' };
        write!(f, "{}{separator}{}", self.name, self.reference)
    }
}

fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Gets the image's manifest and the beginning of the first layer that the registry holds. Returns a
/// description of both.
pub(super) async fn pull(registry: &mut Registry<'_>, image: &ImageReference) -> Result<String, Failed> {
    let (mut digest, mut manifest) = manifest(registry, image, &image.reference).await?;
    let mut names = 1;
    while let Some(platforms) = manifest["manifests"].as_array() {
        if platforms.is_empty() {
            return Err(unpullable(image, "its index is empty", causes::of_empty_index()));
        }
        if names == LONGEST_CHAIN {
            return Err(broken(registry, image, "its indexes refer to one another in a circle"));
        }
        names += 1;
        // Any platform will do; most images have this one.
        let usual = |entry: &&Value| {
            entry["platform"]["os"] == "linux" && entry["platform"]["architecture"] == "amd64"
        };
        let entry = platforms.iter().find(usual).or(platforms.first());
        let named = entry.and_then(|entry| entry["digest"].as_str()).filter(|digest| is_digest(digest));
        let Some(named) = named.map(ToOwned::to_owned) else {
            return Err(broken(registry, image, "its index names no manifest"));
        };
        (digest, manifest) = self::manifest(registry, image, &named).await?;
    }
    let Some(layers) = manifest["layers"].as_array() else {
        return Err(broken(registry, image, "its manifest has an unknown media type"));
    };
    if layers.is_empty() {
        return Ok(format!("manifest {digest}, which has no layer"));
    }
    // Windows images begin with layers that only Microsoft distributes.
    let Some(layer) = layers.iter().find(|layer| !is_foreign(layer)) else {
        return Ok(format!("manifest {digest}, all of whose layers are stored elsewhere"));
    };
    let Some(layer) = layer["digest"].as_str().filter(|digest| is_digest(digest)).map(ToOwned::to_owned)
    else {
        return Err(broken(registry, image, "its layer has no sha256 digest"));
    };
    let path = format!("/v2/{}/blobs/{layer}", image.name);
    let wanted = Wanted { first_bytes: Some(FIRST_BYTES), ..Wanted::default() };
    let name = image.to_string();
    let response = registry.get(Purpose::Pull(&name), &path, &wanted).await?;
    if !response.status().is_success() {
        return Err(registry.refused(Purpose::Pull(&name), &response));
    }
    Ok(format!("manifest {digest}, {} bytes of layer {layer}", response.body().len()))
}

/// Returns whether the registry does not hold the layer: its descriptor has external URLs, or a media type
/// for such layers.
fn is_foreign(layer: &Value) -> bool {
    let media_type = layer["mediaType"].as_str().unwrap_or_default();
    layer["urls"].as_array().is_some_and(|urls| !urls.is_empty())
        || media_type.contains(".foreign.")
        || media_type.contains(".nondistributable.")
}

/// Fetches a manifest and returns it with its digest. If `reference` is a digest, both must be equal.
async fn manifest(
    registry: &mut Registry<'_>,
    image: &ImageReference,
    reference: &str,
) -> Result<(String, Value), Failed> {
    let path = format!("/v2/{}/manifests/{reference}", image.name);
    let wanted = Wanted { accept: Some(MANIFESTS), ..Wanted::default() };
    let name = image.to_string();
    let response = registry.get(Purpose::Pull(&name), &path, &wanted).await?;
    if !response.status().is_success() {
        return Err(registry.refused(Purpose::Pull(&name), &response));
    }
    let hash = digest(&SHA256, response.body());
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let found = format!("sha256:{hex}");
    if is_digest(reference) && reference != found {
        return Err(broken(registry, image, "the content received does not have the requested digest"));
    }
    match serde_json::from_slice(response.body()) {
        Ok(manifest) => Ok((found, manifest)),
        Err(_) => Err(registry.refused(Purpose::Pull(&name), &response)),
    }
}

fn broken(registry: &Registry<'_>, image: &ImageReference, why: &str) -> Failed {
    unpullable(image, why, causes::of_pull(&image.to_string(), None, None, "", registry.feed))
}

fn unpullable(image: &ImageReference, why: &str, causes: Vec<Cause>) -> Failed {
    Failed::new(format!("{image} cannot be pulled: {why}"), causes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_read_by_ocis_grammar_with_or_without_their_registry() {
        let registry: RegistryHost = "r.example:5000".parse().unwrap();
        let hex = "0".repeat(64);
        for (text, read) in [
            ("app", Some("app:latest".to_owned())),
            ("team/app:v1", Some("team/app:v1".to_owned())),
            ("r.example:5000/app:v1", Some("app:v1".to_owned())),
            (&format!("app@sha256:{hex}"), Some(format!("app@sha256:{hex}"))),
            (&format!("app:v1@sha256:{hex}"), Some(format!("app@sha256:{hex}"))),
            (&format!("r.example:5000/a/app:v1@sha256:{hex}"), Some(format!("a/app@sha256:{hex}"))),
            ("docker://r.example:5000/app:v1", Some("app:v1".to_owned())),
            ("oci://r.example:5000/charts/app", Some("charts/app:latest".to_owned())),
            ("r.example:5000/quay.io/team/app:v1", Some("quay.io/team/app:v1".to_owned())),
            ("other.example:5000/app", None),
            ("other.example/app", None),
            ("localhost/app", None),
            (&format!("app:.x@sha256:{hex}"), None),
            ("https://r.example:5000/app", None),
            ("app:", None),
            ("app:.x", None),
            ("app:../../etc", None),
            ("app@sha256:abc", None),
            ("app/../x", None),
            ("App", None),
            ("", None),
        ] {
            let parsed = ImageReference::parse(text, &registry).ok();
            assert_eq!(parsed.map(|image| image.to_string()), read, "{text}");
        }
    }

    #[test]
    fn another_registrys_name_is_distinguished_from_a_repository() {
        let registry: RegistryHost = "r.example".parse().unwrap();
        let refused =
            ImageReference::parse("docker://quay.io/team/app:v1", &registry).unwrap_err().to_string();
        assert_eq!(
            refused,
            "it names the registry \"quay.io\", and this feed's is r.example: leave the registry out, or \
             write r.example/\"quay.io\"/… if that is the name of a repository there"
        );
    }
}
