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
        for (number, pattern) in patterns.iter().enumerate() {
            if number > 0 {
                query.push(" OR ");
            }
            push_matching(query, pattern.as_str());
        }
        query.push(")");
    }
    query.push(")");
}

/// Appends a condition that holds for the slugs that match. It is equality, or a range given by the text
/// before the first `*`, which an index serves, together with the pattern itself.
fn push_matching(query: &mut QueryBuilder<Sqlite>, pattern: &str) {
    let Some((prefix, _)) = pattern.split_once('*') else {
        query.push("slug = ").push_bind(pattern.to_owned());
        return;
    };
    query.push("(");
    if !prefix.is_empty() {
        // Slugs are ASCII, so every slug that begins with the prefix sorts before the prefix followed by
        // U+007F.
        query.push("slug >= ").push_bind(prefix.to_owned());
        query.push(" AND slug < ").push_bind(format!("{prefix}\u{7f}")).push(" AND ");
    }
    // Patterns contain none of the special characters of LIKE, and slugs no capitals, which LIKE does not
    // distinguish.
    query.push("slug LIKE ").push_bind(pattern.replace('*', "%")).push(")");
}
