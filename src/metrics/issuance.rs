//! Tokens, exchanges, credentials, and who fetches the keys.

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
    /// What came of minting a token.
    pub MintOutcome is "outcome" {
        /// A token.
        Minted = "minted",
        /// The context lacks what the subject needs, or the subject is too long.
        Subject = "subject",
        /// The feed's lifetime exceeds the key policy.
        Lifetime = "lifetime",
        /// The feed's audience is carnet's own.
        Audience = "audience",
        /// The key state has not been confirmed lately.
        Unconfirmed = "unconfirmed",
        /// This machine's clock is behind.
        ClockBehind = "clock-behind",
        /// This machine's clock is ahead by so much that somebody has to accept it.
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
    /// What came of one attempt to trade a token for a credential.
    pub ExchangeOutcome is "outcome" {
        /// A credential.
        Ok = "ok",
        /// The provider refused: trust or permissions are not set up for this token.
        Refused = "refused",
        /// The provider was busy or broken: 429, 5xx, or its own word for that.
        Unavailable = "unavailable",
        /// There was no answer.
        Unreachable = "unreachable",
        /// The answer could not be used.
        Unusable = "unusable",
        /// What was issued had already expired.
        Expired = "expired",
        /// The request could not be made, or not be limited as it was asked to.
        Impossible = "impossible",
        /// The broker's deadline passed, or nobody wanted the result any more.
        Abandoned = "abandoned",
    }
}

labels! {
    /// What a request for a credential got.
    pub CredentialOutcome is "outcome" {
        /// One from an exchange for this request, or for others that asked at the same time.
        Exchange = "exchange",
        /// One from memory.
        Cache = "cache",
        /// One from memory, because the provider gave no new one.
        StaleRefresh = "stale-refresh",
        /// The failure of an exchange.
        Failed = "failed",
        /// A failure that was found out a moment ago; the provider was not asked again.
        FailedLately = "failed-lately",
        /// A fresh credential does not live as long as was asked for.
        Unattainable = "unattainable",
        /// The feed was changed or removed meanwhile.
        FeedChanged = "feed-changed",
        /// Too many exchanges were under way.
        Busy = "busy",
        /// The exchange was dropped.
        Interrupted = "interrupted",
    }
}

/// Metrics of what carnet hands out.
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
        let minted =
            Series::register(registry, "tokens_minted", "Tokens that were asked for", None, Counter::default);
        let exchanges = Series::register(
            registry,
            "exchanges",
            "Attempts to trade a token for a credential",
            None,
            Counter::default,
        );
        let durations = Series::register(
            registry,
            "exchange_duration",
            "How long attempts to trade a token took",
            Some(Unit::Seconds),
            || Histogram::new(SECONDS),
        );
        let in_progress = Series::register(
            registry,
            "exchanges_in_progress",
            "Attempts to trade a token that are under way",
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
            "Credentials and failures that the broker keeps in memory",
            remembered.clone(),
        );
        let jwks_fetches = Counter::default();
        registry.register("jwks_fetches", "Fetches of the JWKS", jwks_fetches.clone());
        Self { minted, exchanges, durations, in_progress, requests, remembered, jwks_fetches }
    }

    /// A token was asked for.
    pub fn minted(&self, algorithm: Algorithm, outcome: MintOutcome) {
        self.minted.at((algorithm, outcome)).inc();
    }

    /// An attempt to trade a token begins.
    pub fn attempt<'a>(&'a self, provider: FeedType, clock: &'a dyn Clock) -> Attempt<'a> {
        self.in_progress.at((provider,)).inc();
        let began = clock.monotonic();
        Attempt { issuance: self, provider, clock, began, outcome: ExchangeOutcome::Abandoned }
    }

    /// A request for a credential was answered.
    pub fn answered(&self, provider: FeedType, outcome: CredentialOutcome) {
        self.requests.at((provider, outcome)).inc();
    }

    /// This many credentials and failures are remembered.
    pub fn remembers(&self, count: usize) {
        self.remembered.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The JWKS was fetched: one relaxed increment, on the path that is measured.
    pub fn jwks_fetched(&self) {
        self.jwks_fetches.inc();
    }
}

/// An attempt that is under way. Dropped without an end, as by a deadline, it counts as abandoned.
#[derive(Debug)]
#[must_use = "an attempt that is dropped at once measures nothing"]
pub struct Attempt<'a> {
    issuance: &'a Issuance,
    provider: FeedType,
    clock: &'a dyn Clock,
    /// On the monotonic clock.
    began: Duration,
    outcome: ExchangeOutcome,
}

impl Attempt<'_> {
    /// The attempt ends in this way.
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
