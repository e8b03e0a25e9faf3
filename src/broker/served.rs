//! The outcome of a request: a credential and its source, or an error.

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
    /// The source of the credential.
    pub source: Source,
    /// The identifier of the token that was exchanged for it.
    pub jti: Uuid,
}

/// The source of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// An exchange for this request, or for concurrent requests.
    Exchange,
    /// The cache.
    Cache,
    /// The cache; the last attempt to refresh the credential failed.
    StaleRefresh,
}

impl Source {
    /// Returns the word used in responses.
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

/// The reasons why no credential is handed out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    /// The exchange failed.
    #[error("no credential could be obtained{}", age.map(again).unwrap_or_default())]
    Failed {
        /// The reason.
        #[source]
        error: Arc<AttemptError>,
        /// The age of the failure, if it was cached and no exchange was tried for this request.
        age: Option<Duration>,
    },
    /// A fresh credential does not live as long as requested.
    #[error(
        "a fresh credential of this feed has {} s left, less than the {} s requested",
        life_observed.as_secs(), wanted.as_secs()
    )]
    MinRemainingUnattainable {
        /// The requested remaining life.
        wanted: Duration,
        /// The remaining life of a fresh credential on arrival.
        life_observed: Duration,
    },
    /// The feed was changed or removed meanwhile, or the cache has a later version of it.
    #[error("the feed was changed or removed in the meantime; read it again")]
    FeedChanged,
    /// The limit of concurrent exchanges is reached for this caller, its group, the feed or the broker.
    #[error("too many exchanges are in progress for this caller, for this feed or in total")]
    Busy,
    /// The exchange was dropped before it ended.
    #[error("the exchange was interrupted")]
    Interrupted,
}

impl BrokerError {
    pub(super) fn unattainable(wanted: Duration, life_observed: Duration) -> Self {
        Self::MinRemainingUnattainable { wanted, life_observed }
    }
}

/// Returns the metric's outcome for the result of a request.
pub(super) fn counted_as(response: &Result<Served, BrokerError>) -> CredentialOutcome {
    match response {
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
    format!(" (the failure is {:.1} s old, and the provider is not asked again yet)", age.as_secs_f32())
}
