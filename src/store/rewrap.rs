//! The next epoch: every symmetric key is generated anew under another master key, in the caller's
//! transaction.
//!
//! A row gets its new MAC only after its old one was verified. A row that fails keeps its old MAC, and so is
//! never accepted again.

use std::sync::Arc;

use super::audit::Ended;
use super::keyring::{Keyring, LIST_VERSION, Purpose, Symmetric};
use super::sealed::Sealer;
use super::sealed_keys::{insert_sealed_key, keyring_of, open_sealed_key};
use super::states::Effects as _;
use super::{StoreError, Transaction, Unlocked, corrupt};
use crate::values::random::Random;

/// A row that fails its MAC: something other than carnet wrote it, or it was written with the keys of an
/// earlier epoch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct ForgedRow {
    /// The table.
    pub table: &'static str,
    /// The row's identifier, cut to 64 characters.
    pub row: String,
}

impl ForgedRow {
    /// Returns the row of `table` with this identifier, if it has one.
    pub(super) fn of(table: &'static str, row: Option<String>) -> Self {
        let row = row.map_or_else(|| "without a name".to_owned(), |row| row.chars().take(64).collect());
        Self { table, row }
    }
}

/// The keys before and after the beginning of an epoch.
#[derive(Debug, Clone)]
pub struct Renewal {
    /// The keys that authenticate everything written so far.
    pub before: Arc<Keyring>,
    /// The keys that authenticate everything written from now on.
    pub after: Arc<Keyring>,
}

impl Unlocked {
    /// Returns the rows that fail their MAC, in every table whose rows carry one. [`Unlocked::verify_audit`]
    /// verifies the audit log.
    pub async fn forged_rows(&self) -> Result<Vec<ForgedRow>, StoreError> {
        let mut read = self.read().await?;
        let mut forged = Vec::new();
        for purpose in Purpose::ALL {
            forged.extend(match purpose {
                Purpose::SigningKeys => read.forged_signing_keys().await?,
                Purpose::Grants => read.forged_grants().await?,
                Purpose::RemovedSubjects => read.forged_removed_subjects().await?,
                Purpose::AuditChain | Purpose::States | Purpose::PublishedLabels => continue,
            });
        }
        Ok(forged)
    }
}

impl std::fmt::Display for ForgedRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let row = self.row.escape_debug();
        write!(f, "row {row} of {} fails its MAC: carnet did not write it with the present keys", self.table)
    }
}

impl Transaction {
    /// Generates every symmetric key anew, seals it with `sealer`, and ends the audit chain's epoch. This
    /// transaction uses the new keys from here on, but no row has its new MAC yet.
    ///
    /// After the commit, [`use_keyring`](super::Trusted::use_keyring) switches this process to the new keys.
    /// Other processes follow by themselves.
    pub async fn begin_epoch(
        &mut self,
        sealer: Arc<Sealer>,
        random: &dyn Random,
    ) -> Result<Renewal, StoreError> {
        let before = self.keyring();
        let last = || corrupt("key_state", "1", "has the highest possible epoch");
        let epoch = before.epoch().checked_add(1).ok_or_else(last)?;
        let mut keys = Vec::with_capacity(Purpose::ALL.len());
        for purpose in Purpose::ALL {
            keys.push(Symmetric::generate(purpose, random)?);
        }
        let keys: [Symmetric; Purpose::ALL.len()] = keys.try_into().map_err(|_| last())?;
        let fresh = Arc::new(Keyring::new(epoch, Arc::clone(&sealer), &keys, (Vec::new(), Vec::new())));
        let audit_key = open_sealed_key(self.connection(), Purpose::AuditChain, &before).await?;
        let ended = Ended { epoch: before.epoch(), key: &audit_key };
        self.end_audit_epoch(ended, &before, &fresh, random).await?;
        for key in &keys {
            insert_sealed_key(self.connection(), key, epoch, &sealer, random).await?;
        }
        sqlx::query("UPDATE key_state SET epoch = $1, purposes = $2 WHERE id = 1")
            .bind(epoch)
            .bind(LIST_VERSION)
            .affects_one(self.connection(), "key_state")
            .await?;
        let after = keyring_of(self.connection(), epoch, sealer, &keys).await?;
        self.keyring = Arc::clone(&after);
        Ok(Renewal { before, after })
    }

    /// Gives the rows of every purpose their new MAC, except those of signing keys, which the caller also
    /// seals again. Returns the rows that failed.
    pub(super) async fn renew_macs(&mut self, renewal: &Renewal) -> Result<Vec<ForgedRow>, StoreError> {
        let mut failed = Vec::new();
        for purpose in Purpose::ALL {
            let (before, after) = (renewal.before.mac(purpose), renewal.after.mac(purpose));
            let (table, rows) = match purpose {
                Purpose::Grants => ("grants", self.renew_grant_macs(before, after).await?),
                Purpose::RemovedSubjects => {
                    ("removed_subjects", self.renew_removed_subject_macs(before, after).await?)
                }
                // The caller seals signing keys again; `begin_epoch` renewed the chain; the commit appends a
                // state under the new key; labels are not in the database.
                Purpose::SigningKeys | Purpose::AuditChain | Purpose::States | Purpose::PublishedLabels => {
                    continue;
                }
            };
            failed.extend(rows.into_iter().map(|row| ForgedRow { table, row }));
        }
        Ok(failed)
    }
}
