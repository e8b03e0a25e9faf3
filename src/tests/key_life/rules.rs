//! The rules, and the ledger with the guarantees for every key.
//!
//! Time here is *elapsed time*: it advances with the monotonic clock, and a trusted forward jump of the wall
//! clock is added to it, because the machine may have slept. The ledger uses nothing that the code under test
//! has computed except the rows themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::jose::Algorithm;
use crate::jose::jwk::PublicKey;
use crate::signing_keys::policy::RotationPolicy;
use crate::signing_keys::rotation::MAX_PUBLISHED;
use crate::signing_keys::{SigningKey, Stage};
use jiff::Timestamp;

/// The six invariants, by their numbers, two rules about requests, and two about clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Rule {
    OneActiveOnePrepared = 1,
    PublishedBeforeItSigns = 2,
    VerifiesEverywhere = 3,
    PrivateHalfWhileNeeded = 4,
    AtMostEight = 5,
    PublishedUntilIsFixed = 6,
    RotatesOnlyWhatWasSeen = 7,
    RevokedLeavesAtOnce = 8,
    PrunesSlowly = 9,
    GoesOnAfterSetBack = 10,
}

/// A violated rule, and the details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    pub(crate) how: String,
}

/// Milliseconds of elapsed time.
pub(crate) type Elapsed = i64;

/// A key's number, in order of creation.
pub(crate) type Number = u32;

/// Returns a public key that differs from others by its number, the only part that matters to a decision.
pub(crate) fn public_key(algorithm: Algorithm, number: Number) -> PublicKey {
    let octets = number.to_be_bytes();
    match algorithm {
        Algorithm::Rs256 => PublicKey::Rsa { n: octets.to_vec(), e: vec![1, 0, 1] },
        Algorithm::Es256 => {
            let mut x = [0; 32];
            x[..4].copy_from_slice(&octets);
            PublicKey::P256 { x, y: [0; 32] }
        }
    }
}

pub(crate) fn number(public: &PublicKey) -> Number {
    let octets = match public {
        PublicKey::Rsa { n, .. } => n.as_slice(),
        PublicKey::P256 { x, .. } => x.as_slice(),
    };
    u32::from_be_bytes([octets[0], octets[1], octets[2], octets[3]])
}

/// The reason for a change of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// There was no key, or all of them are replaced.
    First,
    /// By schedule, or by a request without force.
    InTime,
    Forced,
    Revocation,
    PolicyChange,
    /// The database's time is set back: guarantees are renewed from the present.
    SetBack,
}

/// The circumstances of a commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances {
    pub(crate) why: Why,
    pub(crate) at: Elapsed,
    /// The policy in force afterwards.
    pub(crate) policy: RotationPolicy,
    pub(crate) high_water: Timestamp,
    /// True if the clock is known to be behind.
    pub(crate) is_behind: bool,
}

#[derive(Debug, Default)]
struct Life {
    published: Elapsed,
    /// True if it was promoted before it had been published for long enough, as force and emergencies allow.
    early: bool,
    may_sign: bool,
    /// The guaranteed time for which its tokens verify: the longest lifetime of any of them, plus `leeway`.
    verifiable: Duration,
    published_until: Option<Timestamp>,
    revoked: bool,
}

/// The knowledge about every key.
#[derive(Debug)]
pub(crate) struct Ledger {
    lives: BTreeMap<Number, Life>,
    /// The maximum difference between the elapsed time and two readings of an undisturbed wall clock.
    pub(crate) wander: Elapsed,
    pub(crate) violations: Vec<Violation>,
}

impl Ledger {
    pub(crate) fn new(wander: Elapsed) -> Self {
        Self { lives: BTreeMap::new(), wander, violations: Vec::new() }
    }

    pub(crate) fn violated(&mut self, rule: Rule, how: impl FnOnce() -> String) {
        if !self.violations.iter().any(|violation| violation.rule == rule) {
            self.violations.push(Violation { rule, how: how() });
        }
    }

