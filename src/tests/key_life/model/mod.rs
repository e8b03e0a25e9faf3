//! A model of a machine with one database, one clock and several processes, limited to the life of keys.
//!
//! Decisions are the library's own: `plan…`, `apply`, `published`, `ClockGuard`. The model replaces the code
//! around them, that is rotator, maintenance task and issuer: what each process has read and when, what is
//! decided again inside a transaction, and when a process refuses to sign.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::issuer::STALE_AFTER;
use crate::jose::Algorithm;
use crate::jose::jwk::{Kid, PublicKey};
use crate::signing_keys::clock_guard::{ClockGuard, ClockTrust, DatabaseTime, HOLD, is_behind};
use crate::signing_keys::policy::RotationPolicy;
use crate::signing_keys::pruning_clock::PruningClock;
use crate::signing_keys::rotation::{Change, RotationRefusal, apply, plan, safe_at};
use crate::signing_keys::{SigningKey, Stage, active, next_pruning, prepared, published};
use jiff::Timestamp;

use super::crowd::Crowd;
use super::history::{Event, History, Op, PROCESSES, Span, Step};
use super::mutation::{self, Mutation};
use super::rules::{Circumstances, Elapsed, Ledger, Number, Rule, Why, millis, number, public_key};

const EPOCH: i64 = 1_700_000_000_000;
/// The interval at which the maintenance task advances the high-water time.
const WRITE_EVERY: Elapsed = 10_000;

/// Counts of events, to prove that the histories cover them.
pub(crate) type Tally = BTreeMap<&'static str, u64>;

struct Database {
    keys: Vec<SigningKey>,
    holds: BTreeSet<Number>,
    policy: RotationPolicy,
    generation: u64,
    time: DatabaseTime,
}

/// The data that a process has read.
#[derive(Clone)]
struct View {
    keys: Vec<SigningKey>,
    policy: RotationPolicy,
    generation: u64,
    pruning: Option<Timestamp>,
}

struct Process {
    view: View,
    /// In elapsed time: a machine that has slept wakes with stale processes. (A real process may sign until
    /// its first refresh after that; the model does not count this as a violation.)
    confirmed: Elapsed,
    time: DatabaseTime,
    guard: ClockGuard,
    trust: ClockTrust,
    pruning: PruningClock,
    pruning_time: Timestamp,
    running: bool,
    connected: bool,
    poll_at: Elapsed,
    write_at: Elapsed,
    begun: Option<Begun>,
}

/// A change whose keys are being generated.
struct Begun {
    op: Op,
    seen: Vec<Kid>,
    expected: Vec<Change>,
    fresh: Vec<PublicKey>,
    /// The rows that were read first; only a mutation uses them again.
    keys: Vec<SigningKey>,
}

pub(crate) struct Model {
    /// Monotonic time.
    now: Elapsed,
    /// The offset of the wall clock from it, and the offset when the clock was last trusted.
    offset: i64,
    believed: i64,
    /// The sum of the trusted jumps, added to the elapsed time.
    gained: Elapsed,
    policies: Vec<RotationPolicy>,
    /// The latest time up to which any process has pruned, and when.
    pruned: (Timestamp, Elapsed),
    database: Database,
    processes: Vec<Process>,
    made: Number,
    lag: usize,
    mutation: Option<Mutation>,
    crowd: Crowd,
    pub(crate) ledger: Ledger,
    pub(crate) tally: Tally,
}

impl Model {
    /// Creates an issuer that has just been founded, with every process running.
    ///
    /// This limits the possible histories: a wall clock may step forward between a retirement and the pruning
    /// by less than `leeway` without being detected, and a process that is cut off may sign for `STALE_AFTER`
    /// with a retired key. Both together must fit into `leeway`.
    pub(crate) fn new(policies: &[RotationPolicy], mutation: Option<Mutation>) -> Self {
        let policy = policies[0];
        let now = timestamp(0);
        let time = DatabaseTime { high_water: now, pruning_time: now, set_backs: 0 };
        let leeway = policies.iter().map(|policy| policy.leeway()).min().unwrap();
        let wander = millis(leeway.saturating_sub(STALE_AFTER));
        let view = View { keys: Vec::new(), policy, generation: 0, pruning: None };
        let process = || Process {
            view: view.clone(),
            confirmed: 0,
            time,
            guard: ClockGuard::default(),
            trust: ClockTrust::Steady,
            pruning: PruningClock::default(),
            pruning_time: now,
            running: false,
            connected: true,
            poll_at: 0,
            write_at: 0,
            begun: None,
        };
        let mut model = Self {
            now: 0,
            offset: 0,
            believed: 0,
            gained: 0,
            policies: policies.to_vec(),
            pruned: (now, 0),
            database: Database { keys: Vec::new(), holds: BTreeSet::new(), policy, generation: 0, time },
            processes: (0..PROCESSES).map(|_| process()).collect(),
            made: 0,
            lag: 0,
            mutation,
            crowd: Crowd::default(),
            ledger: Ledger::new(wander),
            tally: Tally::default(),
        };
        if let Some(begun) = model.begin(0, Op::Tick, Vec::new()) {
            model.commit(0, begun);
        }
        (0..PROCESSES).for_each(|process| model.start(process));
        model
    }

