//! The rotator's code around a decision.

use crate::signing_keys::rotation::MAX_PUBLISHED;

use super::*;

impl Model {
    pub(super) fn actives(&self) -> impl Iterator<Item = &SigningKey> {
        Algorithm::ALL.into_iter().filter_map(|algorithm| active(&self.database.keys, algorithm))
    }

    /// Returns the time to record for `op`; `None` if the clock is not trusted, except in an emergency.
    fn recorded_now(&mut self, process: usize, op: Op) -> Option<Timestamp> {
        self.processes[process].time = self.database.time;
        let trust = self.observe(process);
        let (wall, high_water) = (self.wall(), self.database.time.high_water);
        let is_emergency = matches!(op, Op::Revoke(_) | Op::RevokeAll | Op::Policy(_));
        match self.mutation {
            Some(Mutation::RotateBehindHighWater) => Some(wall),
            Some(Mutation::RecordEmergencyByAClockBehind) if is_emergency => Some(wall),
            Some(Mutation::RotateByAJumpedClock) if matches!(trust, ClockTrust::Jumped { .. }) => Some(wall),
            _ if trust != ClockTrust::Steady && !is_emergency => None,
            _ if matches!((trust, op), (ClockTrust::Ahead { .. }, Op::Policy(_))) => None,
            _ => Some(wall.max(high_water)),
        }
    }

    /// Reads, decides and generates the keys; `None` if nothing is due.
    pub(super) fn begin(&mut self, process: usize, op: Op, seen: Vec<Kid>) -> Option<Begun> {
        let now = self.recorded_now(process, op)?;
        if self.database.keys.is_empty() && op != Op::Tick {
            return None;
        }
        let keys = self.database.keys.clone();
        let expected = match mutation::decide(self.mutation, op, &seen, &keys, &self.database.policy, now) {
            Ok(expected) => expected,
            Err(refusal) => {
                self.refused(&refusal, now);
                return None;
            }
        };
        if let Op::Revoke(nth) = op
            && expected.is_empty()
            && keys[mutation::revocation_target(&keys, nth)].is_published(now)
        {
            self.ledger.violated(Rule::AtMostEight, || "a revocation is refused".to_owned());
        }
        if expected.is_empty() && !matches!(op, Op::Policy(_)) {
            if matches!(op, Op::Rotate { .. }) {
                self.count("already rotated");
            }
            return None;
        }
        let wanted =
            expected.iter().flat_map(|change| std::iter::repeat_n(change.algorithm(), change.fresh_keys()));
        let fresh = wanted
            .map(|algorithm| {
                self.made += 1;
                public_key(algorithm, self.made)
            })
            .collect();
        Some(Begun { op, seen, expected, fresh, keys })
    }

    fn refused(&mut self, refusal: &RotationRefusal, now: Timestamp) {
        match refusal {
            RotationRefusal::TooYoung { safe_at, .. } => {
                self.count("refused: too young");
                if *safe_at <= now {
                    self.ledger.violated(Rule::PublishedBeforeItSigns, || format!("safe since {safe_at}"));
                }
            }
            // The model has no published copies.
            RotationRefusal::Unpublished { kid, .. } => {
                self.ledger.violated(Rule::PublishedBeforeItSigns, || format!("{kid} waits for a place"));
            }
            RotationRefusal::KeySetFull { published, frees_at } => {
                self.count("refused: full");
                if *published < MAX_PUBLISHED || *frees_at <= now {
                    self.ledger.violated(Rule::AtMostEight, || format!("refused, but free since {frees_at}"));
                }
            }
        }
    }

