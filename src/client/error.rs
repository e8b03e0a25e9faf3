//! The client's errors. No text in them can control a terminal.

use std::borrow::Cow;

use http::StatusCode;
use jiff::Timestamp;

use super::server_url::ServerUrl;
use crate::api_types::problem::{PresentedClaims, Problem, UpstreamResponse};
use crate::exchange::Redactor;
use crate::exchange::transport::TransportError;

/// A failed request to a server, or a client that could not be created.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server refused. Its texts are bounded and hold no control characters and not the token.
    #[error("{}", refusal(.0))]
    Refused(Box<Problem>),
    /// The response is not one that carnet sends.
    #[error("{server} responded with HTTP {status}, but not as carnet does")]
    NotCarnet {
        /// The server.
        server: ServerUrl,
        /// The HTTP status.
        status: StatusCode,
    },
    /// The credential has expired by this machine's clock.
    #[error(
        "the credential from {server} had expired at {expired_at} by this machine's clock and is not handed out"
    )]
    Expired {
        /// The server.
        server: ServerUrl,
        /// The expiry that the server stated.
        expired_at: Timestamp,
    },
    /// No response arrived.
    #[error("the request to {server} failed")]
    Unreachable {
        /// The server.
        server: ServerUrl,
        /// The cause.
        #[source]
        source: TransportError,
    },
    /// The extra certificates are not PEM, or there are none.
    #[error("the CA bundle holds no certificate in PEM")]
    CaBundle(#[source] Option<reqwest::Error>),
    /// The client could not be created.
    #[error("the client could not be made")]
    Setup(#[source] reqwest::Error),
    /// The request could not be serialised.
    #[error("the request could not be written")]
    Request(#[source] serde_json::Error),
    /// The token is empty, or holds characters that no token has.
    #[error("the grant's token is empty, or holds characters that no token has")]
    Token,
}

fn refusal(problem: &Problem) -> String {
    match &problem.detail {
        Some(detail) => format!("{}: {detail}", problem.title),
        None => problem.title.to_string(),
    }
}

/// The texts of a server go to terminals and logs, and it may be any server.
pub(super) fn cleared(problem: Problem, redactor: &Redactor) -> Problem {
    let text = |text: String| redactor.text(&text);
    let optional = |value: Option<String>| redactor.optional(value.as_deref());
    let title = match problem.known_type() {
        Some(known) => Cow::Borrowed(known.title()),
        None => Cow::Owned(redactor.text(&problem.title)),
    };
    Problem {
        problem_type: text(problem.problem_type),
        title,
        status: problem.status,
        detail: optional(problem.detail),
        field: optional(problem.field),
        hint: optional(problem.hint),
        request_id: optional(problem.request_id),
        upstream: problem.upstream.map(|upstream| UpstreamResponse {
            provider: text(upstream.provider),
            step: text(upstream.step),
            status: upstream.status,
            code: optional(upstream.code),
            message: optional(upstream.message),
            request_id: optional(upstream.request_id),
        }),
        presented: problem.presented.map(|presented| PresentedClaims {
            iss: text(presented.iss),
            sub: text(presented.sub),
            aud: text(presented.aud),
            kid: text(presented.kid),
            alg: text(presented.alg),
        }),
        feeds: problem.feeds.map(|feeds| feeds.into_iter().map(text).collect()),
        life_observed_seconds: problem.life_observed_seconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_types::problem::ProblemType;

    #[test]
    fn a_servers_text_moves_no_cursor_and_repeats_no_token() {
        let hostile = "\u{1b}[2J\nhint: run this\u{202e} carnet_hunter2 ".to_owned() + &"x".repeat(100_000);
        let problem = Problem {
            title: Cow::Owned(hostile.clone()),
            upstream: Some(UpstreamResponse {
                provider: hostile.clone(),
                step: hostile.clone(),
                status: None,
                code: Some(hostile.clone()),
                message: Some(hostile.clone()),
                request_id: Some(hostile.clone()),
            }),
            presented: Some(PresentedClaims {
                iss: hostile.clone(),
                sub: hostile.clone(),
                aud: hostile.clone(),
                kid: hostile.clone(),
                alg: hostile.clone(),
            }),
            feeds: Some(vec![hostile.clone()]),
            request_id: Some(hostile.clone()),
            ..Problem::new(ProblemType::NotFound)
        }
        .detail(&hostile)
        .field(&hostile)
        .hint(Some(&hostile));
        let shown = cleared(problem, &Redactor::new(["carnet_hunter2"]));
        // A known type keeps carnet's own title.
        assert_eq!(shown.title, ProblemType::NotFound.title());
        let shown = serde_json::to_value(&shown).unwrap();
        let mut texts = 0;
        let mut values = vec![&shown];
        while let Some(value) = values.pop() {
            values.extend(value.as_array().into_iter().flatten());
            values.extend(value.as_object().into_iter().flatten().map(|(_, value)| value));
            let Some(text) = value.as_str() else { continue };
            texts += 1;
            assert!(text.len() <= crate::exchange::MAX_TEXT, "{} bytes", text.len());
            assert!(!text.contains(['\u{1b}', '\n', '\u{202e}']) && !text.contains("hunter2"), "{text:?}");
        }
        assert_eq!(texts, 17);
    }
}
