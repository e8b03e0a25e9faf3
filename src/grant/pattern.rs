//! Patterns over the slugs of feeds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::values::excerpt::{character, excerpt};
use crate::values::slug::Slug;

/// A slug in which `*` matches any run of characters, including none: `prod`, `prod-*`, `*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct FeedPattern(String);

/// A text is not a [`FeedPattern`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{value} is not a feed pattern: {rule}")]
pub struct FeedPatternError {
    /// An excerpt of the text, quoted and escaped.
    pub value: String,
    /// The rule that the text breaks.
    pub rule: FeedPatternRule,
}

/// The rules of patterns. Each message says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FeedPatternRule {
    /// The text is empty.
    #[error("it cannot be empty; “*” is every feed")]
    Empty,
    /// More than [`FeedPattern::MAX_LEN`] characters.
    #[error("use at most {} characters", FeedPattern::MAX_LEN)]
    TooLong,
    /// A space before the feed.
    #[error("write only the feed's slug; the grant names its spaces separately")]
    Path,
    /// A character that no slug has.
    #[error("use a–z, 0–9, inner “-” and “*”, not {}", character(*.0))]
    Character(char),
    /// A `-` where no slug has one.
    #[error("no slug begins or ends with “-”")]
    OuterHyphen,
    /// Adjacent `*`, which match no more than a single one.
    #[error("write one “*” where there are several")]
    RepeatedStar,
    /// More than [`FeedPattern::MAX_STARS`] stars.
    #[error("use at most {} “*”", FeedPattern::MAX_STARS)]
    TooManyStars,
}

impl FeedPattern {
    /// The maximum length of a pattern, in characters.
    pub const MAX_LEN: usize = Slug::MAX_LEN;
    /// The maximum number of `*` in a pattern.
    pub const MAX_STARS: usize = 5;

    /// Returns the pattern's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the pattern that matches every slug.
    #[must_use]
    pub fn everything() -> Self {
        Self("*".to_owned())
    }

    /// Returns whether the pattern matches `slug`.
    #[must_use]
    pub fn matches(&self, slug: &Slug) -> bool {
        self.matches_text(slug.as_str())
    }

    /// Returns whether this pattern matches every slug that `other` matches. It may return `false` where a
    /// proof needs more than a comparison of the two texts; it never returns `true` wrongly.
    ///
    /// `other` is matched as if it were a slug. No literal character of this pattern is a `*`, so only a `*`
    /// of this pattern, which matches anything, can match a `*` of `other`.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.matches_text(&other.0)
    }

    /// Matches in time linear in both lengths: the leftmost match of each part between two stars is final.
    fn matches_text(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return self.0 == text };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        let inner = text.strip_prefix(first).and_then(|text| text.strip_suffix(last));
        let Some(mut inner) = inner else { return false };
        for part in middle.split('*') {
            let Some((_, after)) = inner.split_once(part) else { return false };
            inner = after;
        }
        true
    }
}

impl FromStr for FeedPattern {
    type Err = FeedPatternError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match check(value) {
            Ok(()) => Ok(Self(value.to_owned())),
            Err(rule) => Err(FeedPatternError { value: excerpt(value), rule }),
        }
    }
}

fn check(value: &str) -> Result<(), FeedPatternRule> {
    use FeedPatternRule as Rule;
    for c in value.chars() {
        match c {
            'a'..='z' | '0'..='9' | '-' | '*' => {}
            '/' => return Err(Rule::Path),
            _ => return Err(Rule::Character(c)),
        }
    }
    match value {
        "" => Err(Rule::Empty),
        _ if value.len() > FeedPattern::MAX_LEN => Err(Rule::TooLong),
        _ if value.starts_with('-') || value.ends_with('-') => Err(Rule::OuterHyphen),
        _ if value.contains("**") => Err(Rule::RepeatedStar),
        _ if value.matches('*').count() > FeedPattern::MAX_STARS => Err(Rule::TooManyStars),
        _ => Ok(()),
    }
}

