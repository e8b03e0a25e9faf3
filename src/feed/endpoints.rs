//! Overrides of the hosts that an exchange contacts, for private endpoints and tests.
//!
//! Owns the form of an override. Each provider defines its own endpoint names.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use crate::values::authority::{Authority, AuthorityError, AuthorityRule};
use crate::values::excerpt::excerpt;

/// The URL of an overridden endpoint: `https://host[:port][/path]`, or `http` on a loopback host.
///
/// There is one canonical form, with a lower-case host and no trailing slash. Tokens are sent to this URL, so
/// a URL that two parsers could read differently is refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EndpointUrl(String);

/// A text is not an [`EndpointUrl`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{value} is not the URL of an endpoint: {rule}")]
pub struct EndpointUrlError {
    /// An excerpt of the text, quoted and escaped.
    pub value: String,
    /// The rule that the text breaks.
    pub rule: EndpointUrlRule,
}

/// The rules for endpoint URLs. Each message says what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EndpointUrlRule {
    /// The text is longer than [`EndpointUrl::MAX_LEN`].
    #[error("use at most {} characters", EndpointUrl::MAX_LEN)]
    TooLong,
    /// The scheme is neither `https`, nor `http` on a loopback host.
    #[error("start with https:// (http:// only for a loopback host)")]
    Scheme,
    /// The host or port is invalid.
    #[error("{0}")]
    Host(AuthorityRule),
    /// The text contains a `?`.
    #[error("leave off the query")]
    Query,
    /// The text contains a `#`.
    #[error("leave off the fragment")]
    Fragment,
    /// The path has an empty, `.` or `..` segment, or other characters.
    #[error("use letters, digits, “-”, “.”, “_” and “~” between single slashes of the path")]
    Path,
}

impl EndpointUrl {
    /// The maximum length of a URL, in characters.
    pub const MAX_LEN: usize = 2048;

    /// Returns the host, with its port if one is given.
    #[must_use]
    pub fn host(&self) -> &str {
        let authority = self.0.split_once("://").map_or("", |(_, rest)| rest);
        authority.split('/').next().unwrap_or(authority)
    }

    /// Returns the canonical form, without a trailing slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EndpointUrl {
    type Err = EndpointUrlError;

    fn from_str(value: &str) -> Result<Self, EndpointUrlError> {
        parse(value).map(Self).map_err(|rule| EndpointUrlError { value: excerpt(value), rule })
    }
}

