//! Why an exchange gave no credential, with everything that helps to put it right.

use std::error::Error;
use std::fmt;

use http::StatusCode;
use jiff::Timestamp;

use super::transport::{TransportError, TransportErrorKind};
use super::upstream::{Step, Upstream};
use crate::feed::scope::ScopeError;
use crate::metrics::ExchangeOutcome;
use crate::oidc::token::Presented;

/// An exchange that gave no credential.
///
/// Its source is the [`Failure`], whose source, if any, is the cause below that.
#[derive(Debug)]
pub struct ExchangeError(Box<Inner>);

/// Boxed, so that results stay small.
#[derive(Debug)]
struct Inner {
    step: Step,
    presented: Presented,
    hint: Option<String>,
    transient: bool,
    failure: Failure,
}

/// What became of the step that failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The request could not be made.
    #[error("the request could not be made: {0}")]
    Request(String),
    /// The provider cannot limit a credential in this way.
    #[error("{0}")]
    Scope(#[source] ScopeError),
    /// There was no answer.
    #[error("there was no answer")]
    Unreachable {
        /// The step, without status and code.
        upstream: Upstream,
        /// What went wrong on the way.
        source: TransportError,
    },
    /// The provider refused.
    #[error("{}", refusal(.0))]
    Refused(Upstream),
    /// The provider agreed, but its answer cannot be used.
    #[error("the answer cannot be used: {reason}")]
    Unusable {
        /// The step and its status. Never an excerpt: the answer may hold credentials.
        upstream: Upstream,
        /// What is missing or wrong.
        reason: &'static str,
    },
    /// What the provider issued had already expired; it was thrown away.
    #[error("what was issued had already expired at {expired_at}")]
    ArrivedExpired {
        /// The expiry that the provider stated.
        expired_at: Timestamp,
    },
}

/// `AccessDenied (HTTP 403): Not authorized … [request id …]`, with what there is of it.
fn refusal(upstream: &Upstream) -> String {
    let mut text = upstream.code.clone().unwrap_or_else(|| "refused".to_owned());
    if let Some(status) = upstream.status {
        text += &format!(" (HTTP {status})");
    }
    if let Some(message) = &upstream.message {
        text += &format!(": {message}");
    }
    if let Some(id) = &upstream.request_id {
        text += &format!(" [request id {id}]");
    }
    text
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed", self.0.step.name)
    }
}

impl Error for ExchangeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0.failure)
    }
}

impl ExchangeError {
    pub(crate) fn new(step: Step, presented: &Presented, failure: Failure) -> Self {
        let transient = match &failure {
            Failure::Unreachable { source, .. } => source.is_transient(),
            Failure::Refused(upstream) => upstream.status.is_some_and(is_transient_status),
            Failure::Request(_)
            | Failure::Scope(_)
            | Failure::Unusable { .. }
            | Failure::ArrivedExpired { .. } => false,
        };
        let hint = match &failure {
            Failure::Unreachable { source, .. } => Some(unreachable_hint(source.kind()).to_owned()),
            Failure::Refused(upstream) => Some(refused_hint(upstream)),
            Failure::Unusable { .. } => Some(
                "this is not what the provider's API answers: check the endpoint, and that nothing on the way changes \
                 answers"
                    .to_owned(),
            ),
            Failure::ArrivedExpired { .. } => {
                Some("compare this machine's clock with the provider's".to_owned())
            }
            // The reason says what to do.
            Failure::Request(_) | Failure::Scope(_) => None,
        };
        Self(Box::new(Inner { step, presented: presented.clone(), hint, transient, failure }))
    }

    /// With a provider's own advice; what is transient by itself stays so.
    pub(super) fn advise(mut self, hint: Option<String>, transient: bool) -> Self {
        // A code that passes under a status that does not.
        let passes = transient && !self.0.transient;
        let provider = self.0.step.provider;
        self.0.hint = hint.or_else(|| passes.then(|| troubled(provider))).or(self.0.hint);
        self.0.transient |= transient;
        self
    }

