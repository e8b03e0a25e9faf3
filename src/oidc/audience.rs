//! Audiences: the parties that tokens are meant for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;

use crate::values::excerpt::{character, excerpt};
use crate::values::issuer_url::IssuerUrl;

/// The `aud` of a token: 1–255 visible characters and inner spaces.
///
/// Verifiers compare it byte by byte, so carnet does not normalise it, and it refuses invisible characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Audience(String);

impl Audience {
    /// The maximum length of an audience, in characters. It is AWS's limit.
    pub const MAX_LEN: usize = 255;

    /// An audience fixed by a vendor, for constants. `text` must satisfy the rule of [`Audience`].
    pub(crate) fn well_known(text: &'static str) -> Self {
        Self::trusted(text.to_owned())
    }

    /// An audience composed of parts with stricter rules. `text` must satisfy the rule of [`Audience`].
    pub(crate) fn trusted(text: String) -> Self {
        debug_assert!(text.parse::<Self>().is_ok(), "{text}");
        Self(text)
    }

    /// The audience's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the audience is `issuer` or lies below it. Tokens for carnet itself are addressed
    /// there, so a feed's token must never be.
    ///
    /// Recognises other spellings of such a URL as well: another scheme or none, any number of slashes or
    /// backslashes after it, another case of the host or a dot at its end, the default port, dot segments and
    /// escapes.
    #[must_use]
    pub fn is_at_or_below(&self, issuer: &IssuerUrl) -> bool {
        // Every mint runs this check, and most audiences name another host, so a substring search goes first.
        let is_plain = self.0.is_ascii() && !self.0.contains('%');
        let host = issuer.host();
        let names_a_host = host.ends_with(|last: char| last.is_ascii_alphabetic());
        if is_plain && names_a_host && !contains_ignoring_case(&self.0, host) {
            return false;
        }
        let Ok(issuer) = Url::parse(issuer.as_str()) else { return false };
        readings(&self.0)
            .any(|own| has_authority_of(&own, &issuer) && segments(&own).starts_with(&segments(&issuer)))
    }
}

/// The web URLs that a parser may read in `text`: with its scheme or without it, as `http` and as `https`.
///
/// A parser of the URL Standard reads `https:host`, `https:/host` and `https:\\\\host` as `https://host`.
fn readings(text: &str) -> impl Iterator<Item = Url> {
    let behind_scheme = text.split_once(':').map(|(_, rest)| rest);
    let bare =
        [Some(text), behind_scheme].into_iter().flatten().map(|text| text.trim_start_matches(['/', '\\']));
    let urls =
        bare.flat_map(|text| ["https", "http"].map(|scheme| Url::parse(&format!("{scheme}://{text}"))));
    urls.filter_map(Result::ok)
}

/// Returns whether both URLs have the same host, and the same port or each the default port of its own
/// scheme.
fn has_authority_of(own: &Url, issuer: &Url) -> bool {
    let host = |url: &Url| url.host_str().map(|host| host.trim_end_matches('.').to_ascii_lowercase());
    let has_port =
        own.port() == issuer.port() || own.port_or_known_default() == issuer.port_or_known_default();
    host(own) == host(issuer) && has_port
}

fn contains_ignoring_case(text: &str, part: &str) -> bool {
    text.as_bytes().windows(part.len().max(1)).any(|window| window.eq_ignore_ascii_case(part.as_bytes()))
}

/// The non-empty segments of a URL's path, unescaped.
fn segments(url: &Url) -> Vec<String> {
    let segments = url.path().split('/').filter(|segment| !segment.is_empty());
    segments.map(unescaped).collect()
}

/// Decodes the escapes of visible ASCII characters. Other escapes can stay: the path of an issuer URL
/// consists of unreserved ASCII characters.
fn unescaped(segment: &str) -> String {
    let mut text = String::new();
    let mut rest = segment;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        let byte = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(u8::is_ascii_graphic) {
            Some(byte) => {
                text.push(byte.into());
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                text.push('%');
                rest = after;
            }
        }
    }
    text + rest
}

/// The reason why a text is not an audience.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AudienceError {
    /// The text is empty.
    #[error("an audience cannot be empty: {RULE}")]
    Empty,
    /// The text is longer than [`Audience::MAX_LEN`].
    #[error("{value} is not an audience: {RULE}, not {length}")]
    TooLong {
        /// An excerpt of the text, quoted and escaped.
        value: String,
        /// The number of characters in the text.
        length: usize,
    },
    /// The text has an invisible character.
    #[error("{value} is not an audience: {RULE}, not {}", character(*.found))]
    Invisible {
        /// An excerpt of the text, quoted and escaped.
        value: String,
        /// The first such character.
        found: char,
    },
    /// The text begins or ends with a space.
    #[error("{value} is not an audience: {RULE}, without space at the start or end")]
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

