//! `carnet key list`.

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::carnet::Carnet;
use crate::cli::failure::Failure;
use crate::cli::output::{self, Format};
use crate::cli::times;
use crate::evidence::is_regular;
use crate::issuer::{KeySet, STALE_AFTER};
use crate::jose::Algorithm;
use crate::jose::jwk::Kid;
use crate::signing_keys::rotation::safe_at;
use crate::signing_keys::{SigningKey, Stage, State};
use crate::store::jwks_clients::JwksClient;

#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    output: output::OutputOptions,
    /// Keys that left the JWKS long ago, too
    #[arg(long)]
    all: bool,
    /// What happened to keys, policy and master key, instead of the keys
    #[arg(long, conflicts_with_all = ["all", "clients"])]
    history: bool,
    /// Who fetches the JWKS, instead of the keys
    #[arg(long, conflicts_with = "all")]
    clients: bool,
}

const HISTORY: u32 = 200;

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
    /// When a prepared key will have been published for long enough to sign.
    safe_at: Option<Timestamp>,
    /// How many regular clients have fetched the JWKS since it holds the key.
    seen_by: Option<Seen>,
}

/// Regular clients of the JWKS.
#[derive(Debug, Clone, Copy, Serialize)]
struct Seen {
    clients: usize,
    of: usize,
}

pub(super) async fn run(carnet: &Carnet, arguments: &List) -> Result<(), Failure> {
    let now = carnet.clock().now();
    let clients = carnet.store().jwks_clients().await?;
    if arguments.history {
        return history(carnet, arguments.output.output, now).await;
    }
    if arguments.clients {
        return list_clients(&clients, arguments.output.output, now);
    }
    let key_set = carnet.issuer().key_set();
    let shown: Vec<Listed> = key_set
        .keys
        .iter()
        .filter(|key| arguments.all || key.is_published(now) || was_revoked_lately(key, now))
        .map(|key| Listed::of(key, &key_set, &clients, now))
        .collect();
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
                        key.next_event(&key_set, now),
                        key.seen_by.map(Seen::words).unwrap_or_default(),
                    ]
                }),
            )?;
            warnings(carnet, now).await
        }
    }
}

/// A revocation is worth seeing while its consequences last; a month is longer than any.
fn was_revoked_lately(key: &SigningKey, now: Timestamp) -> bool {
    const MONTH: SignedDuration = SignedDuration::from_hours(30 * 24);
    matches!(key.stage, Stage::Revoked { revoked_at, .. } if now.duration_since(revoked_at) < MONTH)
}

impl Listed {
    fn of(key: &SigningKey, key_set: &KeySet, clients: &[JwksClient], now: Timestamp) -> Self {
        let (activated_at, retired_at, revoked_at) = match key.stage {
            Stage::Prepared => (None, None, None),
            Stage::Active { activated_at } => (Some(activated_at), None, None),
            Stage::Retired { activated_at, retired_at, .. } => (Some(activated_at), Some(retired_at), None),
            Stage::Revoked { activated_at, revoked_at } => (activated_at, None, Some(revoked_at)),
        };
        let is_prepared = key.stage == Stage::Prepared;
        Self {
            kid: key.kid(),
            alg: key.algorithm(),
            state: key.state(now),
            prepared_at: key.prepared_at,
            activated_at,
            retired_at,
            revoked_at,
            published_until: key.published_until(),
            safe_at: is_prepared.then(|| safe_at(key, &key_set.settings.policy)),
            seen_by: (is_prepared || matches!(key.stage, Stage::Active { .. }))
                .then(|| Seen::of(key, key_set, clients, now)),
        }
    }

    fn since(&self) -> Timestamp {
        self.revoked_at.or(self.retired_at).or(self.activated_at).unwrap_or(self.prepared_at)
    }

    fn next_event(&self, key_set: &KeySet, now: Timestamp) -> String {
        let relative = |time| times::relative(time, now);
        match self.state {
            State::Prepared => match self.safe_at.filter(|at| *at > now) {
                Some(at) => format!("may sign {}", relative(at)),
                None => "may sign".to_owned(),
            },
            State::Active => {
                let due = self.since().checked_add(key_set.settings.policy.rotate_every());
                match due.ok().filter(|due| *due > now) {
                    Some(due) => format!("retires {}", relative(due)),
                    None => "retires as soon as a server runs".to_owned(),
                }
            }
            State::Retired => {
                format!("leaves the JWKS {}", self.published_until.map(relative).unwrap_or_default())
            }
            State::Pruned | State::Revoked => String::new(),
        }
    }
}

impl Seen {
    /// A client has the key if it fetched after every server had begun to publish it.
    fn of(key: &SigningKey, key_set: &KeySet, clients: &[JwksClient], now: Timestamp) -> Self {
        let published = key.prepared_at.saturating_add(STALE_AFTER).unwrap_or(Timestamp::MAX);
        let max_age = key_set.settings.policy.jwks_max_age();
        let regular: Vec<_> = clients.iter().filter(|client| is_regular(client, max_age, now)).collect();
        let having = regular.iter().filter(|client| client.last_fetched_at >= published).count();
        Self { clients: having, of: regular.len() }
    }

    fn words(self) -> String {
        match self.of {
            0 => "no regular clients".to_owned(),
            of => format!("{} of {of} regular clients", self.clients),
        }
    }
}

async fn warnings(carnet: &Carnet, now: Timestamp) -> Result<(), Failure> {
    if let Some(failures) = carnet.store().rotation_failures().await? {
        output::note(&format!(
            "warning: the scheduled rotation has failed {} times, last {}: {}",
            failures.count,
            times::relative(failures.failed_at, now),
            failures.error
        ));
    }
    if let Some(high_water) = carnet.issuer().ahead_of_clock() {
        output::note(&format!(
            "warning: this machine's clock says {now}, but it has been {high_water} already: nothing is minted or \
             rotated here"
        ));
    }
    super::tell_erasure(carnet).await
}

async fn history(carnet: &Carnet, format: Format, now: Timestamp) -> Result<(), Failure> {
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

fn list_clients(clients: &[JwksClient], format: Format, now: Timestamp) -> Result<(), Failure> {
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
