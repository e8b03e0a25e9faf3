//! Spaces and feeds.

mod limits;
mod queries;

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use self::queries::{
    ALL, BEYOND_LIFETIME, COUNT, COUNTS, IN_SPACE, OF_ALGORITHM, OF_TYPE, ONE, inside, of_registry,
    sharing_subject, versions_of,
};
pub use self::queries::{FeedsOf, MAX_OF_REGISTRY};
use super::states::Effects as _;
use super::{
    ReadTransaction, Store, StoreError, Transaction, corrupt, from_millis, from_seconds, parse, to_millis,
    to_seconds,
};
use crate::feed::display_name::DisplayName;
use crate::feed::google::JwksSource;
use crate::feed::registry_host::RegistryHost;
use crate::feed::{Feed, FeedPath, FeedType, Provider};
use crate::grant::{FeedLimit, SpaceLimit};
use crate::jose::Algorithm;
use crate::oidc::subject::{FeedIdentity, SubjectKeys};
use crate::values::slug::Slug;

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    version: i64,
    space: String,
    slug: String,
    name: String,
    registry: String,
    audience: String,
    subject_keys: String,
    alg: String,
    token_lifetime: i64,
    settings: String,
    endpoints: String,
    created_at: i64,
    updated_at: i64,
}

const TABLE: &str = "feeds";

/// The maximum number of identifiers that one statement looks up.
const IDS_OF_A_STATEMENT: usize = 500;

/// The numbers that the limits on feeds and spaces apply to.
#[derive(Debug, Clone, Copy)]
pub struct FeedCounts {
    /// The number of feeds in the space.
    pub in_space: i64,
    /// The number of feeds in all spaces.
    pub feeds: i64,
    /// The number of spaces.
    pub spaces: i64,
    /// `true` if the space exists.
    pub space_exists: bool,
}

impl Store {
    /// Returns up to `limit` feeds whose tokens are signed with `algorithm`, ordered by id, starting after
    /// the id `after`.
    pub async fn feeds_of_algorithm(
        &self,
        algorithm: Algorithm,
        after: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<Feed>, StoreError> {
        let query = sqlx::query_as::<_, Row>(OF_ALGORITHM)
            .bind(algorithm.as_str())
            .bind(after.map(|id| id.to_string()).unwrap_or_default())
            .bind(i64::from(limit));
        query.fetch_all(&self.readers.lists).await?.into_iter().map(Row::feed).collect()
    }

    /// Returns the feed with this name.
    pub async fn feed(&self, path: &FeedPath) -> Result<Option<Feed>, StoreError> {
        let query = sqlx::query_as::<_, Row>(ONE).bind(path.space.as_str()).bind(path.slug.as_str());
        query.fetch_optional(&self.readers.lookups).await?.map(Row::feed).transpose()
    }

    /// Returns all feeds, or those of one space, by name.
    pub async fn feeds(&self, space: Option<&Slug>) -> Result<Vec<Feed>, StoreError> {
        let rows: Vec<Row> = match space {
            Some(space) => {
                sqlx::query_as(IN_SPACE).bind(space.as_str()).fetch_all(&self.readers.lists).await?
            }
            None => sqlx::query_as(ALL).fetch_all(&self.readers.lists).await?,
        };
        rows.into_iter().map(Row::feed).collect()
    }

    /// Returns the feeds inside these limits, of one space or of one registry, by name. Feeds outside the
    /// limits are not read, so that neither the time taken nor an unreadable row reveals them.
    pub async fn feeds_inside(
        &self,
        (spaces, feeds): (&SpaceLimit, &FeedLimit),
        of: FeedsOf<'_>,
    ) -> Result<Vec<Feed>, StoreError> {
        let readers = match of {
            FeedsOf::Space(_) => &self.readers.lists,
            FeedsOf::Registry(_) => &self.readers.lookups,
        };
        let rows: Vec<Row> = inside(spaces, feeds, of).build_query_as().fetch_all(readers).await?;
        rows.into_iter().map(Row::feed).collect()
    }

    /// Returns a number that increases with every change of a feed; `None` before the database is set up.
    pub async fn feed_changes(&self) -> Result<Option<i64>, StoreError> {
        let query = sqlx::query_scalar("SELECT feeds FROM key_state WHERE id = 1");
        Ok(query.fetch_optional(&self.readers.pulse).await?)
    }

    /// Returns the versions of these feeds, without those that do not exist.
    pub async fn feed_versions(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, i64>, StoreError> {
        let mut versions = HashMap::with_capacity(ids.len());
        for ids in ids.chunks(IDS_OF_A_STATEMENT) {
            let rows: Vec<(String, i64)> =
                versions_of(ids).build_query_as().fetch_all(&self.readers.lists).await?;
            for (id, version) in rows {
                versions.insert(parse(TABLE, &id, &id)?, version);
            }
        }
        Ok(versions)
    }

    /// Returns the number of feeds.
    pub async fn feed_count(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar(COUNT).fetch_one(&self.readers.lists).await?)
    }

    /// Returns the feeds whose tokens would live for longer than `longest`, ordered by lifetime, longest
    /// last.
    pub async fn feeds_beyond_lifetime(&self, longest: Duration) -> Result<Vec<Feed>, StoreError> {
        let query = sqlx::query_as::<_, Row>(BEYOND_LIFETIME).bind(to_seconds(longest));
        query.fetch_all(&self.readers.lists).await?.into_iter().map(Row::feed).collect()
    }

    /// Returns up to `limit` feeds of this type, by name, starting after the feed `after`.
    pub async fn feeds_of_type(
        &self,
        feed_type: FeedType,
        after: Option<&FeedPath>,
        limit: u32,
    ) -> Result<Vec<Feed>, StoreError> {
        let (space, slug) = after.map_or(("", ""), |path| (path.space.as_str(), path.slug.as_str()));
        let query = sqlx::query_as::<_, Row>(OF_TYPE)
            .bind(feed_type.as_str())
            .bind(space)
            .bind(slug)
            .bind(i64::from(limit));
        query.fetch_all(&self.readers.lists).await?.into_iter().map(Row::feed).collect()
    }
}

impl ReadTransaction {
    /// Returns the feed with this name, inside this transaction.
    pub async fn feed(&mut self, path: &FeedPath) -> Result<Option<Feed>, StoreError> {
        let query = sqlx::query_as::<_, Row>(ONE).bind(path.space.as_str()).bind(path.slug.as_str());
        query.fetch_optional(self.connection()).await?.map(Row::feed).transpose()
    }

