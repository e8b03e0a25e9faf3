//! `GetAuthorizationToken` of Amazon ECR, API version 2015-09-21, and of ECR Public, 2020-10-30: JSON 1.1,
//! signed with SigV4.

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::Apis;
use super::sts::Session;
use crate::diagnosis::aws::of_ecr;
use crate::exchange::refusal::ProviderRefusal;
use crate::exchange::upstream::{Redactor, Step};
use crate::exchange::{Call, ExchangeError, ExchangeFailure};
use crate::feed::aws::AssumedRole;
use crate::values::secret::{self, SecretString};

/// The two kinds of registries. They differ in names and in the format of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ecr {
    Private,
    Public,
}

impl Ecr {
    /// Returns the operation, named as IAM names it.
    pub(crate) const fn step(self) -> Step {
        let name = match self {
            Self::Private => "ecr:GetAuthorizationToken",
            Self::Public => "ecr-public:GetAuthorizationToken",
        };
        Step { provider: "aws", name }
    }

    /// Returns the operation's `X-Amz-Target`.
    pub(crate) const fn target(self) -> &'static str {
        match self {
            Self::Private => "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken",
            Self::Public => "SpencerFrontendService.GetAuthorizationToken",
        }
    }

    /// Returns the service name for which requests are signed.
    pub(crate) const fn signing_name(self) -> &'static str {
        match self {
            Self::Private => "ecr",
            Self::Public => "ecr-public",
        }
    }
}

/// The media type of requests and responses.
pub(crate) const JSON_1_1: &str = "application/x-amz-json-1.1";

/// The login that ECR issues.
#[derive(Debug)]
pub(crate) struct Login {
    pub(crate) username: String,
    pub(crate) password: SecretString,
    pub(crate) expires_at: Timestamp,
    pub(crate) status: StatusCode,
}

/// Requests a login in the role session.
pub(in crate::exchange) async fn authorization_token(
    call: &Call<'_>,
    apis: &Apis,
    ecr: Ecr,
    session: &Session,
    role: &AssumedRole,
) -> Result<Login, ExchangeError> {
    let step = ecr.step();
    let request = request(apis, ecr, session, call.clock.now())
        .map_err(|reason| call.fail(step, ExchangeFailure::Request(reason)))?;
    let signed = request.headers().get(AUTHORIZATION).cloned();
    let response = call.send(step, request).await?;
    if !response.status().is_success() {
        let redactor = Redactor::new([
            session.session_token.reveal(),
            session.secret_access_key.reveal(),
            signed.as_ref().map_or("", signature),
        ]);
        return Err(call.refused_by_aws(step, &response, refusal(&response), &redactor, |code, message| {
            of_ecr(code, message, ecr == Ecr::Public, role)
        }));
    }
    login(ecr, &response).map_err(|reason| call.unusable(step, response.status(), reason))
}

/// Creates the signed request.
fn request(apis: &Apis, ecr: Ecr, session: &Session, now: Timestamp) -> Result<Request<Bytes>, String> {
    const BODY: &[u8] = b"{}";
    let mut request = Request::post(&apis.ecr)
        .header(CONTENT_TYPE, JSON_1_1)
        .header("x-amz-target", ecr.target())
        .body(Bytes::from_static(BODY))
        .map_err(|error| error.to_string())?;

    let identity = Credentials::new(
        session.access_key_id.clone(),
        session.secret_access_key.reveal(),
        Some(session.session_token.reveal().to_owned()),
        None,
        "carnet",
    )
    .into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(&apis.region)
        .name(ecr.signing_name())
        .time(now.into())
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| error.to_string())?
        .into();
    let uri = apis.ecr.to_string();
    let signed_headers = [("content-type", JSON_1_1), ("x-amz-target", ecr.target())];
    let signable = SignableRequest::new("POST", &uri, signed_headers.into_iter(), SignableBody::Bytes(BODY))
        .map_err(|error| error.to_string())?;
    let (instructions, _) = sign(signable, &params).map_err(|error| error.to_string())?.into_parts();

    let (headers, _) = instructions.into_parts();
    for header in headers {
        let mut value = HeaderValue::try_from(header.value()).map_err(|error| error.to_string())?;
        value.set_sensitive(true);
        request.headers_mut().insert(HeaderName::from_static(header.name()), value);
    }
    Ok(request)
}

/// Returns the signature in the header `Authorization` of a signed request.
fn signature(authorization: &HeaderValue) -> &str {
    let text = authorization.to_str().unwrap_or_default();
    text.rsplit_once("Signature=").map_or(text, |(_, signature)| signature)
}

/// Parses a success. The error names the missing member and never repeats a value.
fn login(ecr: Ecr, response: &Response<Bytes>) -> Result<Login, &'static str> {
    let data = match ecr {
        Ecr::Private => data::<Vec<AuthorizationData>>(response)?.and_then(|data| data.into_iter().next()),
        Ecr::Public => data::<AuthorizationData>(response)?,
    };
    let data = data.ok_or("authorizationData is empty")?;
    let encoded = data.authorization_token.ok_or("authorizationData.authorizationToken is missing")?;
    let expires_at = data.expires_at.ok_or("authorizationData.expiresAt is missing")?;

    let decoded = BASE64_STANDARD
        .decode(encoded.reveal())
        .map(Zeroizing::new)
        .map_err(|_| "authorizationData.authorizationToken is not base64")?;
    let decoded =
        std::str::from_utf8(&decoded).map_err(|_| "authorizationData.authorizationToken is not UTF-8")?;
    match decoded.split_once(':') {
        Some((username, password)) if !username.is_empty() && !password.is_empty() => Ok(Login {
            username: username.to_owned(),
            password: SecretString::new(password.to_owned()),
            // Whole milliseconds, rounded down: a float is not more precise.
            expires_at: Timestamp::from_millisecond((expires_at * 1000.0).floor() as i64)
                .map_err(|_| "authorizationData.expiresAt is not a time")?,
            status: response.status(),
        }),
        _ => Err("authorizationData.authorizationToken is not user:password"),
    }
}

fn data<T: DeserializeOwned>(response: &Response<Bytes>) -> Result<Option<T>, &'static str> {
    let response: EcrResponse<T> =
        serde_json::from_slice(response.body()).map_err(|_| "it is not the JSON of ECR")?;
    Ok(response.authorization_data)
}

/// Parses an error of the JSON protocol. Members that are missing stay empty.
fn refusal(response: &Response<Bytes>) -> ProviderRefusal {
    let error: ErrorBody = serde_json::from_slice(response.body()).unwrap_or_default();
    let header = response.headers().get("x-amzn-errortype").and_then(|value| value.to_str().ok());
    // `Code`, `Code:http://…` or `namespace#Code`.
    let code = header.or(error.kind.as_deref()).map(|code| {
        let code = code.split(':').next().unwrap_or(code);
        code.rsplit('#').next().unwrap_or(code).to_owned()
    });
    ProviderRefusal { code, message: error.message, request_id: None }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EcrResponse<T> {
    authorization_data: Option<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthorizationData {
    #[serde(default, deserialize_with = "secret::deserialize_option")]
    authorization_token: Option<SecretString>,
    /// Seconds since the epoch, with a fraction.
    expires_at: Option<f64>,
}

#[derive(Default, Deserialize)]
struct ErrorBody {
    #[serde(rename = "__type")]
    kind: Option<String>,
    #[serde(alias = "Message")]
    message: Option<String>,
}
