//! Metrics: what a running carnet counts and measures, in the text format of OpenMetrics.
//!
//! Owns every metric's name, unit and labels; `docs/metrics.md` describes them, and a test compares the
//! two. Labels are bounded: their values are enums and route templates that stand in the source. A feed's
//! slug, a subject, an address, a user agent, or anything else that comes from outside is never a label;
//! the audit log and the traces tell such things apart. Nothing here is global: an issuer has one
//! [`Metrics`], and two issuers in one process have two.
//!
//! What is counted on the way of a request is an atomic increment. What follows from the keys and the
//! clock is worked out when somebody asks.

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

/// Every metric of one issuer in this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Tokens, exchanges, credentials, and who fetches the keys.
    pub issuance: Issuance,
    /// Signing keys, their rotation, and the clock.
    pub keys: Keys,
    /// The audit log.
    pub audit: Audit,
    /// HTTP, limits, grants and certificates.
    pub server: Server,
}

impl Metrics {
    /// Metrics that have counted nothing yet.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("carnet");
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version that runs", build);
        let issuance = Issuance::register(&mut registry);
        let keys = Keys::register(&mut registry);
        let audit = Audit::register(&mut registry);
        let server = Server::register(&mut registry);
        Self { registry, issuance, keys, audit, server }
    }

    /// Everything as it is now, in OpenMetrics.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // A string takes whatever is written.
        let _ = text::encode(&mut text, &self.registry);
        text
    }

    /// Everything as it is now, in `format`.
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
