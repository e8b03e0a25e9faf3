//! States: proof that a database was not replaced by an earlier copy, as a whole or row by row.
//!
//! Each transaction that makes, changes or ends a key, a grant, the policy or the issuer URL appends a
//! [`State`]: a number, the digest of every tracked row, and a head that commits to all earlier states.
//! [`Table`] lists the tracked rows.
//!
//! This module is pure. The store reads the rows, holds the key of the MAC, and writes the file that
//! remembers the last state.

mod contents;
mod standing;

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use self::contents::{Contents, Table};
pub use self::standing::{Standing, standing};

const LEN: usize = 32;
const ID_LEN: usize = 32;

/// The text has none of the forms of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StateTextError {
    /// The text is not `N:HEAD`.
    #[error(
        "a state is N:HEAD as `carnet database show` prints it: a number, and 43 characters of base64url"
    )]
    Point,
    /// The text is not the identifier of a database.
    #[error("a database's id is {ID_LEN} hexadecimal digits")]
    Id,
}

/// The maximum number of a state that is read from a text. An accepted database continues above it, so a wrong
/// number must leave room for further states.
const MAX_N: i64 = 1 << 53;

/// A SHA-256 hash, written as 43 characters. Not secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; LEN]);

impl Hash {
    fn finish(context: digest::Context) -> Self {
        let mut bytes = [0; LEN];
        bytes.copy_from_slice(context.finish().as_ref());
        Self(bytes)
    }
}

impl FromStr for Hash {
    type Err = StateTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| StateTextError::Point)?;
        bytes.try_into().map(Self).map_err(|_| StateTextError::Point)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The identifier of a database, generated with it. A copy made by `restore` has another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatabaseId(String);

impl DatabaseId {
    /// Returns the identifier derived from `unique`, which no other database has.
    #[must_use]
    pub fn of(unique: &[u8]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"carnet database id 1");
        context.update(unique);
        let Hash(bytes) = Hash::finish(context);
        Self(bytes.iter().take(ID_LEN / 2).map(|byte| format!("{byte:02x}")).collect())
    }

    /// Returns the identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DatabaseId {
    type Err = StateTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_id =
            text.len() == ID_LEN && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_id.then(|| Self(text.to_owned())).ok_or(StateTextError::Id)
    }
}

impl fmt::Display for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A state as a witness outside the database remembers it: `N:HEAD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StatePoint {
    /// The number.
    pub n: i64,
    /// The head.
    pub head: Hash,
}

impl FromStr for StatePoint {
    type Err = StateTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (n, head) = text.split_once(':').ok_or(StateTextError::Point)?;
        let digits = !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit());
        let n = n.parse().ok().filter(|n| digits && (1..=MAX_N).contains(n)).ok_or(StateTextError::Point)?;
        Ok(Self { n, head: head.parse()? })
    }
}

impl fmt::Display for StatePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.n, self.head)
    }
}

impl Serialize for StatePoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StatePoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// One state of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// The number. Increases by one with every state, and by more if an older database is accepted.
    pub n: i64,
    /// The digest of the [`Contents`].
    pub digest: Hash,
    /// Commits to this state, the database and every earlier state.
    pub head: Hash,
}

impl State {
    /// Returns the first state of `database`.
    #[must_use]
    pub fn first(database: &DatabaseId, digest: Hash) -> Self {
        Self::linked(None, database, 1, digest)
    }

    /// Returns the state that follows this one.
    #[cfg(any(test, feature = "test-internals"))]
    #[must_use]
    pub fn next(&self, database: &DatabaseId, digest: Hash) -> Self {
        self.next_above(self.n, database, digest)
    }

    /// Returns the state that follows this one, with a number that is also above `n`.
    #[must_use]
    pub fn next_above(&self, n: i64, database: &DatabaseId, digest: Hash) -> Self {
        Self::linked(Some(&self.head), database, self.n.max(n).saturating_add(1), digest)
    }

    /// Returns the number and the head.
    #[must_use]
    pub fn point(&self) -> StatePoint {
        StatePoint { n: self.n, head: self.head }
    }

    /// Returns whether this state was made directly from `before`.
    #[must_use]
    pub fn follows(&self, before: &Self, database: &DatabaseId) -> bool {
        self.n > before.n && *self == Self::linked(Some(&before.head), database, self.n, self.digest)
    }

    fn linked(before: Option<&Hash>, database: &DatabaseId, n: i64, digest: Hash) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"carnet state 1");
        context.update(&before.map_or([0; LEN], |head| head.0));
        context.update(database.as_str().as_bytes());
        context.update(&n.to_be_bytes());
        context.update(&digest.0);
        Self { n, digest, head: Hash::finish(context) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_point_reads_back_and_other_texts_are_refused() {
        let point = State::first(&DatabaseId::of(b"a"), Contents::default().digest()).point();
        assert_eq!(point.to_string().parse(), Ok(point));
        let too_high = format!("{}:", MAX_N + 1);
        for wrong in ["", ":", "1", "1:", "0:", "-1:", "+1:", "1:abc", " 1:", &too_high] {
            let text = if wrong.ends_with(':') { format!("{wrong}{}", point.head) } else { wrong.to_owned() };
            let expected = if text.starts_with("1:") && text.len() > 40 {
                Ok(point)
            } else {
                Err(StateTextError::Point)
            };
            assert_eq!(text.parse::<StatePoint>(), expected, "{text}");
        }
    }

    #[test]
    fn a_state_follows_the_one_before_it_of_its_own_database_only() {
        let (a, b) = (DatabaseId::of(b"a"), DatabaseId::of(b"b"));
        let digest = Contents::default().digest();
        let first = State::first(&a, digest);
        let second = first.next(&a, digest);
        let third = second.next(&a, digest);
        assert!(second.follows(&first, &a) && third.follows(&second, &a));
        assert!(!second.follows(&first, &b));
        assert!(!third.follows(&first, &a));
        assert!(!first.follows(&second, &a) && !first.follows(&first, &a));
        assert!(!State { n: 3, ..second }.follows(&first, &a));
    }

    #[test]
    fn a_database_id_is_unique_and_reads_back() {
        let id = DatabaseId::of(b"a");
        assert_ne!(id, DatabaseId::of(b"b"));
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        for wrong in ["", "g", &id.as_str()[1..], &id.as_str().to_uppercase().replace(char::is_numeric, "A")]
        {
            assert_eq!(wrong.parse::<DatabaseId>(), Err(StateTextError::Id), "{wrong}");
        }
    }
}
