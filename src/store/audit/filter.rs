//! The filter of a page of the log, and the choice of the index that the page reads along.
//!
//! A page reads a bounded number of rows, whatever the filter. If a caller is limited to spaces or feeds, the
//! page reads along those limits: no row outside them is read, counted or visible in a cursor. Limits that no
//! index serves are read along the log itself, in steps whose length and bounds depend on nothing in the log.

use std::collections::BTreeSet;

use jiff::Timestamp;
use uuid::Uuid;

use super::sql::{Conditions, Value};
use crate::audit::{EventKind, Outcome};
use crate::feed::FeedPath;
use crate::grant::{FeedLimit, SpaceLimit};
use crate::store::to_millis;
use crate::values::actor::Actor;
use crate::values::slug::Slug;

/// The maximum number of index ranges of one page. A grant that names more is read along the log.
const MAX_RANGES: usize = 256;

/// The conditions on the records of a page. A record must meet all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// The kind.
    pub kind: Option<EventKind>,
    /// The outcome.
    pub outcome: Option<Outcome>,
    /// The actor, named as in the log.
    pub actor: Option<String>,
    /// The spaces, of which the record is about one. An empty list matches nothing.
    pub spaces: Option<Vec<Slug>>,
    /// The slug of the feed that the record is about.
    pub feed: Option<Slug>,
    /// The grant that the record is about, or that its actor used.
    pub grant: Option<Uuid>,
    /// The identifier of the token.
    pub jti: Option<Uuid>,
    /// The earliest time of writing.
    pub since: Option<Timestamp>,
    /// The time before which the record was written.
    pub until: Option<Timestamp>,
    /// The records that the reader may see.
    pub sight: Sight,
}

/// The limits of a reader of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// The spaces whose records the reader may see.
    pub spaces: SpaceLimit,
    /// The feeds whose records the reader may see.
    pub feeds: FeedLimit,
}

impl Default for Sight {
    fn default() -> Self {
        Self { spaces: SpaceLimit::All, feeds: FeedLimit::All }
    }
}

impl Sight {
    fn is_limited(&self) -> bool {
        *self != Self::default()
    }

    /// Returns whether the reader may see a record about `home`.
    fn contains(&self, home: &Home) -> bool {
        let space = match &self.spaces {
            SpaceLimit::All => true,
            SpaceLimit::Only(own) => home.space.as_ref().is_some_and(|space| own.contains(space)),
        };
        space
            && (self.feeds == FeedLimit::All
                || home.feed.as_ref().is_some_and(|feed| self.feeds.contains(feed)))
    }
}

/// The space and feed that a record is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Home {
    pub(super) space: Option<Slug>,
    pub(super) feed: Option<Slug>,
}

impl From<FeedPath> for Home {
    fn from(path: FeedPath) -> Self {
        Self { space: Some(path.space), feed: Some(path.slug) }
    }
}

/// A range of an index: its first columns and their values. Within a range, rows are in the order of the log.
pub(super) type Range = Vec<(&'static str, Value)>;

/// The access path to the rows of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// No row can match.
    Nowhere,
    /// Along all of these index ranges.
    Ranges(Vec<Range>),
    /// Along the log itself.
    Log,
}

fn text(value: impl ToString) -> Value {
    Value::Text(value.to_string())
}

impl AuditFilter {
    /// Returns the access path. `home` is the space and feed of the first row with the filter's `jti`.
    pub(super) fn way(&self, home: Option<&Home>) -> Way {
        let spaces = self.spaces();
        if spaces.as_ref().is_some_and(BTreeSet::is_empty)
            || self.feed.as_ref().is_some_and(|feed| !self.sight.feeds.contains(feed))
        {
            return Way::Nowhere;
        }
        if let Some(jti) = &self.jti {
            // All rows of a token are about one feed. A token outside the limits reads as many rows as an
            // unknown one.
            return match home {
                Some(home) if self.sight.contains(home) => Way::Ranges(vec![vec![("jti", text(jti))]]),
                _ => Way::Nowhere,
            };
        }
        let ranges = if self.sight.is_limited() { self.limits(spaces) } else { self.narrowest(spaces) };
        match ranges {
            Some(ranges) if ranges.len() <= MAX_RANGES => Way::Ranges(ranges),
            _ => Way::Log,
        }
    }

    /// Returns the spaces that the filter names and the reader may see; `None` for all.
    fn spaces(&self) -> Option<BTreeSet<Slug>> {
        let asked = self.spaces.as_ref().map(|spaces| spaces.iter().cloned().collect::<BTreeSet<_>>());
        match (&self.sight.spaces, asked) {
            (SpaceLimit::All, asked) => asked,
            (SpaceLimit::Only(own), None) => Some(own.clone()),
            (SpaceLimit::Only(own), Some(asked)) => Some(own.intersection(&asked).cloned().collect()),
        }
    }

