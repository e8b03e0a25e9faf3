//! The limits between ok, warning and failure in the findings about keys.

use std::collections::BTreeMap;

use super::*;
use crate::doctor::Status;
use crate::jose::jwk::PublicKey;
use crate::jose::key_pair::RsaBits;
use crate::signing_keys::Stage;
use crate::signing_keys::policy::RotationPolicy;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn key(number: u8, algorithm: Algorithm, prepared_at: i64, stage: Stage) -> SigningKey {
    let public = match algorithm {
        Algorithm::Es256 => PublicKey::P256 { x: [number; 32], y: [number; 32] },
        Algorithm::Rs256 => PublicKey::Rsa { n: vec![number; 256], e: vec![1, 0, 1] },
    };
    SigningKey { stage, ..SigningKey::prepared(public, at(prepared_at)) }
}

/// Returns, for each algorithm, a key that signs since `activated` and a key that was prepared then.
fn pairs(activated: i64) -> Vec<SigningKey> {
    let of = |algorithm, number| {
        let active = Stage::Active { activated_at: at(activated) };
        [
            key(number, algorithm, activated - DAY, active),
            key(number + 1, algorithm, activated, Stage::Prepared),
        ]
    };
    [of(Algorithm::Rs256, 1), of(Algorithm::Es256, 3)].concat()
}

fn retired(number: u8) -> SigningKey {
    let stage = Stage::Retired { activated_at: at(-DAY), retired_at: at(-60), published_until: at(HOUR) };
    key(number, Algorithm::Es256, -2 * DAY, stage)
}

fn settings() -> KeySettings {
    KeySettings {
        publications: 0,
        generation: 1,
        policy: RotationPolicy::default(),
        rsa_bits: RsaBits::default(),
        high_water: at(0),
        pruning_time: at(0),
        set_backs: 0,
        erasure_pending: false,
    }
}

fn find(
    keys: &[SigningKey],
    failures: Option<&RotationFailures>,
    clients: &[JwksClient],
    id: &str,
) -> Finding {
    let settings = settings();
    let keys = Keys { keys, settings: &settings, failures, clients, locations: &[] };
    check(&keys, at(0)).into_iter().find(|finding| finding.id == id).unwrap()
}

#[test]
fn a_rotation_is_overdue_an_hour_after_it_was_due() {
    for (activated, expected) in
        [(-DAY, Status::Ok), (-30 * DAY - HOUR, Status::Ok), (-30 * DAY - HOUR - 1, Status::Failed)]
    {
        assert_eq!(find(&pairs(activated), None, &[], "rotation").status, expected, "{activated}");
    }
    let failures = RotationFailures { count: 1, failed_at: at(-60), error: "disk full".to_owned() };
    let found = find(&pairs(-DAY), Some(&failures), &[], "rotation");
    assert_eq!(
        (found.status, found.summary.as_str()),
        (Status::Failed, "the scheduled rotation has failed 1 time")
    );
    assert!(found.detail.unwrap().contains("disk full"));
}

#[test]
fn a_rotation_that_waits_for_an_upload_is_held_and_not_overdue() {
    let settings = settings();
    let location = KeyLocation {
        name: "feed default/prod".to_owned(),
        feed: None,
        algorithm: Some(Algorithm::Es256),
        shows: BTreeMap::new(),
    };
    let find = |keys: &[SigningKey]| {
        let locations = std::slice::from_ref(&location);
        check_rotation(&Keys { keys, settings: &settings, failures: None, clients: &[], locations }, at(0))
    };
    let young = pairs(-DAY);
    let words = format!(
        "ES256 is held by feed default/prod, which waits for `carnet feed confirm-jwks {}`",
        young[3].kid()
    );
    let found = find(&young);
    assert_eq!(found.status, Status::Ok);
    assert!(found.summary.contains(&words), "{}", found.summary);

    // RS256 waits for no upload, and no server has rotated it.
    let old = pairs(-31 * DAY);
    assert_eq!(find(&old).status, Status::Failed);
    let mixed = [&young[..2], &old[2..]].concat();
    let found = find(&mixed);
    assert_eq!(found.status, Status::Warning);
    assert!(found.summary.starts_with("held since: ES256 at ") && found.summary.contains(&words));
}

#[test]
fn a_key_that_is_missing_is_named() {
    for (gone, words) in [
        (0, "no active key of RS256"),
        (1, "no prepared key of RS256"),
        (2, "no active key of ES256"),
        (3, "no prepared key of ES256"),
    ] {
        let mut keys = pairs(-DAY);
        keys.remove(gone);
        let found = find(&keys, None, &[], "signing-keys");
        assert_eq!((found.status, found.summary.as_str()), (Status::Failed, words));
        assert_eq!(find(&keys, None, &[], "rotation").status, Status::Failed);
    }
}

#[test]
fn a_full_jwks_is_reported_with_the_time_of_the_next_free_slot() {
    let mut keys = pairs(-DAY);
    keys.extend((10..13).map(retired));
    assert_eq!(find(&keys, None, &[], "key-count").status, Status::Ok);
    keys.push(retired(13));
    let found = find(&keys, None, &[], "key-count");
    assert_eq!(found.status, Status::Warning);
    assert!(found.detail.unwrap().contains(&at(HOUR).to_string()));
}

#[test]
fn verifiers_without_a_prepared_key_are_reported_once_it_may_sign() {
    let client = |last: i64| JwksClient {
        user_agent: "aws".to_owned(),
        first_fetched_at: at(-6 * DAY),
        last_fetched_at: at(last),
        fetches: 9,
        generation: 1,
    };
    let prepared_at = -2 * DAY;
    for (activated, clients, expected, words) in [
        (prepared_at, vec![], Status::Ok, "no client fetches"),
        (prepared_at, vec![client(-HOUR)], Status::Ok, "was fetched by 1 regular client"),
        (prepared_at, vec![client(-HOUR), client(prepared_at - 1)], Status::Warning, "not all of 2"),
        // The key does not sign yet.
        (-HOUR, vec![client(-2 * HOUR)], Status::Ok, "before 24 h have passed"),
        // A client that has not fetched for a week is not a regular one.
        (prepared_at, vec![client(-8 * DAY)], Status::Ok, "no client fetches"),
    ] {
        let found = find(&pairs(activated), None, &clients, "verifiers");
        assert_eq!(found.status, expected, "{found:?}");
        assert!(found.summary.contains(words), "{found:?}");
    }
}
