//! The stand-in of Amazon ECR and ECR Public: `GetAuthorizationToken`.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, StatusCode, Uri, header};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::json;

use super::sigv4::Authorization;
use super::{Aws, AwsError};
use crate::exchange::aws::ecr::{Ecr, JSON_1_1};
use crate::feed::ecr_public;

const PASSWORD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

pub(super) async fn handle(
    State(aws): State<Arc<Aws>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request_id = aws.request_id();
    let (status, body) = match authorization_token(&aws, &uri, &headers, &body) {
        Ok((Ecr::Private, data)) => (200, json!({ "authorizationData": [data] })),
        Ok((Ecr::Public, data)) => (200, json!({ "authorizationData": data })),
        Err(error) => {
            tracing::info!(code = error.code, message = error.message, request_id, "sandbox ECR refused");
            (error.status, json!({ "__type": error.code, "message": error.message }))
        }
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = [(header::CONTENT_TYPE.as_str(), JSON_1_1), ("x-amzn-requestid", &request_id)];
    (status, headers, body.to_string()).into_response()
}

/// The response to the client. It holds a password, so it has no `Debug`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AuthorizationData {
    authorization_token: String,
    expires_at: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_endpoint: Option<String>,
}

fn authorization_token(
    aws: &Aws,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(Ecr, AuthorizationData), AwsError> {
    let target = headers.get("x-amz-target");
    let ecr = [Ecr::Private, Ecr::Public].into_iter().find(|ecr| target.is_some_and(|it| it == ecr.target()));
    let Some(ecr) = ecr else {
        return Err(AwsError::new(400, "UnknownOperationException", "The operation is not known"));
    };
    let now = aws.clock.now();
    let authorization = Authorization::parse(headers, ecr.signing_name(), now)?;
    let region = match ecr {
        Ecr::Private => aws.config.region.as_deref(),
        Ecr::Public => Some(ecr_public::REGION),
    };
    if region.is_some_and(|region| region != authorization.region) {
        return Err(AwsError::new(
            400,
            "InvalidSignatureException",
            "Credential should be scoped to a valid region.",
        ));
    }

    let unknown = || {
        AwsError::new(
            400,
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        )
    };
    let session = aws.sessions.find(authorization.access_key_id).ok_or_else(unknown)?;
    let session_token = headers.get("x-amz-security-token").map_or(&b""[..], |value| value.as_bytes());
    verify_slices_are_equal(session.session_token.reveal().as_bytes(), session_token)
        .map_err(|_| unknown())?;
    authorization.verify(uri, headers, body, &session)?;
    if session.expires_at <= now {
        return Err(AwsError::new(
            400,
            "ExpiredTokenException",
            "The security token included in the request is expired",
        ));
    }
    if headers.get(header::CONTENT_TYPE).is_none_or(|media_type| media_type != JSON_1_1)
        || !serde_json::from_slice(body).is_ok_and(|body: serde_json::Value| body.is_object())
    {
        return Err(AwsError::new(400, "SerializationException", "The body is not a JSON object"));
    }

    let password = match &aws.config.password {
        Some(password) => password.reveal().to_owned(),
        None => aws.random_text(PASSWORD, 64)?,
    };
    let expires_at = now
        .checked_add(SignedDuration::from_secs(aws.config.credential_lifetime.into()))
        .unwrap_or(Timestamp::MAX);
    tracing::info!(
        access_key_id = authorization.access_key_id, region = authorization.region, %expires_at,
        "sandbox ECR issued a login"
    );
    let proxy_endpoint = matches!(ecr, Ecr::Private)
        .then(|| format!("https://{}.dkr.ecr.{}.amazonaws.com", session.account_id, authorization.region));
    let data = AuthorizationData {
        authorization_token: BASE64_STANDARD.encode(format!("AWS:{password}")),
        expires_at: expires_at.as_millisecond() as f64 / 1000.0,
        proxy_endpoint,
    };
    Ok((ecr, data))
}
