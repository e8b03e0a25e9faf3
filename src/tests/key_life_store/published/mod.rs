//! Copies of the documents: keys wait until the copies show them, even through an outage of an hour.

mod labels;
mod outages;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::issuer::MintError;
use crate::issuer::rotator::RotationError;
use crate::jose::Algorithm;
use crate::jose::jwk::{Kid, kids_in};
use crate::jose::key_pair::RsaBits;
use crate::oidc::token::SignedToken;
use crate::publish::{DocumentName, Publisher};
use crate::signing_keys::policy::{PolicyDurations, RotationPolicy};
use crate::signing_keys::rotation::RotationRefusal;
use crate::signing_keys::{SigningKey, State};
use crate::store::publications::PublicationTarget;
use crate::values::clock::Clock as _;
use bytes::Bytes;

use super::copy::Copy;
use super::world::{HOUR, Machine, Process, somebody, verifies};

const MINUTE: Duration = Duration::from_secs(60);
/// The longest wait of a publisher after a failure.
const STEP: Duration = MINUTE;

/// A server that publishes to `copy`, and the verifiers that have ever fetched from there.
struct Published {
    machine: Machine,
    process: Process,
    publisher: Publisher,
    copy: Arc<Copy>,
    /// Every JWKS that the copy has shown, and when it last did.
    shown: Vec<(Bytes, Duration)>,
    /// The last token of each key.
    tokens: BTreeMap<Kid, (SignedToken, Duration)>,
    /// Tokens that a verifier refused.
    refused: Vec<String>,
}

/// Returns a policy that rotates as often as allowed.
fn policy(propagation: Duration) -> RotationPolicy {
    RotationPolicy::new(PolicyDurations {
        rotate_every: propagation,
        propagation,
        max_token_lifetime: 10 * MINUTE,
        leeway: MINUTE,
        jwks_max_age: 5 * MINUTE,
    })
    .unwrap()
}

impl Published {
    async fn begin(propagation: Duration) -> Self {
        let machine = Machine::new();
        let mut process = machine.open().await;
        let policy = policy(propagation);
        process.carnet.rotator().set_policy(&policy, RsaBits::Rsa2048, &somebody()).await.unwrap();
        process.maintenance.tick().await;
        let copy = Arc::new(Copy::new());
        let publisher = process.carnet.publisher(Arc::clone(&copy) as _).await.unwrap();
        let mut published = Self {
            machine,
            process,
            publisher,
            copy,
            shown: Vec::new(),
            tokens: BTreeMap::new(),
            refused: Vec::new(),
        };
        published.check_target().await;
        published
    }

    fn now(&self) -> Duration {
        self.machine.clock.monotonic()
    }

    /// Runs the server's maintenance and publishes the result.
    async fn check_target(&mut self) {
        self.process.maintenance.tick().await;
        self.publisher.check_target().await;
        self.process.maintenance.tick().await;
        self.fetch();
    }

    /// Verifiers fetch the JWKS; others may keep an older one.
    fn fetch(&mut self) {
        let (Some(jwks), now) = (self.copy.jwks(), self.now()) else { return };
        match self.shown.iter_mut().find(|(shown, _)| *shown == jwks) {
            Some((_, last)) => *last = now,
            None => self.shown.push((jwks.clone(), now)),
        }
        self.tokens.retain(|_, (_, expires)| *expires > now);
        for (kid, (token, _)) in &self.tokens {
            if !verifies(token, &jwks) {
                self.refused.push(format!("{kid} at {now:?}, by who fetches now"));
            }
        }
    }

    /// Mints tokens of both algorithms and verifies them with every JWKS that a verifier may hold.
    fn mint(&mut self) {
        let now = self.now();
        let policy = self.process.carnet.issuer().key_set().settings.policy;
        let (propagation, lifetime) = (policy.propagation(), policy.max_token_lifetime());
        self.shown.retain(|(_, last)| *last + propagation > now);
        for algorithm in Algorithm::ALL {
            let Ok(token) = self.process.mint(algorithm) else { continue };
            for (jwks, last) in &self.shown {
                if !verifies(&token, jwks) {
                    self.refused.push(format!("{algorithm} at {now:?}, by a JWKS of {last:?}"));
                }
            }
            let kid: Kid = token.presented.kid.parse().unwrap();
            self.tokens.insert(kid, (token, now + lifetime));
        }
    }

    async fn step(&mut self, by: Duration) {
        self.machine.clock.advance(by);
        self.check_target().await;
        self.mint();
    }

    /// Lets time pass until `done`; returns how long that took.
    async fn until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Duration {
        let began = self.now();
        while !done(self) {
            assert!(self.now() - began < limit, "not within {limit:?}");
            self.step(STEP).await;
        }
        self.now() - began
    }

