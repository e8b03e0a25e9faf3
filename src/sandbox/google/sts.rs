//! The stand-in of Google's Security Token Service: a token exchange (RFC 8693).

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use serde_json::{Value, json};

use super::oauth_error::OAuthError;
use super::{Federated, Google, trust};
use crate::feed::google::WorkloadIdentityProvider;
use crate::sandbox::form::Form;
use crate::sandbox::identity::{BOTH, Rejection};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";
const SUBJECT_TOKEN_TYPES: [&str; 2] =
    ["urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token"];

pub(super) async fn handle(State(google): State<Arc<Google>>, headers: HeaderMap, body: Bytes) -> Response {
    match token(&google, &headers, &body).await {
        Ok(response) => Json(response).into_response(),
        Err(OAuthError { status, code, description }) => {
            tracing::info!(code, description, "sandbox Google STS refused");
            (status, Json(json!({ "error": code, "error_description": description }))).into_response()
        }
    }
}

async fn token(google: &Google, headers: &HeaderMap, body: &[u8]) -> Result<Value, OAuthError> {
    let ask = Ask::parse(headers, body)?;
    let trust = trust::provider(&google.config.providers, &ask.provider)?;
    let verified = google.verifier.verify_with(&ask.token, BOTH, trust.uploaded_jwks()).await;
    let identity = verified.map_err(|rejection| {
        tracing::info!(reason = %rejection, "sandbox Google STS does not accept the token");
        refusal(&rejection)
    })?;
    trust.admit(&ask.provider, &identity)?;

    let access_token = google.access_token()?;
    // As with Google, an access token does not outlive the token that it was exchanged for.
    let left = identity.exp.as_second() - google.clock.now().as_second();
    let lifetime = google.config.credential_lifetime.min(u32::try_from(left).unwrap_or(0));
    let expires_at = google.expiry(lifetime);
    tracing::info!(
        provider = %ask.provider, sub = identity.sub, aud = identity.aud, kid = identity.kid, %expires_at,
        "sandbox Google STS issued an access token"
    );
    google.federated.remember(access_token.clone(), Federated { sub: identity.sub, expires_at });
    Ok(json!({
        "access_token": access_token, "issued_token_type": ACCESS_TOKEN_TYPE, "token_type": "Bearer",
        "expires_in": lifetime,
    }))
}

/// Returns the error that Google gives for a rejected token. The code is the same for every reason.
fn refusal(rejection: &Rejection) -> OAuthError {
    let description = match rejection {
        Rejection::Fetch { .. } | Rejection::Discovery(_) | Rejection::Jwks(_) => {
            "Error connecting to the given credential's issuer.".to_owned()
        }
        Rejection::Issuer(iss) => {
            format!("The issuer in ID Token {iss} does not match the expected ones.")
        }
        Rejection::Key(_) => "No key of the issuer's matches the key id of the ID Token.".to_owned(),
        Rejection::Signature => "Invalid ID Token signature.".to_owned(),
        Rejection::Expired(at) => format!("The ID Token expired at {at}."),
        Rejection::NotYetValid(at) => format!("The ID Token is issued at {at}, in the future."),
        Rejection::Malformed(_)
        | Rejection::Algorithm(_)
        | Rejection::MissingClaim(_)
        | Rejection::ClaimType(_) => {
            format!("The ID Token is invalid: {rejection}.")
        }
    };
    OAuthError::new("invalid_grant", description)
}

/// A request within the API's limits.
struct Ask {
    provider: WorkloadIdentityProvider,
    token: String,
}

impl Ask {
    fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, OAuthError> {
        let invalid = |description: String| OAuthError::new("invalid_request", description);
        let media_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        if !media_type.starts_with(b"application/x-www-form-urlencoded") {
            return Err(invalid("The request is not a form.".to_owned()));
        }
        let form = Form::parse(body).map_err(|name| invalid(format!("Field \"{name}\" is given twice.")))?;
        if form.get("grant_type") != Some(GRANT_TYPE) {
            return Err(OAuthError::new("unsupported_grant_type", "Only token exchange is supported."));
        }
        let wrong = |name: &str| invalid(format!("Invalid value for \"{name}\"."));
        if form.get("requested_token_type") != Some(ACCESS_TOKEN_TYPE) {
            return Err(wrong("requested_token_type"));
        }
        if !form.get("subject_token_type").is_some_and(|kind| SUBJECT_TOKEN_TYPES.contains(&kind)) {
            return Err(wrong("subject_token_type"));
        }
        if form.get("scope").is_none() {
            return Err(OAuthError::new("invalid_scope", "At least one scope is required."));
        }
        let token = form.get("subject_token").ok_or_else(|| wrong("subject_token"))?;
        // Google accepts only the full name, and only in this form.
        let full = form.get("audience").filter(|audience| audience.starts_with("//"));
        let provider = full.and_then(|audience| audience.parse().ok()).ok_or_else(|| {
            invalid(
                "Invalid value for \"audience\". This value should be the full resource name of the Identity Provider."
                    .to_owned(),
            )
        })?;
        Ok(Self { provider, token: token.to_owned() })
    }
}
