//! Metrics of HTTP, limits, grants and certificates.

use std::time::Duration;

use http::{Method, StatusCode};
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::buckets::SECONDS;
use super::labels::{Label as _, Pairs, Series, labels};
use super::routes;

labels! {
    /// A limit that refused a request.
    pub Limit is "limit" {
        /// Too many requests with one grant.
        Grant = "grant",
        /// Too many requests with valid grants from one address.
        Address = "address",
        /// Too many requests without a valid grant from one address.
        Anonymous = "anonymous",
        /// Too many requests at once.
        Concurrency = "concurrency",
    }
}

labels! {
    /// The outcome of authenticating and authorising a request.
    pub GrantOutcome is "outcome" {
        /// The grant permits the request.
        Accepted = "accepted",
        /// The request has no grant.
        Missing = "missing",
        /// The token is malformed or belongs to no grant.
        Unknown = "unknown",
        /// The grant has expired.
        Expired = "expired",
        /// The grant was revoked.
        Revoked = "revoked",
        /// The grant does not permit the request.
        Forbidden = "forbidden",
    }
}

labels! {
    /// The server's listeners.
    pub Listener is "listener" {
        /// `--listen`.
        Main = "main",
        /// `--public-listen`.
        Public = "public",
    }
}

labels! {
    /// The method of a request.
    Verb is "method" {
        Get = "GET",
        Head = "HEAD",
        Post = "POST",
        Put = "PUT",
        Patch = "PATCH",
        Delete = "DELETE",
        Options = "OPTIONS",
        Other = "other",
    }
}

labels! {
    /// The class of a response's status.
    Status is "status" {
        Informational = "1xx",
        Success = "2xx",
        Redirection = "3xx",
        ClientError = "4xx",
        ServerError = "5xx",
    }
}

type HistogramFamily = Family<Pairs, Histogram, fn() -> Histogram>;

/// Metrics of the server.
#[derive(Debug)]
pub struct Server {
    // Created on first use, because hundreds of combinations never occur.
    requests: Family<Pairs, Counter>,
    durations: HistogramFamily,
    limited: Series<(Limit,), Counter>,
    grant_checks: Series<(GrantOutcome,), Counter>,
    // Empty without TLS.
    certificate_expiry: Family<Pairs, Gauge>,
    reload_failures: Series<(Listener,), Counter>,
}

impl Server {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let requests = Family::default();
        registry.register("http_requests", "Answered requests", requests.clone());
        let durations = HistogramFamily::new_with_constructor(|| Histogram::new(SECONDS));
        registry.register_with_unit(
            "http_request_duration",
            "Duration of requests until their response",
            Unit::Seconds,
            durations.clone(),
        );
        let limited = Series::register(
            registry,
            "http_requests_limited",
            "Requests refused by a limit",
            None,
            Counter::default,
        );
        let grant_checks = Series::register(
            registry,
            "grant_checks",
            "Requests whose grant was checked",
            None,
            Counter::default,
        );
        let certificate_expiry = Family::default();
        registry.register_with_unit(
            "tls_certificate_not_after_timestamp",
            "Expiry of the served certificate, in Unix time",
            Unit::Seconds,
            certificate_expiry.clone(),
        );
        let reload_failures = Series::register(
            registry,
            "tls_reload_failures",
            "Certificates that could not be loaded",
            None,
            Counter::default,
        );
        Self { requests, durations, limited, grant_checks, certificate_expiry, reload_failures }
    }

    /// Counts a response and its duration. `route` is the template of the matched route, such as
    /// `/api/v1/grants/{id}`. An unknown template and `None` both count as `other`.
    pub fn answered(&self, route: Option<&str>, method: &Method, status: StatusCode, took: Duration) {
        let route = ("route", route.map_or(routes::OTHER, routes::label));
        let labels = vec![route, Verb::of(method).pair(), Status::of(status).pair()];
        self.requests.get_or_create(&labels).inc();
        self.durations.get_or_create(&vec![route]).observe(took.as_secs_f64());
    }

    /// Counts a request that a limit refused.
    pub fn limited(&self, limit: Limit) {
        self.limited.at((limit,)).inc();
    }

    /// Counts a check of a request's grant.
    pub fn grant_checked(&self, outcome: GrantOutcome) {
        self.grant_checks.at((outcome,)).inc();
    }

    /// Sets the expiry of the certificate that is served from now on.
    pub fn certificate_served(&self, listener: Listener, not_after: Timestamp) {
        self.certificate_expiry.get_or_create(&vec![listener.pair()]).set(not_after.as_second());
    }

    /// Counts a changed certificate that could not be loaded; the server keeps the old one.
    pub fn reload_failed(&self, listener: Listener) {
        self.reload_failures.at((listener,)).inc();
    }
}

impl Verb {
    fn of(method: &Method) -> Self {
        Self::ALL.iter().copied().find(|verb| verb.text() == method.as_str()).unwrap_or(Self::Other)
    }
}

impl Status {
    fn of(status: StatusCode) -> Self {
        match status.as_u16() / 100 {
            1 => Self::Informational,
            2 => Self::Success,
            3 => Self::Redirection,
            4 => Self::ClientError,
            _ => Self::ServerError,
        }
    }
}
