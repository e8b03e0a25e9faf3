//! Error responses of providers.
//!
//! Their text comes from outside and goes to logs, terminals and API clients. Before anything else sees it,
//! the secrets that were sent are removed, and it is escaped and cut to a maximum length.

use std::collections::HashSet;
use std::ops::Range;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{Response, StatusCode};
use serde::Serialize;
use url::form_urlencoded;

use crate::values::secret::SecretString;
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

/// The minimum length of a part of a secret that counts as one at the end of a text, in bytes.
const SHORTEST_PART: usize = 4;

/// The length of a part of a secret that is removed anywhere in a text, in bytes. A receiver may repeat a part
/// only; a shorter one may be an ordinary word.
const PIECE: usize = 16;

/// The minimum length of a signature, in characters. After two dots, shorter text is an ordinary word.
const SHORTEST_SIGNATURE: usize = 16;

/// Makes text from outside safe to show.
#[derive(Default)]
pub(crate) struct Redactor {
    /// The secrets of the request, in every form that an answer may repeat.
    forms: Vec<SecretString>,
}

impl Redactor {
    /// Creates a redactor for a request that carried these tokens and passwords.
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let forms = secrets.into_iter().flat_map(forms);
        Self { forms: forms.filter(|form| !form.reveal().is_empty()).collect() }
    }

    /// Adds a login that the request carried in HTTP's Basic scheme (RFC 7617). The user name alone counts as
    /// no secret: it is a constant of the registry.
    #[must_use]
    pub(crate) fn with_login(self, user: &str, password: &str) -> Self {
        let basic = SecretString::new(BASE64_STANDARD.encode(format!("{user}:{password}")));
        self.and(Self::new([password, basic.reveal(), basic.reveal().trim_end_matches('=')]))
    }

    /// Adds the secrets of another redactor.
    #[must_use]
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.forms.extend(other.forms);
        self
    }

    /// Returns the text without secrets, with control characters escaped, at most [`MAX_TEXT`] bytes long.
    pub(crate) fn text(&self, text: &str) -> String {
        // Secrets first: a secret that the limit or an escape has split would no longer be found.
        let mut safe = String::new();
        for character in self.cleared(text).trim().chars() {
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

    /// Returns the text with every run of secrets replaced. Secrets may overlap: nothing of either remains.
    fn cleared(&self, text: &str) -> String {
        let mut hidden: Vec<_> =
            self.forms.iter().flat_map(|form| occurrences(text, form.reveal())).collect();
        hidden.extend(self.pieces_in(text));
        hidden.sort_by_key(|range| range.start);
        let (mut cleared, mut done) = (String::new(), 0);
        let mut hidden = hidden.into_iter().peekable();
        while let Some(mut run) = hidden.next() {
            while let Some(next) = hidden.next_if(|next| next.start <= run.end) {
                run.end = run.end.max(next.end);
            }
            cleared += &text[done..run.start];
            cleared += "[redacted]";
            done = run.end;
        }
        cleared + &text[done..]
    }

    /// Returns the positions of all parts of secrets of [`PIECE`] bytes in `text`.
    fn pieces_in(&self, text: &str) -> Vec<Range<usize>> {
        let pieces: HashSet<&[u8]> =
            self.forms.iter().flat_map(|form| form.reveal().as_bytes().windows(PIECE)).collect();
        if pieces.is_empty() {
            return Vec::new();
        }
        let found = text.as_bytes().windows(PIECE).enumerate().filter(|(_, window)| pieces.contains(window));
        // A part may begin or end inside a character, which is then removed, too.
        found.map(|(at, _)| text.floor_char_boundary(at)..text.ceil_char_boundary(at + PIECE)).collect()
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

/// Returns the forms in which an answer may repeat a secret: as it is, as a form's field, and for a compact
/// JWS its signature, without which the rest is no token.
fn forms(secret: &str) -> impl Iterator<Item = SecretString> {
    let field: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let is_base64url =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let signature = match secret.split('.').collect::<Vec<_>>()[..] {
        [header, payload, signature]
            if signature.len() >= SHORTEST_SIGNATURE
                && [header, payload, signature].into_iter().all(is_base64url) =>
        {
            Some(signature.to_owned())
        }
        _ => None,
    };
    [secret.to_owned(), field].into_iter().chain(signature).map(SecretString::new)
}

/// Returns the positions of `secret` in `text`. A limit may have cut it at the end: its beginning counts
/// there, too.
fn occurrences(text: &str, secret: &str) -> Vec<Range<usize>> {
    let (mut found, mut from) = (Vec::new(), 0);
    while let Some(at) = text[from..].find(secret) {
        found.push(from + at..from + at + secret.len());
        // They may overlap.
        from += at + text[from + at..].chars().next().map_or(1, char::len_utf8);
    }
    // A limit may have cut a character, too.
    let end = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
    let mut parts = secret.char_indices().rev().map(|(length, _)| &secret[..length]);
    let cut = parts.find(|part| part.len() < SHORTEST_PART || end.ends_with(part));
    found.extend(
        cut.filter(|part| part.len() >= SHORTEST_PART).map(|part| end.len() - part.len()..text.len()),
    );
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "aGVhZGVy.cGF5bG9hZA.dGhlIHNpZ25hdHVyZQ";

    #[test]
    fn an_echoed_token_is_cleared_whole_and_by_its_signature() {
        let redactor = Redactor::new([TOKEN]);
        assert_eq!(redactor.text(&format!("bad token {TOKEN}!")), "bad token [redacted]!");
        assert_eq!(redactor.text("bad signature dGhlIHNpZ25hdHVyZQ"), "bad signature [redacted]");
        let late = format!("{}{TOKEN}", "x".repeat(MAX_TEXT - 10));
        assert!(!redactor.text(&late).contains("aGVh"));
    }

    #[test]
    fn an_echoed_login_is_cleared_in_every_form_that_a_request_carries() {
        // AWS:a+b/c=
        let redactor = Redactor::new([]).with_login("AWS", "a+b/c=");
        for (text, shown) in [
            ("Authorization: Basic QVdTOmErYi9jPQ==", "Authorization: Basic [redacted]"),
            ("Authorization: Basic QVdTOmErYi9jPQ, I think", "Authorization: Basic [redacted], I think"),
            ("password=a%2Bb%2Fc%3D&x", "password=[redacted]&x"),
            ("AWS sent a+b/c=", "AWS sent [redacted]"),
        ] {
            assert_eq!(redactor.text(text), shown);
        }
    }

    #[test]
    fn a_long_part_of_a_secret_is_cleared_anywhere_in_a_text() {
        let secret = "carnet_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let redactor = Redactor::new([secret]);
        for (from, to) in [(0, 40), (20, 60), (10, 26), (30, secret.len())] {
            let text = format!("ü{}ü and more", &secret[from..to]);
            assert_eq!(redactor.text(&text), "ü[redacted]ü and more", "{from}..{to}");
        }
        assert_eq!(redactor.text(&format!("{}-", &secret[10..25])), format!("{}-", &secret[10..25]));
        let redactor = Redactor::new(["ü".repeat(20).as_str()]);
        assert_eq!(redactor.text(&format!("x{}x", "ü".repeat(19))), "x[redacted]x");
        assert_eq!(redactor.text(&format!("x{}x", "ü".repeat(4))), format!("x{}x", "ü".repeat(4)));
    }

    #[test]
    fn overlapping_secrets_leave_nothing_of_each_other() {
        for (secrets, text, shown) in [
            (["abcdef", "defghi"], "-abcdefghi-", "-[redacted]-"),
            (["abcdef", "cde"], "-abcdef-cde-", "-[redacted]-[redacted]-"),
            (["red", "acted"], "red acted", "[redacted] [redacted]"),
            (["aXa", "none"], "-aXaXa-", "-[redacted]-"),
        ] {
            assert_eq!(Redactor::new(secrets).text(text), shown);
        }
    }

    #[test]
    fn a_secret_that_a_limit_has_cut_is_cleared_at_the_end() {
        let redactor = Redactor::new(["hünter2-hünter2"]);
        for (text, shown) in [
            ("it was hünter2-hünter", "it was [redacted]"),
            ("it was hünt", "it was [redacted]"),
            ("it was hün", "it was [redacted]"),
            ("it was hün\u{fffd}", "it was [redacted]"),
            ("it was hü", "it was hü"),
            ("hünt was it", "hünt was it"),
        ] {
            assert_eq!(redactor.text(text), shown, "{text}");
        }
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
