//! `carnet feed credentials`: the main job.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::Credentials;
use crate::broker::{Served, Source};
use crate::carnet::Carnet;
use crate::cli::failure::Failure;
use crate::cli::{opening, output};
use crate::exchange::StatedExpiry;
use crate::exchange::address::Loopback;
use crate::feed::FeedPath;
use crate::feeds::FeedsError;
use crate::trust::shell_word;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Format {
    /// A JSON object with the expiry
    Json,
    /// Shell assignments: REGISTRY, REGISTRY_USERNAME, REGISTRY_PASSWORD, REGISTRY_EXPIRES_AT
    Env,
    /// The `auths` of Docker's config.json, also for podman, skopeo and buildah
    DockerConfig,
    /// The password alone, for `docker login --password-stdin`
    Password,
}

/// The credential as the API answers it, with every expiry that the provider stated.
#[derive(Serialize)]
struct Answer<'a> {
    feed: String,
    registry: &'a str,
    username: &'a str,
    password: &'a str,
    issued_at: Timestamp,
    expires_at: Timestamp,
    expiries: &'a [StatedExpiry],
    source: Source,
    jti: Uuid,
}

pub(in crate::cli) async fn run(
    opening: opening::OpeningOptions,
    arguments: Credentials,
) -> Result<(), Failure> {
    let path = arguments.feed;
    let context = arguments.context.context()?;
    let scope = arguments.scope.scope()?;
    let mut config = opening.config();
    config.transport.extra_ca_pem =
        arguments.ca_file.as_deref().map(crate::cli::read_file("--ca-file")).transpose()?;
    if arguments.allow_loopback_endpoints {
        config.transport.loopback = Loopback::Allow;
    }
    let carnet = Carnet::open(config).await?;
    let broker = carnet.broker().map_err(anyhow::Error::new)?;
    let feed = carnet.store().feed(&path).await?.ok_or_else(|| FeedsError::Unknown(path.clone()))?;
    let served = broker
        .credential(&feed, &context, &scope, arguments.min_remaining)
        .await
        .map_err(|error| Failure::credential(&path, &error))?;
    print(&path, &served, arguments.format)
}

fn print(feed: &FeedPath, served: &Served, format: Format) -> Result<(), Failure> {
    let credential = &served.credential;
    let (registry, username, password) =
        (credential.registry.as_str(), credential.username.as_str(), credential.password.reveal());
    match format {
        Format::Json => output::json(&Answer {
            feed: feed.to_string(),
            registry,
            username,
            password,
            issued_at: credential.issued_at,
            expires_at: credential.expires_at,
            expiries: &credential.expiries,
            source: served.source,
            jti: served.jti,
        }),
        Format::Env => output::line(&format!(
            "REGISTRY={}\nREGISTRY_USERNAME={}\nREGISTRY_PASSWORD={}\nREGISTRY_EXPIRES_AT={}",
            shell_word(registry),
            shell_word(username),
            shell_word(password),
            shell_word(&credential.expires_at.to_string()),
        )),
        Format::DockerConfig => {
            let auth = STANDARD.encode(format!("{username}:{password}"));
            output::json(&json!({ "auths": { registry: { "auth": auth } } }))
        }
        Format::Password => output::line(password),
    }
}
