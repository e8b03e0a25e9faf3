//! Google's registries: exchanges the token for an access token at Google's Security Token Service. If the
//! feed names a service account, that token is exchanged for an access token of the account. The access token
//! is the password.

mod iam_credentials;
mod refusal;
mod sts;

use http::{StatusCode, Uri};
use jiff::{SignedDuration, Timestamp};

use super::handed_on::Success;
use super::{Call, Credential, ExchangeError, ExchangeFailure, Secret, StatedExpiry};
use crate::feed::Feed;
use crate::feed::endpoints::EndpointUrl;
use crate::feed::google::{GoogleArtifactRegistry, USERNAME};
use crate::values::secret::SecretString;

/// The only OAuth scope that both steps request. IAM decides what the token permits.
pub(crate) const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

const IAM_CREDENTIALS: &str = "https://iamcredentials.googleapis.com";

/// The longest life of a service account's access token, where an organisation policy extends it.
const LONGEST: SignedDuration = SignedDuration::from_hours(12);

/// An access token from either step.
struct AccessToken {
    token: SecretString,
    expires_at: Timestamp,
    status: StatusCode,
}

/// Runs the whole exchange.
///
/// A service account's token stays valid after the federated token expires, so only its own expiry counts.
pub(super) async fn exchange(
    call: &Call<'_>,
    feed: &Feed,
    google: &GoogleArtifactRegistry,
) -> Result<Credential, ExchangeError> {
    let issued_at = call.clock.now();
    let url = sts_url(feed).map_err(|reason| call.fail(sts::STEP, ExchangeFailure::Request(reason)))?;
    let federated = sts::exchange_token(call, &url, google).await?;
    call.unexpired(sts::STEP, federated.expires_at)?;

    let (step, of, access) = match &google.service_account {
        None => (sts::STEP, "sts", federated),
        Some(account) => {
            let base = base(feed, "iamcredentials", IAM_CREDENTIALS);
            let token =
                iam_credentials::generate_access_token(call, base, google, account, &federated).await?;
            (iam_credentials::STEP, "iamcredentials", token)
        }
    };

    let success = Success {
        step,
        status: access.status,
        secret: Secret::Password { username: USERNAME.to_owned(), password: access.token },
        issued_at,
        expiries: vec![StatedExpiry { of, at: access.expires_at }],
        longest: LONGEST,
    };
    call.credential(feed, success)
}

/// Runs only the first step and drops its result.
pub(super) async fn present(
    call: &Call<'_>,
    feed: &Feed,
    google: &GoogleArtifactRegistry,
) -> Result<(), ExchangeError> {
    let url = sts_url(feed).map_err(|reason| call.fail(sts::STEP, ExchangeFailure::Request(reason)))?;
    sts::exchange_token(call, &url, google).await.map(drop)
}

/// Returns the URL of the token endpoint. An override names the host; it may also be the operation's whole
/// URL, as in Google's credential files (`token_url`).
pub(super) fn sts_url(feed: &Feed) -> Result<Uri, String> {
    const PATH: &str = "/v1/token";
    let base = base(feed, "sts", "https://sts.googleapis.com");
    let base = base.strip_suffix(PATH).unwrap_or(base);
    format!("{base}{PATH}").parse().map_err(|error| format!("the URL of sts: {error}"))
}

/// Returns the base URL of the API that issues a service account's token.
pub(super) fn iam_credentials_url(feed: &Feed) -> Result<Uri, String> {
    let base = base(feed, "iamcredentials", IAM_CREDENTIALS);
    base.parse().map_err(|error| format!("the URL of iamcredentials: {error}"))
}

/// Returns the base URL of an API, without its path.
fn base<'a>(feed: &'a Feed, endpoint: &str, default: &'a str) -> &'a str {
    feed.endpoints.get(endpoint).map_or(default, EndpointUrl::as_str)
}

/// Returns whether the token can be sent in a header, as an access token must be.
fn is_access_token(token: &SecretString) -> bool {
    let token = token.reveal();
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests;
