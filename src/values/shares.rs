//! Fair shares of a bounded number of permits, among callers that may be hostile.
//!
//! Owns one rule: no party holds so many permits that a new party gets none. A party may hold three quarters
//! of the permits that the others leave. One party thus leaves a quarter free, two leave a seventh, and so
//! on. The rule holds among groups, and inside a group among its callers.

use std::collections::HashMap;

use uuid::Uuid;

/// A party that holds permits: a caller, and the group of all callers that have the same maker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Account {
    group: Uuid,
    caller: Uuid,
}

impl Account {
    /// The process itself, or the application that embeds it. Only the total limits it.
    pub const PROCESS: Self = Self { group: Uuid::nil(), caller: Uuid::nil() };

    /// Returns the account of a caller that is its own group.
    #[must_use]
    pub fn of(caller: Uuid) -> Self {
        Self { group: caller, caller }
    }

    /// Returns the account of a caller that shares its maker's allowance with all other callers made by
    /// `maker`.
    #[must_use]
    pub fn made_by(maker: Uuid, caller: Uuid) -> Self {
        Self { group: maker, caller }
    }

    /// Returns the group.
    #[must_use]
    pub fn group(self) -> Uuid {
        self.group
    }

    /// Returns the caller inside the group.
    #[must_use]
    pub fn caller(self) -> Uuid {
        self.caller
    }

    fn is_process(self) -> bool {
        self == Self::PROCESS
    }
}

/// The permits, and the number that each party holds.
#[derive(Debug)]
pub struct Shares {
    limit: usize,
    used: usize,
    groups: HashMap<Uuid, usize>,
    accounts: HashMap<Account, usize>,
}

impl Shares {
    /// Creates `limit` permits, all of them free.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), used: 0, groups: HashMap::new(), accounts: HashMap::new() }
    }

    /// Returns whether `account` may take one more permit.
    #[must_use]
    pub fn admits(&self, account: Account) -> bool {
        let limit = self.limit;
        if self.used >= limit {
            return false;
        }
        if account.is_process() {
            return true;
        }
        let (of_group, own) = (self.of_group(account.group), self.of_account(account));
        let for_group = allowance(limit - (self.used - of_group));
        of_group < for_group && own < allowance_inside(account, for_group - (of_group - own))
    }

    /// Takes a permit, even if [`Shares::admits`] would refuse it.
    pub fn take(&mut self, account: Account) {
        self.used += 1;
        *self.groups.entry(account.group).or_default() += 1;
        *self.accounts.entry(account).or_default() += 1;
    }

    /// Returns a permit.
    pub fn give_back(&mut self, account: Account) {
        if decrement(&mut self.accounts, account) {
            decrement(&mut self.groups, account.group);
            self.used -= 1;
        }
    }

    /// Returns the number of permits in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used
    }

    /// Returns the number of permits that `group` holds.
    #[must_use]
    pub fn of_group(&self, group: Uuid) -> usize {
        self.groups.get(&group).copied().unwrap_or_default()
    }

    /// Returns the number of permits that `account` holds.
    #[must_use]
    pub fn of_account(&self, account: Account) -> usize {
        self.accounts.get(&account).copied().unwrap_or_default()
    }

    /// Returns the number of groups that hold a permit.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Returns every account that holds a permit, with its number of permits.
    pub fn holders(&self) -> impl Iterator<Item = (Account, usize)> {
        self.accounts.iter().map(|(account, count)| (*account, *count))
    }
}

/// Returns the maximum for one party when the others leave `left`.
fn allowance(left: usize) -> usize {
    // Any party may take the last permit.
    (left - left / 4).min(left.saturating_sub(1)).max(left.min(1))
}

/// Returns the maximum inside a group. A group with a single caller reserves nothing for siblings.
fn allowance_inside(account: Account, left: usize) -> usize {
    if account.group == account.caller { left } else { allowance(left) }
}

fn decrement<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) -> bool {
    let std::collections::hash_map::Entry::Occupied(mut count) = counts.entry(key) else { return false };
    *count.get_mut() -= 1;
    if *count.get() == 0 {
        count.remove();
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn caller(number: u128) -> Account {
        Account::of(Uuid::from_u128(number + 1))
    }

    fn member(group: u128, number: u128) -> Account {
        Account::made_by(Uuid::from_u128(1_000 + group), Uuid::from_u128(10_000 + number))
    }

    fn fill(shares: &mut Shares, account: Account) -> usize {
        let mut taken = 0;
        while shares.admits(account) {
            shares.take(account);
            taken += 1;
        }
        taken
    }

    #[test]
    fn a_party_takes_three_quarters_of_the_rest() {
        let mut shares = Shares::new(128);
        assert_eq!([fill(&mut shares, caller(0)), fill(&mut shares, caller(1))], [96, 24]);
        assert_eq!(fill(&mut shares, caller(2)), 6);
        assert_eq!(fill(&mut shares, Account::PROCESS), 2, "the process takes what is left");
        assert!(!shares.admits(caller(3)));
        for account in [caller(0), Account::PROCESS, Account::PROCESS] {
            shares.give_back(account);
        }
        assert!(shares.admits(caller(3)) && !shares.admits(caller(0)));
    }

    #[test]
    fn a_group_shares_one_part_and_a_sibling_finds_its_own() {
        let mut shares = Shares::new(128);
        let first = fill(&mut shares, member(0, 0));
        assert_eq!(first, 72, "three quarters of three quarters");
        for sibling in 1..20 {
            fill(&mut shares, member(0, sibling));
        }
        assert_eq!(shares.of_group(member(0, 0).group()), 96, "all of them together have what one may have");
        assert!(shares.admits(caller(0)) && shares.admits(member(1, 0)));
    }

    #[test]
    fn few_permits_are_given_one_by_one() {
        for (limit, takes) in [(0, 1), (1, 1), (2, 1), (3, 2), (4, 3), (8, 6)] {
            assert_eq!(fill(&mut Shares::new(limit), caller(0)), takes, "of {limit}");
        }
    }

    proptest! {
        #[test]
        fn three_greedy_parties_leave_a_permit_for_a_newcomer_and_counts_agree(
            steps in proptest::collection::vec((0..3_u128, 0..5_u128, any::<bool>(), any::<bool>()), 0..600),
        ) {
            let mut shares = Shares::new(256);
            let mut held: Vec<Account> = Vec::new();
            for (group, number, alone, takes) in steps {
                let account = if alone { caller(group) } else { member(group, number) };
                let at = held.iter().position(|known| *known == account);
                match (takes, at) {
                    (false, Some(at)) => shares.give_back(held.swap_remove(at)),
                    _ if shares.admits(account) => {
                        shares.take(account);
                        held.push(account);
                    }
                    _ => {}
                }
                prop_assert!(shares.admits(caller(99)));
                prop_assert_eq!(shares.used(), held.len());
            }
            held.into_iter().for_each(|account| shares.give_back(account));
            prop_assert!(shares.groups.is_empty() && shares.accounts.is_empty() && shares.used() == 0);
        }
    }
}
