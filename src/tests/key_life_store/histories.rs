//! Random histories, checked against the same rules as those of the model in `tests/it/key_life`.
//!
//! The wall clock is not set here, and a process acts at once on what it reads: the model covers the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::issuer::KeySet;
use crate::jose::Algorithm;
use crate::jose::key_pair::RsaBits;
use crate::signing_keys::policy::RotationPolicy;
use crate::signing_keys::rotation::safe_at;
use crate::signing_keys::{SigningKey, Stage, active, prepared};
use crate::values::clock::Clock as _;
use jiff::Timestamp;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};

use super::world::{Machine, Process, SECOND, somebody, verifies};
use crate::tests::key_life::crowd::Crowd;
use crate::tests::key_life::history::{Event, History, Op, PROCESSES, Span, histories};
use crate::tests::key_life::rules::{Circumstances, Elapsed, Ledger, Number, Why, millis, number};

struct World {
    machine: Machine,
    processes: Vec<Option<Process>>,
    cut_off: [bool; PROCESSES],
    /// A process that only reads the database; it serves and mints nothing.
    observer: Process,
    rows: Vec<SigningKey>,
    policies: Vec<RotationPolicy>,
    /// The ledger's number for each kid.
    numbers: BTreeMap<String, Number>,
    crowd: Crowd,
    ledger: Ledger,
}

impl World {
    async fn new(policies: &[RotationPolicy]) -> Self {
        let machine = Machine::new();
        let observer = machine.open().await;
        observer.carnet.rotator().set_policy(&policies[0], RsaBits::Rsa2048, &somebody()).await.unwrap();
        let mut world = Self {
            machine,
            processes: (0..PROCESSES).map(|_| None).collect(),
            cut_off: [false; PROCESSES],
            observer,
            rows: Vec::new(),
            policies: policies.to_vec(),
            numbers: BTreeMap::new(),
            crowd: Crowd::default(),
            ledger: Ledger::new(0),
        };
        world.record(Why::First).await;
        for process in 0..PROCESSES {
            world.start(process).await;
        }
        world
    }

    async fn live(&mut self, history: &History) {
        for event in &history.events {
            match *event {
                Event::Pass(span) => self.pass(span).await,
                Event::Do(process, op) | Event::Begin(process, op) => self.perform(process, op).await,
                Event::Storm { force } => {
                    let seen = self.observer.active_kids();
                    let storm = |_| self.observer.rotate_what_was_seen(seen.clone(), force);
                    let [one, two, three] = [0, 1, 2].map(storm);
                    let _refused_or_done = tokio::join!(one, two, three);
                    self.record(if force { Why::Forced } else { Why::InTime }).await;
                }
                Event::CutOff(process) => {
                    if let Some(cut_off) = &self.processes[process] {
                        cut_off.cut_off().await;
                        self.cut_off[process] = true;
                    }
                }
                Event::Stop(process) | Event::Reconnect(process) if self.cut_off[process] => {
                    self.start(process).await;
                }
                Event::Stop(process) => {
                    self.processes[process] = None;
                    self.crowd.ends(process);
                }
                Event::Start(process) if self.processes[process].is_none() => self.start(process).await,
                Event::Commit(_)
                | Event::Reconnect(_)
                | Event::Start(_)
                | Event::SetClock(_)
                | Event::Accept
                | Event::SetBack => {}
            }
            self.mint().await;
        }
    }

    async fn start(&mut self, process: usize) {
        self.processes[process] = Some(self.machine.open().await);
        self.cut_off[process] = false;
        self.sends(process);
    }

    async fn perform(&mut self, process: usize, op: Op) {
        let Some(acting) = self.processes[process].as_mut().filter(|_| !self.cut_off[process]) else {
            return;
        };
        let rotator = acting.carnet.rotator();
        let why = match op {
            Op::Tick => {
                acting.maintenance.tick().await;
                Why::InTime
            }
            Op::Rotate { force, .. } => {
                let _refused_or_done = acting.rotate(force).await;
                if force { Why::Forced } else { Why::InTime }
            }
            Op::Revoke(nth) => {
                let kid = self.rows[self.rows.len() - 1 - nth % self.rows.len()].kid();
                rotator.revoke(&kid, &somebody()).await.unwrap();
                Why::Revocation
            }
            Op::RevokeAll => {
                rotator.revoke_all(&acting.active_kids(), &somebody()).await.unwrap();
                Why::Revocation
            }
            Op::Policy(number) => {
                let policy = self.policies[number % self.policies.len()];
                rotator.set_policy(&policy, RsaBits::Rsa2048, &somebody()).await.unwrap();
                self.crowd.propagation_changes(millis(policy.propagation()));
                Why::PolicyChange
            }
        };
        self.record(why).await;
        if op == Op::Tick {
            self.sends(process);
        }
    }

    fn elapsed(&self) -> Elapsed {
        millis(self.machine.clock.monotonic())
    }

    /// Lets time pass, with a refresh at every moment at which something is due, and within the last second.
    async fn pass(&mut self, span: Span) {
        let policy = self.observer.carnet.issuer().key_set().settings.policy;
        let thousandths = |of: Duration, count: u32| of * count / 1000;
        let length = match span {
            Span::Millis(millis) => Duration::from_millis(millis.into()),
            Span::OfRetirement(count) => thousandths(policy.max_token_lifetime() + policy.leeway(), count),
            Span::OfPropagation(count) => thousandths(policy.propagation(), count),
            Span::OfRotation(count) => thousandths(policy.rotate_every(), count),
            Span::Hold => 2 * policy.leeway(),
        };
        let end = self.machine.clock.monotonic() + length;
        self.advance_to(end.saturating_sub(length) + length.min(SECOND)).await;
        // A rotation shortens the time until the next one, but not below the policy's, so this loop ends.
        for _ in 0..20 {
            let before_end = end.saturating_sub(SECOND / 2);
            let left = before_end.saturating_sub(self.machine.clock.monotonic());
            let Some(due) = self.next_due().filter(|due| *due < left) else { break };
            self.advance_to(self.machine.clock.monotonic() + due).await;
        }
        self.advance_to(end.saturating_sub(SECOND / 2)).await;
        self.machine.clock.advance(end.saturating_sub(self.machine.clock.monotonic()));
    }

