//! `carnet key revoke`: removes a leaked key from the JWKS at once.

use std::collections::BTreeSet;

use clap::Args;
use jiff::Timestamp;

use crate::carnet::Carnet;
use crate::cli::failure::CommandFailure;
use crate::cli::{confirm, output, times};
use crate::issuer::KeySet;
use crate::jose::jwk::Kid;
use crate::signing_keys::publication::{KeyLocation, missing_at, still_at};
use crate::signing_keys::rotation::{Change, UnknownKey, safe_at};
use crate::signing_keys::{self, SigningKey, Stage, State};
use crate::store::jwks_clients::JwksClient;

#[derive(Debug, Args)]
#[group(required = true, multiple = false, id = "what")]
pub(in crate::cli) struct Revoke {
    /// The key
    // One `kid` in 64 begins with a hyphen.
    #[arg(value_name = "KID", group = "what", allow_hyphen_values = true)]
    kid: Option<Kid>,
    /// Every key, for a database or master key that has leaked, and the prepared keys with it
    #[arg(long, group = "what")]
    all: bool,
    /// Do not show verifiers the token that makes them fetch the JWKS again
    #[arg(long)]
    no_nudge: bool,
    #[command(flatten)]
    confirm: confirm::Confirmation,
}

/// The limits of a revocation, and the commands that end the trust in each cloud.
const BEYOND: &str = "\
No revocation undoes what was already issued: role sessions, access tokens and registry logins obtained with the key \
live until they expire by themselves.
Most verifiers fetch the key set again only for a kid that they do not know. Such a verifier continues to accept the \
revoked key until it sees a token signed with a new key: in principle until the key that is prepared now signs. The \
nudge sends such a token to the verifiers of this issuer's feeds; it cannot reach verifiers that carnet does not \
know, and not every cloud documents that it fetches for it. To cut trust at once, there:
  AWS     aws iam delete-open-id-connect-provider --open-id-connect-provider-arn ARN
          (and, for sessions that exist: attach AWSRevokeOlderSessions to the role)
  Azure   az ad app federated-credential delete --id APP --federated-credential-id NAME
  Google  gcloud iam workload-identity-pools providers update-oidc NAME --workload-identity-pool POOL \
--location global --disabled";

pub(super) async fn run(carnet: &Carnet, arguments: Revoke) -> Result<(), CommandFailure> {
    let now = carnet.clock().now();
    let key_set = carnet.issuer().key_set();
    let silent = carnet.rotator().without_nudges();
    let rotator = if arguments.no_nudge { &silent } else { carnet.rotator().as_ref() };
    let rotation = match &arguments.kid {
        Some(kid) => {
            let key = key_set.keys.iter().find(|key| key.kid() == *kid);
            let key = key.ok_or_else(|| {
                CommandFailure::from(crate::issuer::rotator::RotationError::from(UnknownKey(kid.clone())))
            })?;
            if !key.is_published(now) {
                output::note(&format!("Nothing to do: {kid} is {} already.", key.state(now).as_str()));
                return Ok(());
            }
            let clients = carnet.store().jwks_clients().await?;
            arguments.confirm.confirm(&format!(
                "{}\n{}{}",
                consequence(key, &key_set, now),
                known_to(key, &clients),
                uploaded(&key_set)
            ))?;
            rotator.revoke(kid, &super::actor()).await?
        }
        None => {
            let text = format!("{}{}", consequence_of_all(&key_set, now), uploaded(&key_set));
            arguments.confirm.confirm(&text)?;
            rotator.revoke_all(&key_set.active_kids(), &super::actor()).await?
        }
    };
    if rotation.changes.is_empty() {
        output::note("Nothing to do: this has just been done by another request.");
        return Ok(());
    }
    for change in &rotation.changes {
        output::note(&account(change));
    }
    carnet.issuer().refresh().await?;
    if let Some(text) = still_published(&carnet.issuer().key_set()) {
        output::note(&text);
    }
    output::note(BEYOND);
    super::report_erasure(carnet).await?;
    if arguments.no_nudge {
        output::note(super::nudge::NONE);
        return Ok(());
    }
    let algorithms: BTreeSet<_> = rotation.changes.iter().map(Change::algorithm).collect();
    super::nudge::follow_up(carnet, &algorithms).await
}