fn parse(value: &str) -> Result<String, EndpointUrlRule> {
    if value.len() > EndpointUrl::MAX_LEN {
        return Err(EndpointUrlRule::TooLong);
    }
    let (scheme, rest) = value.split_once("://").ok_or(EndpointUrlRule::Scheme)?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let authority: Authority =
        authority.parse().map_err(|error: AuthorityError| EndpointUrlRule::Host(error.rule))?;
    if !(scheme == "https" || scheme == "http" && authority.is_loopback()) {
        return Err(EndpointUrlRule::Scheme);
    }
    if path.contains('#') {
        return Err(EndpointUrlRule::Fragment);
    }
    if path.contains('?') {
        return Err(EndpointUrlRule::Query);
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    if !path.split('/').skip(1).all(is_segment) {
        return Err(EndpointUrlRule::Path);
    }
    Ok(format!("{scheme}://{}{path}", authority.as_str()))
}

fn is_segment(segment: &str) -> bool {
    !matches!(segment, "" | "." | "..")
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

impl TryFrom<String> for EndpointUrl {
    type Error = EndpointUrlError;

    fn try_from(value: String) -> Result<Self, EndpointUrlError> {
        value.parse()
    }
}

impl From<EndpointUrl> for String {
    fn from(url: EndpointUrl) -> Self {
        url.0
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A feed's overrides, by endpoint name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Endpoints(BTreeMap<String, EndpointUrl>);

/// Overrides are invalid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EndpointsError {
    /// The text does not have the form `NAME=URL`.
    #[error("{0} is not an endpoint: write NAME=URL")]
    NotAPair(String),
    /// The URL of an override is invalid.
    #[error("endpoint {name}: {error}")]
    Url {
        /// An excerpt of the endpoint's name, quoted and escaped.
        name: String,
        /// The error in the URL.
        error: EndpointUrlError,
    },
    /// The same name occurs twice; this is an excerpt, quoted and escaped.
    #[error("endpoint {0} is given twice: give it once")]
    Duplicate(String),
    /// The provider has no endpoint of this name.
    #[error("endpoint {name} does not exist for this type of feed: use {}", allowed.join(" or "))]
    Unknown {
        /// An excerpt of the name, quoted and escaped.
        name: String,
        /// The names that the provider has.
        allowed: &'static [&'static str],
    },
}

impl Endpoints {
    /// Parses pairs of the form `NAME=URL`, each with a name from `allowed`. Returns the error of the first
    /// invalid pair.
    pub fn from_pairs<'a>(
        allowed: &'static [&'static str],
        pairs: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, EndpointsError> {
        let mut endpoints = Self::default();
        for pair in pairs {
            let (name, url) = Self::parse_pair(pair)?;
            endpoints.insert(name, url)?;
        }
        endpoints.allow_only(allowed)?;
        Ok(endpoints)
    }

    /// Parses one pair of the form `NAME=URL`.
    ///
    /// # Errors
    ///
    /// [`EndpointsError::NotAPair`] or [`EndpointsError::Url`].
    pub fn parse_pair(pair: &str) -> Result<(String, EndpointUrl), EndpointsError> {
        let (name, url) = pair.split_once('=').ok_or_else(|| EndpointsError::NotAPair(excerpt(pair)))?;
        match url.parse() {
            Ok(url) => Ok((name.to_owned(), url)),
            Err(error) => Err(EndpointsError::Url { name: excerpt(name), error }),
        }
    }

    /// Adds an override.
    ///
    /// # Errors
    ///
    /// [`EndpointsError::Duplicate`] if there already is one with this name.
    pub fn insert(&mut self, name: String, url: EndpointUrl) -> Result<(), EndpointsError> {
        if self.0.contains_key(&name) {
            return Err(EndpointsError::Duplicate(excerpt(&name)));
        }
        self.0.insert(name, url);
        Ok(())
    }

    /// Returns these overrides, except that those in `others` replace those of the same name.
    #[must_use]
    pub fn overlaid_by(&self, others: &Self) -> Self {
        let pairs = self.0.iter().chain(&others.0);
        Self(pairs.map(|(name, url)| (name.clone(), url.clone())).collect())
    }

    /// Checks that every name is in `allowed`.
    ///
    /// # Errors
    ///
    /// [`EndpointsError::Unknown`] for the first name that is not.
    pub fn allow_only(&self, allowed: &'static [&'static str]) -> Result<(), EndpointsError> {
        match self.0.keys().find(|name| !allowed.contains(&name.as_str())) {
            Some(name) => Err(EndpointsError::Unknown { name: excerpt(name), allowed }),
            None => Ok(()),
        }
    }

    /// Returns the override of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&EndpointUrl> {
        self.0.get(name)
    }

    /// Returns whether there are no overrides.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns all overrides, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &EndpointUrl)> {
        self.0.iter().map(|(name, url)| (name.as_str(), url))
    }
}

