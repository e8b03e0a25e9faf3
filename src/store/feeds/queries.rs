//! The statements that read feeds.

use sqlx::{QueryBuilder, Sqlite};
use uuid::Uuid;

use super::limits;
use crate::feed::registry_host::RegistryHost;
use crate::grant::{FeedLimit, SpaceLimit};
use crate::oidc::subject::{FeedIdentity, SubjectKeys};
use crate::values::slug::Slug;

/// The feeds to list.
#[derive(Debug, Clone, Copy)]
pub enum FeedsOf<'a> {
    /// The feeds of this space.
    Space(&'a Slug),
    /// The feeds with this registry, up to [`MAX_OF_REGISTRY`].
    Registry(&'a RegistryHost),
}

/// The maximum number of feeds of one registry that are read for one caller.
pub const MAX_OF_REGISTRY: u32 = 100;

pub(super) const ONE: &str = "SELECT id, version, space, slug, name, registry, audience, subject_keys, alg, token_lifetime, \
                   settings, endpoints, created_at, updated_at FROM feeds WHERE space = $1 AND slug = $2";
pub(super) const ALL: &str = "SELECT id, version, space, slug, name, registry, audience, subject_keys, alg, token_lifetime, \
                   settings, endpoints, created_at, updated_at FROM feeds ORDER BY space, slug";
pub(super) const IN_SPACE: &str = "SELECT id, version, space, slug, name, registry, audience, subject_keys, alg, token_lifetime, \
                        settings, endpoints, created_at, updated_at FROM feeds WHERE space = $1 ORDER BY slug";
pub(super) const COLUMNS: &str = "SELECT id, version, space, slug, name, registry, audience, subject_keys, alg, token_lifetime, \
                       settings, endpoints, created_at, updated_at FROM feeds";

pub(super) const COUNT: &str = "SELECT feeds FROM feed_counts WHERE id = 1";
pub(super) const COUNTS: &str =
    "SELECT feeds, spaces, (SELECT feeds FROM spaces WHERE slug = $1) FROM feed_counts WHERE id = 1";
pub(super) const BEYOND_LIFETIME: &str = "SELECT id, version, space, slug, name, registry, audience, subject_keys, alg, \
                               token_lifetime, settings, endpoints, created_at, updated_at FROM feeds \
                               WHERE token_lifetime > $1 ORDER BY token_lifetime";
pub(super) const OF_TYPE: &str = "SELECT id, version, space, slug, name, registry, audience, subject_keys, alg, token_lifetime, \
                       settings, endpoints, created_at, updated_at FROM feeds WHERE type = $1 AND (space, slug) > ($2, $3) \
                       ORDER BY space, slug LIMIT $4";
pub(super) const OF_ALGORITHM: &str = "SELECT id, version, space, slug, name, registry, audience, subject_keys, alg, token_lifetime, \
                            settings, endpoints, created_at, updated_at FROM feeds WHERE alg = $1 AND id > $2 \
                            ORDER BY id LIMIT $3";

/// Returns the statement that reads the feeds inside these limits.
pub(super) fn inside(spaces: &SpaceLimit, feeds: &FeedLimit, of: FeedsOf<'_>) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(COLUMNS);
    match (of, feeds) {
        (FeedsOf::Space(space), _) => {
            query.push(" WHERE space = ").push_bind(space.to_string()).push(" AND ");
            limits::push_inside(&mut query, spaces, feeds);
        }
        (FeedsOf::Registry(registry), FeedLimit::All) => {
            query.push(" WHERE registry = ").push_bind(registry.to_string()).push(" AND ");
            limits::push_inside(&mut query, spaces, feeds);
        }
        // One registry may have many feeds. Each pattern is a query of its own, so that SQLite reads it as a
        // range of an index whatever the order of the result.
        (FeedsOf::Registry(registry), FeedLimit::Matching(patterns)) => {
            query.push(" WHERE id IN (SELECT NULL WHERE 1 = 0");
            for pattern in patterns {
                query.push(" UNION SELECT id FROM feeds WHERE registry = ").push_bind(registry.to_string());
                query.push(" AND ");
                limits::push_inside(&mut query, spaces, &FeedLimit::Matching([pattern.clone()].into()));
            }
            query.push(")");
        }
    }
    query.push(" ORDER BY space, slug");
    if let FeedsOf::Registry(_) = of {
        query.push(" LIMIT ").push_bind(i64::from(MAX_OF_REGISTRY));
    }
    query
}

pub(super) fn versions_of(ids: &[Uuid]) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new("SELECT id, version FROM feeds WHERE id IN (");
    let mut list = query.separated(", ");
    for id in ids {
        list.push_bind(id.to_string());
    }
    query.push(")");
    query
}

/// Returns the statement that reads the slugs of the feeds that have one of these subject keys, in the space
/// of `feed`.
pub(super) fn sharing_subject(keys: &[SubjectKeys], feed: &FeedIdentity, limit: u32) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new("SELECT slug FROM feeds WHERE space = ");
    query.push_bind(feed.space.to_string()).push(" AND subject_keys IN (");
    let mut list = query.separated(", ");
    for keys in keys {
        list.push_bind(keys.to_string());
    }
    query.push(") AND id <> ").push_bind(feed.feed_id.to_string());
    // Unordered: sorting by slug would make SQLite read all feeds of the space.
    query.push(" LIMIT ").push_bind(i64::from(limit));
    query
}

/// Returns the statement that reads the names of the feeds with this registry.
pub(super) fn of_registry(
    registry: &RegistryHost,
    except: Uuid,
    outside: Option<(&SpaceLimit, &FeedLimit)>,
    limit: u32,
) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new("SELECT space, slug FROM feeds WHERE registry = ");
    query.push_bind(registry.to_string()).push(" AND id <> ").push_bind(except.to_string());
    if let Some((spaces, feeds)) = outside {
        query.push(" AND NOT ");
        limits::push_inside(&mut query, spaces, feeds);
    }
    query.push(" ORDER BY space, slug LIMIT ").push_bind(i64::from(limit));
    query
}
