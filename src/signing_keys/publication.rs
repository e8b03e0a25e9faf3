//! The locations where verifiers find keys, and the times since which they show each key.
//!
//! Verifiers fetch the documents from a server or from a published copy, or hold a key set that an
//! administrator uploaded. A key may sign once all of them have had the time to learn it, so its publication
//! begins when the last location shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use super::{SigningKey, Stage};
use crate::feed::FeedPath;
use crate::jose::Algorithm;
use crate::jose::jwk::Kid;

/// A location, besides the servers, where verifiers find keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyLocation {
    /// The name shown to users.
    pub name: String,
    /// The feed for which the JWKS was uploaded; `None` for a copy of the documents.
    pub feed: Option<FeedPath>,
    /// The only algorithm whose keys verifiers need from here; `None` for a copy of the documents, from which
    /// any verifier may need any key.
    pub algorithm: Option<Algorithm>,
    /// The keys shown here, each with the time since which it is shown.
    pub shows: BTreeMap<Kid, Timestamp>,
}

impl KeyLocation {
    /// Returns whether verifiers need keys of `algorithm` from here.
    #[must_use]
    pub fn concerns(&self, algorithm: Algorithm) -> bool {
        self.algorithm.is_none_or(|only| only == algorithm)
    }

    /// Returns whether this is a copy of the documents.
    #[must_use]
    pub fn is_copy(&self) -> bool {
        self.algorithm.is_none()
    }
}

/// The time since which every location that concerns `key` shows it; `None` while one of them does not.
#[must_use]
pub fn published_at(key: &SigningKey, locations: &[KeyLocation]) -> Option<Timestamp> {
    let kid = key.kid();
    let mut concerned = locations.iter().filter(|location| location.concerns(key.algorithm()));
    concerned.try_fold(key.prepared_at, |latest, location| Some(latest.max(*location.shows.get(&kid)?)))
}

/// The locations that do not show `key` yet.
#[must_use]
pub fn missing_at<'a>(key: &SigningKey, locations: &'a [KeyLocation]) -> Vec<&'a KeyLocation> {
    let kid = key.kid();
    let concerned = locations.iter().filter(|location| location.concerns(key.algorithm()));
    concerned.filter(|location| !location.shows.contains_key(&kid)).collect()
}

/// The copies of the documents that still show `key`, although it is revoked.
#[must_use]
pub fn still_at<'a>(key: &SigningKey, locations: &'a [KeyLocation]) -> Vec<&'a KeyLocation> {
    if !matches!(key.stage, Stage::Revoked { .. }) {
        return Vec::new();
    }
    let kid = key.kid();
    locations.iter().filter(|location| location.is_copy() && location.shows.contains_key(&kid)).collect()
}

/// The revoked keys that `location`, a copy of the documents, still shows.
#[must_use]
pub fn still_shown(keys: &[SigningKey], location: &KeyLocation) -> Vec<Kid> {
    let one = std::slice::from_ref(location);
    keys.iter().filter(|key| !still_at(key, one).is_empty()).map(SigningKey::kid).collect()
}

/// Returns whether `location`, a copy of the documents, shows exactly the keys `published`, as far as carnet
/// knows.
#[must_use]
pub fn is_current<'a>(published: impl IntoIterator<Item = &'a Kid>, location: &KeyLocation) -> bool {
    published.into_iter().collect::<BTreeSet<_>>().into_iter().eq(location.shows.keys())
}

/// A number that grows with every change of the published keys.
///
/// Keys and policy change in numbered transactions of the database. Between two of them the passing of time
/// only removes keys. So of two states with the same transaction number, the one with more pruned keys is
/// newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation {
    /// The number of the last transaction that changed the keys or the policy.
    pub keys: i64,
    /// The number of retired keys that have left the JWKS.
    pub pruned: i64,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.keys, self.pruned)
    }
}

/// The error for a text that is not a [`Generation`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a generation is two numbers that are not negative, with a hyphen between them")]
pub struct GenerationError;

impl FromStr for Generation {
    type Err = GenerationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (keys, pruned) = text.split_once('-').ok_or(GenerationError)?;
        let generation = Self {
            keys: keys.parse().map_err(|_| GenerationError)?,
            pruned: pruned.parse().map_err(|_| GenerationError)?,
        };
        // Each value has exactly one text: no sign, no leading zero.
        if generation.keys >= 0 && generation.pruned >= 0 && generation.to_string() == text {
            Ok(generation)
        } else {
            Err(GenerationError)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::jwk::PublicKey;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn key(prepared_at: i64) -> SigningKey {
        SigningKey::prepared(PublicKey::P256 { x: [1; 32], y: [2; 32] }, at(prepared_at))
    }

    fn location(name: &str, algorithm: Option<Algorithm>, shows: &[(&SigningKey, i64)]) -> KeyLocation {
        let shows = shows.iter().map(|(key, since)| (key.kid(), at(*since))).collect();
        KeyLocation { name: name.to_owned(), feed: None, algorithm, shows }
    }

    #[test]
    fn publication_begins_when_the_last_target_concerned_shows_the_key() {
        let key = key(100);
        let everywhere = |since| location("copy", None, &[(&key, since)]);
        let es256 = |since| location("feed", Some(Algorithm::Es256), &[(&key, since)]);
        for (locations, expected) in [
            (vec![], Some(100)),
            (vec![everywhere(150)], Some(150)),
            // A clock that was behind cannot make a key older than it is.
            (vec![everywhere(50)], Some(100)),
            (vec![everywhere(150), es256(200)], Some(200)),
            (vec![everywhere(150), location("empty", None, &[])], None),
            (vec![location("feed", Some(Algorithm::Es256), &[])], None),
            (vec![location("feed", Some(Algorithm::Rs256), &[])], Some(100)),
        ] {
            assert_eq!(published_at(&key, &locations), expected.map(at), "{locations:?}");
            assert_eq!(missing_at(&key, &locations).is_empty(), expected.is_some(), "{locations:?}");
        }
    }

    #[test]
    fn a_revoked_key_is_still_published_while_a_copy_has_it() {
        let mut key = key(100);
        let copy = location("copy", None, &[(&key, 100)]);
        let given = location("feed", Some(Algorithm::Es256), &[(&key, 100)]);
        assert!(still_at(&key, std::slice::from_ref(&copy)).is_empty());
        key.stage = Stage::Revoked { activated_at: None, revoked_at: at(200) };
        let locations = [copy.clone(), given];
        assert_eq!(still_at(&key, &locations), [&copy]);
        assert_eq!(still_shown(&[key.clone()], &copy), [key.kid()]);
        assert!(is_current([&key.kid()], &copy) && !is_current([], &copy));
    }

    #[test]
    fn a_change_of_keys_is_newer_than_any_pruning_and_pruning_newer_than_none() {
        let at = |keys, pruned| Generation { keys, pruned };
        assert!(at(3, 9) < at(4, 0));
        assert!(at(4, 0) < at(4, 1));
    }

    #[test]
    fn a_generation_has_one_text() {
        let generation = Generation { keys: 17, pruned: 2 };
        assert_eq!(generation.to_string(), "17-2");
        assert_eq!("17-2".parse(), Ok(generation));
        for text in
            ["", "17", "17-", "-2", "17--2", "+17-2", "017-2", "17-2 ", "17-2-0", "99999999999999999999-0"]
        {
            assert_eq!(text.parse::<Generation>(), Err(GenerationError), "{text}");
        }
    }
}
