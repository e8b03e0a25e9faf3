//! The stand-in of AWS STS: `AssumeRoleWithWebIdentity`, API version 2011-06-15.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use serde::Serialize;

use super::sessions::Session;
use super::{Aws, AwsError, trust};
use crate::feed::aws::{RoleArn, SessionDuration, is_name_byte};
use crate::sandbox::identity::{BOTH, Identity, Rejection};
use crate::values::secret::SecretString;

const XMLNS: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(super) async fn handle(State(aws): State<Arc<Aws>>, headers: HeaderMap, body: Bytes) -> Response {
    let request_id = aws.request_id();
    match assume_role(&aws, &headers, &body).await {
        Ok(result) => xml(
            StatusCode::OK,
            "AssumeRoleWithWebIdentityResponse",
            &Success { xmlns: XMLNS, result, metadata: Metadata { request_id: &request_id } },
            &request_id,
        ),
        Err(error) => {
            tracing::info!(code = error.code, message = error.message, request_id, "sandbox STS refused");
            let kind = if error.status >= 500 { "Receiver" } else { "Sender" };
            let body = ErrorBody { kind, code: error.code, message: &error.message };
            xml(
                StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                "ErrorResponse",
                &ErrorResponse { xmlns: XMLNS, error: body, request_id: &request_id },
                &request_id,
            )
        }
    }
}

async fn assume_role(aws: &Aws, headers: &HeaderMap, body: &[u8]) -> Result<RoleSession, AwsError> {
    let ask = Ask::parse(headers, body)?;
    let identity = aws.verifier.verify(&ask.token, BOTH).await.map_err(|rejection| {
        tracing::info!(reason = %rejection, "sandbox STS does not accept the token");
        refusal(&rejection)
    })?;
    trust::decide(&aws.config.roles, &ask.role_arn, &identity, ask.duration)?;
    let session = issue(aws, &ask, &identity)?;
    tracing::info!(
        role = %ask.role_arn, session = ask.session_name, sub = identity.sub, aud = identity.aud,
        kid = identity.kid, access_key_id = session.credentials.access_key_id, "sandbox STS opened a session"
    );
    Ok(session)
}

/// Returns the error that AWS gives for a rejected token.
fn refusal(rejection: &Rejection) -> AwsError {
    let invalid = |message: String| AwsError::new(400, "InvalidIdentityToken", message);
    match rejection {
        Rejection::Malformed(_) | Rejection::Algorithm(_) => {
            invalid("The ID Token provided is not a valid JWT.".into())
        }
        Rejection::Issuer(iss) => {
            invalid(format!("No OpenIDConnect provider found in your account for {iss}"))
        }
        Rejection::Fetch { .. } => AwsError::new(
            400,
            "IDPCommunicationError",
            "The identity provider could not be reached to verify the token.",
        ),
        Rejection::Discovery(_) | Rejection::Jwks(_) | Rejection::Key(_) => invalid(
            "Couldn't retrieve verification key from your identity provider, please reference \
             AssumeRoleWithWebIdentity documentation for requirements"
                .into(),
        ),
        Rejection::Signature => invalid("The signature of the token does not verify.".into()),
        Rejection::MissingClaim(name) => invalid(format!("Missing a required claim: {name}")),
        Rejection::ClaimType(name) => {
            AwsError::new(403, "IDPRejectedClaim", format!("The claim {name} has the wrong type"))
        }
        Rejection::Expired(at) => {
            AwsError::new(400, "ExpiredTokenException", format!("Token expired at {at}"))
        }
        Rejection::NotYetValid(at) => {
            AwsError::new(400, "ExpiredTokenException", format!("Token is not valid before {at}"))
        }
    }
}

/// A request within the API's limits.
struct Ask {
    role_arn: RoleArn,
    session_name: String,
    duration: SessionDuration,
    token: String,
}

