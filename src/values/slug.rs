//! Slugs, the names that trust is built on.
//!
//! A slug is part of subjects, routes and session names. It has no upper case (Azure compares
//! case-sensitively), no `:` (which separates the parts of a subject) and no character that needs escaping
//! anywhere.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::values::excerpt::{character, excerpt};

/// A name of 1–50 characters: `a`–`z`, `0`–`9` and inner `-`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Slug(String);

impl Slug {
    /// The maximum length of a slug, in characters and bytes.
    pub const MAX_LEN: usize = 50;

    /// The slug's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The reason why a text is not a slug.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SlugError {
    /// The text is empty.
    #[error("a slug cannot be empty: {RULE}")]
    Empty,
    /// The text is longer than [`Slug::MAX_LEN`].
    #[error("{value} is not a slug: {RULE}, not {length}")]
    TooLong {
        /// An excerpt of the text, quoted and escaped.
        value: String,
        /// The number of characters in the text.
        length: usize,
    },
    /// The text has a character that slugs cannot have.
    #[error("{value} is not a slug: {RULE}, not {}", character(*.found))]
    BadCharacter {
        /// An excerpt of the text, quoted and escaped.
        value: String,
        /// The first such character.
        found: char,
    },
    /// The text begins or ends with `-`.
    #[error("{value} is not a slug: {RULE}, not “-” at the start or end")]
    OuterHyphen {
        /// An excerpt of the text, quoted and escaped.
        value: String,
    },
}

const RULE: &str = "use 1–50 characters of a–z, 0–9 and inner “-”";

impl FromStr for Slug {
    type Err = SlugError;

    fn from_str(value: &str) -> Result<Self, SlugError> {
        if value.is_empty() {
            return Err(SlugError::Empty);
        }
        if let Some(found) = value.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
            return Err(SlugError::BadCharacter { value: excerpt(value), found });
        }
        if value.len() > Self::MAX_LEN {
            return Err(SlugError::TooLong { value: excerpt(value), length: value.len() });
        }
        if value.starts_with('-') || value.ends_with('-') {
            return Err(SlugError::OuterHyphen { value: excerpt(value) });
        }
        Ok(Self(value.to_owned()))
    }
}

impl TryFrom<String> for Slug {
    type Error = SlugError;

    fn try_from(value: String) -> Result<Self, SlugError> {
        value.parse()
    }
}

impl AsRef<str> for Slug {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slug({:?})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lower_case_letters_digits_and_inner_hyphens_make_a_slug() {
        for good in ["a", "0", "default", "feed-name", "a--b", "2048", &"x".repeat(50)] {
            assert_eq!(good.parse::<Slug>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_rule() {
        let rule = "use 1–50 characters of a–z, 0–9 and inner “-”";
        let table = [
            ("", format!("a slug cannot be empty: {rule}")),
            ("Prod!", format!(r#""Prod!" is not a slug: {rule}, not 'P'"#)),
            ("a:b", format!(r#""a:b" is not a slug: {rule}, not ':'"#)),
            ("a b", format!(r#""a b" is not a slug: {rule}, not ' '"#)),
            ("a_b", format!(r#""a_b" is not a slug: {rule}, not '_'"#)),
            ("a\n", format!(r#""a\n" is not a slug: {rule}, not '\n'"#)),
            ("p\u{430}th", format!("\"p\u{430}th\" is not a slug: {rule}, not '\u{430}' (U+0430)")),
            ("٣", format!("\"٣\" is not a slug: {rule}, not '٣' (U+0663)")),
            ("-a", format!(r#""-a" is not a slug: {rule}, not “-” at the start or end"#)),
            ("a-", format!(r#""a-" is not a slug: {rule}, not “-” at the start or end"#)),
            ("-", format!(r#""-" is not a slug: {rule}, not “-” at the start or end"#)),
        ];
        for (bad, message) in table {
            assert_eq!(bad.parse::<Slug>().unwrap_err().to_string(), message);
        }
        let long = "x".repeat(51).parse::<Slug>().unwrap_err();
        assert_eq!(long, SlugError::TooLong { value: excerpt(&"x".repeat(51)), length: 51 });
    }

    #[test]
    fn json_holds_a_string_and_checks_it() {
        let slug: Slug = serde_json::from_str(r#""feed-name""#).unwrap();
        assert_eq!(serde_json::to_string(&slug).unwrap(), r#""feed-name""#);
        assert!(serde_json::from_str::<Slug>(r#""Feed""#).unwrap_err().to_string().contains("a–z"));
    }

    proptest! {
        #[test]
        fn a_parsed_slug_is_the_same_text_and_follows_the_rule(text in "[a-zA-Z0-9:._ é-]{0,60}") {
            let within = (1..=50).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !text.starts_with('-')
                && !text.ends_with('-');
            match text.parse::<Slug>() {
                Ok(slug) => prop_assert!(within && slug.as_str() == text && slug.to_string() == text),
                Err(_) => prop_assert!(!within),
            }
        }
    }
}
