//! Rotation waits for the upload, on a simulated clock and a real database: only for the feed's algorithm,
//! and `propagation` counts from the confirmation.

use std::time::Duration;

use crate::feed::google::{GoogleArtifactRegistry, JwksSource};
use crate::feed::provider_fields::ProviderFields;
use crate::feed::{Feed, FeedChanges, FeedDraft, FeedPath, FeedType, Provider};
use crate::feeds::Sharing;
use crate::issuer::rotator::RotationError;
use crate::jose::Algorithm;
use crate::jose::jwk::Kid;
use crate::oidc::subject::Context;
use crate::signing_keys::rotation::{RotationRefusal, due_at, safe_at};
use crate::signing_keys::{active, prepared};
use jiff::Timestamp;

use crate::tests::key_life_store::world::{DAY, HOUR, Machine, Process, SECOND, somebody, verifies};

const PROVIDER: &str = "projects/1/locations/global/workloadIdentityPools/pool/providers/prod";

const ES256: Algorithm = Algorithm::Es256;
const RS256: Algorithm = Algorithm::Rs256;

fn path(slug: &str) -> FeedPath {
    format!("default/{slug}").parse().unwrap()
}

async fn add(process: &Process, slug: &str, alg: Algorithm, jwks: JwksSource) -> Feed {
    let draft = FeedDraft {
        alg: Some(alg),
        ..FeedDraft::new(
            format!("default/{slug}").parse().unwrap(),
            "europe-docker.pkg.dev".parse().unwrap(),
            Provider::GoogleArtifactRegistry(GoogleArtifactRegistry {
                workload_identity_provider: PROVIDER.parse().unwrap(),
                service_account: None,
                lifetime: Default::default(),
                jwks,
            }),
        )
    };
    process.carnet.feeds().add(draft, Sharing::NOTHING, &somebody()).await.unwrap().feed
}

async fn update(process: &Process, slug: &str, change: impl FnOnce(&Feed) -> FeedChanges) {
    process.carnet.feeds().update(&path(slug), change, Sharing::NOTHING, &somebody()).await.unwrap();
}

/// Lets time pass hour by hour, with the server's maintenance.
async fn live(machine: &Machine, process: &mut Process, span: Duration) {
    let hours = span.as_secs() / HOUR.as_secs();
    for _ in 0..hours {
        machine.clock.advance(HOUR);
        process.maintenance.tick().await;
    }
}

async fn keys_of(process: &mut Process, alg: Algorithm) -> (Kid, Kid) {
    let keys = process.keys().await;
    (active(&keys, alg).unwrap().kid(), prepared(&keys, alg).unwrap().kid())
}

async fn confirm(process: &Process, kid: &Kid) -> Option<Timestamp> {
    process.carnet.uploads().confirm(kid, &[], &somebody()).await.unwrap().safe_at
}

/// Lets time pass hour by hour, each with a token that Google verifies against the uploaded JWKS.
async fn live_by(uploaded: &[u8], feed: &Feed, machine: &Machine, process: &mut Process, span: Duration) {
    for _ in 0..span.as_secs() / HOUR.as_secs() {
        live(machine, process, HOUR).await;
        let token = process.carnet.issuer().mint(feed, &Context::empty()).unwrap();
        assert!(verifies(&token, uploaded), "refused at {}", machine.now());
    }
}

#[tokio::test]
async fn rotation_is_held_for_the_feeds_algorithm_alone_and_propagation_counts_from_the_confirmation() {
    let machine = Machine::new();
    let mut process = machine.open().await;
    let feed = add(&process, "prod", ES256, JwksSource::Uploaded).await;
    let (signing, next) = keys_of(&mut process, ES256).await;
    let (rs256, _) = keys_of(&mut process, RS256).await;

    let mut uploaded = process.jwks();
    live_by(&uploaded, &feed, &machine, &mut process, 70 * DAY).await;
    assert_eq!(keys_of(&mut process, ES256).await, (signing.clone(), next.clone()), "held for weeks");
    assert_ne!(keys_of(&mut process, RS256).await.0, rs256, "RS256 waits for nobody");
    let keys = process.keys().await;
    let policy = process.carnet.issuer().key_set().settings.policy;
    assert_eq!(safe_at(prepared(&keys, ES256).unwrap(), &policy), None);
    let refused = process.rotate(false).await.unwrap_err();
    assert!(
        matches!(&refused, RotationError::Refused(RotationRefusal::Unpublished { algorithm: ES256, kid }) if *kid == next),
        "{refused}"
    );

    let confirmed_at = machine.now();
    let safe = confirm(&process, &next).await.unwrap();
    assert_eq!(safe, confirmed_at + policy.propagation());
    process.maintenance.tick().await;
    assert_eq!(due_at(&process.keys().await, &policy, ES256), Some(safe), "the clock has been due for weeks");
    let refused = process.rotate(false).await.unwrap_err();
    assert!(
        matches!(refused, RotationError::Refused(RotationRefusal::TooYoung { published_at, .. }) if published_at == confirmed_at),
        "{refused}"
    );
    machine.clock.advance(DAY - SECOND);
    assert_eq!(keys_of(&mut process, ES256).await.0, signing, "a second too early");
    machine.clock.advance(SECOND);
    let (now_signing, after) = keys_of(&mut process, ES256).await;
    assert_eq!(now_signing, next, "exactly then");

    // The next key waits again; it is confirmed early, and rotates when it is due.
    let due = machine.now() + policy.rotate_every();
    uploaded = process.jwks();
    confirm(&process, &after).await;
    live_by(&uploaded, &feed, &machine, &mut process, 30 * DAY - HOUR).await;
    assert_eq!(keys_of(&mut process, ES256).await.0, next);
    machine.clock.advance(HOUR);
    assert_eq!(machine.now(), due);
    assert_eq!(keys_of(&mut process, ES256).await.0, after);
    live_by(&uploaded, &feed, &machine, &mut process, 40 * DAY).await;
    assert_eq!(keys_of(&mut process, ES256).await.0, after, "held again");
}

