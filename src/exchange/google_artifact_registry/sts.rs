//! `token` of Google's Security Token Service: a token exchange (RFC 8693) with a form as request and JSON as
//! response.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Request, Response, Uri};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::{AccessToken, SCOPE};
use crate::exchange::upstream::{Redactor, Step};
use crate::exchange::{Call, ExchangeError, ExchangeFailure};
use crate::feed::google::GoogleArtifactRegistry;
use crate::values::secret::{self, SecretString};

pub(super) const STEP: Step = Step { provider: "google", name: "sts:token" };

pub(super) const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub(super) const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";
pub(super) const JWT_TYPE: &str = "urn:ietf:params:oauth:token-type:jwt";

/// Exchanges the token for an access token of the federated identity.
pub(super) async fn exchange_token(
    call: &Call<'_>,
    url: &Uri,
    google: &GoogleArtifactRegistry,
) -> Result<AccessToken, ExchangeError> {
    let token = call.token.compact.reveal();
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", GRANT_TYPE)
        .append_pair("audience", &google.workload_identity_provider.full_name())
        .append_pair("scope", SCOPE)
        .append_pair("requested_token_type", ACCESS_TOKEN_TYPE)
        .append_pair("subject_token", token)
        .append_pair("subject_token_type", JWT_TYPE)
        .finish();
    let request = Request::post(url)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(ACCEPT, "application/json")
        .body(Bytes::from(form))
        .map_err(|error| call.fail(STEP, ExchangeFailure::Request(error.to_string())))?;

    // The stated lifetime cannot have begun earlier.
    let sent_at = call.clock.now();
    let response = call.send(STEP, request).await?;
    if !response.status().is_success() {
        return Err(call.refused_by_google(STEP, &response, &Redactor::new([token]), google));
    }
    let access =
        access_token(&response, sent_at).map_err(|reason| call.unusable(STEP, response.status(), reason))?;
    call.not_the_own_token(STEP, access.status, &access.token)?;
    Ok(access)
}

/// Parses a success. The error names the missing member and never repeats a value.
fn access_token(response: &Response<Bytes>, sent_at: Timestamp) -> Result<AccessToken, &'static str> {
    let body: StsResponse =
        serde_json::from_slice(response.body()).map_err(|_| "it is not the JSON of a token exchange")?;
    let token = body.access_token.ok_or("access_token is missing")?;
    // It is sent in a header of the next request, or to the registry.
    if !super::is_access_token(&token) {
        return Err("access_token is not an access token");
    }
    if body.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("Bearer")) {
        return Err("token_type is not Bearer");
    }
    if body.issued_token_type.is_some_and(|kind| kind != ACCESS_TOKEN_TYPE) {
        return Err("issued_token_type is not that of an access token");
    }
    let lifetime = SignedDuration::from_secs(body.expires_in.ok_or("expires_in is missing")?);
    let expires_at = sent_at.checked_add(lifetime).map_err(|_| "expires_in is not a lifetime")?;
    Ok(AccessToken { token, expires_at, status: response.status() })
}

#[derive(Deserialize)]
struct StsResponse {
    #[serde(default, deserialize_with = "secret::deserialize_option")]
    access_token: Option<SecretString>,
    /// The lifetime in seconds.
    expires_in: Option<i64>,
    token_type: Option<String>,
    issued_token_type: Option<String>,
}
