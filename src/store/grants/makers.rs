//! The grants that a grant has made, and the grants that made it, by `created_by`.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use uuid::Uuid;

use super::GrantRow;
use crate::grant::Grant;
use crate::store::{ReadTransaction, StoreError, to_millis};
use crate::values::actor::Actor;
use crate::values::slug::Slug;

/// Read without an index: one that lacks rows would hide a grant from the revocation of all that a thief made,
/// or let the row of its maker be removed.
const MAKERS: &str = "SELECT id, created_by, expires_at, revoked_at FROM grants NOT INDEXED";
const COUNT_VALID_MADE_BY: &str = "WITH RECURSIVE made (id) AS (SELECT id FROM grants WHERE created_by = $1 UNION \
                                   SELECT grants.id FROM grants JOIN made ON grants.created_by = 'grant:' || made.id) \
                                   SELECT COUNT(*) FROM grants JOIN made ON grants.id = made.id \
                                   WHERE grants.revoked_at IS NULL AND (grants.expires_at IS NULL OR grants.expires_at > $2)";

/// The prefix of `created_by` if a grant made the grant.
const OF_GRANT: &str = "grant:";

#[derive(sqlx::FromRow)]
struct MakerRow {
    id: String,
    created_by: String,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
}

impl MakerRow {
    /// Returns the id of the grant that made this one.
    fn maker(&self) -> Option<String> {
        self.created_by.strip_prefix(OF_GRANT).map(ToOwned::to_owned)
    }
}

impl ReadTransaction {
    /// Returns the grants that `maker` made, those that they made, and so on, oldest first.
    pub async fn grants_made_by(&mut self, maker: Uuid) -> Result<Vec<GrantRow>, StoreError> {
        let mut by_maker: HashMap<String, Vec<String>> = HashMap::new();
        for row in self.makers().await? {
            by_maker.entry(row.created_by).or_default().push(row.id);
        }
        let mut made: HashSet<String> = HashSet::new();
        let mut makers = vec![Actor::grant(maker).to_string()];
        while let Some(next) = makers.pop() {
            for id in by_maker.remove(&next).unwrap_or_default() {
                makers.push(format!("{OF_GRANT}{id}"));
                made.insert(id);
            }
        }
        let is_made = |row: &GrantRow| match row {
            GrantRow::Authentic(stored) => made.contains(&stored.grant.id.to_string()),
            GrantRow::Forged { id } => made.contains(id),
        };
        Ok(self.grants().await?.into_iter().filter(is_made).collect())
    }

    async fn makers(&mut self) -> Result<Vec<MakerRow>, StoreError> {
        Ok(sqlx::query_as(MAKERS).fetch_all(self.connection()).await?)
    }

    /// Returns the ids of the grants that expired or were revoked before `time`, except those of which a grant
    /// that they made stays.
    pub(super) async fn grants_ended_before(&mut self, time: Timestamp) -> Result<Vec<String>, StoreError> {
        let before = to_millis(time);
        let is_before = |time: Option<i64>| time.is_some_and(|time| time < before);
        let (mut left, mut found) = (self.makers().await?, Vec::new());
        // Removing a grant can make its maker removable, in the next round.
        loop {
            let makers: HashSet<String> = left.iter().filter_map(MakerRow::maker).collect();
            let is_removable = |row: &MakerRow| {
                (is_before(row.expires_at) || is_before(row.revoked_at)) && !makers.contains(&row.id)
            };
            let (ended, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(is_removable);
            if ended.is_empty() {
                return Ok(found);
            }
            found.extend(ended.into_iter().map(|row| row.id));
            left = rest;
        }
    }

    /// Returns the grant itself, the one that made it, and so on, as far as the rows are authentic.
    pub async fn makers_of(&mut self, grant: &Grant) -> Result<Vec<Grant>, StoreError> {
        let mut makers = vec![grant.clone()];
        let mut made_by = grant.created_by.clone();
        while let Some(id) = made_by.strip_prefix(OF_GRANT).and_then(|id| id.parse().ok()) {
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