    /// Returns up to `limit` names, in order, of other feeds in the space that can give the same subject as a
    /// feed with these keys and this identity.
    pub async fn feeds_sharing_subject(
        &mut self,
        keys: &SubjectKeys,
        feed: &FeedIdentity,
        limit: u32,
    ) -> Result<Vec<FeedPath>, StoreError> {
        let overlapping = keys.overlapping_without_feed();
        // Keys that name one feed overlap with no other feed: slugs differ within a space, and ids differ
        // everywhere.
        if overlapping.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = sharing_subject(&overlapping, feed, limit);
        let mut slugs: Vec<(String,)> = query.build_query_as().fetch_all(self.connection()).await?;
        slugs.sort();
        slugs.into_iter().map(|(slug,)| path(&feed.space, &slug)).collect()
    }

    /// Returns up to `limit` names, in order, of the feeds with this registry, other than the feed `except`.
    /// With limits in `outside`, returns only the feeds outside them.
    pub async fn names_of_registry(
        &mut self,
        registry: &RegistryHost,
        except: Uuid,
        outside: Option<(&SpaceLimit, &FeedLimit)>,
        limit: u32,
    ) -> Result<Vec<FeedPath>, StoreError> {
        let mut query = of_registry(registry, except, outside, limit);
        let names: Vec<(String, String)> = query.build_query_as().fetch_all(self.connection()).await?;
        names.iter().map(|(space, slug)| path(&parse(TABLE, slug, space)?, slug)).collect()
    }

