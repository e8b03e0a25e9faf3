//! The processes' trust in the clock, and the operator's commands for it.

use crate::signing_keys::pruning_clock::CATCH_UP_BY;
use crate::signing_keys::rotation::due_at;
use crate::signing_keys::set_back::set_back;

use super::*;

const ONE_SECOND: Duration = Duration::from_secs(1);

impl Model {
    /// Returns a process's trust in the clock.
    pub(super) fn observe(&mut self, process: usize) -> ClockTrust {
        let (wall, monotonic) = (self.wall(), self.monotonic());
        let Process { guard, pruning, time, view, .. } = &mut self.processes[process];
        let trust = guard.observe(wall, monotonic, *time, &view.policy);
        let pruning_time = pruning.observe(wall, monotonic, trust, *time, &view.policy);
        (self.processes[process].trust, self.processes[process].pruning_time) = (trust, pruning_time);
        if trust == ClockTrust::Steady {
            self.believe();
            let passed = Duration::from_millis((self.now - self.pruned.1).unsigned_abs());
            let reached = self.pruned.0.saturating_add(passed).unwrap().max(self.database.time.pruning_time);
            if pruning_time > reached.saturating_add(CATCH_UP_BY).unwrap() {
                self.ledger.violated(Rule::PrunesSlowly, || format!("{pruning_time}, and {reached} was due"));
            }
            if pruning_time >= reached {
                self.pruned = (pruning_time, self.now);
            }
        }
        trust
    }

    /// The operator accepts the clock.
    pub(super) fn accept(&mut self) {
        let wall = self.wall();
        if !self.is_behind() && wall > self.database.time.high_water {
            self.database.time.high_water = wall;
            self.believe();
            self.count("accepted");
        }
    }

    /// The operator states that the clock is right now and was wrong before.
    pub(super) fn set_back(&mut self) {
        let (wall, policy) = (self.wall(), self.database.policy);
        let changed = set_back(&self.database.keys, &policy, self.database.time.high_water, wall);
        if self.database.time.high_water <= wall && changed.is_empty() {
            return;
        }
        let time = &mut self.database.time;
        time.pruning_time = time.pruning_time.min(wall);
        (time.high_water, time.set_backs) = (wall, time.set_backs + 1);
        self.pruned.0 = self.pruned.0.min(wall);
        self.believe();
        let circumstances = self.circumstances(Why::SetBack, self.elapsed(), policy);
        for row in changed {
            self.write(row, &circumstances);
        }
        self.database.generation += 1;
        self.ledger.database(&self.database.keys, &self.database.holds, wall, Why::SetBack);
        for algorithm in Algorithm::ALL {
            let latest =
                wall.saturating_add(policy.rotate_every().max(policy.propagation() + ONE_SECOND)).unwrap();
            if due_at(&self.database.keys, &policy, algorithm).is_none_or(|due| due > latest) {
                self.ledger
                    .violated(Rule::GoesOnAfterSetBack, || format!("{algorithm} is due after {latest}"));
            }
        }
        for process in 0..PROCESSES {
            if self.reaches_database(process) {
                self.read(process);
                let trust = self.observe(process);
                if trust != ClockTrust::Steady {
                    self.ledger.violated(Rule::GoesOnAfterSetBack, || format!("{trust:?} after it"));
                }
            }
        }
        self.count("set back");
    }
}
