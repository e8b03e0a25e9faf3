//! Metrics: the counts and measurements of a running carnet, in the text format of OpenMetrics.
//!
//! Owns every metric's name, unit and labels. `docs/metrics.md` describes them, and a test compares the two.
//! Labels are bounded: their values are enums and route templates from the source. A feed's slug, a subject,
//! an address, a user agent or any other external value is never a label; the audit log and the traces tell
//! such values apart. Nothing is global: each issuer has its own [`Metrics`], so two issuers in one process
//! have two.
//!
//! A request only costs atomic increments. Values that follow from the keys and the clock are computed at
//! each scrape.

mod audit;
mod buckets;
mod issuance;
mod keys;
mod labels;
mod routes;
mod server;
mod text_format;

use prometheus_client::encoding::text;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use self::audit::Audit;
pub use self::issuance::{CredentialOutcome, ExchangeOutcome, Issuance, MintOutcome};
pub use self::keys::{ClockState, KeyReading, Keys, PublicationOutcome, StateReading};
pub use self::server::{GrantOutcome, Limit, Listener, Server};
pub use self::text_format::TextFormat;

/// All metrics of one issuer in this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Metrics of tokens, exchanges, credentials and fetches of the JWKS.
    pub issuance: Issuance,
    /// Metrics of signing keys, their rotation, and the clock.
    pub keys: Keys,
    /// Metrics of the audit log.
    pub audit: Audit,
    /// Metrics of HTTP, limits, grants and certificates.
    pub server: Server,
}

impl Metrics {
    /// Makes the metrics, with every count at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("carnet");
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running version", build);
        let issuance = Issuance::register(&mut registry);
        let keys = Keys::register(&mut registry);
        let audit = Audit::register(&mut registry);
        let server = Server::register(&mut registry);
        Self { registry, issuance, keys, audit, server }
    }

    /// Returns the current values in OpenMetrics.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }

    /// Returns the current values in `format`.
    #[must_use]
    pub fn encode_as(&self, format: TextFormat) -> String {
        match format {
            TextFormat::OpenMetrics => self.encode(),
            TextFormat::Prometheus => text_format::as_prometheus(&self.encode()),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