#[tokio::test]
async fn every_feed_of_the_algorithm_has_to_be_confirmed_and_other_servers_see_it_at_once() {
    let machine = Machine::new();
    let (mut one, mut other) = (machine.open().await, machine.open().await);
    for (slug, alg) in [("a", ES256), ("b", ES256), ("c", RS256)] {
        add(&one, slug, alg, JwksSource::Uploaded).await;
    }
    let (_, next) = keys_of(&mut other, ES256).await;
    let uploads = one.carnet.uploads();
    let done = uploads.confirm(&next, &[path("a")], &somebody()).await.unwrap();
    assert_eq!((done.safe_at, done.waits_for), (None, vec!["feed default/b".to_owned()]));
    machine.clock.advance(HOUR);
    let done = uploads.confirm(&next, &[path("b")], &somebody()).await.unwrap();
    assert_eq!(done.safe_at, Some(machine.now() + DAY), "counted from the last");
    let seen = other.keys().await;
    assert_eq!(prepared(&seen, ES256).unwrap().published_at, Some(machine.now()));
    assert_eq!(prepared(&seen, RS256).unwrap().published_at, None);
    assert_eq!(one.keys().await, seen);
}

#[tokio::test]
async fn a_change_that_ends_the_hold_lets_the_rotation_continue_at_once() {
    enum Freed {
        Removed,
        Fetched,
        OtherAlgorithm,
    }
    for freed in [Freed::Removed, Freed::Fetched, Freed::OtherAlgorithm] {
        let machine = Machine::new();
        let (mut one, mut server) = (machine.open().await, machine.open().await);
        add(&one, "prod", ES256, JwksSource::Uploaded).await;
        let (signing, next) = keys_of(&mut server, ES256).await;
        live(&machine, &mut server, 31 * DAY).await;
        assert_eq!(keys_of(&mut server, ES256).await.0, signing);
        match freed {
            Freed::Removed => drop(one.carnet.feeds().remove(&path("prod"), &somebody()).await.unwrap()),
            Freed::Fetched => {
                let mut own = ProviderFields::default();
                own.set(FeedType::field_of_any("jwks").unwrap(), "fetched".into()).unwrap();
                let change = |feed: &Feed| FeedChanges {
                    provider: own.applied_to(feed.provider.clone()).ok(),
                    ..FeedChanges::default()
                };
                update(&one, "prod", change).await;
            }
            Freed::OtherAlgorithm => {
                update(&one, "prod", |_| FeedChanges { alg: Some(RS256), ..FeedChanges::default() }).await;
            }
        }
        // One round detects it, the next one rotates.
        server.maintenance.tick().await;
        assert_eq!(keys_of(&mut server, ES256).await.0, next);
        assert_eq!(keys_of(&mut one, ES256).await.0, next);
    }
}

#[tokio::test]
async fn a_forced_rotation_goes_on_and_minting_does_not_stop() {
    let machine = Machine::new();
    let mut process = machine.open().await;
    let feed = add(&process, "prod", ES256, JwksSource::Uploaded).await;
    let (_, next) = keys_of(&mut process, ES256).await;
    process.rotate(true).await.unwrap();
    let (signing, _) = keys_of(&mut process, ES256).await;
    assert_eq!(signing, next);
    assert_eq!(
        process.carnet.issuer().mint(&feed, &Context::empty()).unwrap().presented.kid,
        next.to_string()
    );
}

#[tokio::test]
async fn the_feeds_to_confirm_are_listed_while_another_process_writes() {
    let machine = Machine::new();
    let mut process = machine.open().await;
    add(&process, "prod", ES256, JwksSource::Uploaded).await;
    let (_, next) = keys_of(&mut process, ES256).await;
    let mut other = machine.sql().await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    assert_eq!(process.carnet.uploads().feeds(&next, &[]).await.unwrap(), [path("prod")]);
}

#[tokio::test]
async fn a_clock_that_is_behind_confirms_nothing_before_the_high_water_time() {
    let machine = Machine::new();
    let mut process = machine.open().await;
    add(&process, "prod", ES256, JwksSource::Uploaded).await;
    live(&machine, &mut process, 2 * DAY).await;
    let (_, next) = keys_of(&mut process, ES256).await;
    let seen = process.carnet.issuer().pulse().time.high_water;
    machine.step_wall(-40 * 24 * 3600);
    let safe = confirm(&process, &next).await.unwrap();
    assert_eq!(safe, seen + DAY);
}

#[tokio::test]
async fn a_confirmation_with_a_clock_that_was_ahead_is_corrected_by_another_one() {
    let machine = Machine::new();
    let mut process = machine.open().await;
    add(&process, "prod", ES256, JwksSource::Uploaded).await;
    let (_, next) = keys_of(&mut process, ES256).await;
    let true_time = machine.now();
    machine.step_wall(400 * 24 * 3600);
    assert_eq!(confirm(&process, &next).await, Some(machine.now() + DAY));
    machine.clock.step_wall_to(true_time);
    assert_eq!(confirm(&process, &next).await, Some(true_time + DAY));
    machine.clock.advance(HOUR);
    assert_eq!(confirm(&process, &next).await, Some(true_time + DAY), "the first time stays");
}