    async fn pass(&mut self, time: Duration) {
        let end = self.now() + time;
        self.until(time + MINUTE, |published| published.now() >= end).await;
    }

    async fn record(&self) -> PublicationTarget {
        self.process.carnet.publications().targets().await.unwrap().remove(0)
    }

    fn key(&self, kid: &Kid) -> SigningKey {
        self.process.carnet.issuer().key_set().keys.iter().find(|key| key.kid() == *kid).unwrap().clone()
    }

    fn prepared(&self) -> Vec<SigningKey> {
        self.process.in_state(State::Prepared)
    }

    fn copy_shows(&self) -> Vec<Kid> {
        kids_in(&self.copy.jwks().unwrap()).into_iter().collect()
    }
}

#[tokio::test]
async fn a_target_that_cannot_be_written_at_first_delays_nothing() {
    let machine = Machine::new();
    let process = machine.open().await;
    let copy = Arc::new(Copy::new());
    copy.set_down(true);
    let error = process.carnet.publisher(Arc::clone(&copy) as _).await.unwrap_err();
    assert_eq!(error.to_string(), "s3://bucket/issuer cannot be published at");
    assert_eq!(process.carnet.publications().targets().await.unwrap(), []);
    process.carnet.issuer().refresh().await.unwrap();
    assert!(process.mint(Algorithm::Es256).is_ok());
}

#[tokio::test]
async fn a_target_that_is_down_for_an_hour_delays_the_rotation_and_is_reported() {
    let mut published = Published::begin(2 * HOUR).await;
    published.pass(2 * HOUR - STEP).await;
    let first = published.process.active_kids();
    published.copy.set_down(true);
    // The keys that this rotation promotes have been shown for long enough; those that it prepares have not.
    published.step(STEP).await;
    let second = published.process.active_kids();
    assert!(second.iter().all(|kid| !first.contains(kid)));
    let waiting = published.prepared();
    published.pass(HOUR).await;
    assert!(published.prepared().iter().all(|key| key.published_at.is_none()));

    let name = "s3://bucket/issuer";
    let health = published.process.carnet.issuer().health();
    assert!(health.publication_errors[name].contains("no route to host"), "{health:?}");
    let failure = published.record().await.failure.unwrap();
    assert!(failure.count > 30 && failure.error.contains("no route to host"), "{failure:?}");
    let metrics = published.process.carnet.metrics().encode();
    assert!(!metrics.contains("carnet_publications_total{outcome=\"failed\"} 0"), "{metrics}");
    published.copy.set_down(false);

    let late = HOUR + published.until(5 * HOUR, |now| now.process.active_kids() != second).await;
    assert!(late >= 3 * HOUR && late <= 3 * HOUR + 3 * MINUTE, "{late:?}");
    let active = published.process.active_kids();
    assert!(waiting.iter().all(|key| active.contains(&key.kid())));
    assert_eq!(published.refused, Vec::<String>::new());
    assert_eq!(published.record().await.failure, None);
    assert!(published.process.carnet.issuer().health().publication_errors.is_empty());
}

#[tokio::test]
async fn a_requested_rotation_is_refused_until_the_copy_has_shown_the_key_for_long_enough() {
    let mut published = Published::begin(HOUR).await;
    published.copy.set_down(true);
    for kid in published.prepared().iter().map(SigningKey::kid) {
        published.process.carnet.rotator().revoke(&kid, &somebody()).await.unwrap();
    }
    published.pass(2 * HOUR).await;
    let refused = published.process.rotate(false).await;
    assert!(
        matches!(refused, Err(RotationError::Refused(RotationRefusal::Unpublished { .. }))),
        "{refused:?}"
    );
    published.copy.set_down(false);
    published.until(2 * MINUTE, |now| now.prepared().iter().all(|key| key.published_at.is_some())).await;
    let shown_at = published.machine.now();
    let Err(RotationError::Refused(RotationRefusal::TooYoung { safe_at, .. })) =
        published.process.rotate(false).await
    else {
        panic!()
    };
    assert_eq!(safe_at, shown_at.saturating_add(HOUR).unwrap());
}

