//! Metrics of tokens, exchanges, credentials and fetches of the JWKS.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::buckets::SECONDS;
use super::labels::{Series, labels};
use crate::feed::FeedType;
use crate::jose::Algorithm;
use crate::values::clock::Clock;

labels! {
    /// The outcome of minting a token.
    pub MintOutcome is "outcome" {
        /// A token was minted.
        Minted = "minted",
        /// The context lacks a part that the subject needs, or the subject is too long.
        Subject = "subject",
        /// The feed's lifetime exceeds the key policy.
        Lifetime = "lifetime",
        /// The feed's audience is reserved for carnet itself.
        Audience = "audience",
        /// The key state has not been confirmed recently.
        Unconfirmed = "unconfirmed",
        /// This machine's clock is behind.
        ClockBehind = "clock-behind",
        /// This machine's clock is so far ahead that an operator has to accept it.
        ClockAhead = "clock-ahead",
        /// The active key is sealed with another master key.
        NoSigner = "no-signer",
        /// A copy of the documents does not show the active key yet.
        Unpublished = "unpublished",
        /// Randomness, serialisation or the signature failed.
        Internal = "internal",
    }
}

labels! {
    /// The outcome of one attempt to exchange a token for a credential.
    pub ExchangeOutcome is "outcome" {
        /// The provider issued a credential.
        Ok = "ok",
        /// The provider refused: trust or permissions are not set up for this token.
        Refused = "refused",
        /// The provider was busy or failed: 429, 5xx, or its own code for that.
        Unavailable = "unavailable",
        /// There was no response.
        Unreachable = "unreachable",
        /// The response could not be used.
        Unusable = "unusable",
        /// The issued credential had already expired.
        Expired = "expired",
        /// The request could not be built, or not limited to the requested scope.
        Impossible = "impossible",
        /// The broker's deadline passed, or nobody was waiting for the result any more.
        Abandoned = "abandoned",
    }
}

labels! {
    /// The outcome of a request for a credential.
    pub CredentialOutcome is "outcome" {
        /// A credential from an exchange made for this request or for concurrent ones.
        Exchange = "exchange",
        /// A cached credential.
        Cache = "cache",
        /// A cached credential, because the provider did not issue a new one.
        StaleRefresh = "stale-refresh",
        /// The exchange failed.
        Failed = "failed",
        /// A recent failure from the cache, without another request to the provider.
        FailedLately = "failed-lately",
        /// A new credential has a shorter lifetime than requested.
        Unattainable = "unattainable",
        /// The feed was changed or removed in the meantime.
        FeedChanged = "feed-changed",
        /// Too many exchanges were in progress.
        Busy = "busy",
        /// The exchange was dropped.
        Interrupted = "interrupted",
    }
}

/// Metrics of the tokens and credentials that carnet issues.
#[derive(Debug)]
pub struct Issuance {
    minted: Series<(Algorithm, MintOutcome), Counter>,
    exchanges: Series<(FeedType, ExchangeOutcome), Counter>,
    durations: Series<(FeedType,), Histogram>,
    in_progress: Series<(FeedType,), Gauge>,
    requests: Series<(FeedType, CredentialOutcome), Counter>,
    remembered: Gauge,
    jwks_fetches: Counter,
}

impl Issuance {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let minted = Series::register(registry, "tokens_minted", "Requested tokens", None, Counter::default);
        let exchanges = Series::register(
            registry,
            "exchanges",
            "Attempts to exchange a token for a credential",
            None,
            Counter::default,
        );
        let durations = Series::register(
            registry,
            "exchange_duration",
            "Duration of attempts to exchange a token",
            Some(Unit::Seconds),
            || Histogram::new(SECONDS),
        );
        let in_progress = Series::register(
            registry,
            "exchanges_in_progress",
            "Attempts to exchange a token in progress",
            None,
            Gauge::default,
        );
        let requests = Series::register(
            registry,
            "credential_requests",
            "Requests for a credential",
            None,
            Counter::default,
        );
        let remembered = Gauge::default();
        registry.register(
            "credentials_remembered",
            "Credentials and failures cached by the broker",
            remembered.clone(),
        );
        let jwks_fetches = Counter::default();
        registry.register("jwks_fetches", "Fetches of the JWKS", jwks_fetches.clone());
        Self { minted, exchanges, durations, in_progress, requests, remembered, jwks_fetches }
    }

    /// Counts a request for a token.
    pub fn minted(&self, algorithm: Algorithm, outcome: MintOutcome) {
        self.minted.at((algorithm, outcome)).inc();
    }

    /// Starts to measure an attempt to exchange a token.
    pub fn attempt<'a>(&'a self, provider: FeedType, clock: &'a dyn Clock) -> Attempt<'a> {
        self.in_progress.at((provider,)).inc();
        let began = clock.monotonic();
        Attempt { issuance: self, provider, clock, began, outcome: ExchangeOutcome::Abandoned }
    }

    /// Counts a request for a credential that got a response.
    pub fn answered(&self, provider: FeedType, outcome: CredentialOutcome) {
        self.requests.at((provider, outcome)).inc();
    }

    /// Sets the number of cached credentials and failures.
    pub fn remembers(&self, count: usize) {
        self.remembered.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts a fetch of the JWKS. It is one relaxed increment, because this path is benchmarked.
    pub fn jwks_fetched(&self) {
        self.jwks_fetches.inc();
    }
}

/// An attempt in progress. If it is dropped without [`Attempt::end`], for example by a deadline, it counts as
/// abandoned.
#[derive(Debug)]
#[must_use = "an attempt that is dropped at once measures nothing"]
pub struct Attempt<'a> {
    issuance: &'a Issuance,
    provider: FeedType,
    clock: &'a dyn Clock,
    /// The start, on the monotonic clock.
    began: Duration,
    outcome: ExchangeOutcome,
}

impl Attempt<'_> {
    /// Ends the attempt with this outcome.
    pub fn end(mut self, outcome: ExchangeOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let Self { issuance, provider, clock, began, outcome } = self;
        let took = clock.monotonic().saturating_sub(*began);
        issuance.in_progress.at((*provider,)).dec();
        issuance.exchanges.at((*provider, *outcome)).inc();
        issuance.durations.at((*provider,)).observe(took.as_secs_f64());
    }
}
