//! Azure Container Registry: trade the token for an access token of Entra's, and that one for a
//! refresh token of the registry's, which is what clients log in with.

use super::azure::{Apis, acr, entra};
use super::{Call, Credential, ExchangeError, Failure, StatedExpiry};
use crate::feed::Feed;
use crate::feed::azure::AzureAcr;

/// The user name that goes with a refresh token as password: ACR's own, the nil UUID.
const USERNAME: &str = "00000000-0000-0000-0000-000000000000";

/// The whole exchange, top-down.
///
/// Entra's access token ends earlier, but has done its work by then: only the refresh token's end
/// counts.
pub(super) async fn exchange(
    call: &Call<'_>,
    feed: &Feed,
    azure: &AzureAcr,
) -> Result<Credential, ExchangeError> {
    let issued_at = call.clock.now();
    let apis = Apis::of(feed, azure).map_err(|reason| call.fail(entra::STEP, Failure::Request(reason)))?;

    let access_token = entra::access_token(call, &apis, azure).await?;
    let login = acr::refresh_token(call, &apis, azure, &access_token).await?;
    call.unexpired(acr::STEP, login.expires_at)?;

    Ok(Credential {
        registry: feed.registry.clone(),
        username: USERNAME.to_owned(),
        password: login.refresh_token,
        issued_at,
        expires_at: login.expires_at,
        expiries: vec![StatedExpiry { of: "acr", at: login.expires_at }],
    })
}
