//! `generateAccessToken` of the IAM Service Account Credentials API: JSON in, JSON out.

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::{AccessToken, SCOPE};
use crate::exchange::upstream::{Redactor, Step};
use crate::exchange::{Call, ExchangeError, ExchangeFailure};
use crate::feed::google::{GoogleArtifactRegistry, ServiceAccount};
use crate::values::secret::{self, SecretString};

pub(super) const STEP: Step = Step { provider: "google", name: "iamcredentials:generateAccessToken" };

/// Exchanges the federated identity's token for an access token of the service account.
pub(super) async fn generate_access_token(
    call: &Call<'_>,
    base: &str,
    google: &GoogleArtifactRegistry,
    account: &ServiceAccount,
    federated: &AccessToken,
) -> Result<AccessToken, ExchangeError> {
    let request = request(base, google, account, federated)
        .map_err(|reason| call.fail(STEP, ExchangeFailure::Request(reason)))?;
    let response = call.send(STEP, request).await?;
    if !response.status().is_success() {
        let redactor = Redactor::new([federated.token.reveal()]);
        return Err(call.refused_by_google(STEP, &response, &redactor, google));
    }
    access_token(&response).map_err(|reason| call.unusable(STEP, response.status(), reason))
}

fn request(
    base: &str,
    google: &GoogleArtifactRegistry,
    account: &ServiceAccount,
    federated: &AccessToken,
) -> Result<Request<Bytes>, String> {
    // `-` means the account's own project, the only value that Google accepts here.
    let url = format!("{base}/v1/projects/-/serviceAccounts/{account}:generateAccessToken");
    let mut bearer = HeaderValue::try_from(format!("Bearer {}", federated.token.reveal()))
        .map_err(|error| error.to_string())?;
    bearer.set_sensitive(true);
    let body = json!({ "delegates": [], "scope": [SCOPE], "lifetime": google.lifetime.to_string() });
    Request::post(url)
        .header(AUTHORIZATION, bearer)
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "application/json")
        .body(Bytes::from(body.to_string()))
        .map_err(|error| error.to_string())
}

/// Parses a success. The error names the missing member and never repeats a value.
fn access_token(response: &Response<Bytes>) -> Result<AccessToken, &'static str> {
    let body: AccessTokenResponse =
        serde_json::from_slice(response.body()).map_err(|_| "it is not the JSON of generateAccessToken")?;
    let token = body.access_token.ok_or("accessToken is missing")?;
    if !super::is_access_token(&token) {
        return Err("accessToken is not an access token");
    }
    let expires_at: Timestamp =
        body.expire_time.ok_or("expireTime is missing")?.parse().map_err(|_| "expireTime is not a time")?;
    Ok(AccessToken { token, expires_at, status: response.status() })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccessTokenResponse {
    #[serde(default, deserialize_with = "secret::deserialize_option")]
    access_token: Option<SecretString>,
    expire_time: Option<String>,
}
