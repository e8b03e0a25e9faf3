//! Error responses of providers.
//!
//! Their text comes from outside and goes to logs, terminals and API clients. Before anything else sees it,
//! the secrets that were sent are removed, and it is escaped and cut to a maximum length.

use http::{Response, StatusCode};
use serde::Serialize;

use crate::values::visible::is_hidden;

/// The maximum length of a text from a provider, in bytes.
pub const MAX_TEXT: usize = 2048;

/// One request to a provider, named as the provider names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The provider: `aws`.
    pub provider: &'static str,
    /// The operation: `sts:AssumeRoleWithWebIdentity`.
    pub name: &'static str,
}

/// An unwanted response, or the lack of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Upstream {
    /// The provider: `aws`.
    pub provider: &'static str,
    /// The operation: `sts:AssumeRoleWithWebIdentity`.
    pub step: &'static str,
    /// The HTTP status; `None` if there was no response.
    pub status: Option<u16>,
    /// The provider's error code.
    pub code: Option<String>,
    /// The provider's message, or the beginning of a response in an unknown format.
    pub message: Option<String>,
    /// The provider's request id, for its support and its audit log.
    pub request_id: Option<String>,
}

impl Upstream {
    /// Describes a request that got no response.
    pub(crate) fn silent(step: Step, why: String) -> Self {
        Self {
            provider: step.provider,
            step: step.name,
            status: None,
            code: None,
            message: Some(why),
            request_id: None,
        }
    }

    /// Describes a response by its status only. The other parts must pass through a [`Redactor`].
    pub(crate) fn answered(step: Step, status: StatusCode) -> Self {
        Self {
            provider: step.provider,
            step: step.name,
            status: Some(status.as_u16()),
            code: None,
            message: None,
            request_id: None,
        }
    }
}

/// Makes text from outside safe to show.
pub(crate) struct Redactor<'a> {
    secrets: Vec<&'a str>,
}

impl<'a> Redactor<'a> {
    /// Creates a redactor for `secrets`. It removes the longest first: a token before the signature inside
    /// it.
    pub(crate) fn new(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut secrets: Vec<_> = secrets.into_iter().filter(|secret| !secret.is_empty()).collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self { secrets }
    }

    /// Creates a redactor for a request that carried this compact JWS. It removes the whole token and its
    /// signature alone.
    pub(crate) fn for_token(compact: &'a str) -> Self {
        Self::new([compact, compact.rsplit_once('.').map_or("", |(_, signature)| signature)])
    }

    /// Returns the text without secrets, with control characters escaped, at most [`MAX_TEXT`] bytes long.
    pub(crate) fn text(&self, text: &str) -> String {
        // Secrets first: a secret that the limit or an escape has split would no longer be found.
        let mut cleared = text.to_owned();
        for secret in &self.secrets {
            if cleared.contains(secret) {
                cleared = cleared.replace(secret, "[redacted]");
            }
        }
        let mut safe = String::new();
        for character in cleared.trim().chars() {
            let escaped = if is_hidden(character) {
                character.escape_default().to_string()
            } else {
                character.to_string()
            };
            if safe.len() + escaped.len() > MAX_TEXT - '…'.len_utf8() {
                safe.push('…');
                break;
            }
            safe.push_str(&escaped);
        }
        safe
    }

    /// Applies [`Redactor::text`] to an optional text. Returns `None` for an empty one.
    pub(crate) fn optional(&self, text: Option<&str>) -> Option<String> {
        text.map(|text| self.text(text)).filter(|text| !text.is_empty())
    }

    /// Returns a response header, if it is present and readable.
    pub(crate) fn header<B>(&self, response: &Response<B>, name: &str) -> Option<String> {
        self.optional(response.headers().get(name).and_then(|value| value.to_str().ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "aGVhZGVy.cGF5bG9hZA.c2lnbmF0dXJl";

    #[test]
    fn an_echoed_token_is_cleared_whole_and_by_its_signature() {
        let redactor = Redactor::for_token(TOKEN);
        assert_eq!(redactor.text(&format!("bad token {TOKEN}!")), "bad token [redacted]!");
        assert_eq!(redactor.text("bad signature c2lnbmF0dXJl"), "bad signature [redacted]");
        let late = format!("{}{TOKEN}", "x".repeat(MAX_TEXT - 10));
        assert!(!redactor.text(&late).contains("aGVh"));
    }

    #[test]
    fn control_characters_cannot_reach_a_terminal() {
        let redactor = Redactor::new([]);
        assert_eq!(redactor.text("a\u{1b}[31mb\r\nc\u{202e}d"), "a\\u{1b}[31mb\\r\\nc\\u{202e}d");
        assert_eq!(redactor.text("Ünïcode stays"), "Ünïcode stays");
    }

    #[test]
    fn text_is_bounded_on_a_character_boundary() {
        let redactor = Redactor::new([]);
        for text in ["é".repeat(MAX_TEXT), format!("x{}x", "\n".repeat(MAX_TEXT)), "x".repeat(10 * MAX_TEXT)]
        {
            let bounded = redactor.text(&text);
            assert!(bounded.len() <= MAX_TEXT, "{}", bounded.len());
            assert!(bounded.ends_with('…'));
        }
    }
}