#[tokio::test]
async fn a_revoked_key_stays_published_while_the_copy_cannot_be_written_and_leaves_it_first() {
    let mut published = Published::begin(HOUR).await;
    published.pass(HOUR / 2).await;
    let revoked = published.process.active_kids().remove(0);
    published.copy.set_down(true);
    published.process.carnet.rotator().revoke(&revoked, &somebody()).await.unwrap();
    published.pass(10 * MINUTE).await;
    let key_set = published.process.carnet.issuer().key_set();
    let shown = crate::api_types::signing_keys::list(
        &key_set,
        &[],
        false,
        published.machine.now(),
        &crate::grant::Permissions::unlimited_admin(),
    );
    let still = &shown.iter().find(|key| key.kid == revoked).unwrap().still_published_at;
    assert_eq!(*still, ["s3://bucket/issuer"]);
    let metrics = published.process.carnet.metrics().encode();
    assert!(metrics.contains("carnet_revoked_keys_still_published 1.0"), "{metrics}");
    assert!(metrics.contains("carnet_publications_behind 1.0"), "{metrics}");

    // Another change does not wait for the earlier failure.
    published.copy.set_down(false);
    let another = published.process.active_kids().remove(1);
    published.process.carnet.rotator().revoke(&another, &somebody()).await.unwrap();
    published.check_target().await;
    assert!(published.copy_shows().iter().all(|kid| *kid != revoked && *kid != another));
    let metrics = published.process.carnet.metrics().encode();
    assert!(metrics.contains("carnet_revoked_keys_still_published 0.0"), "{metrics}");
}

#[tokio::test]
async fn keys_that_replace_all_others_sign_nothing_before_the_copy_shows_them() {
    let mut published = Published::begin(HOUR).await;
    published.copy.set_down(true);
    let process = &published.process;
    process.carnet.rotator().revoke_all(&process.active_kids(), &somebody()).await.unwrap();
    published.check_target().await;
    for algorithm in Algorithm::ALL {
        let refused = published.process.mint(algorithm).map(drop);
        assert!(matches!(refused, Err(MintError::Unpublished { .. })), "{refused:?}");
    }
    published.copy.set_down(false);
    published.step(STEP).await;
    assert!(published.process.mint(Algorithm::Es256).is_ok());
}

#[tokio::test]
async fn a_foreign_write_is_overwritten_within_a_minute_and_recorded() {
    let jwks_without = |published: &Published, kid: &Kid| {
        let mut jwks: serde_json::Value = serde_json::from_slice(&published.copy.jwks().unwrap()).unwrap();
        jwks["keys"].as_array_mut().unwrap().retain(|key| key["kid"] != kid.as_str());
        jwks.to_string()
    };
    let mut published = Published::begin(HOUR).await;
    published.pass(HOUR / 2).await;
    let (kept, lost) = (published.prepared().remove(0), published.prepared().remove(1));
    let right = published.copy.jwks();
    for change in 0..3 {
        match change {
            0 => published.copy.alter(DocumentName::Jwks, jwks_without(&published, &lost.kid()).as_bytes()),
            1 => published.copy.alter(DocumentName::Discovery, b"{}"),
            _ => published.copy.remove(DocumentName::Jwks),
        }
        let took = published
            .until(2 * MINUTE, |now| {
                let metrics = now.process.carnet.metrics().encode();
                metrics.contains(&format!("carnet_publications_total{{outcome=\"altered\"}} {}", change + 1))
            })
            .await;
        assert!(took <= MINUTE + STEP, "{took:?}");
        assert_eq!(published.copy.jwks(), right);
        assert_eq!(published.record().await.altered_at, Some(published.machine.now()));
    }
    // Verifiers that fetched meanwhile lack the missing key; the others were there all the time.
    assert!(published.key(&lost.kid()).published_at > lost.published_at);
    assert_eq!(published.key(&kept.kid()).published_at, kept.published_at);
    let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM audit WHERE kind = 'publication.altered'")
        .fetch_one(&mut published.machine.sql().await)
        .await
        .unwrap();
    assert_eq!(rows, 3);
}

#[tokio::test]
async fn two_servers_publish_to_one_target_without_an_alarm_and_the_older_view_never_wins() {
    let mut published = Published::begin(HOUR).await;
    let mut other = published.machine.open().await;
    let mut second = other.carnet.publisher(Arc::clone(&published.copy) as _).await.unwrap();
    for _ in 0..200 {
        published.step(STEP).await;
        let after = published.copy.jwks();
        // This one has not read the database yet.
        second.check_target().await;
        assert_eq!(published.copy.jwks(), after);
        other.maintenance.tick().await;
        second.check_target().await;
        published.fetch();
    }
    assert!(published.copy.writes() > 8, "nothing rotated");
    assert_eq!(published.refused, Vec::<String>::new());
    for metrics in [other.carnet.metrics().encode(), published.process.carnet.metrics().encode()] {
        for outcome in ["altered", "failed"] {
            let line = format!("carnet_publications_total{{outcome=\"{outcome}\"}} 0\n");
            assert!(metrics.contains(&line), "{outcome}\n{metrics}");
        }
    }
}
