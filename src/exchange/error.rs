//! The errors of an exchange, with everything that helps to fix the cause.

use std::error::Error;
use std::fmt;

use http::StatusCode;
use jiff::Timestamp;

use super::transport::{TransportError, TransportErrorKind};
use super::upstream::{Step, Upstream};
use crate::diagnosis::{self, Cause, Fix, Retry, general};
use crate::feed::endpoints::Endpoints;
use crate::feed::scope::ScopeError;
use crate::metrics::ExchangeOutcome;
use crate::oidc::token::Presented;

/// The only text that restricted callers and the audit log get about an endpoint that a feed names and that
/// does not respond as the provider does. Restricted admins can name endpoints, also in networks that they
/// cannot reach. They must not learn whether a port there is open, closed or filtered, nor what listens on
/// it.
pub(crate) const NO_PROVIDER: &str = "the endpoint that the feed names does not respond as the provider does";

/// A failed exchange.
///
/// Its source is the [`ExchangeFailure`], whose own source, if any, is the underlying cause.
#[derive(Debug)]
pub struct ExchangeError(Box<Inner>);

/// Boxed to keep results small.
#[derive(Debug)]
struct Inner {
    step: Step,
    presented: Presented,
    causes: Vec<Cause>,
    retry: Retry,
    /// Set if the feed names no endpoint, so that there is none to change.
    is_vendors: bool,
    failure: ExchangeFailure,
}

/// The failure of a step.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeFailure {
    /// The request could not be created.
    #[error("the request could not be built: {0}")]
    Request(String),
    /// The provider cannot limit a credential in this way.
    #[error("{0}")]
    Scope(#[source] ScopeError),
    /// There was no response.
    #[error("there was no response")]
    Unreachable {
        /// The step, without status and code.
        upstream: Upstream,
        /// The error of the transport.
        source: TransportError,
    },
    /// The provider refused.
    #[error("{}", refusal(.0))]
    Refused(Upstream),
    /// The provider sent a success that cannot be used.
    #[error("the response cannot be used: {reason}")]
    Unusable {
        /// The step and its status. Never an excerpt, because the response may contain credentials.
        upstream: Upstream,
        /// The reason: a member that is missing or wrong.
        reason: &'static str,
    },
    /// The issued credential had already expired; it was discarded.
    #[error("the issued credential had already expired at {expired_at}")]
    ArrivedExpired {
        /// The expiry that the provider stated.
        expired_at: Timestamp,
    },
}

/// Formats `AccessDenied (HTTP 403): Not authorized … [request id …]`, leaving out what is missing.
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
    /// Creates an error. `endpoints` are those that the feed names: only these can be changed.
    pub(crate) fn new(
        step: Step,
        presented: &Presented,
        endpoints: &Endpoints,
        failure: ExchangeFailure,
    ) -> Self {
        let passes = match &failure {
            ExchangeFailure::Unreachable { source, .. } => source.is_transient(),
            ExchangeFailure::Refused(upstream) => upstream.status.is_some_and(is_transient_status),
            ExchangeFailure::Request(_)
            | ExchangeFailure::Scope(_)
            | ExchangeFailure::Unusable { .. }
            | ExchangeFailure::ArrivedExpired { .. } => false,
        };
        let named = endpoints.get(general::endpoint_name(step.name)).is_some();
        let causes = match &failure {
            ExchangeFailure::Unreachable { source, .. } => {
                vec![unreachable(source.kind(), &Asked::Endpoint { step: step.name, named })]
            }
            ExchangeFailure::Refused(Upstream { provider, step, status, code, .. }) => {
                vec![general::refused(provider, step, *status, code.as_deref(), named)]
            }
            ExchangeFailure::Unusable { .. } => vec![general::unusable(step.name, named)],
            ExchangeFailure::ArrivedExpired { .. } => vec![general::arrived_expired()],
            // The reason itself says what to do.
            ExchangeFailure::Request(_) | ExchangeFailure::Scope(_) => Vec::new(),
        };
        let retry = if passes { Retry::Passing } else { Retry::Never };
        let is_vendors = endpoints.is_empty();
        Self(Box::new(Inner { step, presented: presented.clone(), causes, retry, is_vendors, failure }))
    }

    /// Adds the provider's own advice. A transient failure stays transient.
    pub(crate) fn advise(mut self, causes: Vec<Cause>, retry: Retry) -> Self {
        if !causes.is_empty() {
            let is_vendors = self.0.is_vendors;
            let possible = |cause| if is_vendors { general::without_endpoint(cause) } else { cause };
            self.0.causes = causes.into_iter().map(possible).collect();
        } else if retry == Retry::Passing && !self.is_transient() {
            // A transient code with a status that is not transient.
            self.0.causes = vec![general::troubled(self.0.step.provider)];
        }
        self.0.retry = self.0.retry.max(retry);
        self
    }

    /// Returns the step that failed, named as the provider names it.
    #[must_use]
    pub fn step(&self) -> Step {
        self.0.step
    }

    /// Returns the failure of that step.
    #[must_use]
    pub fn failure(&self) -> &ExchangeFailure {
        &self.0.failure
    }

    /// Returns the provider's response; `None` if carnet itself found the failure.
    #[must_use]
    pub fn upstream(&self) -> Option<&Upstream> {
        match &self.0.failure {
            ExchangeFailure::Unreachable { upstream, .. }
            | ExchangeFailure::Refused(upstream)
            | ExchangeFailure::Unusable { upstream, .. } => Some(upstream),
            ExchangeFailure::Request(_)
            | ExchangeFailure::Scope(_)
            | ExchangeFailure::ArrivedExpired { .. } => None,
        }
    }

    /// Returns the claims of the presented token.
    #[must_use]
    pub fn presented(&self) -> &Presented {
        &self.0.presented
    }

    /// Returns the probable causes, most likely first.
    #[must_use]
    pub fn causes(&self) -> &[Cause] {
        &self.0.causes
    }

    /// Returns the causes in one line.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        diagnosis::in_one_line(&self.0.causes)
    }

    /// Returns whether the failure tells something about the server at the endpoint, and nothing about the
    /// provider's opinion of the token: no connection, no TLS, or a response in another format.
    pub(crate) fn is_about_the_endpoint(&self) -> bool {
        match &self.0.failure {
            ExchangeFailure::Refused(upstream) => upstream.code.is_none(),
            ExchangeFailure::Unreachable { .. } | ExchangeFailure::Unusable { .. } => true,
            ExchangeFailure::Request(_)
            | ExchangeFailure::Scope(_)
            | ExchangeFailure::ArrivedExpired { .. } => false,
        }
    }

    /// Returns the metric's outcome for this failure.
    #[must_use]
    pub fn outcome(&self) -> ExchangeOutcome {
        match &self.0.failure {
            ExchangeFailure::Request(_) | ExchangeFailure::Scope(_) => ExchangeOutcome::Impossible,
            ExchangeFailure::Unreachable { .. } => ExchangeOutcome::Unreachable,
            ExchangeFailure::Refused(_) if self.is_transient() => ExchangeOutcome::Unavailable,
            ExchangeFailure::Refused(_) => ExchangeOutcome::Refused,
            ExchangeFailure::Unusable { .. } => ExchangeOutcome::Unusable,
            ExchangeFailure::ArrivedExpired { .. } => ExchangeOutcome::Expired,
        }
    }

    /// Returns whether the same exchange may succeed a moment later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.0.retry == Retry::Passing
    }

    /// Returns whether, and how often, the exchange is worth another attempt.
    #[must_use]
    pub fn retry(&self) -> Retry {
        self.0.retry
    }
}

