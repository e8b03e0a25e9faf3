//! The choice of the parts of a feed and its context that its subjects name.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::context::ContextKey;
use crate::values::excerpt::excerpt;

/// A part of a subject. The order is the order in subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SubjectKey {
    /// The space that the feed belongs to.
    Space,
    /// The project being deployed.
    Project,
    /// The runbook being run, instead of a deployment.
    Runbook,
    /// The tenant being deployed to.
    Tenant,
    /// The environment being deployed to.
    Environment,
    /// The kind of work.
    Type,
    /// The feed's slug.
    Feed,
    /// The feed's UUID.
    FeedId,
}

impl SubjectKey {
    /// All keys, in order.
    pub const ALL: [Self; 8] = [
        Self::Space,
        Self::Project,
        Self::Runbook,
        Self::Tenant,
        Self::Environment,
        Self::Type,
        Self::Feed,
        Self::FeedId,
    ];

    /// The key as written in subjects and claims.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Space => "space",
            Self::Project => "project",
            Self::Runbook => "runbook",
            Self::Tenant => "tenant",
            Self::Environment => "environment",
            Self::Type => "type",
            Self::Feed => "feed",
            Self::FeedId => "feed_id",
        }
    }

    /// The part of the context that gives the value; `None` for the keys whose value comes from the feed
    /// itself.
    #[must_use]
    pub fn context_key(self) -> Option<ContextKey> {
        match self {
            Self::Project => Some(ContextKey::Project),
            Self::Runbook => Some(ContextKey::Runbook),
            Self::Tenant => Some(ContextKey::Tenant),
            Self::Environment => Some(ContextKey::Environment),
            Self::Type => Some(ContextKey::Type),
            Self::Space | Self::Feed | Self::FeedId => None,
        }
    }
}

impl FromStr for SubjectKey {
    type Err = SubjectKeysError;

    fn from_str(text: &str) -> Result<Self, SubjectKeysError> {
        Self::ALL
            .into_iter()
            .find(|key| key.as_str() == text)
            .ok_or_else(|| SubjectKeysError::Unknown { key: excerpt(text) })
    }
}

impl fmt::Display for SubjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The keys of a feed's subject, each required or optional (`tenant?`). They always include `space` or
/// `feed_id`; otherwise feeds of two spaces could share a subject.
///
/// Written as `space,tenant?,feed`, in JSON as an array. The order of the input does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct SubjectKeys(pub(super) BTreeMap<SubjectKey, Presence>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Presence {
    Required,
    Optional,
}

impl SubjectKeys {
    /// Returns whether the keys include `key`, required or optional.
    #[must_use]
    pub fn contains(&self, key: SubjectKey) -> bool {
        self.0.contains_key(&key)
    }

    /// The keys in order, each with `true` if it is required.
    pub fn iter(&self) -> impl Iterator<Item = (SubjectKey, bool)> {
        self.0.iter().map(|(key, presence)| (*key, *presence == Presence::Required))
    }

    /// Returns whether `key` is required; `None` if it is not among the keys.
    #[must_use]
    pub fn is_required(&self, key: SubjectKey) -> Option<bool> {
        self.0.get(&key).map(|presence| *presence == Presence::Required)
    }

    fn new<'a>(items: impl Iterator<Item = &'a str>) -> Result<Self, SubjectKeysError> {
        let mut keys = BTreeMap::new();
        for item in items {
            let (key, presence) = match item.strip_suffix('?') {
                Some(key) => (key.parse::<SubjectKey>()?, Presence::Optional),
                None => (item.parse()?, Presence::Required),
            };
            if presence == Presence::Optional && key.context_key().is_none() {
                return Err(SubjectKeysError::AlwaysPresent(key));
            }
            if keys.insert(key, presence).is_some() {
                return Err(SubjectKeysError::Duplicate(key));
            }
        }
        if keys.is_empty() {
            return Err(SubjectKeysError::Empty);
        }
        if !keys.contains_key(&SubjectKey::Space) && !keys.contains_key(&SubjectKey::FeedId) {
            return Err(SubjectKeysError::Ambiguous);
        }
        Ok(Self(keys))
    }
}

/// The reason why a text is not a choice of subject keys.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SubjectKeysError {
    /// The text has no key.
    #[error("a subject needs keys: write them with commas, such as space,feed")]
    Empty,
    /// The key is unknown.
    #[error(
        "{key} is not a subject key: use space, project, runbook, tenant, environment, type, feed and \
         feed_id, with commas between them"
    )]
    Unknown {
        /// An excerpt of the key, quoted and escaped.
        key: String,
    },
    /// A key appears twice.
    #[error("the subject keys name “{0}” twice: name it once")]
    Duplicate(SubjectKey),
    /// A key that is always present is marked as optional.
    #[error("“{0}” is always present: write it without “?”")]
    AlwaysPresent(SubjectKey),
    /// The keys would give feeds of different spaces the same subject.
    #[error("the subject keys need “space” or “feed_id”: without, feeds of two spaces could share a subject")]
    Ambiguous,
}

impl Default for SubjectKeys {
    fn default() -> Self {
        Self([SubjectKey::Space, SubjectKey::Feed].map(|key| (key, Presence::Required)).into())
    }
}

impl FromStr for SubjectKeys {
    type Err = SubjectKeysError;

    fn from_str(text: &str) -> Result<Self, SubjectKeysError> {
        if text.trim().is_empty() {
            return Err(SubjectKeysError::Empty);
        }
        Self::new(text.split(',').map(str::trim))
    }
}

impl TryFrom<Vec<String>> for SubjectKeys {
    type Error = SubjectKeysError;

    fn try_from(items: Vec<String>) -> Result<Self, SubjectKeysError> {
        Self::new(items.iter().map(String::as_str))
    }
}

impl From<SubjectKeys> for Vec<String> {
    fn from(keys: SubjectKeys) -> Self {
        keys.iter().map(|(key, required)| item(key, required)).collect()
    }
}

impl fmt::Display for SubjectKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items: Vec<String> = self.iter().map(|(key, required)| item(key, required)).collect();
        f.pad(&items.join(","))
    }
}

fn item(key: SubjectKey, required: bool) -> String {
    format!("{key}{}", if required { "" } else { "?" })
}
