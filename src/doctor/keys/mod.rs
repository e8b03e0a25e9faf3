//! The signing keys: their presence, their rotation, and the verifiers that fetch them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Finding, count, listed};
use crate::issuer::STALE_AFTER;
use crate::issuer::jwks_clients::is_regular;
use crate::jose::Algorithm;
use crate::jose::jwk::Kid;
use crate::signing_keys::publication::{KeyLocation, missing_at};
use crate::signing_keys::rotation::{MAX_PUBLISHED, due_at, is_safe};
use crate::signing_keys::{SigningKey, active, next_pruning, prepared, published};
use crate::store::issuer::{KeySettings, RotationFailures};
use crate::store::jwks_clients::JwksClient;

const KEYS: &str = "signing-keys";
const ROTATION: &str = "rotation";
const COUNT: &str = "key-count";
const VERIFIERS: &str = "verifiers";
const ERASURE: &str = "erasure";

/// The delay after which a rotation is overdue. A server rotates within seconds; a clock jump may delay it by
/// ten minutes, and a restart by some more.
const OVERDUE_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// The keys in the database.
#[derive(Debug, Clone, Copy)]
pub struct Keys<'a> {
    /// All keys.
    pub keys: &'a [SigningKey],
    /// The policy and the other settings of the keys.
    pub settings: &'a KeySettings,
    /// The failures of the scheduled rotation since it last succeeded.
    pub failures: Option<&'a RotationFailures>,
    /// The clients that fetch the JWKS.
    pub clients: &'a [JwksClient],
    /// The other places where verifiers read the keys.
    pub locations: &'a [KeyLocation],
}

/// Judges the keys at `now`.
#[must_use]
pub fn check(keys: &Keys<'_>, now: Timestamp) -> Vec<Finding> {
    vec![
        check_presence(keys.keys),
        check_rotation(keys, now),
        check_count(keys.keys, now),
        check_verifiers(keys, now),
        check_erasure(keys.settings.erasure_pending),
    ]
}

fn check_presence(keys: &[SigningKey]) -> Finding {
    let missing: Vec<String> = Algorithm::ALL
        .into_iter()
        .flat_map(|algorithm| {
            let gone = |state: &str, key: Option<&SigningKey>| {
                key.is_none().then(|| format!("no {state} key of {algorithm}"))
            };
            [gone("active", active(keys, algorithm)), gone("prepared", prepared(keys, algorithm))]
        })
        .flatten()
        .collect();
    if missing.is_empty() {
        return Finding::ok(KEYS, "one active and one prepared key of each algorithm");
    }
    Finding::failed(KEYS, listed(&missing))
        .detail(
            "Without an active key no token is signed; without a prepared key a rotation would break \
             verification.",
        )
        .hint("start `carnet serve`, which makes the missing keys; if it does not, its log shows the reason")
}

fn check_rotation(keys: &Keys<'_>, now: Timestamp) -> Finding {
    let hint = "check the log of `carnet serve`, which must run for keys to rotate; `carnet key rotate` \
                rotates now";
    if let Some(failures) = keys.failures {
        let times = usize::try_from(failures.count).unwrap_or_default();
        return Finding::failed(
            ROTATION,
            format!("the scheduled rotation has failed {}", count(times, "time")),
        )
        .detail(format!("Last at {}: {}", failures.failed_at, failures.error))
        .hint(hint);
    }
    let due: Vec<(Algorithm, Timestamp)> = Algorithm::ALL
        .into_iter()
        .filter_map(|algorithm| Some((algorithm, due_at(keys.keys, &keys.settings.policy, algorithm)?)))
        .collect();
    let words = |due: &[(Algorithm, Timestamp)]| {
        due.iter().map(|(algorithm, at)| format!("{algorithm} at {at}")).collect::<Vec<_>>().join(", ")
    };
    if due.len() < Algorithm::ALL.len() {
        return Finding::failed(ROTATION, "not every algorithm can rotate")
            .detail("A rotation needs the key that signs and the one that signs next.")
            .hint(hint);
    }
    let overdue: Vec<_> =
        due.iter().copied().filter(|(_, at)| now.duration_since(*at) > OVERDUE_AFTER).collect();
    let held = held(keys);
    let is_held = |of: Algorithm| held.iter().any(|(algorithm, ..)| *algorithm == of);
    if overdue.iter().all(|(algorithm, _)| is_held(*algorithm)) {
        return match overdue.is_empty() {
            true => Finding::ok(ROTATION, format!("due: {}{}", words(&due), waiting(&held))),
            false => Finding::warning(ROTATION, format!("held since: {}{}", words(&overdue), waiting(&held)))
                .detail(
                    "The next key is not confirmed to be in the JWKS uploaded to Google, which would refuse \
                     tokens signed with it. The longer a key signs, the more damage its leak does.",
                )
                .hint(
                    "upload the JWKS as `carnet feed setup SPACE/FEED` prints, then confirm it as shown \
                     above",
                ),
        };
    }
    Finding::failed(ROTATION, format!("overdue since: {}", words(&overdue)))
        .detail(
            "Either no server runs on this database, or every slot of the JWKS is taken. The longer a key \
             signs, the more damage its leak does.",
        )
        .hint(hint)
}

