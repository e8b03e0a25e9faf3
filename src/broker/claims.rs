//! The claims of accounts to cached credentials, and the choice of the claim to evict.
//!
//! A credential stays cached while at least one account has a claim to it; every account that was given it
//! has one. When the cache is full, the account's group gives up a claim if the group holds an equal share or
//! more; otherwise the feed does, if it holds an equal share; otherwise the largest holder does. So a flood
//! of invented contexts evicts only the flooding account's claims, and nobody with less than an equal share
//! loses one.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::key::Key;
use crate::values::shares::{Account, Shares};

/// Every holder with at least as many claims as the account has running exchanges for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NothingMayGo;

/// The claims of all accounts.
#[derive(Debug)]
pub(super) struct Claims {
    capacity: usize,
    /// The use counter: a larger number is a later use.
    uses: u64,
    all: Shares,
    feeds: HashMap<Uuid, Shares>,
    /// The claims by account and feed, then by last use.
    lines: BTreeMap<(Account, Uuid), BTreeMap<u64, Key>>,
}

/// A claim of an account at a feed to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) account: Account,
    pub(super) feed: Uuid,
    pub(super) key: Key,
}

impl Claims {
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self { capacity, uses: 0, all: Shares::new(capacity), feeds: HashMap::new(), lines: BTreeMap::new() }
    }

    /// Returns the claim to evict before `account` gets another one at `feed`; `Ok(None)` if there is room.
    /// `may_go` decides whether a claim may be evicted.
    pub(super) fn in_the_way(
        &self,
        account: Account,
        feed: Uuid,
        may_go: impl Fn(Uuid, &Key) -> bool,
    ) -> Result<Option<Claim>, NothingMayGo> {
        if self.all.used() < self.capacity {
            return Ok(None);
        }
        let has_equal_part = |held: usize, parties: usize| held * parties.max(1) >= self.capacity;
        let at_feed = self.feeds.get(&feed);
        let found = if has_equal_part(self.all.of_group(account.group()), self.all.groups()) {
            let is_own = |holder: Account| holder.group() == account.group();
            largest(account, &self.all, is_own, |holder| self.oldest(holder, feed, &may_go))
        } else if let Some(shares) = at_feed.filter(|at| has_equal_part(at.used(), self.feeds.len())) {
            largest(account, shares, |_| true, |holder| self.oldest_at(holder, feed, &may_go))
        } else {
            largest(account, &self.all, |_| true, |holder| self.oldest(holder, feed, &may_go))
        };
        found.map(Some).ok_or(NothingMayGo)
    }

    /// Returns the least recently used claim of `account`: at `feed` if possible, otherwise at any feed.
    fn oldest(&self, account: Account, feed: Uuid, may_go: &impl Fn(Uuid, &Key) -> bool) -> Option<Claim> {
        self.oldest_at(account, feed, may_go).or_else(|| {
            let lines = self.lines.range((account, Uuid::nil())..=(account, Uuid::max()));
            let oldest = lines.filter_map(|((_, feed), line)| {
                let (used, key) = line.iter().find(|(_, key)| may_go(*feed, key))?;
                Some((*used, Claim { account, feed: *feed, key: *key }))
            });
            oldest.min_by_key(|(used, _)| *used).map(|(_, claim)| claim)
        })
    }

    fn oldest_at(&self, account: Account, feed: Uuid, may_go: &impl Fn(Uuid, &Key) -> bool) -> Option<Claim> {
        let line = self.lines.get(&(account, feed))?;
        line.values().find(|key| may_go(feed, key)).map(|key| Claim { account, feed, key: *key })
    }

    /// Records a claim, or a new use of it if `used` is its last one. Returns the sequence number of the use.
    pub(super) fn uses(&mut self, claim: Claim, used: Option<u64>) -> u64 {
        let Claim { account, feed, key } = claim;
        self.uses += 1;
        let line = self.lines.entry((account, feed)).or_default();
        if used.and_then(|used| line.remove(&used)).is_none() {
            self.all.take(account);
            self.feeds.entry(feed).or_insert_with(|| Shares::new(usize::MAX)).take(account);
        }
        line.insert(self.uses, key);
        self.uses
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> usize {
        self.all.used()
    }

    /// Removes a claim.
    pub(super) fn give_up(&mut self, account: Account, feed: Uuid, used: u64) {
        let Some(line) = self.lines.get_mut(&(account, feed)) else { return };
        if line.remove(&used).is_none() {
            return;
        }
        if line.is_empty() {
            self.lines.remove(&(account, feed));
        }
        self.all.give_back(account);
        if let Some(shares) = self.feeds.get_mut(&feed) {
            shares.give_back(account);
            if shares.used() == 0 {
                self.feeds.remove(&feed);
            }
        }
    }
}

/// Returns the claim of the largest holder that has one to evict. It is never a holder with fewer claims than
/// `account`; among equals, `account` itself comes first.
fn largest(
    account: Account,
    shares: &Shares,
    is_candidate: impl Fn(Account) -> bool,
    oldest: impl Fn(Account) -> Option<Claim>,
) -> Option<Claim> {
    let (of_group, own) = (shares.of_group(account.group()), shares.of_account(account));
    let mut holders: Vec<_> = shares
        .holders()
        .map(|(holder, count)| {
            let is_sibling = holder.group() == account.group();
            (shares.of_group(holder.group()), is_sibling, count, holder == account, holder)
        })
        .filter(|(group, is_sibling, count, is_self, holder)| {
            is_candidate(*holder) && *group >= of_group && (!is_sibling || *is_self || *count > own)
        })
        .collect();
    holders.sort_unstable_by(|one, other| other.cmp(one));
    holders.into_iter().find_map(|(.., holder)| oldest(holder))
}
