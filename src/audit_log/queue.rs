//! The queue of events that wait to be recorded.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::{AuditError, MAX_WAITING};
use crate::audit::Event;

/// An event, with the channel for its sequence number.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) event: Event,
    pub(super) reply: Option<oneshot::Sender<Result<i64, AuditError>>>,
}

/// The waiting events, and whether a writer is running.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Entry>,
    /// The number of events that are being written.
    in_hand: usize,
    is_written: bool,
    /// Dropped when the queue is empty.
    idle: Vec<oneshot::Sender<()>>,
}

impl Queue {
    /// Adds `entry` to the queue. Returns whether a writer must be started for it, or `None` if the queue is
    /// full.
    pub(super) fn push(&mut self, entry: Entry) -> Option<bool> {
        if self.depth() >= MAX_WAITING {
            return None;
        }
        self.waiting.push_back(entry);
        Some(!std::mem::replace(&mut self.is_written, true))
    }

    /// Takes up to `most` events to write next. If there are none, the writer has finished: the next event
    /// starts another, because both happen under the same lock.
    pub(super) fn take(&mut self, most: usize) -> Vec<Entry> {
        let taken: Vec<_> = self.waiting.drain(..most.min(self.waiting.len())).collect();
        self.in_hand = taken.len();
        if taken.is_empty() {
            self.is_written = false;
            self.idle.clear();
        }
        taken
    }

    /// Drops the waiting events after the writer was dropped before it had finished, which closes their
    /// channels. Returns the number of dropped events.
    pub(super) fn interrupt(&mut self) -> usize {
        std::mem::take(self).depth()
    }

    pub(super) fn depth(&self) -> usize {
        self.waiting.len() + self.in_hand
    }

    /// Returns a receiver that ends when the queue is empty.
    pub(super) fn when_idle(&mut self) -> oneshot::Receiver<()> {
        let (idle, when_idle) = oneshot::channel();
        if self.is_written {
            self.idle.push(idle);
        }
        when_idle
    }
}
