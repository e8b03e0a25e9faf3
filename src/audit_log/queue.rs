//! Who waits to be recorded.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::{AuditError, MAX_WAITING};
use crate::audit::Event;

/// An event, and whom to tell its place.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) event: Event,
    pub(super) told: Option<oneshot::Sender<Result<i64, AuditError>>>,
}

/// Waiting events, and whether somebody writes them.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Entry>,
    /// How many are being written at this moment.
    in_hand: usize,
    is_written: bool,
    /// Dropped when nothing waits any more.
    idle: Vec<oneshot::Sender<()>>,
}

impl Queue {
    /// Lets `entry` wait, and says whether a writer has to be started for it; `None` if too many wait.
    pub(super) fn push(&mut self, entry: Entry) -> Option<bool> {
        if self.depth() >= MAX_WAITING {
            return None;
        }
        self.waiting.push_back(entry);
        Some(!std::mem::replace(&mut self.is_written, true))
    }

    /// What the writer writes next, at most `most`. With nothing left the writer is done, in the same
    /// breath: whoever comes after that starts another.
    pub(super) fn take(&mut self, most: usize) -> Vec<Entry> {
        let taken: Vec<_> = self.waiting.drain(..most.min(self.waiting.len())).collect();
        self.in_hand = taken.len();
        if taken.is_empty() {
            self.is_written = false;
            self.idle.clear();
        }
        taken
    }

    /// The writer was dropped before it was done: those who wait are dropped, too, and so told that
    /// nobody writes. Says how many they were.
    pub(super) fn interrupt(&mut self) -> usize {
        std::mem::take(self).depth()
    }

    pub(super) fn depth(&self) -> usize {
        self.waiting.len() + self.in_hand
    }

    /// Ends when nothing waits any more.
    pub(super) fn when_idle(&mut self) -> oneshot::Receiver<()> {
        let (idle, when_idle) = oneshot::channel();
        if self.is_written {
            self.idle.push(idle);
        }
        when_idle
    }
}