    /// The step that failed, by the provider's own name for it.
    #[must_use]
    pub fn step(&self) -> Step {
        self.0.step
    }

    /// What became of that step.
    #[must_use]
    pub fn failure(&self) -> &Failure {
        &self.0.failure
    }

    /// What the provider said; none when the failure is carnet's own finding.
    #[must_use]
    pub fn upstream(&self) -> Option<&Upstream> {
        match &self.0.failure {
            Failure::Unreachable { upstream, .. }
            | Failure::Refused(upstream)
            | Failure::Unusable { upstream, .. } => Some(upstream),
            Failure::Request(_) | Failure::Scope(_) | Failure::ArrivedExpired { .. } => None,
        }
    }

    /// The claims that were presented.
    #[must_use]
    pub fn presented(&self) -> &Presented {
        &self.0.presented
    }

    /// What to look at first.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        self.0.hint.clone()
    }

    /// What it is counted as.
    #[must_use]
    pub fn outcome(&self) -> ExchangeOutcome {
        match &self.0.failure {
            Failure::Request(_) | Failure::Scope(_) => ExchangeOutcome::Impossible,
            Failure::Unreachable { .. } => ExchangeOutcome::Unreachable,
            Failure::Refused(_) if self.0.transient => ExchangeOutcome::Unavailable,
            Failure::Refused(_) => ExchangeOutcome::Refused,
            Failure::Unusable { .. } => ExchangeOutcome::Unusable,
            Failure::ArrivedExpired { .. } => ExchangeOutcome::Expired,
        }
    }

    /// Whether the same exchange may well succeed a moment later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.0.transient
    }
}

fn is_transient_status(status: u16) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS.as_u16() || status / 100 == 5
}

/// For a code that the provider's own hints do not know, and for an answer without one.
fn refused_hint(Upstream { provider, step, status, code, .. }: &Upstream) -> String {
    match (status.unwrap_or_default(), code) {
        (300..=399, _) => {
            "the endpoint answers with a redirect, which is never followed: point the endpoint at the API itself".into()
        }
        (429, _) => throttled(provider),
        (500.., _) => troubled(provider),
        (_, Some(code)) => format!(
            "look up {code} in what {provider} documents about {step}, and compare what was presented with what is \
             set up there"
        ),
        (_, None) => format!(
            "this is not how {provider} refuses, so something else may have answered: check the endpoint of {step}"
        ),
    }
}

/// For codes that say the same as status 429.
pub(super) fn throttled(provider: &str) -> String {
    format!(
        "{provider} limits how often it is asked, counting everybody who shares the account: wait a little, and ask \
         for fewer different credentials at once"
    )
}

fn troubled(provider: &str) -> String {
    format!(
        "the trouble is at {provider}, or at a proxy before it, and often passes: try again, and look at the provider's \
         status page if it lasts"
    )
}

fn unreachable_hint(kind: TransportErrorKind) -> &'static str {
    match kind {
        TransportErrorKind::Connect => {
            "check that this machine resolves and reaches the endpoint; proxy variables of the environment are not used, \
             --proxy names one"
        }
        TransportErrorKind::Timeout => "the endpoint is slow, or a firewall drops the connection",
        TransportErrorKind::Tls => {
            "the endpoint's certificate is not trusted here: a private endpoint or an inspecting proxy needs its CA configured"
        }
        TransportErrorKind::Address => {
            "tokens never go to link-local, multicast or metadata addresses, and to this machine only if the issuer is \
             on it or --allow-loopback-endpoints is given: check the endpoint, and what its name resolves to"
        }
        TransportErrorKind::TooLarge => "this is not the provider's API: check the endpoint",
        TransportErrorKind::Other => "the connection broke, or the endpoint does not speak HTTP",
    }
}
