//! The keyring: every symmetric key that the master key seals, each with one purpose.
//!
//! All keys of a keyring belong to one epoch. A rewrap generates a new keyring, so that an attacker who had
//! the old keys can authenticate nothing afterwards. A symmetric key outside this list would survive a
//! rewrap, so there must be none.

use std::fmt;
use std::sync::Arc;

use super::sealed::{RowMac, SealError, SealedFor, Sealer};
use crate::audit::{AuditKey, AuditKeys, ClosedEpoch};
use crate::values::random::Random;
use crate::values::secret::SecretBytes;

/// The version of the list of purposes. Adding a purpose must increase it.
pub(super) const LIST_VERSION: i64 = 1;

const KEY_LEN: usize = 32;

/// The only use of a symmetric key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The MAC of rows of `signing_keys`.
    SigningKeys,
    /// The MAC of rows of `grants`.
    Grants,
    /// The chain of the audit log.
    AuditChain,
    /// The MAC of rows of `states`, and their heads.
    States,
    /// The MAC of the marks of removed subjects.
    RemovedSubjects,
    /// The MAC of the labels on published copies.
    PublishedLabels,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Self; 6] = [
        Self::SigningKeys,
        Self::Grants,
        Self::AuditChain,
        Self::States,
        Self::RemovedSubjects,
        Self::PublishedLabels,
    ];

    /// The index of [`Purpose::AuditChain`] in [`Purpose::ALL`].
    pub(super) const AUDIT_CHAIN: usize = 2;

    /// Returns the name under which the key is stored, which is also part of its associated data.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SigningKeys => "signing-key-rows",
            Self::Grants => "grant-rows",
            Self::AuditChain => "audit-chain",
            Self::States => "state-rows",
            Self::RemovedSubjects => "removed-subject-rows",
            Self::PublishedLabels => "published-labels",
        }
    }

    /// Returns the version of the list that introduced this purpose. If a database of that version or a later
    /// one lacks the key, something has removed it.
    pub(super) fn since(self) -> i64 {
        match self {
            // Databases of version 0 have this key.
            Self::SigningKeys => 0,
            Self::Grants
            | Self::AuditChain
            | Self::States
            | Self::RemovedSubjects
            | Self::PublishedLabels => LIST_VERSION,
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One symmetric key of an epoch, in the clear.
pub(super) struct Symmetric {
    pub(super) purpose: Purpose,
    pub(super) key: SecretBytes,
}

impl Symmetric {
    pub(super) fn generate(purpose: Purpose, random: &dyn Random) -> Result<Self, SealError> {
        let mut key = zeroize::Zeroizing::new([0; KEY_LEN]);
        random.fill(key.as_mut())?;
        Ok(Self { purpose, key: SecretBytes::new(key.to_vec()) })
    }

    pub(super) fn open(
        purpose: Purpose,
        epoch: i64,
        sealer: &Sealer,
        (master_key_id, sealed): (&str, &str),
    ) -> Result<Self, SealError> {
        let name = sealed_name(purpose, epoch);
        let key = sealer.open(mac_key(&name), master_key_id, sealed)?;
        Ok(Self { purpose, key })
    }

    pub(super) fn mac(&self) -> RowMac {
        RowMac::new(&self.key)
    }

    pub(super) fn seal(&self, epoch: i64, sealer: &Sealer, random: &dyn Random) -> Result<String, SealError> {
        sealer.seal(mac_key(&sealed_name(self.purpose, epoch)), &self.key, random)
    }
}

/// Returns the name in a key's associated data. It includes the epoch, so that a row of `sealed_keys` from an
/// earlier epoch does not open in a later one. The first epoch has the name alone, as before epochs existed.
fn sealed_name(purpose: Purpose, epoch: i64) -> String {
    match epoch {
        ..=1 => purpose.name().to_owned(),
        _ => format!("{} of epoch {epoch}", purpose.name()),
    }
}

fn mac_key(name: &str) -> SealedFor<'_> {
    SealedFor { purpose: "mac-key", name, algorithm: "", issuer: "" }
}

/// Every symmetric key of one epoch, and the sealer of its master key.
#[derive(Debug)]
pub struct Keyring {
    epoch: i64,
    sealer: Arc<Sealer>,
    /// In the order of [`Purpose::ALL`].
    macs: [RowMac; Purpose::ALL.len()],
    audit: AuditKeys,
}

impl Keyring {
    /// Returns the keyring of `epoch`, made of `keys` in the order of [`Purpose::ALL`].
    pub(super) fn new(
        epoch: i64,
        sealer: Arc<Sealer>,
        keys: &[Symmetric; Purpose::ALL.len()],
        (closed, broken): (Vec<ClosedEpoch>, Vec<i64>),
    ) -> Self {
        let macs = keys.each_ref().map(Symmetric::mac);
        let audit = AuditKey::new(&keys[Purpose::AUDIT_CHAIN].key);
        let audit = AuditKeys::with_closed(audit, closed, broken);
        Self { epoch, sealer, macs, audit }
    }

    /// Returns the epoch. Epochs count from 1; each rewrap begins the next one.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Returns the sealer under the epoch's master key.
    #[must_use]
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Returns the MAC of one purpose. The audit chain does not use row MACs: see [`Keyring::audit`].
    #[must_use]
    pub fn mac(&self, purpose: Purpose) -> &RowMac {
        let [signing_keys, grants, audit_chain, states, removed_subjects, published_labels] = &self.macs;
        match purpose {
            Purpose::SigningKeys => signing_keys,
            Purpose::Grants => grants,
            Purpose::AuditChain => audit_chain,
            Purpose::States => states,
            Purpose::RemovedSubjects => removed_subjects,
            Purpose::PublishedLabels => published_labels,
        }
    }

    /// Returns the keys of the audit chain: this epoch's, and those of earlier epochs for reading.
    #[must_use]
    pub fn audit(&self) -> &AuditKeys {
        &self.audit
    }
}
