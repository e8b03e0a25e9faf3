//! `carnet feed credentials`: the main job.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::Credentials;
use crate::actor::Actor;
use crate::audit::{Event, EventKind, Outcome};
use crate::broker::{BrokerError, Served, Source};
use crate::carnet::Carnet;
use crate::cli::failure::Failure;
use crate::cli::{opening, output};
use crate::exchange::address::Loopback;
use crate::exchange::{Secret, StatedExpiry};
use crate::feed::{Feed, FeedPath};
use crate::feeds::FeedsError;
use crate::trust::shell_word;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Format {
    /// A JSON object with the expiry
    Json,
    /// Shell assignments: REGISTRY, REGISTRY_USERNAME, REGISTRY_PASSWORD, REGISTRY_EXPIRES_AT
    Env,
    /// The `auths` of Docker's config.json, also for podman, skopeo and buildah; a registry token stands
    /// there as `registrytoken`, which only some clients read
    DockerConfig,
    /// The password alone, for `docker login --password-stdin`
    Password,
}

/// The credential as the API answers it, with every expiry that the provider stated.
#[derive(Serialize)]
struct Answer<'a> {
    feed: String,
    registry: &'a str,
    #[serde(flatten)]
    secret: Shown<'a>,
    issued_at: Timestamp,
    expires_at: Timestamp,
    expiries: &'a [StatedExpiry],
    source: Source,
    jti: Uuid,
}

/// A secret on its way out.
#[derive(Serialize)]
#[serde(untagged)]
enum Shown<'a> {
    Password { username: &'a str, password: &'a str },
    RegistryToken { registry_token: &'a str },
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
    config.transport.proxy = arguments.proxy.proxy()?;
    if arguments.allow_loopback_endpoints {
        config.transport.loopback = Loopback::Allow;
    }
    let carnet = Carnet::open(config).await?;
    let broker = carnet.broker().map_err(anyhow::Error::new)?;
    let feed = carnet.store().feed(&path).await?.ok_or_else(|| FeedsError::Unknown(path.clone()))?;
    let outcome = broker.credential(&feed, &context, &scope, arguments.min_remaining).await;
    let recorded = carnet.audit_log().record(event(carnet.actor(), &feed, &outcome)).await;
    // How an exchange failed is recorded behind its back.
    carnet.audit_log().flush().await;
    let served = outcome.map_err(|error| Failure::credential(&path, &error))?;
    // What cannot be recorded is not handed out.
    recorded?;
    print(&path, &served, arguments.format)
}

/// What the audit log says of a request that came to this.
fn event(actor: &Actor, feed: &Feed, outcome: &Result<Served, BrokerError>) -> Event {
    let event = |outcome| Event::new(EventKind::Credential, outcome, actor).about_feed(feed);
    match outcome {
        Ok(served) => {
            let detail = format!("{}, expires at {}", served.source, served.credential.expires_at);
            event(Outcome::Done).with_jti(served.jti).detail(&detail)
        }
        Err(error) => {
            let cause =
                std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
            event(Outcome::Failed).detail(&format!("{error}{cause}"))
        }
    }
}

fn print(feed: &FeedPath, served: &Served, format: Format) -> Result<(), Failure> {
    let credential = &served.credential;
    let registry = credential.registry.as_str();
    let secret = match &credential.secret {
        Secret::Password { username, password } => Shown::Password { username, password: password.reveal() },
        Secret::RegistryToken(token) => Shown::RegistryToken { registry_token: token.reveal() },
    };
    match (format, secret) {
        (Format::Json, secret) => output::json(&Answer {
            feed: feed.to_string(),
            registry,
            secret,
            issued_at: credential.issued_at,
            expires_at: credential.expires_at,
            expiries: &credential.expiries,
            source: served.source,
            jti: served.jti,
        }),
        (Format::Env, Shown::Password { username, password }) => output::line(&format!(
            "REGISTRY={}\nREGISTRY_USERNAME={}\nREGISTRY_PASSWORD={}\nREGISTRY_EXPIRES_AT={}",
            shell_word(registry),
            shell_word(username),
            shell_word(password),
            shell_word(&credential.expires_at.to_string()),
        )),
        (Format::DockerConfig, Shown::Password { username, password }) => {
            let auth = STANDARD.encode(format!("{username}:{password}"));
            output::json(&json!({ "auths": { registry: { "auth": auth } } }))
        }
        (Format::DockerConfig, Shown::RegistryToken { registry_token }) => {
            output::json(&json!({ "auths": { registry: { "registrytoken": registry_token } } }))
        }
        (Format::Password, Shown::Password { password, .. }) => output::line(password),
        (Format::Env | Format::Password, Shown::RegistryToken { .. }) => Err(Failure::message(format!(
            "feed {feed}: a credential for some repositories of {registry} is a registry token, not a user name and \
             a password"
        ))
        .hint(
            "take it with --format json or docker-config, for clients that send it as it is; or leave \
             --repository off, and have the identity's role limit what the password may do",
        )),
    }
}
