//! ACR's `POST /oauth2/exchange`: an access token of Entra's in, a refresh token of the registry's out.

use bytes::Bytes;
use http::Response;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::hints::About;
use super::{Apis, Refusal, secret};
use crate::exchange::upstream::{Redactor, Step};
use crate::exchange::{Call, ExchangeError};
use crate::feed::azure::AzureAcr;
use crate::jose::jws::decode_unverified;
use crate::secret::SecretString;

/// The exchange.
pub(crate) const STEP: Step = Step { provider: "azure", name: "acr:exchange" };

/// What ACR gives to log in with.
#[derive(Debug)]
pub(crate) struct Login {
    pub(crate) refresh_token: SecretString,
    pub(crate) expires_at: Timestamp,
}

/// Trades Entra's access token for a refresh token.
pub(crate) async fn refresh_token(
    call: &Call<'_>,
    apis: &Apis,
    azure: &AzureAcr,
    access_token: &SecretString,
) -> Result<Login, ExchangeError> {
    let tenant = azure.tenant_id.to_string();
    let form = [
        ("grant_type", "access_token"),
        ("service", apis.service.as_str()),
        ("tenant", &tenant),
        ("access_token", access_token.reveal()),
    ];
    let answer = call.send_form(STEP, &apis.exchange, "x-ms-client-request-id", &form).await?;
    if !answer.status().is_success() {
        let about = About { azure, service: &apis.service };
        let redactor = Redactor::for_token(access_token.reveal());
        return Err(call.refused_by_azure(STEP, &answer, refusal(&answer), &redactor, &about));
    }
    login(&answer).map_err(|reason| call.unusable(STEP, &answer, reason))
}

/// Reads a success; the error says what is missing and never repeats what is there.
fn login(answer: &Response<Bytes>) -> Result<Login, &'static str> {
    let answer: Answer = serde_json::from_slice(answer.body()).map_err(|_| "it is not the JSON of ACR")?;
    let refresh_token = answer.refresh_token.ok_or("refresh_token is missing")?;
    // The answer states no expiry. The token is ACR's to verify; here it only says when it ends.
    let (_, claims) = decode_unverified(refresh_token.reveal())
        .map_err(|_| "refresh_token is not a JWT, so that its end is unknown")?;
    let exp = claims.get("exp").ok_or("refresh_token has no exp")?;
    let exp = exp.as_i64().or_else(|| exp.as_f64().map(|seconds| seconds.floor() as i64));
    let expires_at = exp
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .ok_or("the exp of refresh_token is no time")?;
    Ok(Login { refresh_token, expires_at })
}

/// Reads an error, as far as it is one of a registry's: the first code, and all that is said.
fn refusal(answer: &Response<Bytes>) -> Refusal {
    let body: ErrorBody = serde_json::from_slice(answer.body()).unwrap_or_default();
    let text = |error: &RegistryError| {
        let mut text = error.message.clone().unwrap_or_default();
        if let Some(detail) = error.detail.as_ref().filter(|detail| !detail.is_null()) {
            text += &format!(" [detail {detail}]");
        }
        text
    };
    let (first, others) = match body.errors.split_first() {
        Some((first, others)) => (first, others),
        None => return Refusal::default(),
    };
    let mut message = text(first);
    for other in others {
        message += &format!(" [also {} {}]", other.code.as_deref().unwrap_or_default(), text(other));
    }
    Refusal {
        code: first.code.clone(),
        message: Some(message).filter(|message| !message.is_empty()),
        request_id: None,
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default, deserialize_with = "secret")]
    refresh_token: Option<SecretString>,
}

#[derive(Default, Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<RegistryError>,
}

/// An error as the OCI distribution specification has it.
#[derive(Deserialize)]
struct RegistryError {
    code: Option<String>,
    message: Option<String>,
    detail: Option<Value>,
}
