//! The next epoch: every symmetric key made anew under another master key, in the caller's transaction.
//!
//! A row gets its new MAC only after its old one was verified. Whatever fails keeps its old MAC, and so is never
//! honoured again.

use std::sync::Arc;

use super::audit::Ended;
use super::keyring::{Keyring, LIST_VERSION, Purpose, Symmetric};
use super::sealed::Sealer;
use super::{Store, StoreError, Transaction, corrupt};
use crate::values::random::Random;

/// A row whose MAC is wrong: something other than carnet wrote it, or wrote it with the keys of an earlier epoch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct ForgedRow {
    /// The table.
    pub table: &'static str,
    /// The beginning of what identifies the row there.
    pub row: String,
}

impl ForgedRow {
    /// The row of `table` that this text identifies, if it has one.
    pub(super) fn of(table: &'static str, row: Option<String>) -> Self {
        let row = row.map_or_else(|| "without a name".to_owned(), |row| row.chars().take(64).collect());
        Self { table, row }
    }
}

/// The keys on both sides of an epoch's beginning.
#[derive(Debug, Clone)]
pub struct Renewal {
    /// Those that authenticate what was written so far.
    pub before: Arc<Keyring>,
    /// Those that authenticate what is written from here on.
    pub after: Arc<Keyring>,
}

impl Store {
    /// The rows that fail their MAC, of every table that carries one. The audit log is verified by
    /// [`Store::verify_audit`].
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the database cannot be read, or was never unlocked.
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
    /// Makes every symmetric key anew, sealed by `sealer`, and ends the audit chain's epoch. This transaction uses
    /// the new keys from here on; no row has its new MAC yet. After the commit, [`use_keyring`](super::Store::use_keyring) takes them into
    /// use in this process; others follow by themselves.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store is locked, there is no randomness or a statement fails.
    pub async fn begin_epoch(
        &mut self,
        sealer: Arc<Sealer>,
        random: &dyn Random,
    ) -> Result<Renewal, StoreError> {
        let before = self.keyring()?;
        let last = || corrupt("key_state", "1", "has the last epoch that there is");
        let epoch = before.epoch().checked_add(1).ok_or_else(last)?;
        let mut keys = Vec::with_capacity(Purpose::ALL.len());
        for purpose in Purpose::ALL {
            keys.push(Symmetric::generate(purpose, random)?);
        }
        let keys: [Symmetric; Purpose::ALL.len()] = keys.try_into().map_err(|_| last())?;
        let fresh = Arc::new(Keyring::new(epoch, Arc::clone(&sealer), &keys, (Vec::new(), Vec::new())));
        let audit_key = self.open_sealed_key(Purpose::AuditChain, &before).await?;
        let ended = Ended { epoch: before.epoch(), key: &audit_key };
        self.end_audit_epoch(ended, &before, &fresh, random).await?;
        for key in &keys {
            self.insert_sealed_key(key, epoch, &sealer, random).await?;
        }
        sqlx::query("UPDATE key_state SET epoch = $1, purposes = $2 WHERE id = 1")
            .bind(epoch)
            .bind(LIST_VERSION)
            .execute(self.connection())
            .await?;
        let after = self.keyring_of(epoch, sealer, &keys).await?;
        self.keyring = Some(Arc::clone(&after));
        Ok(Renewal { before, after })
    }

    /// Gives the rows of every purpose their new MAC, except those of signing keys, which are sealed again at the
    /// same time. Returns the rows that failed.
    pub(super) async fn renew_macs(&mut self, renewal: &Renewal) -> Result<Vec<ForgedRow>, StoreError> {
        let mut failed = Vec::new();
        for purpose in Purpose::ALL {
            let (before, after) = (renewal.before.mac(purpose), renewal.after.mac(purpose));
            let (table, rows) = match purpose {
                Purpose::Grants => ("grants", self.renew_grant_macs(before, after).await?),
                Purpose::RemovedSubjects => {
                    ("removed_subjects", self.renew_removed_subject_macs(before, after).await?)
                }
                // Sealed again by the caller; renewed when the epoch began; nothing stored; written anew elsewhere.
                Purpose::SigningKeys | Purpose::AuditChain | Purpose::States | Purpose::PublishedLabels => {
                    continue;
                }
            };
            failed.extend(rows.into_iter().map(|row| ForgedRow { table, row }));
        }
        Ok(failed)
    }
}
