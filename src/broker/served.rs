//! What a request gets: a credential and where it came from, or why there is none.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use uuid::Uuid;

use super::exchanger::AttemptError;
use crate::exchange::Credential;
use crate::metrics::CredentialOutcome;

/// A credential that is handed out.
#[derive(Debug, Clone)]
pub struct Served {
    /// The credential.
    pub credential: Arc<Credential>,
    /// Where it came from.
    pub source: Source,
    /// The token that was traded for it.
    pub jti: Uuid,
}

/// Where a credential came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// An exchange for this request, or for others that asked at the same time.
    Exchange,
    /// Memory.
    Cache,
    /// Memory; the provider was asked for the next one and gave none.
    StaleRefresh,
}

impl Source {
    /// The word in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Cache => "cache",
            Self::StaleRefresh => "stale-refresh",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// No credential is handed out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    /// There is none to be had.
    #[error("no credential could be had{}", age.map(again).unwrap_or_default())]
    Failed {
        /// Why.
        #[source]
        error: Arc<AttemptError>,
        /// How long ago that was found out, if nobody was asked again for this request.
        age: Option<Duration>,
    },
    /// A fresh credential does not live as long as was asked for.
    #[error(
        "a fresh credential of this feed has {} s left, less than the {} s asked for",
        life_observed.as_secs(), wanted.as_secs()
    )]
    MinRemainingUnattainable {
        /// What was asked for.
        wanted: Duration,
        /// What was left of a fresh one when it arrived.
        life_observed: Duration,
    },
    /// The feed was changed or removed meanwhile, or somebody knows a later version of it.
    #[error("the feed was changed or removed meanwhile; read it again")]
    FeedChanged,
    /// As many exchanges are under way as this caller, its group, the feed or all together may have.
    #[error("too many exchanges are under way for this caller, this feed or all together")]
    Busy,
    /// The exchange was dropped before it came to an end.
    #[error("the exchange was interrupted")]
    Interrupted,
}

impl BrokerError {
    pub(super) fn unattainable(wanted: Duration, life_observed: Duration) -> Self {
        Self::MinRemainingUnattainable { wanted, life_observed }
    }
}

/// What a request is counted as.
pub(super) fn counted_as(answer: &Result<Served, BrokerError>) -> CredentialOutcome {
    match answer {
        Ok(Served { source: Source::Exchange, .. }) => CredentialOutcome::Exchange,
        Ok(Served { source: Source::Cache, .. }) => CredentialOutcome::Cache,
        Ok(Served { source: Source::StaleRefresh, .. }) => CredentialOutcome::StaleRefresh,
        Err(BrokerError::Failed { age: None, .. }) => CredentialOutcome::Failed,
        Err(BrokerError::Failed { age: Some(_), .. }) => CredentialOutcome::FailedLately,
        Err(BrokerError::MinRemainingUnattainable { .. }) => CredentialOutcome::Unattainable,
        Err(BrokerError::FeedChanged) => CredentialOutcome::FeedChanged,
        Err(BrokerError::Busy) => CredentialOutcome::Busy,
        Err(BrokerError::Interrupted) => CredentialOutcome::Interrupted,
    }
}

fn again(age: Duration) -> String {
    format!(" (found out {:.1} s ago, and not asked again so soon)", age.as_secs_f32())
}