    fn next_due(&self) -> Option<Duration> {
        let now = self.machine.now();
        let settings = &self.observer.carnet.issuer().key_set().settings;
        let prunings = self.rows.iter().filter_map(SigningKey::published_until);
        let rotations = Algorithm::ALL.into_iter().filter_map(|algorithm| {
            let (current, next) = (active(&self.rows, algorithm)?, prepared(&self.rows, algorithm)?);
            let Stage::Active { activated_at } = current.stage else { return None };
            let old_enough = activated_at.saturating_add(settings.policy.rotate_every()).unwrap();
            Some(old_enough.max(safe_at(next, &settings.policy).unwrap()))
        });
        let due: Option<Timestamp> = prunings.chain(rotations).filter(|time| *time > now).min();
        due.map(|due| Duration::try_from(due.duration_since(now)).unwrap())
    }

    async fn advance_to(&mut self, monotonic: Duration) {
        self.machine.clock.advance(monotonic.saturating_sub(self.machine.clock.monotonic()));
        // Until then, each process sent the right keys, or was within its refresh interval.
        for process in 0..PROCESSES {
            if self.processes[process].is_some() && !self.cut_off[process] && self.is_current(process) {
                self.crowd.still_right(process, self.elapsed() - 1000);
            }
        }
        for process in 0..PROCESSES {
            if let Some(looking) = self.processes[process].as_mut() {
                looking.maintenance.tick().await;
                self.record(Why::InTime).await;
                if !self.cut_off[process] {
                    self.sends(process);
                }
            }
        }
        self.mint().await;
    }

    fn is_current(&self, process: usize) -> bool {
        let generation = |of: &Process| of.carnet.issuer().key_set().settings.generation;
        self.processes[process].as_ref().is_some_and(|of| generation(of) == generation(&self.observer))
    }

    /// Records the database's current rows in the ledger.
    async fn record(&mut self, why: Why) {
        self.observer.carnet.issuer().refresh().await.unwrap();
        let key_set = self.observer.carnet.issuer().key_set();
        let KeySet { settings, keys, .. } = &*key_set;
        if *keys == self.rows && why != Why::PolicyChange {
            return;
        }
        let circumstances = Circumstances {
            why,
            at: self.elapsed(),
            policy: settings.policy,
            high_water: settings.high_water,
            is_behind: false,
        };
        for key in keys {
            let before = self.rows.iter().find(|row| row.public == key.public);
            self.numbers.entry(key.kid().to_string()).or_insert_with(|| number(&key.public));
            if before != Some(key) {
                self.ledger.row(key, before.is_none(), &circumstances);
            }
        }
        let actives = Algorithm::ALL.map(|algorithm| number(&active(keys, algorithm).unwrap().public));
        self.ledger.may_sign_for(&actives, &settings.policy);
        self.rows.clone_from(keys);
        let mut sql = self.machine.sql().await;
        let holds: Vec<String> =
            sqlx::query_scalar("SELECT kid FROM signing_keys WHERE sealed_private IS NOT NULL")
                .fetch_all(&mut sql)
                .await
                .unwrap();
        let holds: BTreeSet<Number> = holds.iter().map(|kid| self.numbers[kid]).collect();
        self.ledger.database(&self.rows, &holds, self.machine.now(), why);
    }

    /// Records the keys that `process` has just confirmed and sends.
    fn sends(&mut self, process: usize) {
        let Some(sending) = &self.processes[process] else { return };
        let jwks: serde_json::Value = serde_json::from_slice(&sending.jwks()).unwrap();
        let kids = jwks["keys"].as_array().unwrap().iter().map(|jwk| jwk["kid"].as_str().unwrap());
        let sent: Vec<Number> = kids.map(|kid| self.numbers[kid]).collect();
        self.ledger.sent(&sent, true);
        let propagation = millis(sending.carnet.issuer().key_set().settings.policy.propagation());
        let now = self.elapsed();
        self.crowd.sends(process, sent, propagation, now, &mut self.ledger);
    }

    async fn mint(&mut self) {
        let now = self.elapsed();
        for process in self.processes.iter().flatten() {
            let lifetime = process.carnet.issuer().key_set().settings.policy.max_token_lifetime();
            for algorithm in Algorithm::ALL {
                let Ok(token) = process.mint(algorithm) else { continue };
                assert!(verifies(&token, &process.jwks()), "its own JWKS does not verify it");
                let key = self.numbers[&token.presented.kid];
                self.ledger.signed(key);
                self.crowd.minted(key, now + millis(lifetime), now, &mut self.ledger);
            }
        }
    }
}

#[test]
fn no_history_breaks_a_rule() {
    let seed = std::env::var("CARNET_TEST_SEED").map_or(4, |seed| seed.parse().unwrap());
    let cases = if std::env::var_os("CARNET_TEST_LONG").is_some() { 600 } else { 20 };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 100,
        ..Config::default()
    });
    let outcome = runner.run(&histories(), |history| {
        runtime.block_on(async {
            let mut world = World::new(&history.policies).await;
            world.live(&history).await;
            match world.ledger.violations.as_slice() {
                [] if world.crowd.verified > 0 => Ok(()),
                violations => Err(TestCaseError::fail(format!("{violations:#?}"))),
            }
        })
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
