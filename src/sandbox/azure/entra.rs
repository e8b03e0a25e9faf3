//! The stand-in of Entra's token endpoint, version 2.0: the client credentials grant with a federated
//! credential.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use uuid::Uuid;

use super::entra_error::EntraError;
use super::{Azure, trust};
use crate::exchange::azure::entra::JWT_BEARER;
use crate::feed::azure::EntraId;
use crate::sandbox::form::Form;
use crate::sandbox::identity::{RS256_ONLY, Rejection};

/// The lifetime of Entra's access tokens, in seconds.
const LIFETIME: u32 = 3599;

pub(super) async fn handle(
    State(azure): State<Arc<Azure>>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let trace_id = azure.request_id();
    // A client may choose the correlation ID.
    let chosen = headers.get("client-request-id").and_then(|id| Uuid::try_parse_ascii(id.as_bytes()).ok());
    let correlation_id = chosen.unwrap_or_else(|| azure.request_id());
    let (status, body) = match access_token(&azure, &tenant, &body).await {
        Ok(body) => (200, body),
        Err(error) => {
            tracing::info!(number = error.number, message = error.message, %trace_id, "sandbox Entra refused");
            (error.status, error.body(azure.clock.now(), trace_id, correlation_id))
        }
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = [
        (header::CONTENT_TYPE.as_str(), "application/json; charset=utf-8".to_owned()),
        (header::CACHE_CONTROL.as_str(), "no-store, no-cache".to_owned()),
        ("x-ms-request-id", trace_id.to_string()),
        ("client-request-id", correlation_id.to_string()),
    ];
    (status, headers, body.to_string()).into_response()
}

async fn access_token(azure: &Azure, tenant: &str, body: &[u8]) -> Result<Value, EntraError> {
    let ask = Ask::parse(tenant, body)?;
    if azure.config.tenant.is_some_and(|known| known != ask.tenant) {
        return Err(EntraError::request(90_002, format!("Tenant '{}' not found.", ask.tenant)));
    }
    let applications = &azure.config.applications;
    trust::knows(applications, ask.client_id)?;
    let identity = azure.verifier.verify(&ask.assertion, RS256_ONLY).await.map_err(|rejection| {
        tracing::info!(reason = %rejection, "sandbox Entra does not accept the assertion");
        refusal(&rejection)
    })?;
    trust::decide(applications, ask.client_id, &identity)?;
    if !azure.config.resources.contains(&ask.resource) {
        return Err(EntraError::new(
            400,
            "invalid_resource",
            500_011,
            format!(
                "The resource principal named {} was not found in the tenant named {}.",
                ask.resource, ask.tenant
            ),
        ));
    }
    let claims = json!({
        "aud": ask.resource, "iss": format!("https://sts.windows.net/{}/", ask.tenant), "tid": ask.tenant,
        "appid": ask.client_id, "sub": ask.client_id, "ver": "1.0", "uti": azure.request_id(),
    });
    let token = azure.access.issue(azure.random.as_ref(), claims, azure.clock.now(), LIFETIME)?;
    tracing::info!(
        client_id = %ask.client_id, resource = ask.resource, sub = identity.sub, aud = identity.aud,
        kid = identity.kid, "sandbox Entra issued an access token"
    );
    Ok(json!({
        "token_type": "Bearer", "expires_in": LIFETIME, "ext_expires_in": LIFETIME, "access_token": token,
    }))
}

/// A well-formed request.
struct Ask {
    tenant: EntraId,
    client_id: EntraId,
    resource: String,
    assertion: String,
}

impl Ask {
    fn parse(tenant: &str, body: &[u8]) -> Result<Self, EntraError> {
        let form = Form::parse(body).map_err(|name| {
            let message =
                format!("The request is not properly formatted. The parameter '{name}' is duplicated.");
            EntraError::request(9_000_411, message)
        })?;
        let field = |name: &str| {
            let missing = format!("The request body must contain the following parameter: '{name}'.");
            form.get(name).ok_or_else(|| EntraError::request(900_144, missing))
        };
        let tenant = tenant.parse().map_err(|_| {
            let excerpt: String = tenant.chars().take(64).collect();
            EntraError::request(90_002, format!("Tenant '{excerpt}' not found."))
        })?;
        if field("grant_type")? != "client_credentials" {
            return Err(EntraError::new(
                400,
                "unsupported_grant_type",
                70_003,
                "The app requested an unsupported grant type.",
            ));
        }
        let unknown = || {
            let message = "Application with that identifier was not found in the directory.";
            EntraError::new(400, "unauthorized_client", 700_016, message)
        };
        let client_id = field("client_id")?.parse().map_err(|_| unknown())?;
        let (assertion, assertion_type) = (form.get("client_assertion"), form.get("client_assertion_type"));
        let (Some(assertion), Some(JWT_BEARER)) = (assertion, assertion_type) else {
            return Err(EntraError::new(
                401,
                "invalid_client",
                7_000_218,
                "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
            ));
        };
        let scope = field("scope")?;
        let resource = scope.strip_suffix("/.default").filter(|resource| !resource.contains(' ')).ok_or_else(|| {
            let message = "The provided value for scope is not valid. Client credential flows must have a scope \
                 value with /.default suffixed to the resource identifier.";
            EntraError::new(400, "invalid_scope", 1_002_012, message)
        })?;
        Ok(Self { tenant, client_id, resource: resource.to_owned(), assertion: assertion.to_owned() })
    }
}

/// Returns the error that Entra gives for a rejected assertion.
fn refusal(rejection: &Rejection) -> EntraError {
    let client = |number, message: String| EntraError::new(401, "invalid_client", number, message);
    match rejection {
        Rejection::Malformed(why) => EntraError::request(50_027, format!("JWT token is invalid or malformed: {why}.")),
        Rejection::Algorithm(_) => EntraError::request(
            5_002_730,
            "Invalid JWT token. Unsupported key for the signing algorithm.",
        ),
        Rejection::Issuer(iss) => client(
            700_211,
            format!("No matching federated identity record found for presented assertion issuer '{iss}'."),
        ),
        Rejection::Fetch { .. } | Rejection::Discovery(_) => {
            EntraError::request(501_661, "Request to External OIDC endpoint failed.")
        }
        Rejection::Jwks(_) => EntraError::request(900_612, "The keys of the external OIDC endpoint cannot be parsed."),
        Rejection::Key(_) => {
            client(50_013, "Assertion failed signature validation. [Reason - The key was not found.]".into())
        }
        Rejection::Signature => client(
            50_013,
            "Assertion failed signature validation. [Reason - The provided signature value did not match the \
             expected signature value.]"
                .into(),
        ),
        Rejection::MissingClaim(name) => {
            EntraError::request(50_027, format!("JWT token is invalid or malformed: it has no {name}."))
        }
        Rejection::ClaimType(name) => {
            EntraError::request(50_027, format!("JWT token is invalid or malformed: {name} has the wrong type."))
        }
        Rejection::Expired(at) => {
            client(700_024, format!("Client assertion is not within its valid time range: it expired at {at}."))
        }
        Rejection::NotYetValid(at) => {
            client(700_024, format!("Client assertion is not within its valid time range, which begins at {at}."))
        }
    }
}
