//! The stand-in of the IAM Service Account Credentials API: `generateAccessToken`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Google, trust};
use crate::feed::google::{AccessTokenLifetime, ServiceAccount};
use crate::values::random::RandomnessUnavailable;

const PERMISSION: &str = "iam.serviceAccounts.getAccessToken";

/// A refusal in the format of Google's APIs.
struct ApiError {
    status: StatusCode,
    /// The name of a `google.rpc.Code`.
    code: &'static str,
    message: String,
    details: Value,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), details: json!([]) }
    }

    fn invalid(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", message)
    }

    fn denied() -> Self {
        let message = format!("Permission '{PERMISSION}' denied on resource (or it may not exist).");
        let details = json!([{
            "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "IAM_PERMISSION_DENIED",
            "domain": "iam.googleapis.com", "metadata": { "permission": PERMISSION },
        }]);
        Self { details, ..Self::new(StatusCode::FORBIDDEN, "PERMISSION_DENIED", message) }
    }

    fn unauthenticated() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "UNAUTHENTICATED",
            "Request had invalid authentication credentials. Expected OAuth 2 access token.",
        )
    }
}

impl From<RandomnessUnavailable> for ApiError {
    fn from(error: RandomnessUnavailable) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", error.to_string())
    }
}

pub(super) async fn handle(
    State(google): State<Arc<Google>>,
    Path(operation): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match generate(&google, &operation, &headers, &body) {
        Ok(response) => Json(response).into_response(),
        Err(ApiError { status, code, message, details }) => {
            tracing::info!(code, message, "sandbox Google IAM credentials refused");
            let mut error = json!({ "code": status.as_u16(), "message": message, "status": code });
            if details.as_array().is_some_and(|details| !details.is_empty()) {
                error["details"] = details;
            }
            (status, Json(json!({ "error": error }))).into_response()
        }
    }
}

/// The fields of a request. `delegates` is only checked for its type.
#[derive(Deserialize)]
struct Ask {
    scope: Vec<String>,
    lifetime: Option<String>,
    #[serde(rename = "delegates")]
    _delegates: Option<Vec<String>>,
}

fn generate(google: &Google, operation: &str, headers: &HeaderMap, body: &[u8]) -> Result<Value, ApiError> {
    let Some((account, "generateAccessToken")) = operation.rsplit_once(':') else {
        return Err(ApiError::new(StatusCode::NOT_FOUND, "NOT_FOUND", "The operation is not known."));
    };
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token =
        token.and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(ApiError::unauthenticated)?;
    let federated = google.federated.find(token).ok_or_else(ApiError::unauthenticated)?;
    if federated.expires_at <= google.clock.now() {
        return Err(ApiError::unauthenticated());
    }

    let ask: Ask =
        serde_json::from_slice(body).map_err(|_| ApiError::invalid("Invalid JSON payload received."))?;
    if ask.scope.is_empty() {
        return Err(ApiError::invalid("Request contains an invalid argument: scope is empty."));
    }
    let account: ServiceAccount =
        account.parse().map_err(|_| ApiError::invalid("Invalid form of account ID."))?;
    let lifetime = lifetime(ask.lifetime.as_deref())?;
    let longest = trust::longest_token(&google.config.service_accounts, &account, &federated.sub)
        .ok_or_else(ApiError::denied)?;
    if lifetime > longest {
        let message = format!("The requested lifetime exceeds the maximum of {longest}s for the account.");
        return Err(ApiError::invalid(&message));
    }

    let expires_at = google.expiry(lifetime);
    tracing::info!(%account, sub = federated.sub, %expires_at, "sandbox Google issued a service account's token");
    Ok(json!({ "accessToken": google.access_token()?, "expireTime": expires_at.to_string() }))
}

/// Parses the whole seconds of a protobuf `Duration` in JSON, such as `3600s`.
fn lifetime(text: Option<&str>) -> Result<u32, ApiError> {
    let Some(text) = text else { return Ok(AccessTokenLifetime::default().as_secs()) };
    let seconds = text.strip_suffix('s').and_then(|seconds| seconds.parse::<u32>().ok());
    let lifetime = seconds.and_then(|seconds| AccessTokenLifetime::try_from(seconds).ok());
    lifetime
        .map(AccessTokenLifetime::as_secs)
        .ok_or_else(|| ApiError::invalid("Invalid value at 'lifetime'."))
}
