//! The context of a deployment: its properties besides the feed that it pulls from.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use crate::values::excerpt::excerpt;
use crate::values::slug::{Slug, SlugError};

/// A part of a deployment's context. The order is the order in subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum ContextKey {
    /// The project being deployed.
    Project,
    /// The runbook being run, instead of a deployment.
    Runbook,
    /// The tenant being deployed to.
    Tenant,
    /// The environment being deployed to.
    Environment,
    /// The kind of work, such as `deployment` or `runbook`.
    Type,
}

impl ContextKey {
    /// All keys, in order.
    pub const ALL: [Self; 5] = [Self::Project, Self::Runbook, Self::Tenant, Self::Environment, Self::Type];

    /// The key as written in claims, subjects and requests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Runbook => "runbook",
            Self::Tenant => "tenant",
            Self::Environment => "environment",
            Self::Type => "type",
        }
    }
}

/// A deployment's context: at most one value for each key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Context(BTreeMap<ContextKey, Slug>);

impl Context {
    /// A context without values.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Sets the value of `key`; returns the previous one.
    pub fn insert(&mut self, key: ContextKey, value: Slug) -> Option<Slug> {
        self.0.insert(key, value)
    }

    /// Sets the value of `key`. Refuses a key that has a value already, even the same one, and then changes
    /// nothing.
    pub fn try_insert(&mut self, key: ContextKey, value: Slug) -> Result<(), ContextError> {
        if self.0.contains_key(&key) {
            return Err(ContextError::Twice(key));
        }
        self.0.insert(key, value);
        Ok(())
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: ContextKey) -> Option<&Slug> {
        self.0.get(&key)
    }

    /// The keys and values, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (ContextKey, &Slug)> {
        self.0.iter().map(|(key, value)| (*key, value))
    }

    /// Returns whether the context has no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Parses `KEY=VALUE`, as in `--context tenant=acme`.
    pub fn parse_pair(text: &str) -> Result<(ContextKey, Slug), ContextError> {
        let (key, value) =
            text.split_once('=').ok_or_else(|| ContextError::NotAPair { value: excerpt(text) })?;
        let key = key.parse()?;
        let value = value.parse().map_err(|source| ContextError::Value { key, source })?;
        Ok((key, value))
    }
}

/// The reason why a text is not a part of a context.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ContextError {
    /// The text has no `=`.
    #[error("{value} is not context: write KEY=VALUE, such as tenant=acme")]
    NotAPair {
        /// An excerpt of the text, quoted and escaped.
        value: String,
    },
    /// The key is unknown.
    #[error("{key} is not a context key: use project, runbook, tenant, environment or type")]
    UnknownKey {
        /// An excerpt of the key, quoted and escaped.
        key: String,
    },
    /// The key already has a value.
    #[error("the context gives “{0}” twice: give it once")]
    Twice(ContextKey),
    /// The value is not a slug.
    #[error("the context's “{key}” is not valid: {source}")]
    Value {
        /// The key.
        key: ContextKey,
        /// The rule that the value breaks.
        source: SlugError,
    },
}

impl FromStr for ContextKey {
    type Err = ContextError;

    fn from_str(text: &str) -> Result<Self, ContextError> {
        Self::ALL
            .into_iter()
            .find(|key| key.as_str() == text)
            .ok_or_else(|| ContextError::UnknownKey { key: excerpt(text) })
    }
}

impl TryFrom<String> for ContextKey {
    type Error = ContextError;

    fn try_from(text: String) -> Result<Self, ContextError> {
        text.parse()
    }
}

impl From<ContextKey> for &'static str {
    fn from(key: ContextKey) -> Self {
        key.as_str()
    }
}

impl fmt::Display for ContextKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Written by hand, because deserialising a map keeps the last of two equal keys without an error.
impl<'de> Deserialize<'de> for Context {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Context;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of context keys and slugs")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Context, A::Error> {
                let mut context = Context::empty();
                while let Some(key) = map.next_key()? {
                    let value: String = map.next_value()?;
                    let value = value.parse().map_err(|source| ContextError::Value { key, source });
                    value.and_then(|value| context.try_insert(key, value)).map_err(A::Error::custom)?;
                }
                Ok(context)
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}
