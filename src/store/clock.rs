//! An operator's corrections of the times that a database remembers.

use jiff::Timestamp;

use super::states::Effects as _;
use super::{StoreError, Transaction, to_millis};

impl Transaction {
    /// Raises the high-water time to `now`, although no server has confirmed that time.
    pub async fn accept_time(&mut self, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query("UPDATE key_state SET high_water = $1 WHERE id = 1 AND high_water < $1")
            .bind(to_millis(now))
            .count_affected(self.connection())
            .await?;
        Ok(())
    }

    /// Sets the high-water time and the pruning time back to `now`, and with them every later time that
    /// affects only plans and displays. Rows with a MAC have methods of their own for this. The audit log
    /// keeps its times, because its order is that of its sequence numbers.
    pub async fn set_time_back(&mut self, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE key_state SET high_water = $1, set_backs = set_backs + 1, \
             pruning_time = CASE WHEN pruning_time > $1 THEN $1 ELSE pruning_time END WHERE id = 1",
        )
        .bind(to_millis(now))
        .affects_one(self.connection(), "key_state")
        .await?;
        for statement in [
            "UPDATE key_state SET rotation_failed_at = $1 WHERE rotation_failed_at > $1",
            // Propagation is measured from this time.
            "UPDATE published_keys SET published_at = $1 WHERE published_at > $1",
            "UPDATE confirmed_keys SET confirmed_at = $1 WHERE confirmed_at > $1",
            "UPDATE publication_targets SET registered_at = $1 WHERE registered_at > $1",
            "UPDATE publication_targets SET shown_at = $1 WHERE shown_at > $1",
            "UPDATE publication_targets SET altered_at = $1 WHERE altered_at > $1",
            "UPDATE publication_targets SET failed_at = $1 WHERE failed_at > $1",
            "UPDATE jwks_clients SET first_fetched_at = $1 WHERE first_fetched_at > $1",
            "UPDATE jwks_clients SET last_fetched_at = $1 WHERE last_fetched_at > $1",
            "DELETE FROM server_master_keys WHERE seen_at > $1",
        ] {
            sqlx::query(statement).bind(to_millis(now)).count_affected(self.connection()).await?;
        }
        Ok(())
    }
}
