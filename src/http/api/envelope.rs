//! The common parts of all responses of the API: a request id, problem details, an audit row for every
//! refusal, and `Cache-Control: no-store`.

use std::net::IpAddr;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use tracing::Instrument as _;

use super::Api;
use super::caller::Caller;
use super::refusal::RefusedRequest;
use super::request_id::{REQUEST_ID, RequestId};
use crate::api_types::PREFIX;
use crate::api_types::problem::{PROBLEM_JSON, Problem, ProblemType};
use crate::audit::{Event, EventKind, Outcome};
use crate::http::client_address::ClientAddress;

/// The methods that records name.
const METHODS: [Method; 6] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// Adds the common parts to a response.
pub(super) async fn envelope(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let id = match RequestId::of(request.headers()) {
        Some(id) => id,
        None => RequestId::new(api.new_request_id()),
    };
    request.extensions_mut().insert(id.clone());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let client = request.extensions().get::<ClientAddress>().and_then(ClientAddress::ip);
    let span = tracing::info_span!("request", id = id.as_str(), %method, route = route.as_deref());
    let began = api.carnet().clock().monotonic();
    let below = request.uri().path().strip_prefix(PREFIX);
    let is_below = below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let mut response = next.run(request).instrument(span).await;
    if response.extensions().get::<RefusedRequest>().is_none() {
        // axum's own responses, which keep their `Allow` header.
        let problem_type = match response.status() {
            StatusCode::METHOD_NOT_ALLOWED => Some(ProblemType::MethodNotAllowed),
            StatusCode::NOT_FOUND if is_below => Some(ProblemType::NotFound),
            _ => None,
        };
        if let Some(problem_type) = problem_type {
            let refused = RefusedRequest { problem: Problem::new(problem_type), about: None, why: None };
            response.extensions_mut().insert(refused);
        }
    }
    if let Some(RefusedRequest { problem, about, why }) = response.extensions_mut().remove::<RefusedRequest>()
    {
        let caller = response.extensions_mut().remove::<Caller>();
        match caller {
            Some(caller) => {
                // A client may invent methods, but the audit log must count few different kinds together.
                let verb = if METHODS.contains(&method) { method.as_str() } else { "other method" };
                let what =
                    format!("{verb} {}: {}", route.as_deref().unwrap_or("unknown path"), named(&problem));
                let outcome = if problem.status < 500 { Outcome::Refused } else { Outcome::Failed };
                let mut event = caller.event(EventKind::Request, outcome).detail(&what);
                if let Some(feed) = &about {
                    event = event.about_path(feed);
                }
                if let Some(first) = api.carnet().audit_log().count_refusal(caller.grant_id(), event) {
                    if let Some(why) = &why {
                        tracing::error!(actor = %caller.principal().actor(), what, why, "a request failed");
                    }
                    record(&api, first, &problem).await;
                }
            }
            None => note(&api, client, &problem, why.as_deref()),
        }
        response = with_problem(response, Problem { request_id: Some(id.as_str().to_owned()), ..problem });
    }
    let took = api.carnet().clock().monotonic().saturating_sub(began);
    api.carnet().metrics().server.answered(route.as_deref(), &method, response.status(), took);
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Records a refusal. A refusal gives nothing away, so it is sent even if its row cannot be written. If the
/// storage is the reason for the refusal, the caller does not wait for it again.
async fn record(api: &Api, event: Event, problem: &Problem) {
    if problem.known_type() == Some(ProblemType::StorageUnavailable) {
        return api.carnet().audit_log().note(event);
    }
    if let Err(error) = api.carnet().audit_log().record(event).await {
        tracing::error!(error = &error as &dyn std::error::Error, "a refusal could not be recorded");
    }
}

/// Counts refusals of callers without a grant. Anyone can cause any number of them, so they are not listed
/// one by one.
fn note(api: &Api, client: Option<IpAddr>, problem: &Problem, why: Option<&str>) {
    let is_server_error = problem.status >= 500;
    if is_server_error
        || matches!(problem.known_type(), Some(ProblemType::Unauthorized | ProblemType::RateLimited))
    {
        // Only processes that can open the Unix socket get here without an address.
        let client = client.unwrap_or(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST));
        let reason = named(problem);
        if !api.carnet().audit_log().note_refusal(client, reason) {
            return;
        }
        if is_server_error {
            tracing::error!(%client, reason, why, "a request failed");
        } else {
            tracing::info!(%client, reason, why, "a request without a valid grant was refused");
        }
    }
}

fn named(problem: &Problem) -> &'static str {
    problem.known_type().map_or("unknown", ProblemType::name)
}

fn with_problem(response: Response, problem: Problem) -> Response {
    let (mut parts, _) = response.into_parts();
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(serde_json::to_vec(&problem).unwrap_or_default()))
}
