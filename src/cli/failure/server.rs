//! Failed requests to a server: its problem details, or a response that is not carnet's.

use std::borrow::Cow;

use super::{CommandFailure, details};
use crate::api_types::problem::{Problem, ProblemType};
use crate::client::ClientError;
use crate::diagnosis;
use crate::exchange::transport::TransportErrorKind;
use crate::feed::FeedPath;
use crate::values::tls_failure::{CertificateProblem, TlsFailure};

/// Creates the failure for a refused credential of `feed`.
pub(super) fn refused(feed: &FeedPath, problem: &Problem) -> CommandFailure {
    let mut lines = details(problem.upstream.as_ref(), problem.presented.as_ref());
    lines.extend(problem.request_id.clone().map(|id| ("request of the server", id)));
    let hint = problem.hint.clone().or_else(|| hint(problem).map(ToOwned::to_owned));
    CommandFailure { details: lines, hint, ..CommandFailure::message(message(feed, problem)) }
}

fn message(feed: &FeedPath, problem: &Problem) -> String {
    let said = problem.detail.as_deref().unwrap_or(&problem.title);
    let status = problem.upstream.as_ref().and_then(|upstream| upstream.status);
    match (problem.known_type(), &problem.upstream, status) {
        (Some(ProblemType::Unauthorized), ..) => {
            "the server does not accept the grant in CARNET_TOKEN".to_owned()
        }
        (Some(ProblemType::NotFound), ..) => {
            format!("there is no feed {feed}, or the grant in CARNET_TOKEN does not reach it")
        }
        // The details below this message quote the provider. An unusable success has its reason in `said`.
        (Some(ProblemType::UpstreamRefused), Some(upstream), Some(300..)) => {
            format!("feed {feed}: {} refused step {}", upstream.provider, upstream.step)
        }
        (Some(ProblemType::UpstreamUnreachable), Some(upstream), None) => {
            let why = upstream.message.as_deref().unwrap_or("the connection failed");
            format!("feed {feed}: step {} got no response: {why}", upstream.step)
        }
        _ => format!("feed {feed}: {said}"),
    }
}

/// Returns a hint if the server's problem has none. The server does not know this command's flags and
/// variables.
fn hint(problem: &Problem) -> Option<&'static str> {
    match problem.known_type()? {
        ProblemType::Unauthorized => Some(
            "it may have expired or been revoked: `carnet grant list` on the server's host shows that, and \
             `carnet grant create` makes another",
        ),
        ProblemType::Forbidden => Some("credentials need a grant of role deployer or admin, not viewer"),
        ProblemType::NotFound => {
            Some("ask the admin who made the grant for its spaces and feeds: `carnet grant list` shows them")
        }
        ProblemType::ContextRefused => {
            Some("leave that --context off, or ask for a grant that allows or fixes the key")
        }
        ProblemType::MissingContext => Some("give it with --context KEY=VALUE"),
        ProblemType::RateLimited => Some(
            "too many requests with this grant or from this address: spread them, or raise the server's limits",
        ),
        ProblemType::Busy | ProblemType::NotMinting | ProblemType::StorageUnavailable => {
            Some("this is often temporary; if it persists, look for the request id above in the server's log")
        }
        _ => None,
    }
}

/// Creates the failure for a server that could not be reached, or whose response is not carnet's.
pub(super) fn unanswered(error: &ClientError) -> CommandFailure {
    // Each cause is written once, as in every other error.
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let said = error.to_string();
        if !message.contains(&said) {
            message = format!("{message}: {said}");
        }
        cause = error.source();
    }
    let failure = CommandFailure::message(message);
    match advice(error) {
        Some(advice) => failure.hint(advice),
        None => failure,
    }
}

fn advice(error: &ClientError) -> Option<Cow<'static, str>> {
    Some(Cow::Borrowed(match error {
        ClientError::NotCarnet { status, .. } if status.is_redirection() => {
            "carnet follows no redirect, because the token would be sent along: give the final URL with \
             --server or CARNET_URL"
        }
        ClientError::NotCarnet { .. } => {
            "--server or CARNET_URL must name the address of `carnet serve --listen`; --public-listen has no \
             API"
        }
        ClientError::Unreachable { source, .. } => match source.kind() {
            TransportErrorKind::Connect => {
                "check that the server runs, and that --server or CARNET_URL is its address"
            }
            TransportErrorKind::Tls(TlsFailure::Certificate(CertificateProblem::UnknownIssuer)) => {
                "the server's certificate is not trusted here: --ca-file adds an authority"
            }
            TransportErrorKind::Tls(TlsFailure::Closed | TlsFailure::NotTls) => {
                "the server does not speak TLS there, or something on the way hangs up: check host and port, and whether \
                 it serves plain http (http://)"
            }
            TransportErrorKind::Tls(failure) => {
                return Some(diagnosis::tls::advice(failure, "server").into());
            }
            TransportErrorKind::Timeout => "the server is slow, or a firewall drops the connection",
            _ => "the connection broke, or the server there does not speak HTTP, or expects TLS",
        },
        ClientError::Expired { .. } => {
            "compare the clocks of this machine and of the server: one of them is wrong, or the server is not carnet"
        }
        ClientError::CaBundle(_) => "--ca-file or CARNET_CA_FILE names a file of certificates in PEM",
        ClientError::Token => "set CARNET_TOKEN to the token that `carnet grant create` printed on stdout",
        ClientError::Refused(_) | ClientError::Setup(_) | ClientError::Request(_) => return None,
    }))
}
