//! Azure Container Registry: exchanges the token for an Entra access token, and that one for a refresh token
//! of the registry. Clients log in with the refresh token. For some repositories only, the refresh token is
//! exchanged for an access token, which clients send unchanged.

use super::azure::{Apis, acr, entra};
use jiff::SignedDuration;

use super::handed_on::Success;
use super::{Call, Credential, ExchangeError, ExchangeFailure, Secret, StatedExpiry};
use crate::feed::Feed;
use crate::feed::azure::AzureAcr;

/// The user name for a login with a refresh token as password: the nil UUID, as ACR defines it.
const USERNAME: &str = "00000000-0000-0000-0000-000000000000";

/// The longest life of a refresh token. An access token lives for about 75 minutes.
const LONGEST: SignedDuration = SignedDuration::from_hours(3);

/// Runs the whole exchange.
///
/// The intermediate tokens may expire earlier, but they are not needed any more. Only the expiry of the
/// returned credential counts.
pub(super) async fn exchange(
    call: &Call<'_>,
    feed: &Feed,
    azure: &AzureAcr,
) -> Result<Credential, ExchangeError> {
    let issued_at = call.clock.now();
    let apis =
        Apis::of(feed, azure).map_err(|reason| call.fail(entra::STEP, ExchangeFailure::Request(reason)))?;

    let access_token = entra::access_token(call, &apis, azure).await?;
    let refresh = acr::refresh_token(call, &apis, azure, &access_token).await?;
    call.unexpired(acr::STEP, refresh.expires_at)?;
    let (step, of, status, expires_at, secret) = match call.scope.repositories() {
        None => {
            let login = Secret::Password { username: USERNAME.to_owned(), password: refresh.token };
            (acr::STEP, "acr", refresh.status, refresh.expires_at, login)
        }
        Some(names) => {
            let access = acr::access_token(call, &apis, azure, names, &refresh.token).await?;
            let token = Secret::RegistryToken(access.token);
            (acr::NARROW, "acr-token", access.status, access.expires_at, token)
        }
    };

    let expiries = vec![StatedExpiry { of, at: expires_at }];
    call.credential(feed, Success { step, status, secret, issued_at, expiries, longest: LONGEST })
}
