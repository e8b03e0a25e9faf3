//! Counts the running exchanges of each account.

use std::collections::HashMap;

use uuid::Uuid;

use crate::values::shares::{Account, Shares};

/// The exchanges that wait or run, each charged to the account that began it.
#[derive(Debug)]
pub(super) struct Flights {
    per_feed: usize,
    all: Shares,
    /// The shares by feed. A feed without exchanges has no entry.
    feeds: HashMap<Uuid, Shares>,
}

impl Flights {
    pub(super) fn new(limit: usize, per_feed: usize) -> Self {
        Self { per_feed, all: Shares::new(limit), feeds: HashMap::new() }
    }

    /// Returns whether `account` may begin one more exchange at `feed`.
    pub(super) fn admits(&self, account: Account, feed: Uuid) -> bool {
        self.all.admits(account) && self.feeds.get(&feed).is_none_or(|shares| shares.admits(account))
    }

    /// Returns the number of exchanges that `account` has under way.
    pub(super) fn of(&self, account: Account) -> usize {
        self.all.of_account(account)
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> usize {
        self.all.used()
    }

    /// Counts an exchange that begins.
    pub(super) fn depart(&mut self, account: Account, feed: Uuid) {
        self.all.take(account);
        self.feeds.entry(feed).or_insert_with(|| Shares::new(self.per_feed)).take(account);
    }

    /// Removes an exchange that has ended.
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
