//! The times that a database remembers, when an operator corrects them.

use jiff::Timestamp;

use super::{StoreError, Transaction, to_millis};

impl Transaction {
    /// Makes `now` the high-water time, though no server vouches for it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sql`] when the statement fails.
    pub async fn accept_time(&mut self, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query("UPDATE key_state SET high_water = $1 WHERE id = 1 AND high_water < $1")
            .bind(to_millis(now))
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Sets the high-water time and the pruning time back to `now`, and with them every recorded time that nothing but
    /// plans and displays depend on. Times in rows with a MAC are their own methods' affair; those of the audit log
    /// stay, whose order is that of its sequence numbers.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sql`] when a statement fails.
    pub async fn set_time_back(&mut self, now: Timestamp) -> Result<(), StoreError> {
        for statement in [
            "UPDATE key_state SET high_water = $1, set_backs = set_backs + 1, \
             pruning_time = CASE WHEN pruning_time > $1 THEN $1 ELSE pruning_time END WHERE id = 1",
            "UPDATE key_state SET rotation_failed_at = $1 WHERE rotation_failed_at > $1",
            // Propagation is counted from here.
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
            sqlx::query(statement).bind(to_millis(now)).execute(self.connection()).await?;
        }
        Ok(())
    }
}