fn consequence(key: &SigningKey, key_set: &KeySet, now: Timestamp) -> String {
    let policy = &key_set.settings.policy;
    let (kid, algorithm) = (key.kid(), key.algorithm());
    let published = times::relative(key.prepared_at, now);
    let caches = format!(
        "Verifiers that fetch again when the documents' max-age is over accept it for up to {} s more. Most \
         fetch again only for a kid that they do not know, and accept it until they see one: in principle \
         until the next new key signs. The nudge that follows sends them one.",
        policy.jwks_max_age().as_secs()
    );
    match key.stage {
        Stage::Active { .. } => {
            let successor = signing_keys::prepared(&key_set.keys, algorithm).map(|next| {
                let kid = next.kid();
                match (next.published_at, safe_at(next, policy)) {
                    (Some(_), Some(safe_at)) if safe_at <= now => {
                        format!("{kid} takes over; verifiers know it already.")
                    }
                    (Some(published_at), Some(safe_at)) => format!(
                        "{kid} takes over. It has been published since {published_at} only: a verifier whose key set \
                         is older refuses new {algorithm} tokens until it fetches again, at the latest {}.",
                        times::relative(safe_at, now)
                    ),
                    _ => format!(
                        "{kid} takes over. It is not published everywhere: {algorithm} tokens are not \
                         minted, or are refused, until {} shows it.",
                        super::names(&missing_at(next, &key_set.locations))
                    ),
                }
            });
            format!(
                "{kid} signs {algorithm} tokens and was published {published}. It leaves the JWKS at once, and every \
                 token that it has signed stops verifying as verifiers fetch again; such tokens live until {} at the \
                 latest.\n{caches}\n{}",
                now.saturating_add(key.longest_lifetime).unwrap_or(Timestamp::MAX),
                successor.unwrap_or_else(
                    || "No key is prepared: one that no verifier has seen takes over.".to_owned()
                )
            )
        }
        Stage::Prepared => format!(
            "{kid} is the prepared {algorithm} key, published {published}; it has signed nothing. It is replaced, \
             and the new one waits its {} s before it may sign.\n{caches}",
            policy.propagation().as_secs()
        ),
        Stage::Retired { published_until, .. } => format!(
            "{kid} no longer signs; its last tokens would verify until {published_until}. They stop \
             verifying as verifiers fetch again.\n{caches}"
        ),
        Stage::Revoked { .. } => String::new(),
    }
}

/// Lists the clients that may hold the key: those that have fetched the JWKS since it was published.
fn known_to(key: &SigningKey, clients: &[JwksClient]) -> String {
    const SHOWN: usize = 8;
    let names: Vec<&str> = clients
        .iter()
        .filter(|client| client.last_fetched_at >= key.prepared_at)
        .map(|client| client.user_agent.as_str())
        .collect();
    match names.len() {
        0 => "No client is known to have fetched it.".to_owned(),
        count => {
            let more = if count > SHOWN { ", …" } else { "" };
            format!("{count} clients have fetched it: {}{more}.", names[..count.min(SHOWN)].join(", "))
        }
    }
}

/// Lists the feeds whose verifier accepts the key until somebody uploads another JWKS. All algorithms count:
/// the key can sign tokens with any feed's subject.
fn uploaded(key_set: &KeySet) -> String {
    let given = key_set.locations.iter().filter(|location| !location.is_copy());
    let lines = given.map(|location| {
        format!(
            "\nThe JWKS uploaded for {} may hold it. If so, Google accepts it until the JWKS is uploaded \
             again, as `carnet {}` prints after the revocation.",
            location.name,
            location.name.replacen("feed ", "feed setup ", 1)
        )
    });
    lines.collect()
}

/// Names the targets that still show revoked keys.
fn still_published(key_set: &KeySet) -> Option<String> {
    let mut showing: Vec<&KeyLocation> =
        key_set.keys.iter().flat_map(|key| still_at(key, &key_set.locations)).collect();
    showing.sort_by_key(|location| &location.name);
    showing.dedup();
    (!showing.is_empty()).then(|| {
        format!(
            "Still published at {}: a server that runs with --publish writes there next; without one, `carnet publish \
             TARGET` does.",
            super::names(&showing)
        )
    })
}

fn consequence_of_all(key_set: &KeySet, now: Timestamp) -> String {
    let published =
        key_set.keys.iter().filter(|key| key.state(now) != State::Pruned && key.is_published(now));
    format!(
        "All {} published keys leave the JWKS at once and are replaced by keys that no verifier has seen. \
         Every token that exists stops verifying, and new tokens are refused, by each verifier until it \
         fetches again: most do for a token of a key that they do not know, such as the nudge that follows \
         sends them; those that fetch by time do so in {} s at the latest.",
        published.count(),
        key_set.settings.policy.propagation().as_secs()
    )
}

pub(in crate::cli) fn account(change: &Change) -> String {
    match change {
        Change::RevokeActive { algorithm, revoke, promote } => {
            format!("{algorithm}: {revoke} is out of the JWKS and destroyed. {promote} signs from now on.")
        }
        Change::RevokePrepared { algorithm, revoke } => {
            format!(
                "{algorithm}: {revoke} is out of the JWKS and destroyed; another key is prepared in its place."
            )
        }
        Change::RevokeRetired { algorithm, revoke } => format!("{algorithm}: {revoke} is out of the JWKS."),
        Change::ReplaceAll { algorithm, revoke } => {
            format!(
                "{algorithm}: {} keys are out of the JWKS and destroyed; new ones are in their place.",
                revoke.len()
            )
        }
        Change::Found { algorithm } | Change::Rotate { algorithm, .. } => algorithm.to_string(),
    }
}
