//! Marks of removed subjects. A subject is removed if no feed gives it any more, because the feed was removed
//! or its subject was changed.
//!
//! Each row carries a MAC. A row that fails it, or that an earlier version wrote without subject keys, is
//! read as a mark with unknown keys: it applies to every subject that its feed could have given.
//! `audit verify` names the rows that fail. A deleted row leaves no trace here.

use jiff::Timestamp;
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::keyring::Purpose;
use super::rewrap::ForgedRow;
use super::sealed::RowMac;
use super::states::Effects as _;
use super::{ReadTransaction, StoreError, Transaction, from_millis, parse, to_millis};
use crate::feed::{Feed, FeedPath};
use crate::oidc::subject::{FeedIdentity, SubjectKeys};
use crate::values::slug::Slug;

/// A subject that no feed gives any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedSubject {
    /// The feed that gave it.
    pub feed: FeedIdentity,
    /// The keys of the subject; `None` if they are unknown.
    pub keys: Option<SubjectKeys>,
    /// The time at which the feed was removed or got another subject.
    pub removed_at: Timestamp,
}

#[derive(sqlx::FromRow)]
struct Row {
    space: String,
    slug: String,
    feed_id: String,
    subject_keys: String,
    removed_at: i64,
    mac: String,
}

const TABLE: &str = "removed_subjects";
const ALL: &str =
    "SELECT space, slug, feed_id, subject_keys, removed_at, mac FROM removed_subjects NOT INDEXED";
const COLUMNS: &str =
    "SELECT space, slug, feed_id, subject_keys, removed_at, mac FROM removed_subjects WHERE space = ";

impl RemovedSubject {
    /// Returns the feed's name at that time.
    #[must_use]
    pub fn path(&self) -> FeedPath {
        FeedPath { space: self.feed.space.clone(), slug: self.feed.feed.clone() }
    }

    /// Returns whether a feed with these keys and this identity can give the subject.
    #[must_use]
    pub fn is_given_by(&self, keys: &SubjectKeys, feed: &FeedIdentity) -> bool {
        let own_former = self.feed.feed_id == feed.feed_id;
        !own_former
            && match &self.keys {
                Some(removed) => keys.overlap(feed, removed, &self.feed),
                None if keys.contains(crate::oidc::subject::SubjectKey::FeedId) => false,
                None => !keys.names_one_feed() || self.feed.feed == feed.feed,
            }
    }
}

impl ReadTransaction {
    /// Returns the removed subjects that a feed with these keys and this identity can give, latest first.
    pub async fn removed_subjects_of(
        &mut self,
        keys: &SubjectKeys,
        feed: &FeedIdentity,
    ) -> Result<Vec<RemovedSubject>, StoreError> {
        let keyring = self.keyring();
        let mac = keyring.mac(Purpose::RemovedSubjects);
        let mut query = QueryBuilder::new(COLUMNS);
        query.push_bind(feed.space.as_str());
        if keys.names_one_feed() {
            query.push(" AND slug = ").push_bind(feed.feed.as_str());
        } else {
            query.push(" AND subject_keys IN (''");
            for keys in keys.overlapping_without_feed() {
                query.push(", ").push_bind(keys.to_string());
            }
            query.push(")");
        }
        // Unlimited: newer marks that do not apply must not hide an older one that does.
        query.push(" ORDER BY removed_at DESC");
        let rows: Vec<Row> = query.build_query_as().fetch_all(self.connection()).await?;
        let removed = rows.into_iter().map(|row| row.read(mac)).collect::<Result<Vec<_>, _>>()?;
        Ok(removed.into_iter().filter(|removed| removed.is_given_by(keys, feed)).collect())
    }

    /// Counts the marks of the feed's space and those of its name, each up to `most`. Excludes the mark that
    /// the feed's present subject has already left.
    pub async fn count_removed_subjects(&mut self, feed: &Feed, most: i64) -> Result<(i64, i64), StoreError> {
        Ok(sqlx::query_as(
            "SELECT (SELECT COUNT(*) FROM (SELECT 1 FROM removed_subjects WHERE space = $1 \
             AND NOT (feed_id = $3 AND subject_keys = $4) LIMIT $5) AS of_space), \
             (SELECT COUNT(*) FROM (SELECT 1 FROM removed_subjects WHERE space = $1 AND slug = $2 \
             AND NOT (feed_id = $3 AND subject_keys = $4) LIMIT $5) AS of_name)",
        )
        .bind(feed.space.as_str())
        .bind(feed.slug.as_str())
        .bind(feed.id.to_string())
        .bind(feed.subject_keys.to_string())
        .bind(most)
        .fetch_one(self.connection())
        .await?)
    }
}

