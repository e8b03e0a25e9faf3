//! `carnet key list`.

use clap::Args;
use jiff::Timestamp;

use crate::api_types::signing_keys::{self, SeenBy, SigningKeyResponse};
use crate::carnet::Carnet;
use crate::cli::failure::CommandFailure;
use crate::cli::output::{self, Format};
use crate::cli::times;
use crate::grant::Permissions;
use crate::issuer::KeySet;
use crate::jose::Algorithm;
use crate::jose::jwk::Kid;
use crate::signing_keys::publication::missing_at;
use crate::signing_keys::{State, prepared};
use crate::store::jwks_clients::JwksClient;
use crate::values::visible;

#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    output: output::OutputOptions,
    /// Include keys that left the JWKS long ago
    #[arg(long)]
    all: bool,
    /// Show the events of keys, policy and master key, instead of the keys
    #[arg(long, conflicts_with_all = ["all", "clients"])]
    history: bool,
    /// Show the clients that fetch the JWKS, instead of the keys
    #[arg(long, conflicts_with = "all")]
    clients: bool,
}

const HISTORY: u32 = 200;

pub(super) async fn run(carnet: &Carnet, arguments: &List) -> Result<(), CommandFailure> {
    let now = carnet.clock().now();
    let clients = carnet.store().jwks_clients().await?;
    if arguments.history {
        return history(carnet, arguments.output.output, now).await;
    }
    if arguments.clients {
        return list_clients(&clients, arguments.output.output, now);
    }
    let key_set = carnet.issuer().key_set();
    let shown = signing_keys::list(&key_set, &clients, arguments.all, now, &Permissions::unlimited_admin());
    match arguments.output.output {
        Format::Json => output::json(&shown),
        Format::Table => {
            output::table(
                &["KID", "ALG", "STATE", "SINCE", "NEXT", "SEEN BY"],
                shown.iter().map(|key| {
                    vec![
                        key.kid.to_string(),
                        key.alg.to_string(),
                        key.state.as_str().to_owned(),
                        times::relative(key.since(), now),
                        next_event(key, &key_set, now),
                        key.seen_by.map(words).unwrap_or_default(),
                    ]
                }),
            )?;
            warnings(carnet, now).await
        }
    }
}

fn next_event(key: &SigningKeyResponse, key_set: &KeySet, now: Timestamp) -> String {
    let relative = |time| times::relative(time, now);
    match key.state {
        State::Prepared if !key.waits_for.is_empty() => {
            format!("waits for {}", key.waits_for.join(", "))
        }
        State::Prepared => match key.safe_at.filter(|at| *at > now) {
            Some(at) => format!("may sign {}", relative(at)),
            None => "may sign".to_owned(),
        },
        State::Active if key_set.unshown(key.alg).is_some() => {
            format!("nothing is minted: not yet published at {}", key.waits_for.join(", "))
        }
        State::Active => {
            let due = key.since().checked_add(key_set.settings.policy.rotate_every());
            match due.ok().filter(|due| *due > now) {
                Some(due) => format!("retires {}", relative(due)),
                None => "retires as soon as a server runs".to_owned(),
            }
        }
        State::Retired => {
            format!("leaves the JWKS {}", key.published_until.map(relative).unwrap_or_default())
        }
        State::Revoked if !key.still_published_at.is_empty() => {
            format!("still published at {}", key.still_published_at.join(", "))
        }
        State::Pruned | State::Revoked => String::new(),
    }
}

fn words(seen: SeenBy) -> String {
    match seen.of {
        0 => "no regular clients".to_owned(),
        of => format!("{} of {of} regular clients", seen.clients),
    }
}

async fn warnings(carnet: &Carnet, now: Timestamp) -> Result<(), CommandFailure> {
    if let Some(failures) = carnet.store().rotation_failures().await? {
        output::note(&format!(
            "warning: the scheduled rotation has failed {} times, last {}: {}",
            failures.count,
            times::relative(failures.failed_at, now),
            visible::line(&failures.error)
        ));
    }
    if let Err(doubt) = carnet.issuer().clock_reading().check() {
        output::note(&format!("warning: {doubt}: nothing is minted or rotated here; see `carnet key clock`"));
    }
    for (location, kid) in unconfirmed(&carnet.issuer().key_set()) {
        output::note(&format!(
            "{kid} waits for {location}, whose JWKS is uploaded: upload it as `carnet {}` prints, then run \
             `carnet feed confirm-jwks {kid}`.",
            location.replacen("feed ", "feed setup ", 1)
        ));
    }
    super::report_erasure(carnet).await
}

/// Returns the prepared keys that nobody has confirmed in an uploaded JWKS, each with its feed.
fn unconfirmed(key_set: &KeySet) -> Vec<(String, Kid)> {
    let prepared = Algorithm::ALL.into_iter().filter_map(|alg| prepared(&key_set.keys, alg));
    prepared
        .flat_map(|key| {
            let given =
                missing_at(key, &key_set.locations).into_iter().filter(|location| !location.is_copy());
            given.map(|location| (location.name.clone(), key.kid()))
        })
        .collect()
}

async fn history(carnet: &Carnet, format: Format, now: Timestamp) -> Result<(), CommandFailure> {
    let events = carnet.store().key_events(HISTORY).await?;
    match format {
        Format::Json => output::json(&events),
        Format::Table => output::table(
            &["WHEN", "EVENT", "KID", "WHY", "BY"],
            events.into_iter().map(|event| {
                let kid = event.kid.unwrap_or_default();
                vec![times::relative(event.at, now), event.event, kid, event.reason, event.actor]
            }),
        ),
    }
}

fn list_clients(clients: &[JwksClient], format: Format, now: Timestamp) -> Result<(), CommandFailure> {
    match format {
        Format::Json => output::json(&clients),
        Format::Table => output::table(
            &["LAST FETCH", "FIRST FETCH", "FETCHES", "KEY SET", "USER AGENT"],
            clients.iter().map(|client| {
                vec![
                    times::relative(client.last_fetched_at, now),
                    times::relative(client.first_fetched_at, now),
                    client.fetches.to_string(),
                    client.generation.to_string(),
                    client.user_agent.clone(),
                ]
            }),
        ),
    }
}
