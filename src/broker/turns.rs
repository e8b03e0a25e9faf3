//! Whose attempt runs next.
//!
//! Attempts share the places of their feed and of their provider. A caller that has the fewest attempts
//! running is served first, and none takes all places, so that one caller's thousand requests delay
//! another's first one by no more than what is running already. Pure: whoever owns it also owns the lock.

use std::collections::{HashMap, VecDeque};

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::values::shares::{Account, Shares};

/// The attempts of one provider, those of suspect feeds apart from the others.
type Lane = (&'static str, bool);

/// Attempts that wait and that run.
#[derive(Debug)]
pub(super) struct Turns {
    per_provider: usize,
    per_feed: usize,
    lanes: HashMap<Lane, Shares>,
    /// Only of feeds with attempts that run.
    feeds: HashMap<Uuid, Shares>,
    /// First come, first served inside each. May hold attempts that wait no longer.
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

    /// Lets the attempt `id` wait for its turn in the line of each of `accounts`. What this returns ends
    /// when its turn has come; it then runs until [`Turns::leave`].
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

    /// Those that wait and that run.
    #[cfg(test)]
    pub(super) fn all(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    /// Lets the attempt `id` wait in the line of `account`, too, if it waits at all.
    pub(super) fn join(&mut self, id: u64, account: Account, is_suspect: bool) {
        let Some(Waiting { feed, provider, .. }) = self.waiting.get(&id) else { return };
        let (feed, provider) = (*feed, *provider);
        self.lines.entry((account, feed)).or_default().push_back(id);
        self.try_now(id, account, feed, (provider, is_suspect));
    }

    /// Calls the attempt up if it is the first in this line and admitted: whoever is before it was not
    /// admitted, so neither is this one.
    fn try_now(&mut self, id: u64, account: Account, feed: Uuid, lane: Lane) {
        self.trim(account, feed);
        let is_first = self.lines.get(&(account, feed)).and_then(VecDeque::front) == Some(&id);
        if is_first && self.admits(account, feed, lane) {
            self.call_up(id, account, lane.1);
        }
    }

    /// Drops what waits no longer from the front of a line.
    fn trim(&mut self, account: Account, feed: Uuid) {
        let Some(line) = self.lines.get_mut(&(account, feed)) else { return };
        while line.front().is_some_and(|id| !self.waiting.contains_key(id)) {
            line.pop_front();
        }
        if line.is_empty() {
            self.lines.remove(&(account, feed));
        }
    }

    /// Ends the attempt `id`, whether it waits or runs, and calls up those for whom there is room now.
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

    /// The first of those with the fewest attempts running. Drops what waits no longer.
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
        // Where nothing runs there is room for anyone.
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
        // If it has gone away meanwhile, it is about to say so.
        let _ = wake.send(());
    }
}
