//! ACR's token endpoints. `POST /oauth2/exchange` exchanges an Entra access token for a refresh token of the
//! registry. `POST /oauth2/token` exchanges that one for an access token for some repositories.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::Apis;
use crate::diagnosis::azure::of_acr;
use crate::exchange::refusal::ProviderRefusal;
use crate::exchange::upstream::{Redactor, Step};
use crate::exchange::{Call, ExchangeError};
use crate::feed::azure::AzureAcr;
use crate::feed::scope::{Action, RepositoryName, Scope};
use crate::jose::jws::decode_unverified;
use crate::values::secret::{SecretString, deserialize_option as secret};

/// The step that obtains a refresh token.
pub(crate) const STEP: Step = Step { provider: "azure", name: "acr:exchange" };

/// The step that obtains an access token for some repositories.
pub(crate) const NARROW: Step = Step { provider: "azure", name: "acr:token" };

/// A refresh token or access token issued by ACR.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) token: SecretString,
    pub(crate) expires_at: Timestamp,
    pub(crate) status: StatusCode,
}

/// Exchanges Entra's access token for a refresh token.
pub(crate) async fn refresh_token(
    call: &Call<'_>,
    apis: &Apis,
    azure: &AzureAcr,
    access_token: &SecretString,
) -> Result<Issued, ExchangeError> {
    let tenant = azure.tenant_id.to_string();
    let form = [
        ("grant_type", "access_token"),
        ("service", apis.service.as_str()),
        ("tenant", &tenant),
        ("access_token", access_token.reveal()),
    ];
    let response = call.send_form(STEP, &apis.exchange, "x-ms-client-request-id", &form).await?;
    if !response.status().is_success() {
        let redactor = Redactor::new([access_token.reveal()]);
        return Err(call.refused_by_azure(STEP, &response, refusal(&response), &redactor, |upstream| {
            let message = upstream.message.as_deref().unwrap_or_default();
            of_acr(upstream.code.as_deref(), upstream.status, message, azure, &apis.service)
        }));
    }
    let issued = refresh(&response).map_err(|reason| call.unusable(STEP, response.status(), reason))?;
    call.not_the_own_token(STEP, issued.status, &issued.token)?;
    Ok(issued)
}

/// Exchanges the refresh token for an access token for the repositories that the call's scope names.
///
/// `scope` is sent once for each repository, as ACR documents it. RFC 6749 would have all of them in one.
pub(crate) async fn access_token(
    call: &Call<'_>,
    apis: &Apis,
    azure: &AzureAcr,
    repositories: &BTreeSet<RepositoryName>,
    refresh_token: &SecretString,
) -> Result<Issued, ExchangeError> {
    let actions: Vec<&str> =
        Action::ALL.into_iter().filter(|action| call.scope.allows(*action)).map(Action::as_str).collect();
    let actions = actions.join(",");
    let scopes: Vec<String> =
        repositories.iter().map(|name| format!("repository:{name}:{actions}")).collect();
    let mut form = vec![("grant_type", "refresh_token"), ("service", apis.service.as_str())];
    form.extend(scopes.iter().map(|scope| ("scope", scope.as_str())));
    form.push(("refresh_token", refresh_token.reveal()));
    let response = call.send_form(NARROW, &apis.access, "x-ms-client-request-id", &form).await?;
    if !response.status().is_success() {
        let redactor = Redactor::new([refresh_token.reveal()]);
        return Err(call.refused_by_azure(NARROW, &response, refusal(&response), &redactor, |upstream| {
            let message = upstream.message.as_deref().unwrap_or_default();
            of_acr(upstream.code.as_deref(), upstream.status, message, azure, &apis.service)
        }));
    }
    access(&response, repositories, call.scope)
        .map_err(|reason| call.unusable(NARROW, response.status(), reason))
}

