//! The formats in which a credential is printed.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::api_types::credentials::CredentialResponse;
use crate::cli::failure::CommandFailure;
use crate::cli::output;
use crate::values::shell::quoted;
use crate::values::slug::Slug;
use crate::values::visible::is_hidden;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Format {
    /// A JSON object with the expiry
    Json,
    /// Shell assignments: REGISTRY, REGISTRY_USERNAME, REGISTRY_PASSWORD, REGISTRY_EXPIRES_AT
    Env,
    /// The `auths` of Docker's config.json, also for podman, skopeo and buildah; a registry token is its
    /// `registrytoken`, which only some clients read
    DockerConfig,
    /// A Kubernetes Secret of type kubernetes.io/dockerconfigjson, for `kubectl apply -f -`
    K8sSecret,
    /// Only the password, for `docker login --password-stdin`
    Password,
}

/// The name of a Kubernetes Secret: a DNS subdomain (RFC 1123).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct SecretName(String);

/// A text is not a valid name of a Secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a Secret's name is 1–253 of a-z, 0-9, - and ., where each part between dots begins and ends with a \
     letter or digit"
)]
pub(in crate::cli) struct SecretNameError;

impl FromStr for SecretName {
    type Err = SecretNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_end = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_label = |label: &str| match label.as_bytes() {
            [only] => is_end(*only),
            [first, inner @ .., last] => {
                is_end(*first) && is_end(*last) && inner.iter().all(|byte| is_end(*byte) || *byte == b'-')
            }
            [] => false,
        };
        match text.len() <= 253 && text.split('.').all(is_label) {
            true => Ok(Self(text.to_owned())),
            false => Err(SecretNameError),
        }
    }
}

/// A format with its parameters.
#[derive(Debug)]
pub(super) enum Printed {
    Json,
    Env,
    DockerConfig,
    Secret { name: String },
    Password,
}

impl Format {
    /// Adds the name of the Secret: `name`, or the feed's slug, which is always a valid one.
    pub(super) fn named(self, name: Option<SecretName>, slug: &Slug) -> Result<Printed, CommandFailure> {
        match (self, name) {
            (Self::K8sSecret, Some(SecretName(name))) => Ok(Printed::Secret { name }),
            (Self::K8sSecret, None) => Ok(Printed::Secret { name: slug.to_string() }),
            (_, Some(_)) => {
                Err(CommandFailure::usage("--secret-name: only --format k8s-secret prints a Secret"))
            }
            (Self::Json, None) => Ok(Printed::Json),
            (Self::Env, None) => Ok(Printed::Env),
            (Self::DockerConfig, None) => Ok(Printed::DockerConfig),
            (Self::Password, None) => Ok(Printed::Password),
        }
    }
}

pub(super) fn print(response: &CredentialResponse, format: Printed) -> Result<(), CommandFailure> {
    if let Printed::Json = format {
        return output::secret_json(response);
    }
    let registry = response.registry.as_str();
    let login = response.username.as_deref().zip(response.password.as_ref());
    let Some((username, password)) = login.map(|(username, password)| (username, password.reveal())) else {
        return print_token(response, &format);
    };
    // Escaping would change a password with such characters.
    if matches!(format, Printed::Env | Printed::Password)
        && [username, password].iter().any(|text| text.contains(is_hidden))
    {
        return Err(CommandFailure::message(format!(
            "feed {}: the user name or the password holds control or hidden characters, which this format cannot show",
            response.feed
        ))
        .hint("--format json and docker-config can"));
    }
    match format {
        Printed::Json => output::secret_json(response),
        Printed::Env => output::secret_line(&format!(
            "REGISTRY={}\nREGISTRY_USERNAME={}\nREGISTRY_PASSWORD={}\nREGISTRY_EXPIRES_AT={}",
            quoted(registry),
            quoted(username),
            quoted(password),
            quoted(&response.expires_at.to_string()),
        )),
        Printed::DockerConfig => output::secret_json(&docker_config(registry, username, password)),
        Printed::Secret { name } => {
            let config = docker_config(registry, username, password).to_string();
            output::secret_json(&json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {
                    "name": name,
                    // An annotation for people and controllers, because Kubernetes does not know that the
                    // credential expires.
                    "annotations": { "carnet/expires-at": response.expires_at.to_string() },
                },
                "type": "kubernetes.io/dockerconfigjson",
                "data": { ".dockerconfigjson": STANDARD.encode(config) },
            }))
        }
        Printed::Password => output::secret_line(password),
    }
}

fn docker_config(registry: &str, username: &str, password: &str) -> Value {
    let auth = STANDARD.encode(format!("{username}:{password}"));
    json!({ "auths": { registry: { "auth": auth } } })
}

/// Prints a registry token, if the format has a field for it.
fn print_token(response: &CredentialResponse, format: &Printed) -> Result<(), CommandFailure> {
    let CredentialResponse { feed, registry, .. } = response;
    match (format, &response.registry_token) {
        (Printed::DockerConfig, Some(token)) => {
            output::secret_json(&json!({ "auths": { registry: { "registrytoken": token.reveal() } } }))
        }
        _ => Err(CommandFailure::message(format!(
            "feed {feed}: a credential for some repositories of {registry} is a registry token, not a user name and \
             a password"
        ))
        .hint(
            "use --format json or docker-config, for clients that send it as it is; or leave --repository \
             off, and have the identity's role limit what the password may do",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_secret_is_a_dns_subdomain_and_every_slug_is_one() {
        let longest = format!("{}.{}", "a".repeat(126), "b".repeat(126));
        for name in ["a", "pull-secret", "a.b-c.d0", "0", &longest, &"s".repeat(50)] {
            assert!(name.parse::<SecretName>().is_ok(), "{name}");
        }
        let long = format!("{longest}c");
        for name in ["", "A", "a_b", "-a", "a-", "a..b", ".a", "a.", "a/b", "a b", "ä", "a\n", &long] {
            assert_eq!(name.parse::<SecretName>(), Err(SecretNameError), "{name:?}");
        }
    }
}
