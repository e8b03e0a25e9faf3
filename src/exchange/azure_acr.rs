//! Azure Container Registry: trade the token for an access token of Entra's, and that one for a
//! refresh token of the registry's, which is what clients log in with; or go on and trade that one for an
//! access token of some repositories, which clients send as it is.

use super::azure::{Apis, acr, entra};
use super::{Call, Credential, ExchangeError, Failure, Secret, StatedExpiry};
use crate::feed::Feed;
use crate::feed::azure::AzureAcr;

/// The user name that goes with a refresh token as password: ACR's own, the nil UUID.
const USERNAME: &str = "00000000-0000-0000-0000-000000000000";

/// The whole exchange, top-down.
///
/// What is traded in may end earlier, but has done its work by then: only the end of what is handed out
/// counts.
pub(super) async fn exchange(
    call: &Call<'_>,
    feed: &Feed,
    azure: &AzureAcr,
) -> Result<Credential, ExchangeError> {
    let issued_at = call.clock.now();
    let apis = Apis::of(feed, azure).map_err(|reason| call.fail(entra::STEP, Failure::Request(reason)))?;

    let access_token = entra::access_token(call, &apis, azure).await?;
    let refresh = acr::refresh_token(call, &apis, azure, &access_token).await?;
    call.unexpired(acr::STEP, refresh.expires_at)?;
    let (of, expires_at, secret) = match call.scope.repositories() {
        None => {
            let login = Secret::Password { username: USERNAME.to_owned(), password: refresh.token };
            ("acr", refresh.expires_at, login)
        }
        Some(names) => {
            let access = acr::access_token(call, &apis, azure, names, &refresh.token).await?;
            call.unexpired(acr::NARROW, access.expires_at)?;
            ("acr-token", access.expires_at, Secret::RegistryToken(access.token))
        }
    };

    Ok(Credential {
        registry: feed.registry.clone(),
        secret,
        issued_at,
        expires_at,
        expiries: vec![StatedExpiry { of, at: expires_at }],
    })
}
