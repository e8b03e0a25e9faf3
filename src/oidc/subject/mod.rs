//! Subjects: the identities that tokens carry.
//!
//! A subject is a list of `key:value` pairs joined by `:`, in one fixed order. Keys and values contain no
//! `:`, so a subject splits into its pairs in exactly one way: two different sets of pairs never give the
//! same subject, whichever keys a feed uses. Trust rests on that, so only [`SubjectKeys::subject`] makes a
//! [`Subject`].

mod context;
mod keys;
mod overlap;

use std::fmt;

use serde::Serialize;
use thiserror::Error;
use uuid::Uuid;

use crate::values::slug::Slug;

pub use context::{Context, ContextError, ContextKey};
pub use keys::{SubjectKey, SubjectKeys};

/// The `sub` of a token, such as `space:default:feed:feed-name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Subject(String);

/// The `sub` of a nudge, the token that makes verifiers fetch the JWKS after a revocation. No feed's token
/// has it: every feed's subject begins with `space:` or another subject key.
pub const NUDGE_SUBJECT: &str = "carnet:nudge";

/// The parts of subjects that come from the feed itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FeedIdentity {
    /// The space that the feed belongs to.
    pub space: Slug,
    /// The feed's slug. After the feed is removed, another feed may get the same slug.
    pub feed: Slug,
    /// The feed's identifier, which no other feed ever gets.
    pub feed_id: Uuid,
}

/// The reason why there is no subject, or none that the provider accepts.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SubjectError {
    /// The feed's subject needs a part of the context that the request lacks.
    #[error("the feed's subject needs “{0}”: add it to the context, as in --context {0}=…")]
    Missing(SubjectKey),
    /// The subject is longer than the provider accepts.
    #[error("the subject {subject:?} has {length} bytes, and the provider accepts at most {limit}")]
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

    /// Checks the length of the subject against a provider's limit.
    pub fn check_limit(&self, max_bytes: usize) -> Result<(), SubjectError> {
        let length = self.0.len();
        if length > max_bytes {
            return Err(SubjectError::TooLong { subject: self.0.clone(), length, limit: max_bytes });
        }
        Ok(())
    }
}

impl SubjectKeys {
    /// Returns the subject of a token for this feed in this context.
    ///
    /// Parts of the context that the keys do not name do not appear in it.
    ///
    /// # Errors
    ///
    /// [`SubjectError::Missing`] if the context lacks a required key; never [`SubjectError::TooLong`].
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

    /// The length in bytes of the shortest subject that these keys can give for this feed: optional keys are
    /// absent, and required ones have values of one character.
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

    /// The length in bytes of the longest subject that these keys can give for this feed: every key is
    /// present, with values as long as a slug may be.
    #[must_use]
    pub fn longest(&self, identity: &FeedIdentity) -> usize {
        self.iter()
            .map(|(key, _)| pair_length(key, identity, Slug::MAX_LEN))
            .reduce(with_colon)
            .unwrap_or_default()
    }
}

/// The length of a key and its value in a subject. Values that come from the context count as `value` bytes.
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
