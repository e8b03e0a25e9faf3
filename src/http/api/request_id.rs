//! The id of a request, in the response, the log and the audit log.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};

/// The header with the request's id.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The maximum length of a client's request id.
const MAX_REQUEST_ID: usize = 64;

/// A request's id: the client's own, or a new one.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(Arc<str>);

impl RequestId {
    /// Creates an id from `id`, which must contain only the characters that [`RequestId::of`] accepts.
    pub(super) fn new(id: String) -> Self {
        Self(id.into())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the client's id, if it has only letters, digits, `-`, `_` and `.`.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(REQUEST_ID)?.to_str().ok()?;
        let fits = (1..=MAX_REQUEST_ID).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        fits.then(|| Self(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_a_harmless_word_of_the_clients_names_a_request() {
        for (given, taken) in [
            ("3f2a-1.b_C", true),
            (&"x".repeat(64), true),
            (&"x".repeat(65), false),
            ("", false),
            ("a b", false),
            ("a\"b", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_str(given).unwrap());
            assert_eq!(RequestId::of(&headers).is_some(), taken, "{given:?}");
        }
    }
}
