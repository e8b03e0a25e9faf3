//! Entra's token endpoint, version 2.0: the client credentials grant (RFC 6749 section 4.4) with our token as
//! client assertion (RFC 7523 section 2.2).

use bytes::Bytes;
use http::Response;
use serde::Deserialize;

use super::Apis;
use crate::diagnosis::azure::of_entra;
use crate::exchange::refusal::ProviderRefusal;
use crate::exchange::upstream::{Redactor, Step};
use crate::exchange::{Call, ExchangeError};
use crate::feed::azure::AzureAcr;
use crate::values::secret::{SecretString, deserialize_option as secret};

/// The token endpoint.
pub(crate) const STEP: Step = Step { provider: "azure", name: "entra:token" };

/// The `client_assertion_type` of a JWT.
pub(crate) const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Entra's code for a tenant that does not know the resource in the scope.
const UNKNOWN_RESOURCE: &str = "AADSTS500011";

/// Exchanges the token for an access token that ACR accepts.
///
/// A tenant that has never used a registry does not know the registries' own resource. Every tenant knows
/// Resource Manager's, which ACR accepts too; it is requested only in that case.
pub(crate) async fn access_token(
    call: &Call<'_>,
    apis: &Apis,
    azure: &AzureAcr,
) -> Result<SecretString, ExchangeError> {
    let outcome = ask(call, apis, azure, apis.cloud.scope()).await;
    match (outcome, apis.cloud.fallback_scope()) {
        (Err(error), Some(scope)) if is_unknown_resource(&error) => {
            tracing::debug!(scope, refusal = %error.failure(), "asking for the fallback scope");
            ask(call, apis, azure, scope).await
        }
        (outcome, _) => outcome,
    }
}

/// Presents the token once and drops Entra's access token.
pub(crate) async fn present(call: &Call<'_>, apis: &Apis, azure: &AzureAcr) -> Result<(), ExchangeError> {
    ask(call, apis, azure, apis.cloud.scope()).await.map(drop)
}

fn is_unknown_resource(error: &ExchangeError) -> bool {
    error.upstream().is_some_and(|upstream| upstream.code.as_deref() == Some(UNKNOWN_RESOURCE))
}

async fn ask(
    call: &Call<'_>,
    apis: &Apis,
    azure: &AzureAcr,
    scope: &str,
) -> Result<SecretString, ExchangeError> {
    let assertion = call.token.compact.reveal();
    let fields = [
        ("client_id", azure.client_id.to_string()),
        ("grant_type", "client_credentials".to_owned()),
        ("scope", scope.to_owned()),
        ("client_assertion_type", JWT_BEARER.to_owned()),
    ];
    let mut form: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    form.push(("client_assertion", assertion));

    let response = call.send_form(STEP, &apis.token, "client-request-id", &form).await?;
    if !response.status().is_success() {
        let redactor = Redactor::new([assertion]);
        return Err(call.refused_by_azure(STEP, &response, refusal(&response), &redactor, |upstream| {
            let code = upstream.code.as_deref();
            code.map_or_else(Vec::new, |code| of_entra(code, &call.token.presented, azure))
        }));
    }
    let token = token(&response).map_err(|reason| call.unusable(STEP, response.status(), reason))?;
    call.not_the_own_token(STEP, response.status(), &token)?;
    Ok(token)
}

/// Parses a success. The error names the missing member and never repeats a value.
fn token(response: &Response<Bytes>) -> Result<SecretString, &'static str> {
    let response: EntraResponse =
        serde_json::from_slice(response.body()).map_err(|_| "it is not the JSON of Entra")?;
    let token = response.access_token.ok_or("access_token is missing")?;
    if token.reveal().is_empty() || !token.reveal().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("access_token is not a token");
    }
    Ok(token)
}

/// Parses an error of Entra. The first of its numbers is the code. Other members are appended to the
/// description if it does not repeat them.
fn refusal(response: &Response<Bytes>) -> ProviderRefusal {
    let error: ErrorBody = serde_json::from_slice(response.body()).unwrap_or_default();
    let mut numbers = error.error_codes.iter();
    let code = numbers.next().map(|number| format!("AADSTS{number}"));
    let mut message = error.error_description.unwrap_or_default();
    if let Some(name) = error.error.as_deref().filter(|_| code.is_some()) {
        message = format!("{name}: {message}");
    }
    for number in numbers {
        message += &format!(" [also AADSTS{number}]");
    }
    for (name, value) in [("suberror", &error.suberror), ("correlation id", &error.correlation_id)] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty() && !message.contains(value)) {
            message += &format!(" [{name} {value}]");
        }
    }
    ProviderRefusal {
        code: code.or(error.error),
        message: Some(message).filter(|message| !message.is_empty()),
        request_id: error.trace_id.or(error.correlation_id),
    }
}

#[derive(Deserialize)]
struct EntraResponse {
    #[serde(default, deserialize_with = "secret")]
    access_token: Option<SecretString>,
}

#[derive(Default, Deserialize)]
struct ErrorBody {
    error: Option<String>,
    error_description: Option<String>,
    #[serde(default)]
    error_codes: Vec<u64>,
    suberror: Option<String>,
    trace_id: Option<String>,
    correlation_id: Option<String>,
}