impl<'de> Deserialize<'de> for Endpoints {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Endpoints;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of endpoint names to URLs")
            }

            // Written by hand: a derived map would let the last of two equal names win.
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Endpoints, A::Error> {
                let mut endpoints = Endpoints::default();
                while let Some((name, url)) = map.next_entry()? {
                    endpoints.insert(name, url).map_err(serde::de::Error::custom)?;
                }
                Ok(endpoints)
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWS: &[&str] = &["sts", "ecr"];

    #[test]
    fn urls_have_one_canonical_form() {
        for (text, canonical) in [
            ("https://vpce-1.sts.vpce.amazonaws.com", "https://vpce-1.sts.vpce.amazonaws.com"),
            ("https://EXAMPLE.com:8443/", "https://example.com:8443"),
            ("https://example.com/a/B_~.-/", "https://example.com/a/B_~.-"),
            ("http://127.0.0.1:8080/aws/sts", "http://127.0.0.1:8080/aws/sts"),
            ("http://localhost:1", "http://localhost:1"),
            ("http://[::1]:1/", "http://[::1]:1"),
        ] {
            assert_eq!(text.parse::<EndpointUrl>().unwrap().as_str(), canonical);
        }
    }

    #[test]
    fn urls_that_could_send_a_token_elsewhere_are_refused() {
        let rule = |text: &str| text.parse::<EndpointUrl>().map_err(|error| error.rule);
        for text in [
            "http://example.com",
            "http://localhost.example.com",
            "ftp://127.0.0.1",
            "HTTPS://a",
            "https:a",
            "",
        ] {
            assert_eq!(rule(text), Err(EndpointUrlRule::Scheme), "{text:?}");
        }
        for text in [
            "https://user@example.com",
            "https://@example.com",
            "https://sts.amazonaws.com:x@example.com",
            "https://exam\tple.com",
            " https://example.com/",
            "https://example.com ",
            "https:///path",
            "https://example.com\\@evil.example",
            "https://exämple.com",
            "http://127.1",
        ] {
            assert!(
                matches!(rule(text), Err(EndpointUrlRule::Host(_) | EndpointUrlRule::Scheme)),
                "{text:?}"
            );
        }
        for text in [
            "https://e.com//",
            "https://e.com/a//b",
            "https://e.com/../a",
            "https://e.com/%2e",
            "https://e.com/a b",
            "https://e.com/\n",
        ] {
            assert_eq!(rule(text), Err(EndpointUrlRule::Path), "{text:?}");
        }
        assert_eq!(rule("https://e.com?"), Err(EndpointUrlRule::Query));
        assert_eq!(rule("https://e.com/#"), Err(EndpointUrlRule::Fragment));
        assert_eq!(rule(&format!("https://e.com/{}", "a".repeat(2048))), Err(EndpointUrlRule::TooLong));
    }

    #[test]
    fn pairs_are_refused_by_name_and_rule() {
        for (pairs, message) in [
            (vec!["sts"], "\"sts\" is not an endpoint: write NAME=URL"),
            (
                vec!["s3=https://a.example"],
                "endpoint \"s3\" does not exist for this type of feed: use sts or ecr",
            ),
            (
                vec!["sts=https://a.example", "sts=https://b.example"],
                "endpoint \"sts\" is given twice: give it once",
            ),
            (
                vec!["ecr=http://a.example"],
                "endpoint \"ecr\": \"http://a.example\" is not the URL of an endpoint: \
                 start with https:// (http:// only for a loopback host)",
            ),
        ] {
            assert_eq!(Endpoints::from_pairs(AWS, pairs).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn json_is_an_object_without_duplicates() {
        let json = r#"{"ecr":"http://localhost:1/ecr","sts":"https://a.example"}"#;
        let endpoints: Endpoints = serde_json::from_str(json).unwrap();
        assert_eq!(endpoints.get("sts").unwrap().as_str(), "https://a.example");
        assert_eq!(serde_json::to_string(&endpoints).unwrap(), json);
        let twice = r#"{"sts":"https://a.example","sts":"https://b.example"}"#;
        assert!(serde_json::from_str::<Endpoints>(twice).unwrap_err().to_string().contains("given twice"));
    }

    #[test]
    fn overrides_are_changed_one_by_one() {
        let of = |pairs: &[&str]| Endpoints::from_pairs(&["sts", "ecr"], pairs.iter().copied()).unwrap();
        let both = of(&["sts=https://a.example", "ecr=https://b.example"]);
        let changed = of(&["sts=https://c.example", "ecr=https://b.example"]);
        assert_eq!(both.overlaid_by(&of(&["sts=https://c.example"])), changed);
        assert_eq!(Endpoints::default().overlaid_by(&both), both);
    }
}
