//! What is published together, and which of two is newer.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::issuer_url::IssuerUrl;
use crate::jose::jwk::Kid;
use crate::oidc::metadata::{Document, Documents};

use super::target::{DocumentName, Label};

/// A number that grows with every change of what is published.
///
/// Keys and policy change by numbered transactions of the database; between two of them the passing of
/// time only takes keys away. So of two states with one number the one with more keys pruned is newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation {
    /// The database's number of the keys and the policy.
    pub keys: i64,
    /// How many retired keys have left the JWKS.
    pub pruned: i64,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.keys, self.pruned)
    }
}

/// A text is no [`Generation`].
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
        // One text for one value: no sign, no leading zero.
        if generation.keys >= 0 && generation.pruned >= 0 && generation.to_string() == text {
            Ok(generation)
        } else {
            Err(GenerationError)
        }
    }
}

/// Both documents of one issuer in one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edition {
    /// Whose they are, and which state.
    pub label: Label,
    /// The documents.
    pub documents: Arc<Documents>,
    /// The keys in the JWKS.
    pub kids: Vec<Kid>,
}

impl Edition {
    /// The state `generation` of what `issuer` publishes.
    #[must_use]
    pub fn new(issuer: IssuerUrl, generation: Generation, documents: Arc<Documents>, kids: Vec<Kid>) -> Self {
        Self { label: Label { issuer, generation }, documents, kids }
    }

    /// One of the documents.
    #[must_use]
    pub fn document(&self, name: DocumentName) -> &Document {
        match name {
            DocumentName::Jwks => &self.documents.jwks,
            DocumentName::Discovery => &self.documents.discovery,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
