//! The stand-in of a registry's token endpoints: `POST /oauth2/exchange` and `POST /oauth2/token`.

use std::borrow::Cow;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};

use super::Azure;
use crate::feed::scope::RepositoryName;
use crate::sandbox::form::Form;
use crate::values::random::RandomnessUnavailable;

/// The lifetime of a registry's access tokens, in seconds.
const ACCESS_LIFETIME: u32 = 4500;

const ISSUER: &str = "Azure Container Registry";

/// A refusal in the registry's format.
struct AcrError {
    status: u16,
    code: &'static str,
    message: String,
}

impl AcrError {
    /// Creates the refusal of a token and logs its reason. ACR tells clients no reason.
    fn unauthorized(reason: &'static str) -> Self {
        tracing::info!(reason, "sandbox ACR does not accept the token");
        let message = "authentication required, visit https://aka.ms/acr/authorization for more information.";
        Self { status: 401, code: "UNAUTHORIZED", message: message.to_owned() }
    }

    fn bad_request(message: impl Into<String>) -> Self {
        Self { status: 400, code: "BAD_REQUEST", message: message.into() }
    }
}

impl From<RandomnessUnavailable> for AcrError {
    fn from(error: RandomnessUnavailable) -> Self {
        Self { status: 500, code: "UNKNOWN", message: error.to_string() }
    }
}

pub(super) async fn exchange(State(azure): State<Arc<Azure>>, body: Bytes) -> Response {
    response(&azure, refresh_token(&azure, &body).map(|token| json!({ "refresh_token": token })))
}

pub(super) async fn token(State(azure): State<Arc<Azure>>, body: Bytes) -> Response {
    response(&azure, access_token(&azure, &body).map(|token| json!({ "access_token": token })))
}

fn response(azure: &Azure, outcome: Result<Value, AcrError>) -> Response {
    let request_id = azure.request_id().to_string();
    let (status, body) = match outcome {
        Ok(body) => (200, body),
        Err(AcrError { status, code, message }) => {
            tracing::info!(code, message, request_id, "sandbox ACR refused");
            (status, json!({ "errors": [{ "code": code, "message": message }] }))
        }
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = [
        (header::CONTENT_TYPE.as_str(), "application/json; charset=utf-8"),
        ("x-ms-correlation-request-id", &request_id),
    ];
    (status, headers, body.to_string()).into_response()
}

/// Exchanges an access token of the sandbox's Entra for a refresh token.
fn refresh_token(azure: &Azure, body: &[u8]) -> Result<String, AcrError> {
    let (form, _) = form(body, "access_token")?;
    let (service, token) = (field(&form, "service")?, field(&form, "access_token")?);
    let now = azure.clock.now();
    let claims = azure
        .access
        .verify(token, now)
        .ok_or_else(|| AcrError::unauthorized("the access token is not from this sandbox, or has expired"))?;
    if form.get("tenant").is_some_and(|tenant| claims["tid"] != tenant) {
        return Err(AcrError::unauthorized("the access token belongs to another tenant"));
    }
    let token = match &azure.config.refresh_token {
        Some(fixed) => fixed.reveal().to_owned(),
        None => {
            let claims = json!({
                "jti": azure.request_id(), "sub": claims["sub"], "iss": ISSUER, "aud": service,
                "tenant": claims["tid"], "grant_type": "refresh_token", "version": "1.0",
            });
            let lifetime = azure.config.credential_lifetime;
            azure.registry.issue(azure.random.as_ref(), claims, now, lifetime)?
        }
    };
    tracing::info!(service, client_id = %claims["appid"], "sandbox ACR issued a refresh token");
    Ok(token)
}

/// Exchanges a refresh token for an access token of one or more scopes.
fn access_token(azure: &Azure, body: &[u8]) -> Result<String, AcrError> {
    let (form, scopes) = form(body, "refresh_token")?;
    let (service, token) = (field(&form, "service")?, field(&form, "refresh_token")?);
    // Scopes may be repeated fields, as ACR documents it, or one field with spaces, as in RFC 6749.
    let scopes = scopes.iter().flat_map(|value| value.split(' ')).filter(|scope| !scope.is_empty());
    let scopes = scopes.map(Scope::parse).collect::<Result<Vec<_>, _>>()?;
    if scopes.is_empty() {
        return Err(AcrError::bad_request("scope is missing"));
    }
    let now = azure.clock.now();
    let is_fixed =
        azure.config.refresh_token.as_ref().is_some_and(|fixed| {
            verify_slices_are_equal(fixed.reveal().as_bytes(), token.as_bytes()).is_ok()
        });
    if !is_fixed {
        let claims = azure
            .registry
            .verify(token, now)
            .filter(|claims| claims["grant_type"] == "refresh_token")
            .ok_or_else(|| {
                AcrError::unauthorized("the refresh token is not from this sandbox, or has expired")
            })?;
        if claims["aud"] != service {
            return Err(AcrError::unauthorized("the refresh token belongs to another registry"));
        }
    }
    let claims = json!({
        "jti": azure.request_id(), "iss": ISSUER, "aud": service, "grant_type": "access_token", "version": "1.0",
        "access": scopes,
    });
    tracing::info!(service, access = %claims["access"], "sandbox ACR issued an access token");
    Ok(azure.registry.issue(azure.random.as_ref(), claims, now, ACCESS_LIFETIME)?)
}

/// A scope, `repository:NAME:pull,push`, as the distribution project's token authentication defines it.
/// Serializes as an entry of the `access` claim.
#[derive(Serialize)]
struct Scope<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    name: &'a str,
    actions: Vec<&'a str>,
}

impl<'a> Scope<'a> {
    fn parse(text: &'a str) -> Result<Self, AcrError> {
        let parts = text.split_once(':').and_then(|(kind, rest)| Some((kind, rest.rsplit_once(':')?)));
        match parts {
            Some((kind, (name, actions)))
                if is_name(kind, name) && actions.split(',').all(|action| !action.is_empty()) =>
            {
                Ok(Self { kind, name, actions: actions.split(',').collect() })
            }
            _ => Err(AcrError::bad_request("scope is not of the form repository:NAME:ACTIONS")),
        }
    }
}

/// Returns true if `name` is valid for a scope of this kind. The only name of kind `registry` is `catalog`.
fn is_name(kind: &str, name: &str) -> bool {
    match kind {
        "repository" => name.parse::<RepositoryName>().is_ok(),
        "registry" => name == "catalog",
        _ => false,
    }
}

/// Parses the form. Returns it with every value of `scope`.
fn form<'a>(body: &'a [u8], grant_type: &str) -> Result<(Form<'a>, Vec<Cow<'a, str>>), AcrError> {
    let (form, scopes) = Form::parse_but(body, "scope")
        .map_err(|name| AcrError::bad_request(format!("{name} is given twice")))?;
    if field(&form, "grant_type")? != grant_type {
        return Err(AcrError::bad_request(format!("grant_type is not {grant_type}")));
    }
    Ok((form, scopes))
}

fn field<'a>(form: &'a Form<'_>, name: &str) -> Result<&'a str, AcrError> {
    form.get(name).ok_or_else(|| AcrError::bad_request(format!("{name} is missing")))
}
