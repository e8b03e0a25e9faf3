//! Limits: the spaces, and the feeds in them, that exist for a caller.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::pattern::FeedPattern;
use crate::values::slug::Slug;

/// The spaces of a grant. In JSON: `null` for all, otherwise a list.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Option<BTreeSet<Slug>>", into = "Option<BTreeSet<Slug>>")]
pub enum SpaceLimit {
    /// Every space, including future ones.
    All,
    /// Only these spaces.
    Only(BTreeSet<Slug>),
}

impl SpaceLimit {
    /// Returns whether `space` is inside the limit.
    #[must_use]
    pub fn contains(&self, space: &Slug) -> bool {
        match self {
            Self::All => true,
            Self::Only(spaces) => spaces.contains(space),
        }
    }

    /// Returns whether everything inside `other` is inside this limit. No list covers `All`, even if it names
    /// every existing space, because the next space would be outside.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Only(_), Self::All) => false,
            (Self::Only(own), Self::Only(other)) => other.is_subset(own),
        }
    }
}

impl From<Option<BTreeSet<Slug>>> for SpaceLimit {
    fn from(spaces: Option<BTreeSet<Slug>>) -> Self {
        spaces.map_or(Self::All, Self::Only)
    }
}

impl From<SpaceLimit> for Option<BTreeSet<Slug>> {
    fn from(limit: SpaceLimit) -> Self {
        match limit {
            SpaceLimit::All => None,
            SpaceLimit::Only(spaces) => Some(spaces),
        }
    }
}

/// The feeds of a grant inside its spaces, by slug. In JSON: `null` for all, otherwise a list.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Option<BTreeSet<FeedPattern>>", into = "Option<BTreeSet<FeedPattern>>")]
pub enum FeedLimit {
    /// Every feed.
    All,
    /// Feeds whose slug matches one of these.
    Matching(BTreeSet<FeedPattern>),
}

impl FeedLimit {
    /// Returns whether a feed with this slug is inside the limit.
    #[must_use]
    pub fn contains(&self, feed: &Slug) -> bool {
        match self {
            Self::All => true,
            Self::Matching(patterns) => patterns.iter().any(|pattern| pattern.matches(feed)),
        }
    }

    /// Returns whether everything inside `other` is inside this limit: each pattern of `other` within a
    /// single pattern of this one. It may return `false` where only several patterns together cover one of
    /// `other`; it never returns `true` wrongly.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let Self::Matching(own) = self else { return true };
        let within = |pattern: &FeedPattern| own.iter().any(|own| own.covers(pattern));
        match other {
            Self::All => within(&FeedPattern::everything()),
            Self::Matching(patterns) => patterns.iter().all(within),
        }
    }
}

impl From<Option<BTreeSet<FeedPattern>>> for FeedLimit {
    fn from(patterns: Option<BTreeSet<FeedPattern>>) -> Self {
        patterns.map_or(Self::All, Self::Matching)
    }
}

impl From<FeedLimit> for Option<BTreeSet<FeedPattern>> {
    fn from(limit: FeedLimit) -> Self {
        match limit {
            FeedLimit::All => None,
            FeedLimit::Matching(patterns) => Some(patterns),
        }
    }
}