    /// Runs `history`; violations are in the ledger afterwards.
    pub(crate) fn run(history: &History, mutation: Option<Mutation>) -> Self {
        let mut model = Self::new(&history.policies, mutation);
        for event in &history.events {
            model.event(event);
            model.mint_everywhere();
        }
        model.tally.extend([("verified", model.crowd.verified), ("excused", model.crowd.excused)]);
        model
    }

    fn event(&mut self, event: &Event) {
        match *event {
            Event::Pass(span) => self.pass(self.length(span)),
            Event::Do(process, op) if self.reaches_database(process) => {
                let seen = self.seen_by(process);
                if let Some(begun) = self.begin(process, op, seen) {
                    self.commit(process, begun);
                }
            }
            Event::Begin(process, op) if self.reaches_database(process) => {
                self.processes[process].begun = self.begin(process, op, self.seen_by(process));
            }
            Event::Commit(process) if self.reaches_database(process) => {
                if let Some(begun) = self.processes[process].begun.take() {
                    self.commit(process, begun);
                }
            }
            Event::Storm { force } => {
                let seen: Vec<Kid> = self.actives().map(SigningKey::kid).collect();
                let request = Op::Rotate { force, both: true };
                let storm: Vec<_> = (0..3).map(|_| self.begin(0, request, seen.clone())).collect();
                storm.into_iter().flatten().for_each(|begun| self.commit(0, begun));
            }
            Event::CutOff(process) => self.processes[process].connected = false,
            Event::Reconnect(process) => {
                self.processes[process].connected = true;
                self.processes[process].poll_at = self.now;
            }
            Event::Stop(process) => self.stop(process),
            Event::Start(process) if !self.processes[process].running => self.start(process),
            Event::SetClock(step) => self.set_clock(step),
            Event::Accept => self.accept(),
            Event::SetBack => self.set_back(),
            Event::Do(..) | Event::Begin(..) | Event::Commit(_) | Event::Start(_) => {}
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    fn reaches_database(&self, process: usize) -> bool {
        self.processes[process].running && self.processes[process].connected
    }

    fn seen_by(&self, process: usize) -> Vec<Kid> {
        let keys = &self.processes[process].view.keys;
        Algorithm::ALL
            .into_iter()
            .filter_map(|algorithm| active(keys, algorithm))
            .map(SigningKey::kid)
            .collect()
    }

    fn start(&mut self, process: usize) {
        let started = &mut self.processes[process];
        (started.running, started.connected) = (true, true);
        (started.guard, started.pruning) = (ClockGuard::default(), PruningClock::default());
        (started.time, started.pruning_time) = (self.database.time, self.database.time.pruning_time);
        (started.poll_at, started.write_at) = (self.now, self.now + WRITE_EVERY);
        started.begun = None;
        // A process that starts can compare the wall clock only with the database.
        self.observe(process);
        self.read(process);
    }

    fn stop(&mut self, process: usize) {
        self.processes[process].running = false;
        self.crowd.ends(process);
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.now.unsigned_abs())
    }

    /// One round of the maintenance task.
    fn poll(&mut self, process: usize) {
        let (wall, now) = (self.wall(), self.now);
        self.observe(process);
        if !self.processes[process].connected {
            return;
        }
        let view = &self.processes[process].view;
        let pruning = view.pruning.is_some_and(|at| at <= self.pruning_time(process));
        if view.generation != self.database.generation || pruning {
            self.read(process);
        } else {
            self.confirm(process);
        }
        let trust = self.observe(process);
        let believes = match trust {
            ClockTrust::Steady => true,
            ClockTrust::Jumped { .. } => self.mutation == Some(Mutation::RotateByAJumpedClock),
            ClockTrust::Behind { .. } => self.mutation == Some(Mutation::RotateBehindHighWater),
            ClockTrust::Ahead { .. } => false,
        };
        if !believes {
            return;
        }
        if !plan(&self.processes[process].view.keys, &self.processes[process].view.policy, wall).is_empty()
            && let Some(begun) = self.begin(process, Op::Tick, Vec::new())
        {
            self.commit(process, begun);
            self.read(process);
        }
        if trust == ClockTrust::Steady && now >= self.processes[process].write_at {
            self.processes[process].write_at = now + WRITE_EVERY;
            let time = &mut self.database.time;
            time.high_water = time.high_water.max(wall);
            time.pruning_time = time.pruning_time.max(self.processes[process].pruning_time);
        }
    }

    /// Returns the time by which this process prunes.
    fn pruning_time(&self, process: usize) -> Timestamp {
        match self.mutation {
            Some(Mutation::PruneByAJumpedClock) => self.wall(),
            _ => self.processes[process].pruning_time,
        }
    }

    fn read(&mut self, process: usize) {
        self.processes[process].time = self.database.time;
        self.observe(process);
        let Database { keys, policy, generation, .. } = &self.database;
        let at = self.pruning_time(process);
        let view = View {
            keys: keys.clone(),
            policy: *policy,
            generation: *generation,
            pruning: next_pruning(keys, at),
        };
        let sent: Vec<Number> = match self.mutation {
            Some(Mutation::PruneByAClockSetBack) => {
                keys.iter().filter(|key| key.is_published(at)).map(|key| number(&key.public)).collect()
            }
            Some(Mutation::PublishRevoked) => {
                let revoked = |key: &&SigningKey| matches!(key.stage, Stage::Revoked { .. });
                published(keys, at)
                    .into_iter()
                    .chain(keys.iter().filter(revoked))
                    .map(|key| number(&key.public))
                    .collect()
            }
            _ => published(keys, at).into_iter().map(|key| number(&key.public)).collect(),
        };
        self.ledger.sent(&sent, true);
        let (propagation, elapsed) = (millis(policy.propagation()), self.elapsed());
        self.crowd.sends(process, sent, propagation, elapsed, &mut self.ledger);
        self.processes[process].view = view;
        self.confirm(process);
    }

    fn confirm(&mut self, process: usize) {
        let elapsed = self.elapsed();
        self.crowd.still_right(process, elapsed);
        self.processes[process].confirmed = elapsed;
        self.processes[process].time = self.database.time;
    }

    /// Mints in every process, with every algorithm, the longest allowed token.
    fn mint_everywhere(&mut self) {
        for process in 0..PROCESSES {
            if self.processes[process].running {
                self.mint(process);
            }
        }
    }

    fn mint(&mut self, process: usize) {
        let elapsed = self.elapsed();
        let trust = self.observe(process);
        let Process { view, confirmed, .. } = &self.processes[process];
        let limit = millis(STALE_AFTER.min(view.policy.leeway()));
        if elapsed - confirmed > limit && self.mutation != Some(Mutation::MintHoweverStale) {
            self.count("not minted: unconfirmed");
            return;
        }
        if trust.check_for_minting(self.wall()).is_err() {
            let is_behind = matches!(trust, ClockTrust::Behind { .. });
            self.count(if is_behind { "not minted: clock behind" } else { "not minted: clock ahead" });
            return;
        }
        let mut stale = 0;
        for algorithm in Algorithm::ALL {
            let signer = match self.mutation {
                Some(Mutation::MintWithThePreparedKey) => prepared(&view.keys, algorithm),
                _ => active(&view.keys, algorithm),
            };
            let Some(signer) = signer.map(|key| number(&key.public)) else { continue };
            stale += u64::from(view.generation != self.database.generation);
            let lifetime = view.policy.max_token_lifetime();
            self.ledger.signed(signer);
            let expires = elapsed + millis(lifetime);
            self.crowd.minted(signer, expires, elapsed, &mut self.ledger);
        }
        *self.tally.entry("minted with what has changed since").or_default() += stale;
    }
}

mod clock;
mod rotator;
mod time;

fn timestamp(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(EPOCH + millis).unwrap()
}
