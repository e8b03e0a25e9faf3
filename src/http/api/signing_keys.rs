//! `/signing-keys`: the signing keys, and changes of them.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Api;
use super::body::{Names, OptionalJsonBody, Parameters};
use super::caller::Caller;
use super::openapi::{Conflicts, Refusals};
use super::refusal::ApiRefusal;
use crate::api_types::signing_keys::{
    self, RevocationRequest, RotationRequest, RotationResponse, SigningKeyResponse,
};
use crate::api_types::texts::KidText;
use crate::grant::Role;
use crate::issuer::rotator::Rotation;
use crate::jose::Algorithm;
use crate::jose::jwk::Kid;
use crate::signing_keys::rotation;

/// The filter of the list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParameters {
    /// True to include keys that left the JWKS long ago.
    all: bool,
}

/// List the signing keys
///
/// Requires a grant of role viewer or admin. All members of a key are public, except the publications that it
/// waits for: of these, only feeds that the grant reaches are named.
#[utoipa::path(
    get,
    path = "/signing-keys",
    tag = "signing keys",
    operation_id = "listSigningKeys",
    params(ListParameters),
    responses((status = 200, description = "The keys, oldest first", body = Vec<SigningKeyResponse>), Refusals),
)]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Parameters(parameters): Parameters<ListParameters>,
) -> Result<Json<Vec<SigningKeyResponse>>, ApiRefusal> {
    caller.needs(Role::Viewer)?;
    let clients = api.carnet().store().jwks_clients().await?;
    let key_set = api.carnet().issuer().key_set();
    let now = api.carnet().clock().now();
    Ok(Json(signing_keys::list(&key_set, &clients, parameters.all, now, caller.permissions())))
}

/// Rotate the signing keys
///
/// Promotes the prepared keys. Refuses a key that has not been published for long enough, unless `force` is
/// true. With `force`, verifiers with an older key set refuse new tokens until they fetch the JWKS again.
/// Requires an admin's grant without limits.
#[utoipa::path(
    post,
    path = "/signing-keys/rotate",
    tag = "signing keys",
    operation_id = "rotateSigningKeys",
    request_body(content = Option<RotationRequest>, description = "All members may be absent, and the body too"),
    responses((status = 200, description = "The changes", body = RotationResponse), Refusals, Conflicts),
)]
pub(super) async fn rotate(
    State(api): State<Api>,
    caller: Caller,
    OptionalJsonBody(request): OptionalJsonBody<RotationRequest>,
) -> Result<Json<RotationResponse>, ApiRefusal> {
    caller.needs_unlimited_admin()?;
    let carnet = api.carnet();
    let seen = request.seen.unwrap_or_else(|| carnet.issuer().key_set().active_kids());
    let algorithms = request.alg.map_or_else(|| Algorithm::ALL.to_vec(), |algorithm| vec![algorithm]);
    let wanted = rotation::RotationRequest { algorithms, seen, force: request.force };
    let rotation = carnet.rotator().rotate(&wanted, caller.principal()).await?;
    changed(&api, &rotation).await
}

/// Revoke a signing key
///
/// Removes the key from the JWKS at once and destroys its private half. Revoking it again changes nothing.
/// Verifiers that fetch the JWKS only for an unknown `kid` keep accepting the key. Unless `nudge` is false, a
/// server therefore presents each of them a token of a key that they do not know, and the audit log names
/// each one (`key.nudge`). Requires an admin's grant without limits.
#[utoipa::path(
    post,
    path = "/signing-keys/{kid}/revoke",
    tag = "signing keys",
    operation_id = "revokeSigningKey",
    params(("kid" = KidText, Path, description = "The key's identifier")),
    request_body(content = Option<RevocationRequest>, description = "All members may be absent, and the body too"),
    responses((status = 200, description = "The changes", body = RotationResponse), Refusals, Conflicts),
)]
pub(super) async fn revoke(
    State(api): State<Api>,
    caller: Caller,
    Names(kid): Names<String>,
    OptionalJsonBody(request): OptionalJsonBody<RevocationRequest>,
) -> Result<Json<RotationResponse>, ApiRefusal> {
    caller.needs_unlimited_admin()?;
    let kid: Kid = kid.parse().map_err(|_| ApiRefusal::not_found())?;
    let rotator = match request.nudge {
        true => api.carnet().rotator().as_ref(),
        false => &api.carnet().rotator().without_nudges(),
    };
    let rotation = rotator.revoke(&kid, caller.principal()).await?;
    changed(&api, &rotation).await
}

/// Refreshes the issuer first, so that the server has applied the change when it reports it.
async fn changed(api: &Api, rotation: &Rotation) -> Result<Json<RotationResponse>, ApiRefusal> {
    api.carnet().issuer().refresh().await?;
    Ok(Json(RotationResponse::from(rotation)))
}