    /// Records the writing of a row.
    pub(crate) fn row(&mut self, row: &SigningKey, is_new: bool, c: &Circumstances) {
        let number = number(&row.public);
        let mut life = self.lives.remove(&number).unwrap_or_default();
        let mut broken: Vec<(Rule, String)> = Vec::new();
        if is_new {
            life.published = c.at;
            // The time for which a clock has been behind is unknown: a key made then is exempt from the rule,
            // but it must not count as older than the database's high-water time.
            life.early = c.is_behind;
            if row.prepared_at < c.high_water {
                broken.push((
                    Rule::PublishedBeforeItSigns,
                    format!("key {number} is recorded as older than the high-water time {}", c.high_water),
                ));
            }
        }
        match row.stage {
            Stage::Prepared => {}
            Stage::Active { .. } => {
                if !life.may_sign {
                    let published = c.at - life.published;
                    let is_old_enough = published >= millis(c.policy.propagation()) - self.wander;
                    match c.why {
                        Why::InTime if !is_old_enough && !life.early => broken.push((
                            Rule::PublishedBeforeItSigns,
                            format!("key {number} signs after it was published for {published} ms"),
                        )),
                        _ => life.early |= !is_old_enough,
                    }
                    life.may_sign = true;
                }
                life.verifiable = life.verifiable.max(verifiable(&c.policy));
            }
            Stage::Retired { retired_at, published_until, .. } => {
                match life.published_until {
                    Some(promised) if c.why == Why::SetBack && published_until < promised => {}
                    Some(promised) if promised != published_until => broken.push((
                        Rule::PublishedUntilIsFixed,
                        format!("key {number} was promised until {promised}, now {published_until}"),
                    )),
                    _ => {}
                }
                let needed = life.verifiable;
                if life.published_until.is_none()
                    && published_until < retired_at.saturating_add(needed).unwrap()
                {
                    broken.push((
                        Rule::PublishedUntilIsFixed,
                        format!(
                            "key {number} retires at {retired_at} until {published_until}, not for {needed:?}"
                        ),
                    ));
                }
                life.published_until = Some(published_until);
            }
            Stage::Revoked { .. } => life.revoked = true,
        }
        self.lives.insert(number, life);
        for (rule, how) in broken {
            self.violated(rule, || how);
        }
    }

    /// Records the database after a commit; `holds` are the keys whose private half it holds.
    pub(crate) fn database(
        &mut self,
        keys: &[SigningKey],
        holds: &BTreeSet<Number>,
        now: Timestamp,
        why: Why,
    ) {
        for algorithm in Algorithm::ALL {
            let of = |stage: fn(&Stage) -> bool| {
                keys.iter().filter(|key| key.algorithm() == algorithm && stage(&key.stage)).count()
            };
            let counts = (
                of(|stage| matches!(stage, Stage::Active { .. })),
                of(|stage| matches!(stage, Stage::Prepared)),
            );
            if counts != (1, 1) {
                self.violated(Rule::OneActiveOnePrepared, || {
                    format!("{counts:?} active and prepared {algorithm} keys")
                });
            }
        }
        let needed = keys.iter().filter(|key| matches!(key.stage, Stage::Prepared | Stage::Active { .. }));
        let needed: BTreeSet<_> = needed.map(|key| number(&key.public)).collect();
        if needed != *holds {
            self.violated(Rule::PrivateHalfWhileNeeded, || format!("needed {needed:?}, held {holds:?}"));
        }
        // Setting a clock back may publish pruned keys again; no rotation causes that.
        let published = keys.iter().filter(|key| key.is_published(now)).count();
        if published > MAX_PUBLISHED && matches!(why, Why::InTime | Why::Forced) {
            self.violated(Rule::AtMostEight, || format!("a rotation makes {published} keys published"));
        }
    }

    /// Records that a process begins to send `keys`.
    pub(crate) fn sent(&mut self, keys: &[Number], knows_of_revocations: bool) {
        if keys.len() > MAX_PUBLISHED {
            self.violated(Rule::AtMostEight, || format!("{} keys are sent", keys.len()));
        }
        if let Some(revoked) = keys.iter().find(|key| self.is_revoked(**key)).filter(|_| knows_of_revocations)
        {
            self.violated(Rule::RevokedLeavesAtOnce, || format!("key {revoked} is still sent"));
        }
    }

    /// Records that `keys`, which are active, may from now on sign for as long as `policy` allows.
    pub(crate) fn may_sign_for(&mut self, keys: &[Number], policy: &RotationPolicy) {
        for key in keys {
            let promised = &mut self.lives.get_mut(key).unwrap().verifiable;
            *promised = verifiable(policy).max(*promised);
        }
    }

    /// Records the signing of a token with `key`.
    pub(crate) fn signed(&mut self, key: Number) {
        if !self.lives[&key].may_sign {
            self.violated(Rule::PublishedBeforeItSigns, || format!("key {key} signs unpromoted"));
        }
    }

    pub(crate) fn is_revoked(&self, key: Number) -> bool {
        self.lives[&key].revoked
    }

    /// Returns whether a key set confirmed at `confirmed` may lack the key: it was promoted early and is
    /// younger than the key set.
    pub(crate) fn was_early(&self, key: Number, confirmed: Elapsed) -> bool {
        let life = &self.lives[&key];
        life.early && confirmed <= life.published
    }
}

fn verifiable(policy: &RotationPolicy) -> Duration {
    policy.max_token_lifetime() + policy.leeway()
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap()
}
