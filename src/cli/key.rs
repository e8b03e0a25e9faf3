//! `carnet key`: signing keys.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

use super::failure::Failure;
use super::output::Format;
use super::{confirm, opening, output, times};
use crate::carnet::Carnet;
use crate::issuer::KeySet;
use crate::jose::Algorithm;
use crate::jose::jwk::Kid;
use crate::signing_keys::rotation::{Change, RotationRequest, safe_at};
use crate::signing_keys::{self, SigningKey, Stage, State};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show every key with its state and next event
    List(List),
    /// Let the prepared key take over now
    Rotate(Rotate),
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    output: output::OutputOptions,
    /// Keys that are no longer published, too
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
pub(super) struct Rotate {
    /// Only the key of this algorithm [default: RS256 and ES256]
    #[arg(long, value_name = "ALG")]
    alg: Option<Algorithm>,
    /// Promote even a key that has not been published for long enough
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    confirm: confirm::Confirmation,
}

pub(super) async fn run(opening: opening::OpeningOptions, command: Command) -> Result<(), Failure> {
    let carnet = opening.open().await?;
    match command {
        Command::List(arguments) => list(&carnet, &arguments),
        Command::Rotate(arguments) => rotate(&carnet, arguments).await,
    }
}

/// A key as scripts see it.
#[derive(Debug, Serialize)]
struct Listed {
    kid: Kid,
    alg: Algorithm,
    state: State,
    prepared_at: Timestamp,
    activated_at: Option<Timestamp>,
    retired_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    published_until: Option<Timestamp>,
}

impl Listed {
    fn of(key: &SigningKey, now: Timestamp) -> Self {
        let (activated_at, retired_at, revoked_at) = match key.stage {
            Stage::Prepared => (None, None, None),
            Stage::Active { activated_at } => (Some(activated_at), None, None),
            Stage::Retired { activated_at, retired_at, .. } => (Some(activated_at), Some(retired_at), None),
            Stage::Revoked { activated_at, revoked_at } => (activated_at, None, Some(revoked_at)),
        };
        Self {
            kid: key.kid(),
            alg: key.algorithm(),
            state: key.state(now),
            prepared_at: key.prepared_at,
            activated_at,
            retired_at,
            revoked_at,
            published_until: key.published_until(),
        }
    }
}

fn list(carnet: &Carnet, arguments: &List) -> Result<(), Failure> {
    let now = carnet.clock().now();
    let key_set = carnet.issuer().key_set();
    let shown = key_set.keys.iter().filter(|key| arguments.all || key.state(now) != State::Pruned);
    match arguments.output.output {
        Format::Json => output::json(&shown.map(|key| Listed::of(key, now)).collect::<Vec<_>>()),
        Format::Table => output::table(
            &["KID", "ALG", "STATE", "SINCE", "NEXT"],
            shown.map(|key| {
                vec![
                    key.kid().to_string(),
                    key.algorithm().to_string(),
                    key.state(now).as_str().to_owned(),
                    times::relative(since(key), now),
                    next_event(key, &key_set, now),
                ]
            }),
        ),
    }
}

fn since(key: &SigningKey) -> Timestamp {
    match key.stage {
        Stage::Prepared => key.prepared_at,
        Stage::Active { activated_at } => activated_at,
        Stage::Retired { retired_at, .. } => retired_at,
        Stage::Revoked { revoked_at, .. } => revoked_at,
    }
}

fn next_event(key: &SigningKey, key_set: &KeySet, now: Timestamp) -> String {
    let policy = &key_set.settings.policy;
    match key.stage {
        Stage::Prepared if safe_at(key, policy) > now => {
            format!("may sign {}", times::relative(safe_at(key, policy), now))
        }
        Stage::Prepared => "may sign".to_owned(),
        Stage::Active { activated_at } => match activated_at.checked_add(policy.rotate_every()) {
            Ok(due) if due > now => format!("retires {}", times::relative(due, now)),
            _ => "retires as soon as a server runs".to_owned(),
        },
        Stage::Retired { published_until, .. } if published_until > now => {
            format!("leaves the JWKS {}", times::relative(published_until, now))
        }
        Stage::Retired { .. } | Stage::Revoked { .. } => String::new(),
    }
}

async fn rotate(carnet: &Carnet, arguments: Rotate) -> Result<(), Failure> {
    let algorithms = arguments.alg.map_or_else(|| Algorithm::ALL.to_vec(), |algorithm| vec![algorithm]);
    let key_set = carnet.issuer().key_set();
    let seen = algorithms.iter().map(|algorithm| key_set.signer(*algorithm).kid().clone()).collect();
    if arguments.force
        && let Some(consequence) = consequence_of_force(&key_set, &algorithms, carnet.clock().now())
    {
        arguments.confirm.confirm(&consequence)?;
    }
    let request = RotationRequest { algorithms, seen, force: arguments.force };
    let rotation = carnet.rotator().rotate(&request).await?;
    if rotation.changes.is_empty() {
        output::note("Already rotated: somebody else has just rotated these keys.");
    }
    carnet.issuer().refresh().await?;
    for change in &rotation.changes {
        if let Change::Rotate { algorithm, retire, promote } = change {
            output::note(&account(*algorithm, retire, promote, &carnet.issuer().key_set()));
        }
    }
    if !rotation.erased {
        output::note(
            "A reader holds the database's log: the old private key is deleted, but its sealed bytes stay in the \
             log until the next checkpoint.",
        );
    }
    Ok(())
}

/// What breaks, for whom, until when; nothing if every prepared key is old enough.
fn consequence_of_force(key_set: &KeySet, algorithms: &[Algorithm], now: Timestamp) -> Option<String> {
    let policy = &key_set.settings.policy;
    let too_young: Vec<String> = algorithms
        .iter()
        .filter_map(|algorithm| signing_keys::prepared(&key_set.keys, *algorithm))
        .filter(|key| safe_at(key, policy) > now)
        .map(|key| {
            format!(
                "The prepared {} key {} has been published since {} only. A verifier whose key set is older refuses \
                 every new {} token until it fetches again: at the latest {} ({}).",
                key.algorithm(),
                key.kid(),
                key.prepared_at,
                key.algorithm(),
                times::relative(safe_at(key, policy), now),
                safe_at(key, policy),
            )
        })
        .collect();
    (!too_young.is_empty()).then(|| too_young.join("\n"))
}

fn account(algorithm: Algorithm, retired: &Kid, promoted: &Kid, key_set: &KeySet) -> String {
    let until = key_set.keys.iter().find(|key| key.kid() == *retired).and_then(SigningKey::published_until);
    let until = until.map(|time| time.to_string()).unwrap_or_default();
    format!(
        "{algorithm}: {promoted} signs from now on. {retired} verifies until {until}; its private half is destroyed."
    )
}
