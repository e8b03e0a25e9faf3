//! Audiences: the parties that tokens are meant for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::excerpt::{character, excerpt};

/// The `aud` of a token: 1–255 visible characters and inner spaces.
///
/// Verifiers compare it byte by byte, so nothing is normalised, and what cannot be seen is refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Audience(String);

impl Audience {
    /// The most characters of an audience; AWS takes no more.
    pub const MAX_LEN: usize = 255;

    /// An audience that a vendor has fixed, for constants: `text` must satisfy the rule above.
    pub(crate) fn well_known(text: &'static str) -> Self {
        Self::trusted(text.to_owned())
    }

    /// An audience made of parts whose own rules are stricter: `text` must satisfy the rule above.
    pub(crate) fn trusted(text: String) -> Self {
        debug_assert!(text.parse::<Self>().is_ok(), "{text}");
        Self(text)
    }

    /// The audience's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is not an audience.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AudienceError {
    /// There is no text.
    #[error("an audience cannot be empty: {RULE}")]
    Empty,
    /// The text is longer than [`Audience::MAX_LEN`].
    #[error("{value} is not an audience: {RULE}, not {length}")]
    TooLong {
        /// An excerpt of the text, quoted and escaped.
        value: String,
        /// How many characters the text has.
        length: usize,
    },
    /// The text has a character that cannot be seen.
    #[error("{value} is not an audience: {RULE}, not {}", character(*.found))]
    Invisible {
        /// An excerpt of the text, quoted and escaped.
        value: String,
        /// The first such character.
        found: char,
    },
    /// The text begins or ends with a space.
    #[error("{value} is not an audience: {RULE}, without space at an end")]
    OuterSpace {
        /// An excerpt of the text, quoted and escaped.
        value: String,
    },
}

const RULE: &str = "use 1–255 visible characters";

impl FromStr for Audience {
    type Err = AudienceError;

    fn from_str(value: &str) -> Result<Self, AudienceError> {
        if value.is_empty() {
            return Err(AudienceError::Empty);
        }
        if let Some(found) = value.chars().find(|c| is_invisible(*c)) {
            return Err(AudienceError::Invisible { value: excerpt(value), found });
        }
        let length = value.chars().count();
        if length > Self::MAX_LEN {
            return Err(AudienceError::TooLong { value: excerpt(value), length });
        }
        if value.starts_with(' ') || value.ends_with(' ') {
            return Err(AudienceError::OuterSpace { value: excerpt(value) });
        }
        Ok(Self(value.to_owned()))
    }
}

/// Control characters, white space other than the plain space, and Unicode's invisible formatting
/// (soft hyphen, zero-width characters, direction marks, byte order mark, tags).
fn is_invisible(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

impl TryFrom<String> for Audience {
    type Error = AudienceError;

    fn try_from(value: String) -> Result<Self, AudienceError> {
        value.parse()
    }
}

impl AsRef<str> for Audience {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clouds_audiences_are_kept_as_they_are() {
        let longest = "ü".repeat(255);
        for good in [
            "sts.amazonaws.com",
            "api://AzureADTokenExchange",
            "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/c",
            "https://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/c",
            "two words",
            "a",
            &longest,
        ] {
            let audience: Audience = good.parse().unwrap();
            assert_eq!((audience.as_str(), audience.to_string().as_str()), (good, good));
        }
    }

    #[test]
    fn what_cannot_be_seen_is_refused_with_the_rule() {
        let table = [
            ("", "an audience cannot be empty: use 1–255 visible characters"),
            ("a\n", r#""a\n" is not an audience: use 1–255 visible characters, not '\n'"#),
            ("a\0b", r#""a\0b" is not an audience: use 1–255 visible characters, not '\0'"#),
            ("a\tb", r#""a\tb" is not an audience: use 1–255 visible characters, not '\t'"#),
            (
                "a\u{a0}b",
                r#""a\u{a0}b" is not an audience: use 1–255 visible characters, not '\u{a0}' (U+00A0)"#,
            ),
            (
                "a\u{200b}",
                r#""a\u{200b}" is not an audience: use 1–255 visible characters, not '\u{200b}' (U+200B)"#,
            ),
            (
                "a\u{202e}b",
                r#""a\u{202e}b" is not an audience: use 1–255 visible characters, not '\u{202e}' (U+202E)"#,
            ),
            (" a", r#"" a" is not an audience: use 1–255 visible characters, without space at an end"#),
            ("a ", r#""a " is not an audience: use 1–255 visible characters, without space at an end"#),
            (" ", r#"" " is not an audience: use 1–255 visible characters, without space at an end"#),
        ];
        for (bad, message) in table {
            assert_eq!(bad.parse::<Audience>().unwrap_err().to_string(), message);
        }
        let error = "ü".repeat(256).parse::<Audience>().unwrap_err();
        assert!(matches!(error, AudienceError::TooLong { length: 256, .. }));
    }

    #[test]
    fn json_holds_a_string_and_checks_it() {
        let audience: Audience = serde_json::from_str(r#""sts.amazonaws.com""#).unwrap();
        assert_eq!(serde_json::to_string(&audience).unwrap(), r#""sts.amazonaws.com""#);
        assert!(serde_json::from_str::<Audience>(r#"" ""#).is_err());
    }
}
