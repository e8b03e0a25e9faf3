//! The grants that a grant has made, and the grants that made it, by `created_by`.

use std::collections::HashSet;

use jiff::Timestamp;
use uuid::Uuid;

use super::GrantRow;
use crate::grant::Grant;
use crate::store::{ReadTransaction, StoreError, to_millis};
use crate::values::actor::Actor;
use crate::values::slug::Slug;

const MADE_BY: &str = "WITH RECURSIVE made (id) AS (SELECT id FROM grants WHERE created_by = $1 UNION \
                       SELECT grants.id FROM grants JOIN made ON grants.created_by = 'grant:' || made.id) \
                       SELECT id FROM made";
const COUNT_VALID_MADE_BY: &str = "WITH RECURSIVE made (id) AS (SELECT id FROM grants WHERE created_by = $1 UNION \
                                   SELECT grants.id FROM grants JOIN made ON grants.created_by = 'grant:' || made.id) \
                                   SELECT COUNT(*) FROM grants JOIN made ON grants.id = made.id \
                                   WHERE grants.revoked_at IS NULL AND (grants.expires_at IS NULL OR grants.expires_at > $2)";

impl ReadTransaction {
    /// Returns the grants that `maker` made, those that they made, and so on, oldest first.
    pub async fn grants_made_by(&mut self, maker: Uuid) -> Result<Vec<GrantRow>, StoreError> {
        let ids: Vec<(String,)> = sqlx::query_as(MADE_BY)
            .bind(Actor::grant(maker).to_string())
            .fetch_all(self.connection())
            .await?;
        let made: HashSet<String> = ids.into_iter().map(|(id,)| id).collect();
        let is_made = |row: &GrantRow| match row {
            GrantRow::Authentic(stored) => made.contains(&stored.grant.id.to_string()),
            GrantRow::Forged { id } => made.contains(id),
        };
        Ok(self.grants().await?.into_iter().filter(is_made).collect())
    }

    /// Returns the grant itself, the one that made it, and so on, as far as the rows are authentic.
    pub async fn makers_of(&mut self, grant: &Grant) -> Result<Vec<Grant>, StoreError> {
        let mut makers = vec![grant.clone()];
        let mut made_by = grant.created_by.clone();
        while let Some(id) = made_by.strip_prefix("grant:").and_then(|id| id.parse().ok()) {
            // No grant is made by one that it made; forged rows that say so would make this loop endless.
            let is_known = makers.iter().any(|known| known.id == id);
            match self.grant(id).await? {
                Some(GrantRow::Authentic(stored)) if !is_known => {
                    made_by.clone_from(&stored.grant.created_by);
                    makers.push(stored.grant);
                }
                _ => break,
            }
        }
        Ok(makers)
    }

    /// Counts those of [`Transaction::grants_made_by`] that are valid at `now`, without authenticating their rows.
    pub async fn count_valid_grants_made_by(
        &mut self,
        maker: Uuid,
        now: Timestamp,
    ) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar(COUNT_VALID_MADE_BY)
            .bind(Actor::grant(maker).to_string())
            .bind(to_millis(now))
            .fetch_one(self.connection())
            .await?)
    }

    /// Counts the grants that are valid at `now` and name the space, without authenticating their rows.
    pub async fn count_valid_grants_of_space(
        &mut self,
        space: &Slug,
        now: Timestamp,
    ) -> Result<i64, StoreError> {
        // JSON escapes no character of a slug, so the list contains the slug between quotes.
        Ok(sqlx::query_scalar(
            "SELECT COUNT(*) FROM grants WHERE spaces LIKE $1 AND revoked_at IS NULL \
             AND (expires_at IS NULL OR expires_at > $2)",
        )
        .bind(format!("%\"{space}\"%"))
        .bind(to_millis(now))
        .fetch_one(self.connection())
        .await?)
    }
}
