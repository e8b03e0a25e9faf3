//! The issuer URL in its one canonical form.
//!
//! Clouds compare `iss`, the discovery document and their own configuration byte by byte. So an issuer has
//! exactly one text: without trailing slash, and without anything that some URL parsers rewrite and others do
//! not (escapes, dot segments, empty segments, user info).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::values::authority::{Authority, AuthorityError, AuthorityRule};
use crate::values::excerpt::{character, excerpt};

/// `https://host[:port][/path]` without trailing slash, at most 255 characters. `http` is accepted for
/// loopback hosts only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IssuerUrl {
    text: String,
    path_at: usize,
    explicit_port: Option<u16>,
    loopback: bool,
}

impl IssuerUrl {
    /// The maximum length of an issuer URL, in characters. It is AWS's limit.
    pub const MAX_LEN: usize = 255;

    /// The canonical text, as in `iss`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host without the port.
    #[must_use]
    pub fn host(&self) -> &str {
        let authority = &self.text[..self.path_at];
        let authority = authority.split_once("://").map_or(authority, |(_, authority)| authority);
        match (self.explicit_port, authority.rsplit_once(':')) {
            (Some(_), Some((host, _))) => host,
            _ => authority,
        }
    }

    /// The path below which the public documents are served: empty, or `/a/b` without trailing slash.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.text[self.path_at..]
    }

    /// Returns whether the host is this machine: `localhost`, 127.0.0.0/8 or `[::1]`. Clouds cannot fetch
    /// documents from it.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// The port, if it is not the scheme's default. AWS refuses issuers with a port.
    #[must_use]
    pub fn explicit_port(&self) -> Option<u16> {
        self.explicit_port
    }

    /// The URL of the provider metadata (OpenID Connect Discovery 1.0, section 4).
    #[must_use]
    pub fn discovery_url(&self) -> String {
        format!("{}/.well-known/openid-configuration", self.text)
    }

    /// The URL of the JWKS.
    #[must_use]
    pub fn jwks_uri(&self) -> String {
        format!("{}/.well-known/jwks", self.text)
    }
}

/// The error for a text that is not an issuer URL.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{value} is not an issuer URL: {rule}")]
pub struct IssuerUrlError {
    /// An excerpt of the text without user info, query and fragment, quoted and escaped.
    pub value: String,
    /// The rule that the text breaks.
    pub rule: IssuerUrlRule,
}

/// The rules of issuer URLs. Each message says what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IssuerUrlRule {
    /// The scheme is missing, or is neither `https` nor `http`.
    #[error("start with “https://”")]
    Scheme,
    /// The scheme is `http` and the host is not loopback.
    #[error("use https (http is for localhost, 127.0.0.0/8 and [::1] only)")]
    Http,
    /// The text has a user name or a password.
    #[error("leave off user name and password")]
    UserInfo,
    /// The text has a query.
    #[error("leave off “?” and what follows it")]
    Query,
    /// The text has a fragment.
    #[error("leave off “#” and what follows it")]
    Fragment,
    /// The host or the port is malformed.
    #[error("the host is not valid: {0}")]
    Host(AuthorityRule),
    /// The path has a character that can be written in more than one way.
    #[error("in the path use letters, digits, “-”, “.”, “_” and “~”, not {}", character(*.0))]
    PathCharacter(char),
    /// The path has an empty segment (`//`).
    #[error("write single slashes in the path")]
    EmptySegment,
    /// The path has a `.` or `..` segment.
    #[error("write the path without “.” and “..” segments")]
    DotSegment,
    /// The URL is that of a document instead of the issuer.
    #[error("leave off “/.well-known” and what follows it")]
    WellKnown,
    /// The canonical form is too long.
    #[error("use at most {max} characters, not {0}", max = IssuerUrl::MAX_LEN)]
    TooLong(usize),
}

impl FromStr for IssuerUrl {
    type Err = IssuerUrlError;

    fn from_str(value: &str) -> Result<Self, IssuerUrlError> {
        parse(value).map_err(|rule| {
            let shown = value.split(['?', '#']).next().unwrap_or_default();
            IssuerUrlError { value: excerpt(shown), rule }
        })
    }
}

fn parse(value: &str) -> Result<IssuerUrl, IssuerUrlRule> {
    let (scheme, rest) = value.split_once("://").ok_or(IssuerUrlRule::Scheme)?;
    let (scheme, default_port) = match scheme {
        _ if scheme.eq_ignore_ascii_case("https") => ("https", 443),
        _ if scheme.eq_ignore_ascii_case("http") => ("http", 80),
        _ => return Err(IssuerUrlRule::Scheme),
    };
    match rest.find(['?', '#', '@']).map(|at| rest.as_bytes()[at]) {
        Some(b'?') => return Err(IssuerUrlRule::Query),
        Some(b'#') => return Err(IssuerUrlRule::Fragment),
        Some(_) => return Err(IssuerUrlRule::UserInfo),
        None => {}
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let authority: Authority =
        authority.parse().map_err(|error: AuthorityError| IssuerUrlRule::Host(error.rule))?;
    if scheme == "http" && !authority.is_loopback() {
        return Err(IssuerUrlRule::Http);
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    path.split('/').skip(1).try_for_each(check_segment)?;

    let explicit_port = authority.port().filter(|port| *port != default_port);
    let mut text = format!("{scheme}://{}", authority.host());
    if let Some(port) = explicit_port {
        text.push_str(&format!(":{port}"));
    }
    let path_at = text.len();
    text.push_str(path);
    if text.len() > IssuerUrl::MAX_LEN {
        return Err(IssuerUrlRule::TooLong(text.len()));
    }
    Ok(IssuerUrl { text, path_at, explicit_port, loopback: authority.is_loopback() })
}

fn check_segment(segment: &str) -> Result<(), IssuerUrlRule> {
    let unreserved = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~');
    match segment {
        "" => Err(IssuerUrlRule::EmptySegment),
        "." | ".." => Err(IssuerUrlRule::DotSegment),
        _ if segment.eq_ignore_ascii_case(".well-known") => Err(IssuerUrlRule::WellKnown),
        _ => match segment.chars().find(|c| !unreserved(c)) {
            Some(c) => Err(IssuerUrlRule::PathCharacter(c)),
            None => Ok(()),
        },
    }
}

impl TryFrom<String> for IssuerUrl {
    type Error = IssuerUrlError;

    fn try_from(value: String) -> Result<Self, IssuerUrlError> {
        value.parse()
    }
}

impl From<IssuerUrl> for String {
    fn from(url: IssuerUrl) -> Self {
        url.text
    }
}

impl AsRef<str> for IssuerUrl {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for IssuerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests;
