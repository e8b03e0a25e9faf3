//! The public documents and health checks: everything that is exposed to the internet.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::routing::any;
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, USER_AGENT,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use jiff::Timestamp;
use serde::Serialize;

use super::server_status::ServerStatus;
use crate::carnet::Carnet;
use crate::issuer::{Health, Issuer, KeySet, STALE_AFTER};
use crate::jose::Algorithm;
use crate::jose::jwk::Kid;
use crate::oidc::metadata::{DISCOVERY_PATH, Document, JWKS_PATH};
use crate::signing_keys::clock_guard::ClockTrust;
use crate::signing_keys::publication::{is_current, still_shown};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const GET_AND_HEAD: HeaderValue = HeaderValue::from_static("GET, HEAD");

/// The detail of `/readyz`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Only the status, for the internet.
    StatusOnly,
    /// The status and every check.
    Full,
}

/// Responds to requests for the public documents of one issuer.
#[derive(Debug, Clone)]
pub struct PublicDocuments {
    issuer: Arc<Issuer>,
    discovery: Arc<str>,
    jwks: Arc<str>,
    healthz: Arc<str>,
    readyz: Arc<str>,
    detail: Detail,
    status: Arc<ServerStatus>,
}

#[derive(Debug, Serialize)]
struct Readiness {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<Checks>,
}

#[derive(Debug, Serialize)]
struct Checks {
    /// The seconds since the database last confirmed the key state.
    database_confirmed_seconds_ago: u64,
    database_reachable: bool,
    /// The algorithms for which this process has a signing key.
    active_keys: Vec<Algorithm>,
    /// The trust in the wall clock: `steady`, `jumped`, `ahead` or `behind`.
    clock: &'static str,
    /// The master key that this process lacks; without it, the process serves only documents.
    #[serde(skip_serializing_if = "Option::is_none")]
    needs_master_key: Option<String>,
    /// The latest time known to the database, while the clock is doubted.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_high_water: Option<Timestamp>,
    /// The error of the last scheduled rotation, if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation_error: Option<String>,
    /// Set if the database's files may still contain destroyed private keys.
    erasure_pending: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<StateChecks>,
    /// The copies of the documents that keys wait for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    publications: Vec<PublicationChecks>,
    /// A peer that sends forwarding headers and is not a trusted proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    undeclared_proxy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<TlsChecks>,
}

/// A copy of the documents. An outdated copy does not make a server unready, because the server's own
/// documents are right.
#[derive(Debug, Serialize)]
struct PublicationChecks {
    target: String,
    /// Set if the copy shows exactly the published documents.
    current: bool,
    /// The error of this process's last write, if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The revoked keys that the copy still shows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    still_published: Vec<Kid>,
}

/// The check that the database is not an older version of itself.
#[derive(Debug, Serialize)]
struct StateChecks {
    /// The number of the last state.
    n: i64,
    /// Set as long as nothing outside the database has proved that it is not an older one.
    unproved: bool,
    /// The reason why the database is not trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    /// The error of the last write of the state file.
    #[serde(skip_serializing_if = "Option::is_none")]
    file_error: Option<String>,
}

#[derive(Debug, Serialize)]
struct TlsChecks {
    /// The expiry of the served certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    /// The reason why the current files are not served.
    #[serde(skip_serializing_if = "Option::is_none")]
    reload_error: Option<String>,
}

impl PublicDocuments {
    /// Creates the service for the documents of `issuer` below its URL's path.
    #[must_use]
    pub fn new(issuer: Arc<Issuer>, detail: Detail) -> Self {
        let below = |path: &str| -> Arc<str> { format!("{}{path}", issuer.url().path()).into() };
        Self {
            discovery: below(DISCOVERY_PATH),
            jwks: below(JWKS_PATH),
            healthz: below("/healthz"),
            readyz: below("/readyz"),
            detail,
            status: Arc::default(),
            issuer,
        }
    }

    /// Adds the state of the server, which `/readyz` then includes.
    #[must_use]
    pub fn with_status(self, status: Arc<ServerStatus>) -> Self {
        Self { status, ..self }
    }

    /// Returns the state of the server.
    pub(super) fn status(&self) -> &ServerStatus {
        &self.status
    }

    /// Returns a router, to be merged into an application at its root.
    pub fn router(self) -> Router {
        let paths = [&self.discovery, &self.jwks, &self.healthz, &self.readyz].map(Arc::clone);
        let mut router = Router::new();
        for path in paths {
            router = router.route(&path, any(response));
        }
        router.with_state(self)
    }

