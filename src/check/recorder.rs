//! Records the steps of one check with their durations.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Failed, Progress};
use crate::api_types::check::{CheckCause, CheckStep};
use crate::diagnosis::{Asked, Cause};
use crate::oidc::token::Presented;
use crate::values::clock::Clock;

/// A callback for the progress of a check.
pub type OnProgress<'a> = &'a (dyn Fn(Progress<'_>) + Send + Sync);

/// Records the steps and reports them to the callback.
pub(super) struct Recorder<'a> {
    clock: &'a dyn Clock,
    progress: OnProgress<'a>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    steps: Vec<CheckStep>,
    warnings: Vec<String>,
    running: Option<Running>,
}

struct Running {
    step: &'static str,
    since: Duration,
    detail: Option<String>,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(clock: &'a dyn Clock, progress: OnProgress<'a>) -> Self {
        Self { clock, progress, state: Mutex::default() }
    }

    /// Begins `step` and ends the previous one with success. Beginning the running step again has no effect.
    pub(super) fn begin(&self, step: &'static str) {
        let mut state = self.state();
        if state.running.as_ref().is_some_and(|running| running.step == step) {
            return;
        }
        self.succeeded(&mut state);
        state.running = Some(Running { step, since: self.clock.monotonic(), detail: None });
        (self.progress)(Progress::Began(step));
    }

    /// Sets the detail of the running step.
    pub(super) fn detail(&self, detail: String) {
        if let Some(running) = &mut self.state().running {
            running.detail = Some(detail);
        }
    }

    /// Adds a warning.
    pub(super) fn warn(&self, warning: String) {
        self.state().warnings.push(warning);
    }

    /// Ends the last step with success.
    pub(super) fn end(&self) {
        self.succeeded(&mut self.state());
    }

    /// Ends `step` with a failure. If another step is running, it ends with success first.
    pub(super) fn fail(
        &self,
        step: &'static str,
        failed: Failed,
        presented: Option<&Presented>,
        asked: &Asked<'_>,
    ) {
        self.begin(step);
        let mut state = self.state();
        let Some(running) = state.running.take() else { return };
        let Failed { detail, upstream, causes } = failed;
        let ended = CheckStep {
            ok: false,
            detail: Some(detail),
            presented: presented.map(Into::into),
            upstream: upstream.map(|upstream| *upstream),
            causes: causes.iter().map(|cause| check_cause(cause, asked)).collect(),
            ..self.step(&running)
        };
        self.ended(&mut state, ended);
    }

    /// Returns the recorded steps and warnings.
    pub(super) fn into_parts(self) -> (Vec<CheckStep>, Vec<String>) {
        let State { steps, warnings, .. } = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        (steps, warnings)
    }

    fn succeeded(&self, state: &mut State) {
        if let Some(mut running) = state.running.take() {
            let detail = running.detail.take();
            let ended = CheckStep { detail, ..self.step(&running) };
            self.ended(state, ended);
        }
    }

    fn ended(&self, state: &mut State, step: CheckStep) {
        (self.progress)(Progress::Ended(&step));
        state.steps.push(step);
    }

    fn step(&self, running: &Running) -> CheckStep {
        let took = self.clock.monotonic().saturating_sub(running.since);
        CheckStep {
            step: running.step.to_owned(),
            ok: true,
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            detail: None,
            presented: None,
            upstream: None,
            causes: Vec::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_cause(cause: &Cause, asked: &Asked<'_>) -> CheckCause {
    let (fix, command) = cause.fix.written_out(asked);
    CheckCause { cause: cause.why.clone(), fix, command }
}
