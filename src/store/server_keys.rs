//! The rows of `server_master_keys`: the master keys that each running server can open, so that a rewrap does
//! not lock out a server by mistake. The rows are not authenticated: anyone who can write the database can
//! change them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::states::Effects as _;
use super::{Store, StoreError, Trusted, to_millis};

/// The time after which a server that has recorded nothing counts as stopped, or as running on another
/// database.
pub const SEEN_WITHIN: Duration = Duration::from_secs(60);

impl Trusted {
    /// Records the master keys that a server can open, replaces its earlier rows, and removes servers that
    /// were last seen more than [`SEEN_WITHIN`] ago. If this fails, nothing is recorded.
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
            .count_affected(write.connection())
            .await?;
        for id in openable {
            sqlx::query(
                "INSERT INTO server_master_keys (server, master_key_id, seen_at) VALUES ($1, $2, $3) \
                 ON CONFLICT (server, master_key_id) DO UPDATE SET seen_at = $3",
            )
            .bind(server)
            .bind(id)
            .bind(to_millis(now))
            .affects_one(write.connection(), "server_master_keys")
            .await?;
        }
        write.commit().await
    }
}

impl Store {
    /// Returns the servers seen within [`SEEN_WITHIN`] that can open none of `ids`.
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
