//! The name that people read. Trust never rests on it, so it may change.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::slug::Slug;

/// 1–200 characters without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DisplayName(String);

/// The text is not a display name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a display name has 1–200 characters and no control characters")]
pub struct DisplayNameError;

impl DisplayName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DisplayName {
    type Err = DisplayNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=200).contains(&text.chars().count());
        if fits && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(DisplayNameError)
        }
    }
}

impl TryFrom<String> for DisplayName {
    type Error = DisplayNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DisplayName> for String {
    fn from(name: DisplayName) -> Self {
        name.0
    }
}

impl From<&Slug> for DisplayName {
    fn from(slug: &Slug) -> Self {
        Self(slug.as_str().to_owned())
    }
}

impl fmt::Display for DisplayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
