//! A set of verifiers with every key set that any of them may hold, at every age.
//!
//! A verifier may cache the bytes of a process for `propagation`, and every token that lives during that time
//! must verify. The pairs of key set and token change at only two moments: when a token is minted, and when a
//! process begins to send other bytes. Both events check all pairs, so that no age and no moment is missed.
//!
//! **The margin.** The age of a key set counts from the moment at which the sending process last confirmed it
//! against the database, not from the moment of sending. A key that is published at `p` signs from `p +
//! propagation` on; a process may send the bytes from before until it next reads the database, at most one
//! second later if it reaches the database. Bytes sent at `p + 1 s` without the key are therefore valid until
//! `p + propagation`, which is an age of one second less than `propagation`. A process that is cut off
//! continues to serve, and its bytes age from that moment. Where the wall clock wanders, `propagation` is
//! measured by it, and the age increases by that amount. With a lowered `propagation`, the operator states
//! that no cache is older: this applies to the caches of that moment.

use std::collections::BTreeMap;

use super::history::PROCESSES;
use super::rules::{Elapsed, Ledger, Number, Rule};

#[derive(Debug, Clone, PartialEq, Eq)]
struct KeySet {
    keys: Vec<Number>,
    confirmed: Elapsed,
    /// The shortest `propagation` in force since.
    propagation: Elapsed,
}

#[derive(Debug, Default)]
pub(crate) struct Crowd {
    /// The key set that each process sends.
    sent: [Option<KeySet>; PROCESSES],
    /// Key sets that were sent earlier.
    old: Vec<KeySet>,
    /// The expiry of the last token of each key.
    tokens: BTreeMap<Number, Elapsed>,
    /// Pairs that verified.
    pub(crate) verified: u64,
    /// Pairs where the key set is older than the publication of the token's key, or the key was revoked.
    pub(crate) excused: u64,
}

impl Crowd {
    /// Records that `process` sends `keys` and has just confirmed them.
    pub(crate) fn sends(
        &mut self,
        process: usize,
        keys: Vec<Number>,
        propagation: Elapsed,
        now: Elapsed,
        ledger: &mut Ledger,
    ) {
        let key_set = KeySet { keys, confirmed: now, propagation };
        self.tokens.retain(|_, expires| *expires > now);
        for &key in self.tokens.keys() {
            let verified = verify(key, &key_set, now, ledger);
            self.verified += u64::from(verified);
            self.excused += u64::from(!verified);
        }
        match &mut self.sent[process] {
            Some(sent) if sent.keys == key_set.keys => *sent = key_set,
            other => self.old.extend(other.replace(key_set)),
        }
    }

    /// Records that `process` still sends the current keys.
    pub(crate) fn still_right(&mut self, process: usize, now: Elapsed) {
        if let Some(sent) = &mut self.sent[process] {
            sent.confirmed = sent.confirmed.max(now);
        }
    }

    pub(crate) fn ends(&mut self, process: usize) {
        self.old.extend(self.sent[process].take());
    }

    pub(crate) fn propagation_changes(&mut self, propagation: Elapsed) {
        for key_set in self.sent.iter_mut().flatten().chain(&mut self.old) {
            key_set.propagation = key_set.propagation.min(propagation);
        }
    }

    /// Records the minting of a token that lives until `expires`.
    pub(crate) fn minted(&mut self, key: Number, expires: Elapsed, now: Elapsed, ledger: &mut Ledger) {
        let last = self.tokens.entry(key).or_insert(expires);
        *last = expires.max(*last);
        self.old.retain(|key_set| key_set.confirmed + key_set.propagation - ledger.wander > now);
        for key_set in self.sent.iter().flatten().chain(&self.old) {
            if key_set.confirmed + key_set.propagation - ledger.wander > now {
                let verified = verify(key, key_set, now, ledger);
                self.verified += u64::from(verified);
                self.excused += u64::from(!verified);
            }
        }
    }
}

/// Returns whether the token verifies; records a violation if it should and does not.
fn verify(key: Number, key_set: &KeySet, now: Elapsed, ledger: &mut Ledger) -> bool {
    let verifies = key_set.keys.contains(&key);
    if !verifies && !ledger.is_revoked(key) && !ledger.was_early(key, key_set.confirmed) {
        ledger.violated(Rule::VerifiesEverywhere, || {
            format!("at {now} ms a token of key {key} does not verify against {key_set:?}")
        });
    }
    verifies
}