/// Returns the prepared keys that wait for an upload, each with the feeds that it waits for.
fn held(keys: &Keys<'_>) -> Vec<(Algorithm, Kid, Vec<String>)> {
    let prepared = Algorithm::ALL.into_iter().filter_map(|algorithm| prepared(keys.keys, algorithm));
    prepared
        .filter_map(|key| {
            let missing = missing_at(key, keys.locations).into_iter().filter(|location| !location.is_copy());
            let names: Vec<String> = missing.map(|location| location.name.clone()).collect();
            (!names.is_empty()).then(|| (key.algorithm(), key.kid(), names))
        })
        .collect()
}

fn waiting(held: &[(Algorithm, Kid, Vec<String>)]) -> String {
    let one = |(algorithm, kid, names): &(Algorithm, Kid, Vec<String>)| {
        format!(
            "; {algorithm} is held by {}, which waits for `carnet feed confirm-jwks {kid}`",
            names.join(", ")
        )
    };
    held.iter().map(one).collect()
}

fn check_count(keys: &[SigningKey], now: Timestamp) -> Finding {
    let number = published(keys, now).len();
    let summary = format!(
        "{} published; Google accepts {MAX_PUBLISHED} in an uploaded JWKS, AWS 100 of each type",
        count(number, "key")
    );
    if number < MAX_PUBLISHED {
        return Finding::ok(COUNT, summary);
    }
    let frees =
        next_pruning(keys, now).map(|at| format!(" A slot becomes free at {at}.")).unwrap_or_default();
    Finding::warning(COUNT, summary)
        .detail(format!("Every slot is taken: no key rotates until a retired one leaves the JWKS.{frees}"))
        .hint("wait; fewer forced rotations, or a shorter max-token-lifetime, keep slots free")
}

fn check_verifiers(keys: &Keys<'_>, now: Timestamp) -> Finding {
    let policy = &keys.settings.policy;
    let regular: Vec<&JwksClient> =
        keys.clients.iter().filter(|client| is_regular(client, policy.jwks_max_age(), now)).collect();
    if regular.is_empty() {
        return Finding::ok(VERIFIERS, "no client fetches the JWKS regularly yet, so none has an old copy");
    }
    let prepared = Algorithm::ALL.into_iter().filter_map(|algorithm| prepared(keys.keys, algorithm));
    // A server publishes a new key after at most this long.
    let visible = |key: &SigningKey| later(key.prepared_at, STALE_AFTER);
    let lagging = |key: &SigningKey| {
        regular.iter().filter(|client| client.last_fetched_at < visible(key)).copied().collect::<Vec<_>>()
    };
    let signs_next: Vec<(&SigningKey, Vec<&JwksClient>)> =
        prepared.map(|key| (key, lagging(key))).filter(|(_, lagging)| !lagging.is_empty()).collect();
    if signs_next.is_empty() {
        return Finding::ok(
            VERIFIERS,
            format!("every prepared key was fetched by {}", count(regular.len(), "regular client")),
        );
    }
    let described: Vec<String> = signs_next
        .iter()
        .map(|(key, lagging)| {
            let names: Vec<String> = lagging
                .iter()
                .map(|client| format!("{} (last at {})", client.user_agent, client.last_fetched_at))
                .collect();
            format!("{} of {}: {}", key.kid(), key.algorithm(), listed(&names))
        })
        .collect();
    let summary =
        format!("not all of {} have fetched a prepared key yet", count(regular.len(), "regular client"));
    if signs_next.iter().all(|(key, _)| !is_safe(key, policy, now)) {
        return Finding::ok(
            VERIFIERS,
            format!("{summary}; it does not sign before {} have passed", hours(policy.propagation())),
        );
    }
    Finding::warning(VERIFIERS, summary)
        .detail(format!(
            "{}. The key may already sign; a client that has not fetched it fetches again when it receives a \
             token signed with it, or refuses the token. Clients choose their user agents: carnet decides \
             nothing by this.",
            described.join("; ")
        ))
        .hint(
            "`carnet key list --clients` shows the clients; check that no cache in between serves an old \
             JWKS",
        )
}

fn check_erasure(pending: bool) -> Finding {
    if !pending {
        return Finding::ok(ERASURE, "no destroyed private key is left in the files");
    }
    Finding::warning(ERASURE, "erasure: pending")
        .detail(
            "A private key is deleted, but its sealed bytes remain in the database's log while a reader \
             holds it.",
        )
        .hint(
            "end the process that reads the database, for example a backup or a shell; a running server then \
             finishes the erasure",
        )
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

fn hours(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds % 3600 == 0 => format!("{} h", seconds / 3600),
        seconds => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests;