/// Returns whether `c` is a control character, white space other than the plain space, or one of Unicode's
/// invisible formatting characters (soft hyphen, zero-width characters, direction marks, byte order mark,
/// tags).
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
    fn an_audience_at_or_below_the_issuer_is_found_however_it_is_written() {
        let issuer: IssuerUrl = "https://issuer.example/a/b".parse().unwrap();
        for (text, expected) in [
            ("https://issuer.example/a/b", true),
            ("https://issuer.example/a/b/", true),
            ("https://issuer.example/a/b/c", true),
            ("https://issuer.example/a/b?x=1", true),
            ("https://issuer.example/a/b#x", true),
            ("http://issuer.example:443/a/b", true),
            ("https://ISSUER.example:443/a//b", true),
            ("https://issuer.example/x/../a/b/c", true),
            ("https://issuer.example/%61/b", true),
            ("//issuer.example/a/b/c", true),
            ("issuer.example/a/b", true),
            ("https://user@issuer.example/a/b", true),
            ("http://issuer.example/a/b", true),
            ("https:issuer.example/a/b", true),
            ("HTTP:issuer.example/a/b", true),
            ("https:/issuer.example/a/b", true),
            ("http:\\\\issuer.example\\a\\b", true),
            ("https:///\\/issuer.example/a/b", true),
            ("\\\\issuer.example/a/b", true),
            ("issuer.example:443/a/b", true),
            ("wss://issuer.example/a/b", true),
            ("https://issuer.example./a/b", true),
            ("https://issuer.example/a", false),
            ("https://issuer.example/a/bc", false),
            ("https://issuer.example:8443/a/b", false),
            ("https://issuer.example.evil.example/a/b", false),
            ("sts.amazonaws.com", false),
            ("api://AzureADTokenExchange", false),
            ("//iam.googleapis.com/projects/1", false),
        ] {
            let audience: Audience = text.parse().unwrap();
            assert_eq!(audience.is_at_or_below(&issuer), expected, "{text}");
        }
        let local: IssuerUrl = "http://127.0.0.1:8080".parse().unwrap();
        assert!("http://127.0.0.1:8080/x".parse::<Audience>().unwrap().is_at_or_below(&local));
        assert!(!"http://127.0.0.1:8081/x".parse::<Audience>().unwrap().is_at_or_below(&local));
    }

    proptest::proptest! {
        /// Covers every spelling that a parser of the URL Standard reads as the issuer's host and path.
        #[test]
        fn every_spelling_that_a_parser_reads_as_the_issuer_is_found(
            scheme in "(?i)https?:",
            slashes in r"[/\\\\]{0,4}",
            user in "(u(:p)?@)?",
            host in "(?i)(i|%69)ssuer[.]example[.]?",
            port in "(:443|:80)?",
            path in r"([/\\\\](a|b|[.]{1,2}|%61|x)){0,5}",
            rest in "[?#]?",
        ) {
            let issuer: IssuerUrl = "https://issuer.example/a/b".parse().unwrap();
            let text = format!("{scheme}{slashes}{user}{host}{port}{path}{rest}");
            if let (Ok(audience), Ok(url)) = (text.parse::<Audience>(), Url::parse(&text)) {
                let names_host = url.host_str().is_some_and(|host| host.trim_end_matches('.') == "issuer.example");
                let is_default = url.port_or_known_default() == Some(443) || url.port().is_none();
                let is_below = format!("{}/", url.path().replace("%61", "a")).starts_with("/a/b/");
                if names_host && is_default && is_below {
                    proptest::prop_assert!(audience.is_at_or_below(&issuer), "{}", text);
                }
            }
        }
    }

    #[test]
    fn invisible_characters_are_refused_with_the_rule() {
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
            (
                " a",
                r#"" a" is not an audience: use 1–255 visible characters, without space at the start or end"#,
            ),
            (
                "a ",
                r#""a " is not an audience: use 1–255 visible characters, without space at the start or end"#,
            ),
            (
                " ",
                r#"" " is not an audience: use 1–255 visible characters, without space at the start or end"#,
            ),
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
