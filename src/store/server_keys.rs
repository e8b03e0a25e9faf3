//! The rows of `server_master_keys`: which master keys the running servers can open, so that a rewrap strands none
//! of them by mistake. They inform; whoever writes the database can change them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::{Store, StoreError, to_millis};

/// A server that has said nothing for this long is not running, or not on this database.
pub const SEEN_WITHIN: Duration = Duration::from_secs(60);

impl Store {
    /// Notes which master keys a server can open, in the place of what it said before, and forgets servers that
    /// have not been seen for long.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when a statement fails; nothing has been noted then.
    pub async fn note_server_master_keys(
        &self,
        server: &str,
        openable: &[String],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        sqlx::query("DELETE FROM server_master_keys WHERE server = $1 OR seen_at < $2")
            .bind(server)
            .bind(seen_since(now))
            .execute(write.connection())
            .await?;
        for id in openable {
            sqlx::query(
                "INSERT INTO server_master_keys (server, master_key_id, seen_at) VALUES ($1, $2, $3) \
                 ON CONFLICT (server, master_key_id) DO UPDATE SET seen_at = $3",
            )
            .bind(server)
            .bind(id)
            .bind(to_millis(now))
            .execute(write.connection())
            .await?;
        }
        write.commit().await
    }

    /// The servers seen within [`SEEN_WITHIN`] that have named none of `ids`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sql`] when the database cannot be read.
    pub async fn servers_without(&self, ids: &[String], now: Timestamp) -> Result<Vec<String>, StoreError> {
        let rows: Vec<(String, String)> =
            sqlx::query_as("SELECT server, master_key_id FROM server_master_keys WHERE seen_at >= $1")
                .bind(seen_since(now))
                .fetch_all(&self.readers.lists)
                .await?;
        let mut servers = BTreeMap::<String, bool>::new();
        for (server, id) in rows {
            *servers.entry(server).or_default() |= ids.contains(&id);
        }
        Ok(servers.into_iter().filter(|(_, can)| !can).map(|(server, _)| server).collect())
    }
}

fn seen_since(now: Timestamp) -> i64 {
    to_millis(now.checked_sub(SEEN_WITHIN).unwrap_or(Timestamp::MIN))
}
