//! The machine's clocks, and the passing of time.

use super::*;

impl Model {
    pub(super) fn wall(&self) -> Timestamp {
        timestamp(self.now + self.offset)
    }

    pub(super) fn elapsed(&self) -> Elapsed {
        self.now + self.gained
    }

    /// Clocks are not stepped by minutes twice within a second, so every process has refreshed in between.
    pub(super) fn set_clock(&mut self, step: Step) {
        if !matches!(step, Step::Wander(_)) {
            self.pass(1000);
        }
        let noticed = self.policies.iter().map(|policy| millis(policy.leeway())).max().unwrap() * 2;
        let wander = self.ledger.wander;
        self.offset = match step {
            Step::Wander(thousandths) => self.believed + wander / 2 * i64::from(thousandths) / 1000,
            Step::Ahead(seconds) => self.offset + noticed + i64::from(seconds) * 1000,
            Step::Behind(seconds) => self.offset - noticed - i64::from(seconds) * 1000,
        };
        self.processes.iter_mut().for_each(|process| process.poll_at = process.poll_at.min(self.now + 250));
    }

    /// An act by the wall clock makes it count as right from now on.
    pub(super) fn believe(&mut self) {
        let off = self.offset - self.believed;
        if off.abs() <= self.ledger.wander / 2 || self.is_behind() {
            return;
        }
        if off > 0 {
            self.gained += off;
            self.count("jumps believed");
        }
        self.believed = self.offset;
    }

    pub(super) fn is_behind(&self) -> bool {
        is_behind(self.wall(), self.database.time.high_water, self.database.policy.leeway())
    }

    pub(super) fn length(&self, span: Span) -> Elapsed {
        let policy = &self.database.policy;
        let thousandths = |of: Duration, count| millis(of) * i64::from(count) / 1000;
        match span {
            Span::Millis(millis) => millis.into(),
            Span::OfRetirement(count) => thousandths(policy.max_token_lifetime() + policy.leeway(), count),
            Span::OfPropagation(count) => thousandths(policy.propagation(), count),
            Span::OfRotation(count) => thousandths(policy.rotate_every(), count),
            Span::Hold => millis(HOLD) + 1500,
        }
    }

    /// Lets time pass. A process refreshes at least once a second; while nothing is due for it, this is
    /// skipped until shortly before the end.
    pub(super) fn pass(&mut self, length: Elapsed) {
        let end = self.now + length;
        loop {
            let running = self.processes.iter().filter(|process| process.running);
            let next = running.map(|process| process.poll_at).min().unwrap_or(Elapsed::MAX);
            if next > end {
                break;
            }
            self.now = next.max(self.now);
            for process in 0..PROCESSES {
                if self.processes[process].running && self.processes[process].poll_at <= self.now {
                    self.poll(process);
                    self.processes[process].poll_at = self.next_poll(process, end);
                }
            }
            self.mint_everywhere();
        }
        self.now = end;
    }

    pub(super) fn next_lag(&mut self) -> Elapsed {
        self.lag += 1;
        [250, 1000, 700, 420, 999, 610][self.lag % 6]
    }

    pub(super) fn next_poll(&mut self, process: usize, end: Elapsed) -> Elapsed {
        let soon = self.now + self.next_lag();
        let before_end = end - self.next_lag();
        let Process { view, trust, connected, .. } = &self.processes[process];
        let at = |wall: Timestamp| wall.as_millisecond() - EPOCH - self.offset;
        let due = Algorithm::ALL.into_iter().filter_map(|algorithm| {
            let (current, next) = (active(&view.keys, algorithm)?, prepared(&view.keys, algorithm)?);
            let Stage::Active { activated_at } = current.stage else { return None };
            Some(
                at(activated_at.saturating_add(view.policy.rotate_every()).unwrap()).max(at(safe_at(
                    next,
                    &view.policy,
                )
                .unwrap())),
            )
        });
        let hold = match trust {
            ClockTrust::Jumped { until, .. } => Some(millis(*until)),
            _ => None,
        };
        let foreseen = due.chain(view.pruning.map(at)).chain(hold).filter(|time| *time > self.now).min();
        if *connected {
            soon.max(before_end.min(foreseen.unwrap_or(before_end)))
        } else {
            soon.max(before_end)
        }
    }
}