    /// Returns the ranges of the filter that probably matches the fewest rows, for a reader without limits.
    fn narrowest(&self, spaces: Option<BTreeSet<Slug>>) -> Option<Vec<Range>> {
        if let Some(grant) = self.grant {
            let by = Actor::grant(grant).as_str().to_owned();
            return Some(vec![vec![("grant_id", text(grant))], vec![("actor", Value::Text(by))]]);
        }
        if let Some(actor) = &self.actor {
            return Some(vec![vec![("actor", text(actor))]]);
        }
        if spaces.is_some() || self.feed.is_some() {
            return Some(homes(spaces, self.feed.as_ref().map(|feed| BTreeSet::from([feed.clone()]))));
        }
        match (self.kind, self.outcome) {
            (_, Some(outcome)) if outcome != Outcome::Done => Some(vec![vec![("outcome", text(outcome))]]),
            (Some(kind), _) => Some(vec![vec![("kind", text(kind))]]),
            (None, Some(outcome)) => Some(vec![vec![("outcome", text(outcome))]]),
            (None, None) => None,
        }
    }

    /// Returns the ranges of the spaces and feeds that a reader is limited to, whatever else the filter
    /// names.
    fn limits(&self, spaces: Option<BTreeSet<Slug>>) -> Option<Vec<Range>> {
        let feeds = match (&self.feed, &self.sight.feeds) {
            (Some(feed), _) => Some(BTreeSet::from([feed.clone()])),
            (None, FeedLimit::All) => None,
            // An index has no range for a pattern.
            (None, FeedLimit::Matching(patterns)) => {
                let named = patterns.iter().map(|pattern| pattern.as_str().parse());
                Some(named.collect::<Result<_, _>>().ok()?)
            }
        };
        Some(homes(spaces, feeds))
    }

    /// Returns the conditions that a row on the access path must also meet.
    pub(super) fn conditions(&self, way: &Way) -> Conditions {
        let mut conditions = Conditions::default();
        let holds = |column: &str| match way {
            // All ranges have the same columns, except those of a grant, which need no other condition.
            Way::Ranges(ranges) => ranges.iter().all(|range| range.iter().any(|(named, _)| *named == column)),
            _ => false,
        };
        for (column, value) in [
            ("kind", self.kind.map(text)),
            ("outcome", self.outcome.map(text)),
            ("actor", self.actor.as_ref().map(text)),
            ("feed", self.feed.as_ref().map(text)),
            ("jti", self.jti.map(text)),
        ] {
            if let Some(value) = value.filter(|_| !holds(column)) {
                conditions.equal(column, value);
            }
        }
        if let Some(spaces) = self.spaces().filter(|_| !holds("space")) {
            conditions.one_of("space", spaces.iter().map(text));
        }
        if let Some(grant) = self.grant.filter(|_| !holds("grant_id") && !is_grant(way)) {
            conditions.either("grant_id", text(grant), "actor", text(Actor::grant(grant).as_str()));
        }
        if let (FeedLimit::Matching(patterns), false, None) = (&self.sight.feeds, holds("feed"), &self.feed) {
            // A slug contains none of the special characters of LIKE.
            conditions.like("feed", patterns.iter().map(|pattern| pattern.as_str().replace('*', "%")));
        }
        if let Some(since) = self.since {
            conditions.compare("at >=", to_millis(since));
        }
        if let Some(until) = self.until {
            conditions.compare("at <", to_millis(until));
        }
        conditions
    }
}

/// Returns whether the ranges are those of [`AuditFilter::grant`].
fn is_grant(way: &Way) -> bool {
    matches!(way, Way::Ranges(ranges) if ranges.iter().flatten().any(|(column, _)| *column == "grant_id"))
}

/// Returns a range for each space, each feed, or each feed in each space.
fn homes(spaces: Option<BTreeSet<Slug>>, feeds: Option<BTreeSet<Slug>>) -> Vec<Range> {
    let in_space = |space: Option<&Slug>, feed: Option<&Slug>| {
        let space = space.map(|space| ("space", text(space)));
        space.into_iter().chain(feed.map(|feed| ("feed", text(feed)))).collect()
    };
    let all = |slugs: &Option<BTreeSet<Slug>>| match slugs {
        None => vec![None],
        Some(slugs) => slugs.iter().cloned().map(Some).collect(),
    };
    let feeds = all(&feeds);
    all(&spaces)
        .iter()
        .flat_map(|space| feeds.iter().map(|feed| in_space(space.as_ref(), feed.as_ref())))
        .collect()
}
