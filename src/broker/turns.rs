//! Schedules attempts: decides which attempt runs next.
//!
//! Attempts share the permits of their feed and of their provider. The caller with the fewest running
//! attempts is served first, and no caller can take all permits. So one caller's thousand requests delay
//! another caller's first request only by the attempts that run already. Pure: its owner also owns the lock.

use std::collections::{HashMap, VecDeque};

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::values::shares::{Account, Shares};

/// The attempts of one provider. Suspect feeds have a lane of their own.
type Lane = (&'static str, bool);

/// The waiting and the running attempts.
#[derive(Debug)]
pub(super) struct Turns {
    per_provider: usize,
    per_feed: usize,
    lanes: HashMap<Lane, Shares>,
    /// The shares by feed. A feed without running attempts has no entry.
    feeds: HashMap<Uuid, Shares>,
    /// The waiting attempts of each caller at each feed, in order of arrival. May contain attempts that no
    /// longer wait.
    lines: HashMap<(Account, Uuid), VecDeque<u64>>,
    waiting: HashMap<u64, Waiting>,
    running: HashMap<u64, Running>,
}

#[derive(Debug)]
struct Waiting {
    feed: Uuid,
    provider: &'static str,
    wake: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Running {
    feed: Uuid,
    lane: Lane,
    account: Account,
}

impl Turns {
    pub(super) fn new(per_provider: usize, per_feed: usize) -> Self {
        Self {
            per_provider,
            per_feed,
            lanes: HashMap::new(),
            feeds: HashMap::new(),
            lines: HashMap::new(),
            waiting: HashMap::new(),
            running: HashMap::new(),
        }
    }

    /// Queues the attempt `id` in the line of each of `accounts`. The returned receiver completes when its
    /// turn has come. The attempt then counts as running until [`Turns::leave`].
    pub(super) fn line_up(
        &mut self,
        id: u64,
        feed: Uuid,
        provider: &'static str,
        accounts: &[Account],
        is_suspect: bool,
    ) -> oneshot::Receiver<()> {
        let (wake, woken) = oneshot::channel();
        self.waiting.insert(id, Waiting { feed, provider, wake });
        for account in accounts {
            self.lines.entry((*account, feed)).or_default().push_back(id);
        }
        for account in accounts {
            self.try_now(id, *account, feed, (provider, is_suspect));
        }
        woken
    }

    /// Returns the number of waiting and running attempts.
    #[cfg(test)]
    pub(super) fn all(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    /// Adds the attempt `id` to the line of `account` as well, if it still waits.
    pub(super) fn join(&mut self, id: u64, account: Account, is_suspect: bool) {
        let Some(Waiting { feed, provider, .. }) = self.waiting.get(&id) else { return };
        let (feed, provider) = (*feed, *provider);
        self.lines.entry((account, feed)).or_default().push_back(id);
        self.try_now(id, account, feed, (provider, is_suspect));
    }

    /// Starts the attempt if it is the first in this line and admitted. An attempt behind another one is
    /// never admitted, because the one before it was not.
    fn try_now(&mut self, id: u64, account: Account, feed: Uuid, lane: Lane) {
        self.trim(account, feed);
        let is_first = self.lines.get(&(account, feed)).and_then(VecDeque::front) == Some(&id);
        if is_first && self.admits(account, feed, lane) {
            self.call_up(id, account, lane.1);
        }
    }

    /// Removes attempts that no longer wait from the front of a line.
    fn trim(&mut self, account: Account, feed: Uuid) {
        let Some(line) = self.lines.get_mut(&(account, feed)) else { return };
        while line.front().is_some_and(|id| !self.waiting.contains_key(id)) {
            line.pop_front();
        }
        if line.is_empty() {
            self.lines.remove(&(account, feed));
        }
    }

    /// Ends the attempt `id`, waiting or running, and starts the attempts for which there are permits now.
    pub(super) fn leave(&mut self, id: u64, is_suspect: impl Fn(Uuid) -> bool) {
        if self.waiting.remove(&id).is_some() {
            return;
        }
        let Some(Running { feed, lane, account }) = self.running.remove(&id) else { return };
        if let Some(places) = self.lanes.get_mut(&lane) {
            places.give_back(account);
        }
        if let Some(places) = self.feeds.get_mut(&feed) {
            places.give_back(account);
            if places.used() == 0 {
                self.feeds.remove(&feed);
            }
        }
        while let Some((id, account, is_suspect)) = self.next(&is_suspect) {
            self.call_up(id, account, is_suspect);
        }
    }

    /// Returns the first attempt of the caller with the fewest running ones. Removes attempts that no longer
    /// wait.
    fn next(&mut self, is_suspect: &impl Fn(Uuid) -> bool) -> Option<(u64, Account, bool)> {
        let waiting = &self.waiting;
        self.lines.retain(|_, line| {
            while line.front().is_some_and(|id| !waiting.contains_key(id)) {
                line.pop_front();
            }
            !line.is_empty()
        });
        let admitted = self.lines.iter().filter_map(|((account, feed), line)| {
            let id = *line.front()?;
            let lane = (waiting.get(&id)?.provider, is_suspect(*feed));
            let (of_group, own) = self
                .lanes
                .get(&lane)
                .map_or((0, 0), |places| (places.of_group(account.group()), places.of_account(*account)));
            self.admits(*account, *feed, lane).then_some((of_group, own, id, *account, lane.1))
        });
        admitted.min().map(|(_, _, id, account, is_suspect)| (id, account, is_suspect))
    }

    fn admits(&self, account: Account, feed: Uuid, lane: Lane) -> bool {
        // A feed or lane with no entry has no running attempts and so admits anyone.
        self.feeds.get(&feed).is_none_or(|places| places.admits(account))
            && self.lanes.get(&lane).is_none_or(|places| places.admits(account))
    }

    fn call_up(&mut self, id: u64, account: Account, is_suspect: bool) {
        let Some(Waiting { feed, provider, wake }) = self.waiting.remove(&id) else { return };
        let lane = (provider, is_suspect);
        let per_lane = if is_suspect { self.per_provider / 8 } else { self.per_provider };
        self.lanes.entry(lane).or_insert_with(|| Shares::new(per_lane)).take(account);
        self.feeds.entry(feed).or_insert_with(|| Shares::new(self.per_feed)).take(account);
        self.running.insert(id, Running { feed, lane, account });
        self.trim(account, feed);
        // The receiver may be gone; its drop then calls `leave`.
        let _ = wake.send(());
    }
}