fn is_transient_status(status: u16) -> bool {
    // A server that does not implement an operation now will not in a moment.
    let lasts = status == StatusCode::NOT_IMPLEMENTED.as_u16();
    status == StatusCode::TOO_MANY_REQUESTS.as_u16() || (status / 100 == 5 && !lasts)
}

/// The target of a request that got no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked<'a> {
    /// A provider, at the step of this name. `named` is set if the feed names the endpoint.
    Endpoint { step: &'a str, named: bool },
    /// The feed's registry.
    #[cfg(feature = "server")]
    Registry,
    /// Another host, which the registry names: for tokens, or for the layers of images.
    #[cfg(feature = "server")]
    Named(&'a str),
    /// The issuer, for its document at this URL.
    #[cfg(feature = "server")]
    Issuer(&'a str),
}

impl Asked<'_> {
    fn noun(&self) -> &'static str {
        match self {
            Self::Endpoint { .. } => "endpoint",
            #[cfg(feature = "server")]
            Self::Registry => "registry",
            #[cfg(feature = "server")]
            Self::Named(_) => "host",
            #[cfg(feature = "server")]
            Self::Issuer(_) => "issuer",
        }
    }

    /// Returns the fix for a wrong host: name another one, or look at its response.
    fn other(&self) -> Fix {
        match self {
            Self::Endpoint { step, named } => general::endpoint_if(*named, step),
            #[cfg(feature = "server")]
            Self::Registry => Fix::Feed("--registry HOST".to_owned()),
            #[cfg(feature = "server")]
            Self::Named(host) => {
                Fix::Act(format!("see why the registry names {host}, and where that name leads"))
            }
            #[cfg(feature = "server")]
            Self::Issuer(url) => Fix::Command(format!("curl -i {url}")),
        }
    }
}

/// Returns the cause of a missing response. Also used for requests outside an exchange.
pub(crate) fn unreachable(kind: TransportErrorKind, asked: &Asked<'_>) -> Cause {
    let noun = asked.noun();
    match kind {
        TransportErrorKind::Proxy(failure) => failure.cause(noun),
        TransportErrorKind::Connect => Cause::act(
            format!(
                "check that this machine can resolve and reach the {noun}; carnet ignores the environment's \
                 proxy variables: name a proxy with --proxy"
            ),
            format!("allow connections to the {noun} in the firewall, or name a proxy with --proxy"),
        ),
        TransportErrorKind::Timeout => Cause::act(
            format!("the {noun} is slow, or a firewall drops the connection"),
            format!("allow connections to the {noun} in the firewall, or check again later"),
        ),
        TransportErrorKind::Tls(failure) => diagnosis::tls::cause(failure, noun, asked.other()),
        TransportErrorKind::Address => Cause::new(
            format!(
                "carnet sends no tokens to link-local, multicast or metadata addresses, and to this machine \
                 only if the issuer is on it or with --allow-loopback-endpoints: check the {noun}, and the \
                 addresses of its name"
            ),
            asked.other(),
        ),
        TransportErrorKind::TooLarge => {
            let what = match asked {
                Asked::Endpoint { .. } => "provider's API",
                #[cfg(feature = "server")]
                Asked::Named(_) => "registry's",
                #[cfg(feature = "server")]
                Asked::Registry | Asked::Issuer(_) => noun,
            };
            Cause::new(format!("this is not the {what}, whose responses are short"), asked.other())
        }
        TransportErrorKind::Other => {
            Cause::new(format!("the connection broke, or the {noun} does not speak HTTP"), asked.other())
        }
    }
}