    /// Performs the transaction: decides again on the current rows of the database.
    pub(super) fn commit(&mut self, process: usize, begun: Begun) {
        let Begun { op, seen, expected, fresh, keys: keys_of_before } = begun;
        let Some(now) = self.recorded_now(process, op) else { return };
        if op != Op::Tick || self.processes[process].trust == ClockTrust::Steady {
            // A command cannot check the clock better; a maintenance task has checked it before.
            self.believe();
        } else if self.mutation != Some(Mutation::RotateByAJumpedClock) {
            return;
        }
        let elapsed = self.elapsed();
        // Until now, less one refresh interval, every other process sent the right keys.
        let lag = 1000;
        for other in 0..PROCESSES {
            if self.reaches_database(other) {
                let view_is_right = self.processes[other].view.generation == self.database.generation;
                if view_is_right {
                    self.crowd.still_right(other, elapsed - lag);
                    self.processes[other].confirmed = self.processes[other].confirmed.max(elapsed - lag);
                }
                self.processes[other].poll_at = self.processes[other].poll_at.min(self.now + lag);
            }
        }
        if let Op::Policy(number) = op {
            return self.change_policy(self.policies[number % self.policies.len()], now, elapsed);
        }
        let keys = match self.mutation {
            Some(Mutation::DecideOnRowsOfBefore) => keys_of_before,
            _ => self.database.keys.clone(),
        };
        let policy = self.database.policy;
        let mut changes =
            match mutation::decide(self.mutation, self.pinned(op, &expected), &seen, &keys, &policy, now) {
                Ok(changes) => changes,
                Err(refusal) => return self.refused(&refusal, now),
            };
        changes.retain(|change| expected.contains(change));
        let mut fresh = fresh;
        let mut why = Why::Revocation;
        for change in &changes {
            why = self.why(op, change, &seen);
            let (mine, others): (Vec<_>, Vec<_>) =
                fresh.into_iter().partition(|key| key.algorithm() == change.algorithm());
            fresh = others;
            let rows =
                mutation::rows(self.mutation, change, apply(&keys, change, &policy, now, &mine), &policy);
            let circumstances = self.circumstances(why, elapsed, policy);
            for row in rows {
                self.write(row, &circumstances);
            }
        }
        if !changes.is_empty() {
            self.database.generation += 1;
            self.ledger.database(&self.database.keys, &self.database.holds, now, why);
        }
    }

    /// Returns the operation with its key: a history identifies the key by its position, which others may
    /// have changed.
    fn pinned(&self, op: Op, expected: &[Change]) -> Op {
        let kid = match (op, expected) {
            (
                Op::Revoke(_),
                [
                    Change::RevokeActive { revoke, .. }
                    | Change::RevokePrepared { revoke, .. }
                    | Change::RevokeRetired { revoke, .. },
                ],
            ) => revoke,
            _ => return op,
        };
        let position = self.database.keys.iter().position(|key| key.kid() == *kid).unwrap();
        Op::Revoke(self.database.keys.len() - 1 - position)
    }

    fn why(&mut self, op: Op, change: &Change, seen: &[Kid]) -> Why {
        if let (Op::Rotate { .. }, Change::Rotate { retire, .. }) = (op, change)
            && !seen.contains(retire)
        {
            self.ledger.violated(Rule::RotatesOnlyWhatWasSeen, || format!("{retire} was not seen"));
        }
        match (op, change) {
            (_, Change::Found { .. } | Change::ReplaceAll { .. }) => Why::First,
            (Op::Rotate { force: true, .. }, _) => {
                self.count("forced rotations");
                Why::Forced
            }
            (_, Change::Rotate { .. }) => {
                self.count("rotations in time");
                Why::InTime
            }
            _ => {
                self.count("revocations");
                Why::Revocation
            }
        }
    }

    pub(super) fn circumstances(&self, why: Why, at: Elapsed, policy: RotationPolicy) -> Circumstances {
        Circumstances {
            why,
            at,
            policy,
            high_water: self.database.time.high_water,
            is_behind: self.is_behind(),
        }
    }

    pub(super) fn write(&mut self, row: SigningKey, circumstances: &Circumstances) {
        let Database { keys, holds, .. } = &mut self.database;
        let key = number(&row.public);
        let known = keys.iter_mut().find(|known| known.public == row.public);
        self.ledger.row(&row, known.is_none(), circumstances);
        let kept = match (self.mutation, row.stage) {
            (Some(Mutation::KeepPrivateHalfOfRetired), Stage::Retired { .. })
            | (Some(Mutation::KeepPrivateHalfOfRevoked), Stage::Revoked { .. }) => true,
            (Some(Mutation::LosePrivateHalfOfActive), Stage::Active { .. }) => false,
            _ => row.has_private_half(),
        };
        match known {
            None => drop(holds.insert(key)),
            Some(_) if !kept => drop(holds.remove(&key)),
            Some(_) => {}
        }
        match known {
            Some(known) => *known = row,
            None => keys.push(row),
        }
    }

    fn change_policy(&mut self, policy: RotationPolicy, now: Timestamp, elapsed: Elapsed) {
        let from = std::mem::replace(&mut self.database.policy, policy);
        self.crowd.propagation_changes(millis(policy.propagation()));
        let actives: Vec<_> = self.actives().map(|key| number(&key.public)).collect();
        self.ledger.may_sign_for(&actives, &policy);
        let circumstances = self.circumstances(Why::PolicyChange, elapsed, policy);
        for row in mutation::under_policy(self.mutation, &self.database.keys, &from, &policy) {
            self.write(row, &circumstances);
        }
        self.database.generation += 1;
        self.ledger.database(&self.database.keys, &self.database.holds, now, Why::PolicyChange);
    }
}