impl Ask {
    fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, AwsError> {
        let invalid = |field: &str, rule: &str| {
            let message = format!(
                "1 validation error detected: Value at '{field}' failed to satisfy constraint: Member must {rule}"
            );
            AwsError::new(400, "ValidationError", message)
        };
        let media_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        if !media_type.starts_with(b"application/x-www-form-urlencoded") {
            return Err(AwsError::new(400, "InvalidAction", "The request is not a form"));
        }
        let mut fields = HashMap::new();
        for (name, value) in url::form_urlencoded::parse(body) {
            if fields.insert(name.clone(), value).is_some() {
                return Err(invalid(&name, "be given once"));
            }
        }
        let mut take = |name: &str| fields.remove(name).unwrap_or_default();
        let (action, version) = (take("Action"), take("Version"));
        if action != "AssumeRoleWithWebIdentity" || version != "2011-06-15" {
            let message = format!("Could not find operation {action} for version {version}");
            return Err(AwsError::new(400, "InvalidAction", message));
        }
        let role_arn = take("RoleArn").parse().map_err(|_| invalid("roleArn", "be the ARN of a role"))?;
        let session_name = take("RoleSessionName");
        if !(2..=64).contains(&session_name.len()) || !session_name.bytes().all(is_name_byte) {
            return Err(invalid("roleSessionName", "satisfy regular expression pattern: [\\w+=,.@-]{2,64}"));
        }
        // Trimmed as AWS does: its clients send a token file unchanged, with the line feed at its end.
        let token = take("WebIdentityToken").trim().to_owned();
        if !(4..=20_000).contains(&token.len()) {
            return Err(invalid("webIdentityToken", "have length between 4 and 20000"));
        }
        let duration = match take("DurationSeconds") {
            absent if absent.is_empty() => SessionDuration::default(),
            given => given
                .parse::<u32>()
                .ok()
                .and_then(|seconds| seconds.try_into().ok())
                .ok_or_else(|| invalid("durationSeconds", "be between 900 and 43200"))?,
        };
        let policy = take("Policy");
        if policy.len() > 2048 {
            return Err(invalid("policy", "have length less than or equal to 2048"));
        }
        if !policy.is_empty()
            && !serde_json::from_str(&policy).is_ok_and(|value: serde_json::Value| value.is_object())
        {
            return Err(AwsError::new(
                400,
                "MalformedPolicyDocument",
                "The policy is not in the valid JSON format.",
            ));
        }
        Ok(Self { role_arn, session_name: session_name.into_owned(), duration, token })
    }
}

/// Creates temporary credentials and stores the session.
fn issue(aws: &Aws, ask: &Ask, identity: &Identity) -> Result<RoleSession, AwsError> {
    let access_key_id = format!("ASIA{}", aws.random_text(BASE32, 16)?);
    let secret_access_key = aws.random_text(BASE64, 40)?;
    let session_token = aws.random_text(BASE64, 256)?;
    let now = aws.clock.now();
    // Whole seconds, as AWS writes them.
    let expires_at =
        Timestamp::from_second(now.as_second() + i64::from(ask.duration.as_secs())).unwrap_or(Timestamp::MAX);
    aws.sessions.remember(
        access_key_id.clone(),
        Session {
            secret_access_key: SecretString::new(secret_access_key.clone()),
            session_token: SecretString::new(session_token.clone()),
            expires_at,
            account_id: ask.role_arn.account_id().to_owned(),
        },
    );
    let role = ask.role_arn.as_str().rsplit('/').next().unwrap_or_default();
    Ok(RoleSession {
        subject: identity.sub.clone(),
        audience: identity.aud.clone(),
        assumed_role_user: AssumedRoleUser {
            arn: format!(
                "arn:{}:sts::{}:assumed-role/{role}/{}",
                ask.role_arn.partition(),
                ask.role_arn.account_id(),
                ask.session_name
            ),
            assumed_role_id: format!("AROASANDBOX:{}", ask.session_name),
        },
        credentials: Credentials {
            access_key_id,
            secret_access_key,
            session_token,
            expiration: expires_at.to_string(),
        },
    })
}

fn xml(status: StatusCode, root: &str, body: &impl Serialize, request_id: &str) -> Response {
    match quick_xml::se::to_string_with_root(root, body) {
        Ok(text) => {
            let headers = [(header::CONTENT_TYPE.as_str(), "text/xml"), ("x-amzn-requestid", request_id)];
            (status, headers, text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[derive(Serialize)]
struct Success<'a> {
    #[serde(rename = "@xmlns")]
    xmlns: &'a str,
    #[serde(rename = "AssumeRoleWithWebIdentityResult")]
    result: RoleSession,
    #[serde(rename = "ResponseMetadata")]
    metadata: Metadata<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata<'a> {
    request_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RoleSession {
    #[serde(rename = "SubjectFromWebIdentityToken")]
    subject: String,
    audience: String,
    assumed_role_user: AssumedRoleUser,
    credentials: Credentials,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AssumedRoleUser {
    arn: String,
    assumed_role_id: String,
}

/// The response to the client. It holds a secret key, so it has no `Debug`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Credentials {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
    expiration: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorResponse<'a> {
    #[serde(rename = "@xmlns")]
    xmlns: &'a str,
    error: ErrorBody<'a>,
    request_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorBody<'a> {
    #[serde(rename = "Type")]
    kind: &'a str,
    code: &'a str,
    message: &'a str,
}
