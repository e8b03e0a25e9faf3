//! How many exchanges are under way, and for whom.

use std::collections::HashMap;

use uuid::Uuid;

use crate::values::shares::{Account, Shares};

/// Exchanges that wait or run, charged to whoever asked first.
#[derive(Debug)]
pub(super) struct Flights {
    per_feed: usize,
    all: Shares,
    /// Only of feeds that have some.
    feeds: HashMap<Uuid, Shares>,
}

impl Flights {
    pub(super) fn new(limit: usize, per_feed: usize) -> Self {
        Self { per_feed, all: Shares::new(limit), feeds: HashMap::new() }
    }

    /// Returns whether `account` may begin one more at `feed`.
    pub(super) fn admits(&self, account: Account, feed: Uuid) -> bool {
        self.all.admits(account) && self.feeds.get(&feed).is_none_or(|shares| shares.admits(account))
    }

    /// The number that `account` has under way.
    pub(super) fn of(&self, account: Account) -> usize {
        self.all.of_account(account)
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> usize {
        self.all.used()
    }

    /// Counts one that begins.
    pub(super) fn depart(&mut self, account: Account, feed: Uuid) {
        self.all.take(account);
        self.feeds.entry(feed).or_insert_with(|| Shares::new(self.per_feed)).take(account);
    }

    /// Counts one that is over.
    pub(super) fn land(&mut self, account: Account, feed: Uuid) {
        self.all.give_back(account);
        if let Some(shares) = self.feeds.get_mut(&feed) {
            shares.give_back(account);
            if shares.used() == 0 {
                self.feeds.remove(&feed);
            }
        }
    }
}