    /// Counts the feeds of the space, the feeds of all spaces, and the spaces.
    pub async fn count_feeds(&mut self, space: &Slug) -> Result<FeedCounts, StoreError> {
        let (feeds, spaces, in_space): (i64, i64, Option<i64>) =
            sqlx::query_as(COUNTS).bind(space.as_str()).fetch_one(self.connection()).await?;
        Ok(FeedCounts { in_space: in_space.unwrap_or(0), feeds, spaces, space_exists: in_space.is_some() })
    }
}

impl Transaction {
    /// Writes a new feed, and its space if that is new.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sql`], also if the name is in use.
    pub async fn insert_feed(&mut self, feed: &Feed) -> Result<(), StoreError> {
        let space = sqlx::query(
            "INSERT INTO spaces (slug, name, created_at) VALUES ($1, $1, $2) ON CONFLICT (slug) DO NOTHING",
        )
        .bind(feed.space.as_str())
        .bind(to_millis(feed.created_at))
        .count_affected(self.connection())
        .await?;
        let new_spaces = i64::try_from(space).unwrap_or_default();
        let row = Row::new(feed)?;
        sqlx::query(
            "INSERT INTO feeds (id, version, space, slug, name, type, registry, audience, subject_keys, alg, \
             token_lifetime, settings, endpoints, created_at, updated_at, has_uploaded_jwks) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        )
        .bind(row.id)
        .bind(row.version)
        .bind(row.space)
        .bind(row.slug)
        .bind(row.name)
        .bind(feed.provider.feed_type().as_str())
        .bind(row.registry)
        .bind(row.audience)
        .bind(row.subject_keys)
        .bind(row.alg)
        .bind(row.token_lifetime)
        .bind(row.settings)
        .bind(row.endpoints)
        .bind(row.created_at)
        .bind(row.updated_at)
        .bind(feed.provider.jwks() == JwksSource::Uploaded)
        .affects_one(self.connection(), TABLE)
        .await?;
        self.count_feeds_by(&feed.space, 1, new_spaces).await?;
        self.count_feed_change().await
    }

    /// Writes the next version of a feed.
    pub async fn update_feed(&mut self, feed: &Feed) -> Result<(), StoreError> {
        let row = Row::new(feed)?;
        sqlx::query(
            "UPDATE feeds SET version = $2, name = $3, registry = $4, audience = $5, subject_keys = $6, alg = $7, \
             token_lifetime = $8, settings = $9, endpoints = $10, updated_at = $11, has_uploaded_jwks = $12 \
             WHERE id = $1",
        )
        .bind(row.id)
        .bind(row.version)
        .bind(row.name)
        .bind(row.registry)
        .bind(row.audience)
        .bind(row.subject_keys)
        .bind(row.alg)
        .bind(row.token_lifetime)
        .bind(row.settings)
        .bind(row.endpoints)
        .bind(row.updated_at)
        .bind(feed.provider.jwks() == JwksSource::Uploaded)
        .affects_one(self.connection(), TABLE)
        .await?;
        self.count_feed_change().await
    }

    /// Removes a feed and leaves the mark of its subject.
    pub async fn remove_feed(&mut self, feed: &Feed, now: Timestamp) -> Result<(), StoreError> {
        self.mark_removed_subject(feed, now).await?;
        let removed = sqlx::query("DELETE FROM feeds WHERE id = $1")
            .bind(feed.id.to_string())
            .count_affected(self.connection())
            .await?;
        let removed = i64::try_from(removed).unwrap_or_default();
        self.count_feeds_by(&feed.space, -removed, 0).await?;
        self.count_feed_change().await
    }

    /// Adds to the stored counts. Nothing else changes them.
    async fn count_feeds_by(&mut self, space: &Slug, feeds: i64, spaces: i64) -> Result<(), StoreError> {
        sqlx::query("UPDATE feed_counts SET feeds = feeds + $1, spaces = spaces + $2 WHERE id = 1")
            .bind(feeds)
            .bind(spaces)
            .affects_one(self.connection(), "feed_counts")
            .await?;
        sqlx::query("UPDATE spaces SET feeds = feeds + $2 WHERE slug = $1")
            .bind(space.as_str())
            .bind(feeds)
            .affects_one(self.connection(), "spaces")
            .await?;
        Ok(())
    }

    async fn count_feed_change(&mut self) -> Result<(), StoreError> {
        sqlx::query("UPDATE key_state SET feeds = feeds + 1 WHERE id = 1")
            .affects_one(self.connection(), "key_state")
            .await?;
        Ok(())
    }
}

fn path(space: &Slug, slug: &str) -> Result<FeedPath, StoreError> {
    Ok(FeedPath { space: space.clone(), slug: parse(TABLE, slug, slug)? })
}

impl Row {
    fn new(feed: &Feed) -> Result<Self, StoreError> {
        let json = |error: serde_json::Error| corrupt(TABLE, feed.slug.as_str(), error.to_string());
        Ok(Self {
            id: feed.id.to_string(),
            version: feed.version,
            space: feed.space.to_string(),
            slug: feed.slug.to_string(),
            name: feed.name.to_string(),
            registry: feed.registry.to_string(),
            audience: feed.audience.to_string(),
            subject_keys: feed.subject_keys.to_string(),
            alg: feed.alg.to_string(),
            token_lifetime: to_seconds(feed.token_lifetime),
            settings: serde_json::to_string(&feed.provider).map_err(json)?,
            endpoints: serde_json::to_string(&feed.endpoints).map_err(json)?,
            created_at: to_millis(feed.created_at),
            updated_at: to_millis(feed.updated_at),
        })
    }

    /// Parses every column as strictly as user input, so that a row that carnet did not write cannot
    /// introduce a value that the edge would refuse.
    fn feed(self) -> Result<Feed, StoreError> {
        let row = self.slug.clone();
        let bad_json = |error: serde_json::Error| corrupt(TABLE, &row, error.to_string());
        Ok(Feed {
            id: parse::<Uuid>(TABLE, &row, &self.id)?,
            version: self.version,
            space: parse(TABLE, &row, &self.space)?,
            slug: parse(TABLE, &row, &self.slug)?,
            name: DisplayName::stored(&self.name).map_err(|error| corrupt(TABLE, &row, error.to_string()))?,
            provider: serde_json::from_str::<Provider>(&self.settings).map_err(bad_json)?,
            registry: parse(TABLE, &row, &self.registry)?,
            audience: parse(TABLE, &row, &self.audience)?,
            subject_keys: parse(TABLE, &row, &self.subject_keys)?,
            alg: parse(TABLE, &row, &self.alg)?,
            token_lifetime: from_seconds(TABLE, &row, self.token_lifetime)?,
            endpoints: serde_json::from_str(&self.endpoints).map_err(bad_json)?,
            created_at: from_millis(TABLE, &row, self.created_at)?,
            updated_at: from_millis(TABLE, &row, self.updated_at)?,
        })
    }
}

#[cfg(test)]
mod tests;
