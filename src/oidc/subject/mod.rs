//! Subjects: who a token speaks for.
//!
//! A subject is `key:value` pairs joined by `:`, in one fixed order whatever order was chosen.
//! Keys and values have no `:`, so a subject splits into its pairs in exactly one way: two
//! different sets of pairs never give one subject, whichever keys a feed chose. Trust rests on
//! that, so [`Subject`] can be made in no other way.

mod context;
mod keys;
mod overlap;

use std::fmt;

use serde::Serialize;
use thiserror::Error;
use uuid::Uuid;

use crate::values::slug::Slug;

pub use context::{Context, ContextError, ContextKey};
pub use keys::{SubjectKey, SubjectKeys, SubjectKeysError};

/// The `sub` of a token, such as `space:default:feed:feed-name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Subject(String);

/// The `sub` of a nudge, the token that has verifiers fetch the JWKS after a revocation. No feed gives it: every
/// subject begins with `space:` or another subject key.
pub const NUDGE_SUBJECT: &str = "carnet:nudge";

/// What a feed itself puts into subjects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FeedIdentity {
    /// The space that the feed lives in.
    pub space: Slug,
    /// The feed's slug, which another feed may have after this one's removal.
    pub feed: Slug,
    /// The feed's identifier, which no other feed ever has.
    pub feed_id: Uuid,
}

/// Why there is no subject, or none that the provider takes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SubjectError {
    /// The feed's subject names a part of the context that the request does not have.
    #[error("the feed's subject needs “{0}”: add it to the context, as in --context {0}=…")]
    Missing(SubjectKey),
    /// The provider takes no subject of this length.
    #[error("the subject {subject:?} has {length} bytes, and the provider takes {limit} at most")]
    TooLong {
        /// The subject.
        subject: String,
        /// Its length in bytes.
        length: usize,
        /// The provider's limit in bytes.
        limit: usize,
    },
}

impl Subject {
    /// The subject's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Checks the subject against a provider's limit.
    ///
    /// # Errors
    ///
    /// [`SubjectError::TooLong`] if the subject has more than `max_bytes` bytes.
    pub fn check_limit(&self, max_bytes: usize) -> Result<(), SubjectError> {
        let length = self.0.len();
        if length > max_bytes {
            return Err(SubjectError::TooLong { subject: self.0.clone(), length, limit: max_bytes });
        }
        Ok(())
    }
}

impl SubjectKeys {
    /// The subject of a token about this feed in this context.
    ///
    /// Parts of the context that the keys do not name leave no trace in it.
    ///
    /// # Errors
    ///
    /// [`SubjectError::Missing`] if the context lacks a required key.
    pub fn subject(&self, identity: &FeedIdentity, context: &Context) -> Result<Subject, SubjectError> {
        let mut text = String::new();
        for (key, required) in self.iter() {
            let mut buffer = Uuid::encode_buffer();
            let value = match key {
                SubjectKey::Space => Some(identity.space.as_str()),
                SubjectKey::Feed => Some(identity.feed.as_str()),
                SubjectKey::FeedId => Some(&*identity.feed_id.as_hyphenated().encode_lower(&mut buffer)),
                _ => key.context_key().and_then(|key| context.get(key)).map(Slug::as_str),
            };
            match value {
                Some(value) => push_pair(&mut text, key, value),
                None if required => return Err(SubjectError::Missing(key)),
                None => {}
            }
        }
        Ok(Subject(text))
    }

    /// The length in bytes of the shortest subject that these keys can give for this feed: optional
    /// keys absent, required ones with values of one character.
    ///
    /// A feed whose shortest subject is too long for its provider can never work.
    #[must_use]
    pub fn shortest(&self, identity: &FeedIdentity) -> usize {
        self.iter()
            .filter(|(_, required)| *required)
            .map(|(key, _)| pair_length(key, identity, 1))
            .reduce(with_colon)
            .unwrap_or_default()
    }

    /// The length in bytes of the longest subject that these keys can give for this feed: every key
    /// present, with values as long as a slug may be.
    #[must_use]
    pub fn longest(&self, identity: &FeedIdentity) -> usize {
        self.iter()
            .map(|(key, _)| pair_length(key, identity, Slug::MAX_LEN))
            .reduce(with_colon)
            .unwrap_or_default()
    }
}

/// The length of a key and its value, of which those of the context have `value` bytes.
fn pair_length(key: SubjectKey, identity: &FeedIdentity, value: usize) -> usize {
    let value = match key {
        SubjectKey::Space => identity.space.as_str().len(),
        SubjectKey::Feed => identity.feed.as_str().len(),
        SubjectKey::FeedId => uuid::fmt::Hyphenated::LENGTH,
        _ => value,
    };
    key.as_str().len() + ":".len() + value
}

fn with_colon(left: usize, right: usize) -> usize {
    left + ":".len() + right
}

fn push_pair(text: &mut String, key: SubjectKey, value: &str) {
    if !text.is_empty() {
        text.push(':');
    }
    text.push_str(key.as_str());
    text.push(':');
    text.push_str(value);
}

impl AsRef<str> for Subject {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests;
