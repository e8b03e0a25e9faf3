//! The rows of `audit_epochs`: the ends of the chain's earlier epochs, and their keys, which are only used
//! for reading.

use sqlx::SqliteConnection;

use super::base::{BASE_TABLE, Base, mac};
use super::end;
use crate::audit::{Anchor, AuditKey, ClosedEpoch};
use crate::store::keyring::{Keyring, Purpose, Symmetric};
use crate::store::sealed::Sealer;
use crate::store::states::Effects as _;
use crate::store::{StoreError, Transaction};
use crate::values::random::Random;

const ALL: &str =
    "SELECT epoch, end_seq, end_mac, master_key_id, sealed, tag FROM audit_epochs ORDER BY epoch";

/// The epoch that ends now.
#[derive(Clone, Copy)]
pub(in crate::store) struct Ended<'a> {
    pub(in crate::store) epoch: i64,
    pub(in crate::store) key: &'a Symmetric,
}

#[derive(sqlx::FromRow)]
struct Row {
    epoch: i64,
    end_seq: i64,
    end_mac: String,
    master_key_id: String,
    sealed: String,
    tag: String,
}

/// Returns the epochs that have ended, and the numbers of those whose row carnet did not write.
pub(in crate::store) async fn ended_audit_epochs(
    connection: &mut SqliteConnection,
    current: &AuditKey,
    sealer: &Sealer,
) -> Result<(Vec<ClosedEpoch>, Vec<i64>), StoreError> {
    let (mut closed, mut broken) = (Vec::new(), Vec::new());
    for row in epoch_rows(connection).await? {
        match row.read(current, sealer) {
            Some((end, key)) => {
                closed.push(ClosedEpoch { epoch: row.epoch, end, key: AuditKey::new(&key.key) });
            }
            None => broken.push(row.epoch),
        }
    }
    Ok((closed, broken))
}

async fn epoch_rows(connection: &mut SqliteConnection) -> Result<Vec<Row>, StoreError> {
    Ok(sqlx::query_as(ALL).fetch_all(connection).await?)
}

impl Transaction {
    /// Records the end of `ended`. Authenticates this record, those of earlier epochs and the log's base with
    /// the keys `after`. A record that fails under the keys `before` stays unchanged.
    pub(in crate::store) async fn end_audit_epoch(
        &mut self,
        ended: Ended<'_>,
        before: &Keyring,
        after: &Keyring,
        random: &dyn Random,
    ) -> Result<(), StoreError> {
        let end = end(self.connection()).await?;
        let (old, new) = (before.audit().current(), after.audit().current());
        if let Some(base) = Base::read(self.connection()).await?
            && let (Ok(anchor), Some(tag)) = (base.anchor(), mac(&base.tag))
            && old.is_base(&anchor, &tag)
        {
            sqlx::query("UPDATE audit_base SET tag = $1 WHERE id = 1")
                .bind(new.base_tag(&anchor).to_string())
                .affects_one(self.connection(), BASE_TABLE)
                .await?;
        }
        for row in epoch_rows(self.connection()).await? {
            if let Some((end, key)) = row.read(old, before.sealer()) {
                self.write_epoch((row.epoch, end, &key), after, random).await?;
            }
        }
        self.write_epoch((ended.epoch, end, ended.key), after, random).await
    }

    async fn write_epoch(
        &mut self,
        (epoch, end, key): (i64, Anchor, &Symmetric),
        after: &Keyring,
        random: &dyn Random,
    ) -> Result<(), StoreError> {
        let sealer = after.sealer();
        sqlx::query(
            "INSERT INTO audit_epochs (epoch, end_seq, end_mac, master_key_id, sealed, tag) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (epoch) DO UPDATE SET \
             end_seq = $2, end_mac = $3, master_key_id = $4, sealed = $5, tag = $6",
        )
        .bind(epoch)
        .bind(end.seq)
        .bind(end.mac.to_string())
        .bind(sealer.master_key_id().as_str())
        .bind(key.seal(epoch, sealer, random)?)
        .bind(after.audit().current().epoch_tag(epoch, &end).to_string())
        .affects_one(self.connection(), "audit_epochs")
        .await?;
        Ok(())
    }
}

impl Row {
    /// Returns the epoch's end and key, if carnet wrote the row.
    fn read(&self, current: &AuditKey, sealer: &Sealer) -> Option<(Anchor, Symmetric)> {
        let end = Anchor { seq: self.end_seq, mac: mac(&self.end_mac)? };
        let of_row = (self.master_key_id.as_str(), self.sealed.as_str());
        let key = Symmetric::open(Purpose::AuditChain, self.epoch, sealer, of_row).ok()?;
        current.is_epoch(self.epoch, &end, &mac(&self.tag)?).then_some((end, key))
    }
}
