//! Publication targets for copies of the public documents: a folder, or a prefix in an object store.
//!
//! A target URL cannot hold credentials; they come from the environment.

use std::fmt;
use std::path::{Path, PathBuf, absolute};
use std::str::FromStr;

use serde::Serialize;

use crate::values::excerpt::excerpt;

/// The maximum length of a target URL, in bytes.
const LONGEST: usize = 512;

/// A target that represents the issuer URL: the documents are published below it, at their well-known paths.
///
/// Each target has exactly one text, which is stored and compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub enum TargetUrl {
    /// A folder of this machine, by its absolute path.
    Folder(PathBuf),
    /// A prefix in an object store.
    Objects {
        /// The object store.
        service: ObjectService,
        /// The bucket or container.
        bucket: String,
        /// The prefix of every object's name: empty, or segments with `/` between them.
        prefix: String,
    },
}

/// An object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectService {
    /// Amazon S3 and stores that speak its protocol.
    S3,
    /// Google Cloud Storage.
    Google,
    /// Azure Blob Storage.
    Azure,
}

impl ObjectService {
    const ALL: [Self; 3] = [Self::S3, Self::Google, Self::Azure];

    fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Google => "gs",
            Self::Azure => "az",
        }
    }
}

/// The reason why a text is not a target URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetUrlError {
    /// The text is empty or longer than 512 bytes.
    #[error("a target is a folder, s3://BUCKET, gs://BUCKET or az://CONTAINER, of at most {LONGEST} bytes")]
    Length,
    /// The scheme is not one of the known ones.
    #[error("{scheme} is not the scheme of a target: use a folder, s3://, gs:// or az://")]
    UnknownScheme {
        /// The scheme.
        scheme: String,
    },
    /// The bucket or container name is malformed.
    #[error(
        "the bucket or container {bucket} must have 3 to 63 lower-case letters, digits, `-`, `.` or `_`, and neither \
         user nor port: credentials come from the environment"
    )]
    Bucket {
        /// An excerpt of the text after the scheme.
        bucket: String,
    },
    /// The path after the bucket is malformed.
    #[error(
        "the path after the bucket must consist of letters, digits, `-`, `.`, `_` and `~` between single slashes, \
         without `.` or `..` alone: it is part of the issuer URL that clouds fetch"
    )]
    Prefix,
    /// The folder cannot be made absolute, or its path has control characters or is not Unicode.
    #[error(
        "the folder's name must be text without control characters, and its path must be one that can be \
         made absolute"
    )]
    Folder,
}

impl FromStr for TargetUrl {
    type Err = TargetUrlError;

    /// Parses a target. A relative folder is resolved against the current folder and becomes absolute.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text.len() > LONGEST {
            return Err(TargetUrlError::Length);
        }
        let Some((scheme, rest)) = text.split_once("://") else { return folder(Path::new(text)) };
        let service = ObjectService::ALL.into_iter().find(|service| service.scheme() == scheme);
        let service = service.ok_or_else(|| TargetUrlError::UnknownScheme { scheme: excerpt(scheme) })?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_bucket = (3..=63).contains(&bucket.len())
            && bucket.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_'));
        if !is_bucket {
            return Err(TargetUrlError::Bucket { bucket: excerpt(rest) });
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let is_segment = |segment: &str| {
            !matches!(segment, "" | "." | "..")
                && segment
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
        };
        if !prefix.is_empty() && !prefix.split('/').all(is_segment) {
            return Err(TargetUrlError::Prefix);
        }
        Ok(Self::Objects { service, bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

fn folder(path: &Path) -> Result<TargetUrl, TargetUrlError> {
    let path = absolute(path).map_err(|_| TargetUrlError::Folder)?;
    match path.to_str() {
        Some(text) if !text.chars().any(char::is_control) => Ok(TargetUrl::Folder(path)),
        _ => Err(TargetUrlError::Folder),
    }
}

impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Objects { service, bucket, prefix } => {
                let slash = if prefix.is_empty() { "" } else { "/" };
                write!(f, "{}://{bucket}{slash}{prefix}", service.scheme())
            }
        }
    }
}

impl From<TargetUrl> for String {
    fn from(url: TargetUrl) -> Self {
        url.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_one_text() {
        for (text, expected) in [
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("gs://my.bucket_1/a/b.c/", "gs://my.bucket_1/a/b.c"),
            ("az://container/issuer", "az://container/issuer"),
            ("/srv/www", "/srv/www"),
        ] {
            let url: TargetUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), expected);
            assert_eq!(expected.parse(), Ok(url));
        }
    }

    #[test]
    fn a_folder_is_absolute_once_it_is_parsed() {
        let TargetUrl::Folder(path) = "public".parse().unwrap() else { panic!() };
        assert!(path.is_absolute() && path.ends_with("public"));
    }

    #[test]
    fn an_invalid_target_is_refused_and_user_info_is_not_repeated() {
        for text in [
            "",
            "s3://",
            "s3://ab",
            "s3://UPPER",
            "s3://bucket:9000",
            "s3://bucket//a",
            "s3://bucket/a//b",
            "s3://bucket/../a",
            "s3://bucket/a?sig=secret",
            "s3://bucket/a#b",
            "s3://bucket/a%2fb",
            "s3://bucket/a b",
            "https://bucket.example/a",
            "S3://bucket",
            "file:///srv",
            "a\nb",
            &"a".repeat(LONGEST + 1),
        ] {
            assert!(text.parse::<TargetUrl>().is_err(), "{text}");
        }
        let error = "s3://user:password@bucket/a".parse::<TargetUrl>().unwrap_err().to_string();
        assert!(!error.contains("password"), "{error}");
    }
}
