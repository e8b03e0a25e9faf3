//! A grant's limits as conditions of a query, so that rows outside them are never read.

use sqlx::{QueryBuilder, Sqlite};

use crate::grant::{FeedLimit, SpaceLimit};

/// Appends a condition on `space` and `slug` that holds for the feeds inside both limits.
pub(super) fn push_inside(query: &mut QueryBuilder<Sqlite>, spaces: &SpaceLimit, feeds: &FeedLimit) {
    query.push("(1 = 1");
    if let SpaceLimit::Only(spaces) = spaces {
        query.push(" AND space IN (");
        let mut list = query.separated(", ");
        for space in spaces {
            list.push_bind(space.to_string());
        }
        query.push(")");
    }
    if let FeedLimit::Matching(patterns) = feeds {
        query.push(" AND (");
        let mut list = query.separated(" OR ");
        for pattern in patterns {
            // Patterns have no character of LIKE's own, and slugs no capitals, which SQLite would not tell apart.
            list.push("slug LIKE ").push_bind_unseparated(pattern.as_str().replace('*', "%"));
        }
        query.push(")");
    }
    query.push(")");
}
