//! AWS STS `AssumeRoleWithWebIdentity`, API version 2011-06-15: an unsigned form in, XML out.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Request, Response, Uri};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use crate::diagnosis::aws::of_sts;
use crate::exchange::refusal::ProviderRefusal;
use crate::exchange::upstream::{Redactor, Step};
use crate::exchange::{Call, ExchangeError, ExchangeFailure};
use crate::feed::aws::AssumedRole;
use crate::values::secret::SecretString;

/// The operation, named as IAM names it.
pub(crate) const STEP: Step = Step { provider: "aws", name: "sts:AssumeRoleWithWebIdentity" };

/// The temporary credentials of a role.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: SecretString,
    pub(crate) session_token: SecretString,
    pub(crate) expires_at: Timestamp,
}

/// Assumes the feed's role with the token, in a session that `policy` limits.
pub(crate) async fn assume_role(
    call: &Call<'_>,
    endpoint: &Uri,
    role: &AssumedRole,
    session_name: &str,
    policy: Option<&str>,
) -> Result<Session, ExchangeError> {
    let token = call.token.compact.reveal();
    let duration = role.session_duration.as_secs().to_string();
    let fields = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", role.role_arn.as_str()),
        ("RoleSessionName", session_name),
        ("DurationSeconds", &duration),
        ("WebIdentityToken", token),
    ];
    let limit = policy.map(|policy| ("Policy", policy));
    let form = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields.into_iter().chain(limit))
        .finish();
    let request = Request::post(endpoint)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(ACCEPT, "text/xml")
        .body(Bytes::from(form))
        .map_err(|error| call.fail(STEP, ExchangeFailure::Request(error.to_string())))?;

    let response = call.send(STEP, request).await?;
    if !response.status().is_success() {
        let redactor = Redactor::new([token]);
        return Err(call.refused_by_aws(STEP, &response, refusal(&response), &redactor, |code, message| {
            of_sts(code, message, &call.token.presented, role)
        }));
    }
    let session = session(&response).map_err(|reason| call.unusable(STEP, response.status(), reason))?;
    call.not_the_own_token(STEP, response.status(), &session.session_token)?;
    Ok(session)
}

/// Parses a success. The error names the missing member and never repeats a value.
fn session(response: &Response<Bytes>) -> Result<Session, &'static str> {
    let text = std::str::from_utf8(response.body()).map_err(|_| "it is not UTF-8")?;
    let response: AssumeRoleResponse =
        quick_xml::de::from_str(text).map_err(|_| "it is not the XML of STS")?;
    let given = response.result.and_then(|result| result.credentials).ok_or("Credentials is missing")?;
    let expiration = given.expiration.ok_or("Credentials.Expiration is missing")?;
    let access_key_id = given.access_key_id.ok_or("Credentials.AccessKeyId is missing")?;
    let secret_access_key = given.secret_access_key.ok_or("Credentials.SecretAccessKey is missing")?;
    let session_token = given.session_token.ok_or("Credentials.SessionToken is missing")?;
    // Both are sent in headers of the next request.
    if access_key_id.is_empty()
        || !access_key_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    {
        return Err("Credentials.AccessKeyId is not an access key id");
    }
    if session_token.reveal().is_empty()
        || !session_token.reveal().bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err("Credentials.SessionToken is not a session token");
    }
    if secret_access_key.reveal().is_empty() {
        return Err("Credentials.SecretAccessKey is empty");
    }
    Ok(Session {
        access_key_id,
        secret_access_key,
        session_token,
        expires_at: expiration.parse().map_err(|_| "Credentials.Expiration is not a time")?,
    })
}

/// Parses an error of STS. Returns an empty refusal for any other response.
fn refusal(response: &Response<Bytes>) -> ProviderRefusal {
    let text = String::from_utf8_lossy(response.body());
    let Ok(ErrorResponse { error: Some(error), request_id }) = quick_xml::de::from_str(&text) else {
        return ProviderRefusal::default();
    };
    ProviderRefusal { code: error.code, message: error.message, request_id }
}

/// Only the members that are needed: some implementations leave out other documented ones.
#[derive(Deserialize)]
struct AssumeRoleResponse {
    #[serde(rename = "AssumeRoleWithWebIdentityResult")]
    result: Option<AssumeRoleResult>,
}

#[derive(Deserialize)]
struct AssumeRoleResult {
    #[serde(rename = "Credentials")]
    credentials: Option<Credentials>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Credentials {
    access_key_id: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    secret_access_key: Option<SecretString>,
    #[serde(default, deserialize_with = "secret")]
    session_token: Option<SecretString>,
    expiration: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorResponse {
    error: Option<ErrorBody>,
    request_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorBody {
    code: Option<String>,
    message: Option<String>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    String::deserialize(deserializer).map(|secret| Some(SecretString::new(secret)))
}
