//! `carnet feed credentials`: gets a credential, from a server or with the local database.

mod format;

use std::time::Duration;

pub(in crate::cli) use self::format::{Format, SecretName};
use super::Credentials;
use crate::api_types::credentials::{CredentialRequest, CredentialResponse};
use crate::audit::{Event, EventKind, Outcome};
use crate::broker::{BrokerError, Served};
use crate::carnet::{Carnet, Config, OpenError};
use crate::cli::failure::CommandFailure;
use crate::cli::{opening, remote};
use crate::exchange::address::Loopback;
use crate::feed::{Feed, FeedPath};
use crate::feeds::FeedsError;
use crate::store::StoreError;
use crate::values::actor::Actor;

pub(in crate::cli) async fn run(
    opening: opening::OpeningOptions,
    arguments: Credentials,
) -> Result<(), CommandFailure> {
    let path = arguments.feed;
    let request = {
        let context = arguments.context.context()?;
        let (repositories, actions) = arguments.scope.lists();
        let min_remaining_seconds = arguments.min_remaining.map(seconds);
        CredentialRequest { min_remaining_seconds, context, repositories, actions }
    };
    request.scope().map_err(|error| CommandFailure::usage(error.to_string()))?;
    let format = arguments.format.named(arguments.secret_name, &path.slug)?;
    let ca_pem =
        arguments.ca_file.as_deref().map(crate::cli::files::read_certificates("--ca-file")).transpose()?;
    let response = match arguments.server.client(opening.local_flag, ca_pem.as_deref())? {
        Some(client) => client
            .credential(&path, &request)
            .await
            .map_err(|error| CommandFailure::credential_of_server(&path, &error))?,
        None => {
            let mut config = opening.config();
            config.transport.extra_ca_pem = ca_pem;
            config.transport.proxy = arguments.proxy.proxy()?;
            if arguments.allow_loopback_endpoints {
                config.transport.loopback = Loopback::Allow;
            }
            local(config, &path, &request).await?
        }
    };
    format::print(&response, format)
}

/// Converts to whole seconds and saturates. No credential lives for `u32::MAX` seconds.
fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// Gets a credential by an exchange in this process.
async fn local(
    config: Config,
    path: &FeedPath,
    request: &CredentialRequest,
) -> Result<CredentialResponse, CommandFailure> {
    let carnet = Carnet::open(config).await.map_err(|error| {
        let is_missing = matches!(error, OpenError::Store(StoreError::Missing(_)) | OpenError::NotSetUp(_));
        let failure = CommandFailure::from(error);
        // A user who has a grant usually has no database.
        if is_missing && remote::has_token_alone() {
            failure.hint("CARNET_TOKEN is set, but no server: name it with --server or CARNET_URL")
        } else {
            failure
        }
    })?;
    let scope = request.scope().map_err(|error| CommandFailure::usage(error.to_string()))?;
    let broker = carnet.broker().map_err(anyhow::Error::new)?;
    let feed = carnet.store().feed(path).await?.ok_or_else(|| FeedsError::Unknown(path.clone()))?;
    let outcome = broker.credential(&feed, &request.context, &scope, request.min_remaining()).await;
    let recorded = carnet.audit_log().record(event(carnet.actor(), &feed, &outcome)).await;
    // The exchange is recorded in the background. Wait until that is written.
    carnet.audit_log().flush().await;
    let served = outcome.map_err(|error| CommandFailure::credential(&feed, &error))?;
    // A credential is printed only if it could be recorded.
    recorded?;
    Ok(CredentialResponse::new(path, &served))
}

/// Returns the audit event for a request with this outcome.
fn event(actor: &Actor, feed: &Feed, outcome: &Result<Served, BrokerError>) -> Event {
    let event = |outcome| Event::new(EventKind::Credential, outcome, actor).about_feed(feed);
    let asked = crate::exchange::asked(feed);
    match outcome {
        Ok(served) => {
            let detail = format!("{asked}{}, expires at {}", served.source, served.credential.expires_at);
            event(Outcome::Done).with_jti(served.jti).detail(&detail)
        }
        Err(error) => {
            let cause =
                std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
            event(Outcome::Failed).detail(&format!("{error}{cause}"))
        }
    }
}