impl Transaction {
    /// Leaves the mark of the subject that `feed` gave until now. Does nothing if no other feed can ever give
    /// that subject.
    pub async fn mark_removed_subject(&mut self, feed: &Feed, now: Timestamp) -> Result<(), StoreError> {
        if !feed.trust_follows_the_slug() {
            return Ok(());
        }
        let keyring = self.keyring();
        let mut row = Row {
            space: feed.space.to_string(),
            slug: feed.slug.to_string(),
            feed_id: feed.id.to_string(),
            subject_keys: feed.subject_keys.to_string(),
            removed_at: to_millis(now),
            mac: String::new(),
        };
        row.mac = row.authenticated(|columns| keyring.mac(Purpose::RemovedSubjects).tag(columns));
        sqlx::query(
            "INSERT INTO removed_subjects (space, slug, feed_id, subject_keys, removed_at, mac) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (feed_id, subject_keys) \
             DO UPDATE SET space = excluded.space, slug = excluded.slug, removed_at = excluded.removed_at, \
             mac = excluded.mac",
        )
        .bind(row.space)
        .bind(row.slug)
        .bind(row.feed_id)
        .bind(row.subject_keys)
        .bind(row.removed_at)
        .bind(row.mac)
        .affects_one(self.connection(), TABLE)
        .await?;
        Ok(())
    }

    /// Gives each mark that is authentic under `before` its MAC under `after`. Returns the feed ids of the
    /// marks that fail: they stay unchanged, and count as marks with unknown keys. Marks of an earlier
    /// version have no MAC and are not returned.
    pub(super) async fn renew_removed_subject_macs(
        &mut self,
        before: &RowMac,
        after: &RowMac,
    ) -> Result<Vec<String>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(ALL).fetch_all(self.connection()).await?;
        let mut failed = Vec::new();
        for row in rows {
            if row.is_unknown() {
                continue;
            }
            if !row.is_authentic(before) {
                failed.push(row.feed_id.chars().take(64).collect());
                continue;
            }
            let mac = row.authenticated(|columns| after.tag(columns));
            sqlx::query("UPDATE removed_subjects SET mac = $3 WHERE feed_id = $1 AND subject_keys = $2")
                .bind(row.feed_id)
                .bind(row.subject_keys)
                .bind(mac)
                .affects_one(self.connection(), TABLE)
                .await?;
        }
        Ok(failed)
    }
}

impl ReadTransaction {
    /// Returns the rows that carnet did not write.
    pub(super) async fn forged_removed_subjects(&mut self) -> Result<Vec<ForgedRow>, StoreError> {
        let keyring = self.keyring();
        let mac = keyring.mac(Purpose::RemovedSubjects);
        let rows: Vec<Row> = sqlx::query_as(ALL).fetch_all(self.connection()).await?;
        let forged = rows.into_iter().filter(|row| !row.is_unknown() && !row.is_authentic(mac));
        Ok(forged.map(|row| ForgedRow::of(TABLE, Some(row.feed_id))).collect())
    }
}

impl Transaction {
    /// Clears the keys of every mark, for a recovery after which no old MAC is trusted. Each mark then
    /// applies to all subjects that its feed could have given, because its keys may be forged.
    pub async fn forget_removed_subject_keys(&mut self) -> Result<(), StoreError> {
        // One mark for each feed is then enough.
        sqlx::query(
            "DELETE FROM removed_subjects WHERE EXISTS (SELECT 1 FROM removed_subjects AS other \
             WHERE other.feed_id = removed_subjects.feed_id AND other.subject_keys < removed_subjects.subject_keys)",
        )
        .count_affected(self.connection())
        .await?;
        let left: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM removed_subjects NOT INDEXED")
            .fetch_one(self.connection())
            .await?;
        sqlx::query("UPDATE removed_subjects SET subject_keys = '', mac = ''")
            .affects(self.connection(), TABLE, left.unsigned_abs())
            .await?;
        Ok(())
    }
}

impl Row {
    /// Returns whether the row itself states that the keys are unknown.
    fn is_unknown(&self) -> bool {
        self.subject_keys.is_empty() && self.mac.is_empty()
    }

    fn read(self, mac: &RowMac) -> Result<RemovedSubject, StoreError> {
        let is_authentic = self.is_authentic(mac);
        if !is_authentic && !self.mac.is_empty() {
            tracing::error!(
                feed_id = self.feed_id,
                "the row of a removed subject fails its MAC: something other than carnet wrote it"
            );
        }
        let keys = if is_authentic { Some(parse(TABLE, &self.feed_id, &self.subject_keys)?) } else { None };
        let feed = FeedIdentity {
            space: parse::<Slug>(TABLE, &self.feed_id, &self.space)?,
            feed: parse(TABLE, &self.feed_id, &self.slug)?,
            // A forged id must not make a mark pass for a former subject of the feed itself.
            feed_id: if is_authentic { parse(TABLE, &self.feed_id, &self.feed_id)? } else { Uuid::nil() },
        };
        let removed_at = from_millis(TABLE, &self.feed_id, self.removed_at)?;
        Ok(RemovedSubject { feed, keys, removed_at })
    }

    fn is_authentic(&self, mac: &RowMac) -> bool {
        self.authenticated(|columns| mac.verifies(columns, &self.mac))
    }

    fn authenticated<T>(&self, use_columns: impl FnOnce(&[&str]) -> T) -> T {
        use_columns(&[
            "removed-subject-row-1",
            &self.space,
            &self.slug,
            &self.feed_id,
            &self.subject_keys,
            &self.removed_at.to_string(),
        ])
    }
}
