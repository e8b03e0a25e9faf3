//! The stand-in of an empty registry, which shows what an access token permits.
//!
//! Like a real registry, it checks the token's `access` claim before it looks for content. A permitted
//! request then gets 404, because the registry is empty.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, header};
use serde_json::{Value, json};

use super::Azure;

pub(super) async fn handle(
    State(azure): State<Arc<Azure>>,
    Path(path): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let Some(needed) = Needed::of(&method, &path) else {
        return refuse(StatusCode::NOT_FOUND, "UNSUPPORTED", None);
    };
    let claims = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
        .and_then(|token| azure.registry.verify(token, azure.clock.now()));
    match claims {
        Some(claims) if needed.is_granted_by(&claims) => refuse(StatusCode::NOT_FOUND, "NAME_UNKNOWN", None),
        Some(_) => refuse(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", Some((needed, true))),
        None => refuse(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", Some((needed, false))),
    }
}

/// The permission that a request needs.
struct Needed<'a> {
    name: &'a str,
    action: &'static str,
}

impl<'a> Needed<'a> {
    /// Derives the permission from the routes of OCI's distribution specification, below `/v2/`.
    fn of(method: &Method, path: &'a str) -> Option<Self> {
        let ends = ["/manifests/", "/blobs/", "/tags/", "/referrers/"];
        let end = ends.iter().filter_map(|end| path.rfind(end)).max()?;
        let action = match *method {
            Method::GET | Method::HEAD => "pull",
            Method::DELETE => "delete",
            _ => "push",
        };
        Some(Self { name: &path[..end], action })
    }

    fn is_granted_by(&self, claims: &Value) -> bool {
        let entries = claims["access"].as_array().map(Vec::as_slice).unwrap_or_default();
        claims["grant_type"] == "access_token"
            && entries.iter().any(|entry| {
                entry["type"] == "repository"
                    && entry["name"] == self.name
                    && entry["actions"].as_array().is_some_and(|actions| {
                        actions.iter().any(|action| *action == self.action || *action == "*")
                    })
            })
    }
}

fn refuse(status: StatusCode, code: &str, challenge: Option<(Needed<'_>, bool)>) -> Response {
    let body = json!({ "errors": [{ "code": code, "message": "refused by the sandbox" }] }).to_string();
    let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    if let Some((Needed { name, action }, is_token)) = challenge {
        let error = if is_token { ",error=\"insufficient_scope\"" } else { "" };
        let challenge =
            format!("Bearer realm=\"/azure/acr/oauth2/token\",scope=\"repository:{name}:{action}\"{error}");
        if let Ok(value) = challenge.parse() {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
        }
    }
    response
}
