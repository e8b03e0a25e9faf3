//! Display names, for people. Trust never depends on them, so they may change.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::values::excerpt::character;
use crate::values::pasted::secret_in;
use crate::values::slug::Slug;
use crate::values::visible::is_hidden;

/// A name of 1–200 visible characters, without control characters, direction marks and zero-width characters.
///
/// Rows from before this rule may contain such characters; they stay readable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DisplayName(String);

/// A text is not a display name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DisplayNameError {
    /// The text is empty or too long.
    #[error("a display name has 1–200 characters")]
    Length,
    /// A character that is invisible, or that changes the way the name reads without being visible.
    #[error(
        "a display name has no control characters, no direction marks and no characters without width; this one has {}",
        character(*.0)
    )]
    Hidden(char),
    /// The text contains a grant's token or a master key, which everyone who lists names would see.
    #[error("a display name holds no grant's token and no master key: lists and the audit log show it")]
    Secret,
}

impl DisplayName {
    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Parses a name from the database. Earlier versions accepted every character except control characters.
    pub(crate) fn stored(text: &str) -> Result<Self, DisplayNameError> {
        if !(1..=200).contains(&text.chars().count()) {
            return Err(DisplayNameError::Length);
        }
        match text.chars().find(|c| c.is_control()) {
            Some(control) => Err(DisplayNameError::Hidden(control)),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl FromStr for DisplayName {
    type Err = DisplayNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !(1..=200).contains(&text.chars().count()) {
            return Err(DisplayNameError::Length);
        }
        match text.chars().find(|c| is_hidden(*c)) {
            Some(hidden) => Err(DisplayNameError::Hidden(hidden)),
            None if secret_in(text).is_some() => Err(DisplayNameError::Secret),
            None => Ok(Self(text.to_owned())),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_shows_all_that_it_holds_and_one_from_before_that_rule_is_still_read() {
        for name in ["Prod", "Ünïcode 日本", "🏷\u{fe0f} images", "a b"] {
            assert_eq!(name.parse::<DisplayName>().unwrap().as_str(), name);
        }
        for hidden in
            ['\u{202e}', '\u{2066}', '\u{200b}', '\u{200f}', '\u{61c}', '\u{2028}', '\u{feff}', '\u{e0041}']
        {
            let name = format!("Prod{hidden}");
            assert_eq!(name.parse::<DisplayName>(), Err(DisplayNameError::Hidden(hidden)), "{hidden:?}");
            assert_eq!(DisplayName::stored(&name).unwrap().as_str(), name);
        }
        let refused = "\u{202e}gnp".parse::<DisplayName>().unwrap_err().to_string();
        assert!(refused.ends_with(r"this one has '\u{202e}' (U+202E)"), "{refused}");
        for control in ["a\nb", "a\u{1b}[2J", "\u{9b}"] {
            assert!(control.parse::<DisplayName>().is_err() && DisplayName::stored(control).is_err());
        }
        for secret in
            ["carnet_", "carnet-master-key-1:"].map(|prefix| format!("CI {prefix}{}", "0aZ".repeat(24)))
        {
            assert_eq!(secret.parse::<DisplayName>(), Err(DisplayNameError::Secret));
            assert_eq!(DisplayName::stored(&secret).unwrap().as_str(), secret);
        }
        assert_eq!("".parse::<DisplayName>(), Err(DisplayNameError::Length));
        assert_eq!("x".repeat(201).parse::<DisplayName>(), Err(DisplayNameError::Length));
    }
}
