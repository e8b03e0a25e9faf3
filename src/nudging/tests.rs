use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::carnet::{Carnet, Config, MasterKeySource};
use crate::exchange::transport::{SendFuture, TransportError, TransportErrorKind};
use crate::feed::FeedDraft;
use crate::store::IfMissing;
use crate::values::clock::SimulatedClock;

const MINUTE: Duration = Duration::from_secs(60);

struct World {
    _folder: tempfile::TempDir,
    clock: SimulatedClock,
    carnet: Carnet,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = SimulatedClock::at(Timestamp::from_second(1_800_000_000).unwrap());
        let master_key = MasterKeySource::Folder(folder.path().join("keys"));
        let config = Config {
            if_missing: IfMissing::Create,
            issuer: Some("https://issuer.example".parse().unwrap()),
            clock: Arc::new(clock.clone()),
            ..Config::new(folder.path().join("carnet.db").into(), master_key)
        };
        Self { carnet: Carnet::open(config).await.unwrap(), _folder: folder, clock }
    }

    /// Adds feeds of roles in the accounts with these numbers.
    async fn add_feeds(&self, accounts: std::ops::Range<u64>) {
        let mut write = self.carnet.store().write().await.unwrap();
        for number in accounts {
            let account = 100_000_000_000 + number;
            let role = json!({"type": "aws-ecr", "role_arn": format!("arn:aws:iam::{account}:role/pull")});
            let draft = FeedDraft::new(
                format!("default/feed-{number}").parse().unwrap(),
                format!("{account}.dkr.ecr.eu-central-1.amazonaws.com").parse().unwrap(),
                serde_json::from_value(role).unwrap(),
            );
            let id = Uuid::from_u128(u128::from(number) + 1);
            let feed = Feed::new(draft, id, 60 * MINUTE, self.clock.now()).unwrap();
            write.insert_feed(&feed).await.unwrap();
        }
        write.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_thousand_verifiers_are_nudged_and_the_rest_is_reported() {
    let world = World::new().await;
    let nudging = world.carnet.nudging();
    world.add_feeds(0..1000).await;
    let (verifiers, is_cut) = nudging.verifiers(Algorithm::Es256).await.unwrap();
    assert_eq!((verifiers.len(), is_cut), (1000, false));
    world.add_feeds(1000..1002).await;
    let (verifiers, is_cut) = nudging.verifiers(Algorithm::Es256).await.unwrap();
    assert_eq!((verifiers.len(), is_cut), (1000, true));
    assert!(nudging.verifiers(Algorithm::Rs256).await.unwrap().0.is_empty());
}

impl World {
    /// Revokes every key, and returns the first round of nudges of ES256, claimed.
    async fn revoke(&self) -> Nudge {
        let kids = self.carnet.issuer().key_set().active_kids();
        self.carnet.rotator().revoke_all(&kids, &Actor::server()).await.unwrap();
        self.carnet.issuer().refresh().await.unwrap();
        self.carnet.store().nudges().await.unwrap().remove(0)
    }
}

#[tokio::test]
async fn a_failed_round_is_free_again_at_once_and_does_not_stop_the_others() {
    let world = World::new().await;
    world.add_feeds(0..1).await;
    world.revoke().await;
    let mut nudging = world.carnet.nudging();
    // There are verifiers of ES256 tokens only. The round of RS256 comes after it and needs no transport.
    nudging.transport.extra_ca_pem = Some(b"no certificate".to_vec());
    let mut failed = Vec::new();
    let outcome = nudging.carry_out_due(world.clock.now(), &mut failed).await;
    assert!(matches!(outcome, Err(NudgeError::Transport(_))), "{outcome:?}");
    assert_eq!(failed, []);
    let nudges = world.carnet.store().nudges().await.unwrap();
    let first: Vec<_> = nudges.iter().filter(|nudge| nudge.round == 1).collect();
    assert_eq!(first.len(), 1, "{nudges:?}");
    assert_eq!((first[0].algorithm, first[0].claimed_at), (Algorithm::Es256, None));
    assert!(first[0].free_at() <= world.clock.now());
}

#[derive(Debug)]
struct Panicking;

impl HttpTransport for Panicking {
    fn send(&self, _: Request<Bytes>) -> SendFuture<'_> {
        panic!("the test wants it");
    }
}

#[tokio::test]
async fn a_verifier_whose_attempt_panics_counts_as_not_reached() {
    let world = World::new().await;
    world.add_feeds(0..3).await;
    let mut nudge = world.revoke().await;
    let nudging = world.carnet.nudging();
    let (verifiers, _) = nudging.verifiers(Algorithm::Es256).await.unwrap();
    let task = nudging.task(nudging.signer(&nudge).await.unwrap().unwrap(), Box::new(Panicking));
    let (mut round, mut reported) = (Round::default(), Vec::new());
    let mut report = |shown: &Shown| reported.push(format!("{shown:?}"));
    nudging.show_all(&mut nudge, task, verifiers, &mut round, &mut report).await.unwrap();
    assert_eq!((round.answered, round.failed), (0, 3));
    assert!(reported.len() == 3 && reported.iter().all(|text| text.contains("panicked")), "{reported:?}");
}

/// Gets no response; meanwhile this process stalls for so long that another one claims the round.
#[derive(Debug)]
struct Stalling {
    store: Trusted,
    clock: SimulatedClock,
    sent: Arc<AtomicUsize>,
}

impl HttpTransport for Stalling {
    fn send(&self, _: Request<Bytes>) -> SendFuture<'_> {
        let is_first = self.sent.fetch_add(1, Ordering::SeqCst) == 0;
        Box::pin(async move {
            if is_first {
                self.clock.advance(6 * MINUTE);
                let mut theirs = self.store.nudges().await.unwrap().remove(0);
                assert!(theirs.free_at() <= self.clock.now());
                assert!(self.store.claim_nudge(&mut theirs, self.clock.now()).await.unwrap());
            }
            Err(TransportError::new(TransportErrorKind::Connect, None))
        })
    }
}

#[tokio::test]
async fn a_round_that_another_process_has_taken_over_is_left_to_it() {
    let world = World::new().await;
    world.add_feeds(0..100).await;
    let mut nudge = world.revoke().await;
    let (nudging, store) = (world.carnet.nudging(), world.carnet.store());
    assert!(store.claim_nudge(&mut nudge, world.clock.now()).await.unwrap());
    let (verifiers, _) = nudging.verifiers(Algorithm::Es256).await.unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let transport = Stalling { store: store.clone(), clock: world.clock.clone(), sent: Arc::clone(&sent) };
    let task = nudging.task(nudging.signer(&nudge).await.unwrap().unwrap(), Box::new(transport));
    let mut round = Round::default();
    nudging.show_all(&mut nudge, task, verifiers, &mut round, &mut |_: &Shown| {}).await.unwrap();
    assert!(round.is_taken_over && sent.load(Ordering::SeqCst) < 30, "{round:?} {sent:?}");
    // The claim that was lost neither ends nor frees the round.
    store.end_nudge(&nudge).await.unwrap();
    store.release_nudge(&nudge).await.unwrap();
    assert_eq!(store.nudges().await.unwrap()[0].claimed_at, Some(world.clock.now()));
}
