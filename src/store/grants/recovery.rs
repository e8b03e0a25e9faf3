//! Changes to the rows of `grants` in a rewrap, in a recovery from a leak, and when another database is
//! accepted.

use jiff::Timestamp;
use sqlx::{FromRow as _, Row as _};

use super::{ALL, GrantRow, Row, StoredGrant, TABLE, mac, renew_macs};
use crate::grant::Grant;
use crate::states::Table;
use crate::store::rewrap::{ForgedRow, Renewal};
use crate::store::sealed::RowMac;
use crate::store::states::Effects as _;
use crate::store::{ReadTransaction, StoreError, Transaction, corrupt};

impl ReadTransaction {
    /// The rows that are not what carnet wrote.
    pub(in crate::store) async fn forged_grants(&mut self) -> Result<Vec<ForgedRow>, StoreError> {
        let keyring = self.keyring();
        let rows = sqlx::query(ALL).fetch_all(self.connection()).await?;
        let forged = rows
            .iter()
            .filter(|row| !Row::from_row(*row).is_ok_and(|row| row.is_authentic(mac(&keyring))))
            .map(|row| ForgedRow::of(TABLE, row.try_get("id").ok()));
        Ok(forged.collect())
    }
}

impl Transaction {
    /// Gives each authentic row its MAC under `after`. Returns the ids of the rows that fail under `before`
    /// or that no state vouches for; they stay unchanged.
    pub(in crate::store) async fn renew_grant_macs(
        &mut self,
        before: &RowMac,
        after: &RowMac,
    ) -> Result<Vec<String>, StoreError> {
        self.begin_change().await?;
        let vouched = self.vouched_contents().await?;
        let renewed = renew_macs(self.connection(), before, after, vouched.as_deref()).await?;
        let changed = renewed.changed.into_iter();
        changed.for_each(|(id, mac)| self.changed(Table::Grants, &id, Some(mac)));
        Ok(renewed.failed)
    }

    /// Deletes every row except those of `keep`, which get their new MAC. For a recovery, after `renewal` has
    /// replaced the keys. Returns the authentic grants that were deleted, and the rows that were not
    /// authentic.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if a row of `keep` is missing or differs.
    pub async fn keep_grants(
        &mut self,
        keep: &[StoredGrant],
        renewal: &Renewal,
    ) -> Result<(Vec<Grant>, Vec<ForgedRow>), StoreError> {
        let (before, after) = (mac(&renewal.before), mac(&renewal.after));
        let rows = sqlx::query(ALL).fetch_all(self.connection()).await?;
        let all = rows.len() as u64;
        let (mut kept, mut ended, mut forged) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            let read = Row::from_row(&row).ok().and_then(|row| row.read(before).ok());
            match read {
                Some(GrantRow::Authentic(stored)) if keep.iter().any(|keep| stored.is_same(keep)) => {
                    kept.push(stored);
                }
                Some(GrantRow::Authentic(stored)) => ended.push(stored.grant),
                _ => forged.push(ForgedRow::of(TABLE, row.try_get("id").ok())),
            }
        }
        if let Some(missing) = keep.iter().find(|keep| !kept.iter().any(|kept| kept.is_same(keep))) {
            let id = missing.grant.id.to_string();
            return Err(corrupt(TABLE, &id, "has changed since it was shown"));
        }
        // Deletes all rows instead of naming them: a forged `id` need not be text.
        sqlx::query("DELETE FROM grants").affects(self.connection(), TABLE, all).await?;
        for stored in kept {
            self.insert_row(Row::new(&stored, after)?).await?;
        }
        Ok((ended, forged))
    }

    /// Revokes every grant, and deletes the rows that are not authentic. For the acceptance of a database
    /// that was replaced by an older copy. Returns the grants that were not revoked before, and the deleted
    /// rows.
    pub async fn revoke_all_grants(
        &mut self,
        now: Timestamp,
    ) -> Result<(Vec<Grant>, Vec<ForgedRow>), StoreError> {
        self.begin_change().await?;
        let keyring = self.keyring();
        let (mut revoked, mut forged) = (Vec::new(), Vec::new());
        let rows = sqlx::query(ALL).fetch_all(self.connection()).await?;
        // Deletes all rows instead of naming them: a forged `id` need not be text.
        sqlx::query("DELETE FROM grants").affects(self.connection(), TABLE, rows.len() as u64).await?;
        for row in rows {
            let read = Row::from_row(&row).ok().and_then(|row| row.read(mac(&keyring)).ok());
            let Some(GrantRow::Authentic(mut stored)) = read else {
                forged.push(ForgedRow::of(TABLE, row.try_get("id").ok()));
                continue;
            };
            if stored.grant.revoked_at.is_none() {
                stored.grant.revoked_at = Some(now);
                revoked.push(stored.grant.clone());
            }
            self.insert_row(Row::new(&stored, mac(&keyring))?).await?;
        }
        Ok((revoked, forged))
    }
}
