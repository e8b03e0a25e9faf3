//! A crowd of verifiers, one for every key set that anybody may hold at every age.
//!
//! A verifier may hold the bytes that a process sent for as long as `propagation`, and every token that
//! lives meanwhile must verify. Which pairs of key set and token meet changes at two moments only:
//! when a token is minted and when a process begins to send other bytes. Both look at all pairs, so
//! that no age and no moment is left out.
//!
//! **The margin.** The age of a key set counts from the moment at which the process that sent it last
//! confirmed that this is what the database holds, not from the moment at which it was sent. A key that
//! is published at `p` signs from `p + propagation` on; a process may send the bytes of before until it
//! looks again, which is at most one second if it reaches the database. Bytes sent at `p + 1 s` without
//! the key are therefore good until `p + propagation`, which is an age of one second less than
//! `propagation`. A process that is cut off goes on serving, and its bytes age from when it was cut off.
//! Where the wall clock wanders, `propagation` is measured by it, and the age counts as that much more.
//! A lowered `propagation` is the operator's word that no cache is older: it holds for the caches of now.

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
    /// What each process sends.
    sent: [Option<KeySet>; PROCESSES],
    /// What was sent before.
    old: Vec<KeySet>,
    /// When the last token of each key expires.
    tokens: BTreeMap<Number, Elapsed>,
    /// Pairs that verified.
    pub(crate) verified: u64,
    /// Pairs where the key set was one of before the token's key was published, or the key revoked.
    pub(crate) excused: u64,
}

impl Crowd {
    /// `process` sends `keys`, and has just confirmed them.
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

    /// `process` has known until now that what it sends is right.
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

    /// A token is minted that lives until `expires`.
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

/// Whether the token verifies; a violation, if it should and does not.
fn verify(key: Number, key_set: &KeySet, now: Elapsed, ledger: &mut Ledger) -> bool {
    let verifies = key_set.keys.contains(&key);
    if !verifies && !ledger.is_revoked(key) && !ledger.was_early(key, key_set.confirmed) {
        ledger.violated(Rule::VerifiesEverywhere, || {
            format!("at {now} ms a token of key {key} does not verify against {key_set:?}")
        });
    }
    verifies
}