/// Parses a success. The error names the missing member and never repeats a value.
fn refresh(response: &Response<Bytes>) -> Result<Issued, &'static str> {
    let token = read(response)?.refresh_token.ok_or("refresh_token is missing")?;
    let claims = claims(&token).ok_or("refresh_token is not a JWT, so its expiry is unknown")?;
    let exp = claims.get("exp").ok_or("refresh_token has no exp")?;
    let expires_at = time(exp).ok_or("the exp of refresh_token is not a time")?;
    Ok(Issued { token, expires_at, status: response.status() })
}

/// Parses a success with an access token. The token itself must state that it permits no more than requested:
/// a registry that ignores the scope must not be mistaken for one that enforces it. It may permit less, for
/// example for an identity that may only pull.
fn access(
    response: &Response<Bytes>,
    repositories: &BTreeSet<RepositoryName>,
    scope: &Scope,
) -> Result<Issued, &'static str> {
    let token = read(response)?.access_token.ok_or("access_token is missing")?;
    if !token.reveal().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("access_token is not a token");
    }
    let claims = claims(&token).ok_or("access_token is not a JWT, so its expiry and scope are unknown")?;
    let exp = claims.get("exp").ok_or("access_token has no exp")?;
    let expires_at = time(exp).ok_or("the exp of access_token is not a time")?;
    let access = claims.get("access").ok_or("access_token does not name its scope")?;
    let access: Vec<Access> =
        serde_json::from_value(access.clone()).map_err(|_| "access_token does not name its scope")?;
    let is_inside = |entry: &Access| {
        entry.kind == "repository"
            && repositories.iter().any(|name| name.as_str() == entry.name)
            && entry.actions.iter().all(|text| text.parse().is_ok_and(|action| scope.allows(action)))
    };
    if !access.iter().all(is_inside) {
        return Err("access_token is for more than the requested scope");
    }
    if access.iter().all(|entry| entry.actions.is_empty()) {
        return Err(
            "access_token is for nothing in the requested scope: the identity has no permission for it",
        );
    }
    Ok(Issued { token, expires_at, status: response.status() })
}

fn read(response: &Response<Bytes>) -> Result<AcrResponse, &'static str> {
    serde_json::from_slice(response.body()).map_err(|_| "it is not the JSON of ACR")
}

/// Returns the claims of a token, without verifying it: ACR's responses contain no expiry, so it is taken
/// from the token.
fn claims(token: &SecretString) -> Option<Value> {
    decode_unverified(token.reveal()).ok().map(|(_, claims)| claims)
}

fn time(exp: &Value) -> Option<Timestamp> {
    let exp = exp.as_i64().or_else(|| exp.as_f64().map(|seconds| seconds.floor() as i64));
    Timestamp::from_second(exp?).ok()
}

/// Parses an error of a registry: the first code, and the texts of all errors.
fn refusal(response: &Response<Bytes>) -> ProviderRefusal {
    let body: ErrorBody = serde_json::from_slice(response.body()).unwrap_or_default();
    let text = |error: &RegistryError| {
        let mut text = error.message.clone().unwrap_or_default();
        if let Some(detail) = error.detail.as_ref().filter(|detail| !detail.is_null()) {
            text += &format!(" [detail {detail}]");
        }
        text
    };
    let (first, others) = match body.errors.split_first() {
        Some((first, others)) => (first, others),
        None => return ProviderRefusal::default(),
    };
    let mut message = text(first);
    for other in others {
        message += &format!(" [also {} {}]", other.code.as_deref().unwrap_or_default(), text(other));
    }
    ProviderRefusal {
        code: first.code.clone(),
        message: Some(message).filter(|message| !message.is_empty()),
        request_id: None,
    }
}

#[derive(Deserialize)]
struct AcrResponse {
    #[serde(default, deserialize_with = "secret")]
    refresh_token: Option<SecretString>,
    #[serde(default, deserialize_with = "secret")]
    access_token: Option<SecretString>,
}

/// An entry of an access token's claim `access`, as defined by the distribution project's token
/// authentication.
#[derive(Deserialize)]
struct Access {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<String>,
}

#[derive(Default, Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<RegistryError>,
}

/// An error as defined by the OCI distribution specification.
#[derive(Deserialize)]
struct RegistryError {
    code: Option<String>,
    message: Option<String>,
    detail: Option<Value>,
}