impl TryFrom<String> for FeedPattern {
    type Error = FeedPatternError;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<&Slug> for FeedPattern {
    fn from(slug: &Slug) -> Self {
        Self(slug.as_str().to_owned())
    }
}

impl fmt::Display for FeedPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> FeedPattern {
        text.parse().unwrap()
    }

    /// The definition, implemented literally.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|taken| naive(rest, &text[taken..])),
            ([p, rest @ ..], [t, text @ ..]) => p == t && naive(rest, text),
            _ => false,
        }
    }

    #[test]
    fn a_star_stands_for_any_run_of_characters_and_for_none() {
        for (text, slug, expected) in [
            ("prod", "prod", true),
            ("prod", "prod-eu", false),
            ("prod", "pro", false),
            ("*", "anything", true),
            ("prod*", "prod", true),
            ("prod-*", "prod", false),
            ("prod-*", "prod-eu", true),
            ("*-eu", "prod-eu", true),
            ("*-eu", "prod-eu-2", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*b*", "abc", true),
            ("*b*b*", "abc", false),
            ("a*b*c", "abbc", true),
            ("*ab*ab", "abab", true),
            ("*ab*ab", "aab", false),
        ] {
            assert_eq!(pattern(text).matches(&slug.parse().unwrap()), expected, "{text} {slug}");
        }
    }

    #[test]
    fn a_pattern_covers_another_only_if_it_matches_every_slug_of_it() {
        for (wide, narrow, expected) in [
            ("*", "*", true),
            ("*", "prod", true),
            ("prod", "*", false),
            ("prod", "prod", true),
            ("prod*", "prod-*", true),
            ("prod-*", "prod*", false),
            ("prod-*", "prod-eu", true),
            ("p*d", "p*o*d", true),
            ("p*o*d", "p*d", false),
            ("*a*", "*aa*", true),
            ("*aa*", "*a*a*", false),
            ("a*b", "a*", false),
        ] {
            assert_eq!(pattern(wide).covers(&pattern(narrow)), expected, "{wide} {narrow}");
        }
    }

    #[test]
    fn an_invalid_pattern_is_refused_with_the_rule() {
        use FeedPatternRule as Rule;
        let long = "x".repeat(51);
        for (text, rule) in [
            ("", Rule::Empty),
            (long.as_str(), Rule::TooLong),
            ("default/prod", Rule::Path),
            ("Prod", Rule::Character('P')),
            ("a?", Rule::Character('?')),
            ("[ab]", Rule::Character('[')),
            ("-a*", Rule::OuterHyphen),
            ("*-", Rule::OuterHyphen),
            ("a**b", Rule::RepeatedStar),
            ("*a*a*a*a*a*", Rule::TooManyStars),
        ] {
            assert_eq!(text.parse::<FeedPattern>().map_err(|error| error.rule), Err(rule), "{text:?}");
        }
    }

    fn patterns() -> impl Strategy<Value = FeedPattern> {
        "[ab*]([ab*-]{0,6}[ab*])?".prop_filter_map("no pattern", |text| text.parse().ok())
    }

    proptest! {
        #[test]
        fn matching_follows_its_definition(pattern in patterns(), slug in "[ab]([ab-]{0,8}[ab])?") {
            let slug: Slug = slug.parse().unwrap();
            prop_assert_eq!(pattern.matches(&slug), naive(pattern.as_str().as_bytes(), slug.as_str().as_bytes()));
        }

        #[test]
        fn a_covering_pattern_matches_every_slug_of_the_covered_one(
            wide in patterns(), narrow in patterns(), fill in proptest::collection::vec("[ab-]{0,3}", 5),
        ) {
            let mut fill = fill.into_iter();
            let text: String = narrow.as_str().chars()
                .map(|c| if c == '*' { fill.next().unwrap() } else { c.to_string() })
                .collect();
            if let Ok(slug) = text.parse::<Slug>() {
                prop_assert!(narrow.matches(&slug));
                prop_assert!(!wide.covers(&narrow) || wide.matches(&slug));
            }
        }
    }
}
