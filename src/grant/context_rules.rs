//! Context rules: the deployment context that a caller may claim.
//!
//! Clouds decide by subjects and claims. So a grant says for each context key whether its requests carry one
//! fixed value, any value, or none.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::role::Role;
use crate::oidc::subject::{Context, ContextError, ContextKey};
use crate::values::excerpt::excerpt;
use crate::values::slug::Slug;

/// A grant's rule for one context key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ContextRule {
    /// Every request has this value, even if the request does not name it.
    Fixed(Slug),
    /// A request may have any value, or none.
    Open,
    /// No request has a value.
    Closed,
}

impl ContextRule {
    /// Returns whether this rule allows every context that `other` allows.
    ///
    /// `Fixed` does not cover `Closed`: a token without the key is a different token, not a weaker one. If
    /// the feed's subject may omit the key (`tenant?`), such a token even speaks for all values.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        *self == Self::Open || self == other
    }
}

/// A grant's rules for all context keys. In JSON and on the command line, a slug fixes a key and `*` opens
/// it. A key that is not mentioned is closed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ContextRules {
    /// The rules, without closed keys.
    rules: BTreeMap<ContextKey, ContextRule>,
}

/// A request claims a context that its grant does not allow.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ContextRefusal {
    /// The grant does not allow the key at all.
    #[error("the grant allows no “{key}” in the context: leave it off")]
    Closed {
        /// The key.
        key: ContextKey,
    },
    /// The grant fixes the key to another value.
    #[error("the grant fixes “{key}” to “{fixed}”: leave it off or give that value")]
    Fixed {
        /// The key.
        key: ContextKey,
        /// The grant's value.
        fixed: Slug,
    },
}

impl ContextRefusal {
    /// Returns the refused key.
    #[must_use]
    pub fn key(&self) -> ContextKey {
        match self {
            Self::Closed { key } | Self::Fixed { key, .. } => *key,
        }
    }
}

impl ContextRules {
    /// Returns rules that close every key: requests have no context.
    #[must_use]
    pub fn closed() -> Self {
        Self::default()
    }

    /// Returns rules that open every key: requests may claim any context.
    #[must_use]
    pub fn open() -> Self {
        Self { rules: ContextKey::ALL.into_iter().map(|key| (key, ContextRule::Open)).collect() }
    }

    /// Returns the default rules of a role: open for an admin, who could create a grant that opens the keys
    /// anyway, and closed for everyone else.
    #[must_use]
    pub fn of_role(role: Role) -> Self {
        match role {
            Role::Admin => Self::open(),
            Role::Viewer | Role::Deployer => Self::closed(),
        }
    }

    /// Returns the rule for `key`.
    #[must_use]
    pub fn rule(&self, key: ContextKey) -> &ContextRule {
        self.rules.get(&key).unwrap_or(&ContextRule::Closed)
    }

    /// Returns the keys that are not closed, with their rules, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (ContextKey, &ContextRule)> {
        self.rules.iter().map(|(key, rule)| (*key, rule))
    }

    /// Replaces the rule for `key`.
    pub fn set(&mut self, key: ContextKey, rule: ContextRule) {
        match rule {
            ContextRule::Closed => self.rules.remove(&key),
            rule => self.rules.insert(key, rule),
        };
    }

    /// Parses `KEY=SLUG`, which fixes the key, or `KEY=*`, which opens it.
    ///
    /// # Errors
    ///
    /// [`ContextError`] if there is no `=`, no such key, or if the value is neither a slug nor `*`.
    pub fn parse_pair(text: &str) -> Result<(ContextKey, ContextRule), ContextError> {
        let (key, value) =
            text.split_once('=').ok_or_else(|| ContextError::NotAPair { value: excerpt(text) })?;
        let key = key.parse()?;
        Ok((key, parse_rule(key, value)?))
    }

    /// Returns the context of a request: its allowed values, and those that the grant fixes.
    ///
    /// # Errors
    ///
    /// [`ContextRefusal`] names the first key whose value the grant does not allow.
    pub fn admit(&self, requested: &Context) -> Result<Context, ContextRefusal> {
        let mut admitted = Context::empty();
        for key in ContextKey::ALL {
            let value = match (self.rule(key), requested.get(key)) {
                (ContextRule::Fixed(fixed), None) => Some(fixed),
                (ContextRule::Fixed(fixed), Some(value)) if fixed == value => Some(fixed),
                (ContextRule::Fixed(fixed), Some(_)) => {
                    return Err(ContextRefusal::Fixed { key, fixed: fixed.clone() });
                }
                (ContextRule::Open, value) => value,
                (ContextRule::Closed, None) => None,
                (ContextRule::Closed, Some(_)) => return Err(ContextRefusal::Closed { key }),
            };
            if let Some(value) = value {
                admitted.insert(key, value.clone());
            }
        }
        Ok(admitted)
    }

    /// Returns the first key for which `other` allows more than these rules.
    #[must_use]
    pub fn wider_key(&self, other: &Self) -> Option<ContextKey> {
        ContextKey::ALL.into_iter().find(|key| !self.rule(*key).covers(other.rule(*key)))
    }

    /// Returns whether these rules allow every context that `other` allows.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.wider_key(other).is_none()
    }
}

fn parse_rule(key: ContextKey, value: &str) -> Result<ContextRule, ContextError> {
    match value {
        "*" => Ok(ContextRule::Open),
        slug => slug.parse().map(ContextRule::Fixed).map_err(|source| ContextError::Value { key, source }),
    }
}

impl Serialize for ContextRules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(key, rule)| {
            let value = match rule {
                ContextRule::Fixed(slug) => slug.as_str(),
                ContextRule::Open | ContextRule::Closed => "*",
            };
            (key, value)
        }))
    }
}

/// Written by hand: a derived map would let the last of two equal keys win.
impl<'de> Deserialize<'de> for ContextRules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = ContextRules;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of context keys, and slugs or “*”")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ContextRules, A::Error> {
                let mut rules = ContextRules::closed();
                while let Some(key) = map.next_key()? {
                    let value: String = map.next_value()?;
                    let rule = parse_rule(key, &value).map_err(A::Error::custom)?;
                    if rules.rules.insert(key, rule).is_some() {
                        return Err(A::Error::custom(ContextError::Twice(key)));
                    }
                }
                Ok(rules)
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}
