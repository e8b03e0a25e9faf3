//! The identifier of a request, in the answer, the log and the audit log.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};

/// Names a request in the answer, the log and the audit log.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request identifier that is taken from a client.
const MAX_REQUEST_ID: usize = 64;

/// A request's identifier: the client's own, or a new one.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(Arc<str>);

impl RequestId {
    /// A new one, which must be a harmless word.
    pub(super) fn new(id: String) -> Self {
        Self(id.into())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The client's, if it is a harmless word.
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