    /// Returns the response for one of the four public paths; `None` for any other path.
    ///
    /// Uses only the request's method, path and headers, and never waits.
    #[must_use]
    pub fn response(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Option<Response<Full<Bytes>>> {
        // The JWKS comes first, because verifiers fetch it most often.
        let is_known = path == &*self.jwks
            || path == &*self.discovery
            || path == &*self.healthz
            || path == &*self.readyz;
        if !is_known {
            return None;
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Some(method_not_allowed());
        }
        Some(if path == &*self.jwks {
            document_response(&self.issuer.fetch_jwks(headers.get(USER_AGENT)).jwks, headers)
        } else if path == &*self.discovery {
            document_response(&self.issuer.documents().discovery, headers)
        } else if path == &*self.healthz {
            json(StatusCode::OK, &Readiness { status: "alive", checks: None })
        } else {
            self.readiness()
        })
    }

    fn readiness(&self) -> Response<Full<Bytes>> {
        let unconfirmed = self.issuer.unconfirmed_for();
        let reachable = unconfirmed <= STALE_AFTER;
        let (key_set, health) = (self.issuer.key_set(), self.issuer.health());
        let active_keys: Vec<_> =
            Algorithm::ALL.into_iter().filter(|algorithm| key_set.signer(*algorithm).is_some()).collect();
        let reading = self.issuer.clock_reading();
        let clock = match reading.trust {
            ClockTrust::Behind { .. } => "behind",
            ClockTrust::Ahead { .. } => "ahead",
            ClockTrust::Jumped { .. } => "jumped",
            ClockTrust::Steady => "steady",
        };
        let mints = reading.check_for_minting().is_ok();
        let state = self.issuer.state_status();
        let believed = state.as_ref().is_none_or(|state| state.refused.is_none());
        let ready = believed
            && reachable
            && active_keys.len() == Algorithm::ALL.len()
            && mints
            && health.needs_master_key.is_none();
        let checks = (self.detail == Detail::Full).then(|| Checks {
            database_confirmed_seconds_ago: unconfirmed.as_secs(),
            database_reachable: reachable,
            active_keys,
            clock,
            needs_master_key: health.needs_master_key.clone(),
            clock_high_water: (clock != "steady").then(|| self.issuer.pulse().time.high_water),
            rotation_error: health.rotation_error.clone(),
            erasure_pending: self.issuer.pulse().erasure_pending,
            state: state.map(|state| StateChecks {
                n: state.state.n,
                unproved: state.unproved,
                refused: state.refused.map(|error| error.to_string()),
                file_error: state.file_error.map(|error| error.to_string()),
            }),
            publications: publications(&key_set, &health),
            undeclared_proxy: self.status.first_undeclared_proxy().map(|peer| peer.to_string()),
            tls: self.status.certificate().map(|certificate| TlsChecks {
                expires_at: certificate.expires_at(),
                reload_error: certificate.reload_error(),
            }),
        });
        let (code, status) = match (self.status.is_draining(), ready) {
            (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
            (false, true) => (StatusCode::OK, "ready"),
            (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
        };
        json(code, &Readiness { status, checks })
    }
}

fn publications(key_set: &KeySet, health: &Health) -> Vec<PublicationChecks> {
    let copies = key_set.locations.iter().filter(|location| location.is_copy());
    copies
        .map(|location| PublicationChecks {
            target: location.name.clone(),
            current: is_current(&key_set.kids, location),
            error: health.publication_errors.get(&location.name).cloned(),
            still_published: still_shown(&key_set.keys, location),
        })
        .collect()
}

impl Carnet {
    /// Returns the public documents as a router that includes the issuer's path: merge it into an application
    /// at its root instead of nesting it. Its `/readyz` shows only the status.
    pub fn public_router(&self) -> Router {
        PublicDocuments::new(Arc::clone(self.issuer()), Detail::StatusOnly).router()
    }
}

async fn response(State(documents): State<PublicDocuments>, request: Request) -> Response<Body> {
    documents
        .response(request.method(), request.uri().path(), request.headers())
        .unwrap_or_else(not_found)
        .map(Body::new)
}

fn document_response(document: &Document, request: &HeaderMap) -> Response<Full<Bytes>> {
    let unchanged = request.get(IF_NONE_MATCH).is_some_and(|tags| names(tags, &document.etag));
    let body = if unchanged { Bytes::new() } else { document.body.clone() };
    let mut response = Response::new(Full::new(body));
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    if !unchanged {
        headers.insert(CONTENT_TYPE, JSON);
    }
    headers.insert(CACHE_CONTROL, document.cache_control.clone());
    headers.insert(ETAG, document.etag.clone());
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// Returns whether an `If-None-Match` field (RFC 9110 section 13.1.2) names `etag`, by weak comparison.
fn names(field: &HeaderValue, etag: &HeaderValue) -> bool {
    let field = field.as_bytes().trim_ascii();
    field == b"*"
        || field
            .split(|byte| *byte == b',')
            .map(<[u8]>::trim_ascii)
            .any(|tag| tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes())
}

fn json(status: StatusCode, body: &Readiness) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(serde_json::to_vec(body).unwrap_or_default().into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response
}

fn method_not_allowed() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response.headers_mut().insert(ALLOW, GET_AND_HEAD);
    response
}

pub(super) fn not_found() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_none_match_is_a_list_compared_weakly() {
        let etag = HeaderValue::from_static("\"abc\"");
        for (field, expected) in [
            ("\"abc\"", true),
            ("W/\"abc\"", true),
            ("\"x\", \"abc\"", true),
            ("*", true),
            ("\"abd\"", false),
            ("abc", false),
            ("", false),
        ] {
            assert_eq!(names(&HeaderValue::from_static(field), &etag), expected, "{field}");
        }
    }
}
