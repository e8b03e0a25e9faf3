//! `/signing-keys`: the keys, and changing them.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Api;
use super::body::{Names, OptionalJsonBody, Parameters};
use super::caller::Caller;
use super::openapi::{Conflicts, Refusals};
use super::refusal::Refusal;
use crate::api_types::signing_keys::{
    self, RevocationRequest, RotationAnswer, RotationRequest, SigningKeyAnswer,
};
use crate::api_types::texts::KidText;
use crate::grant::Role;
use crate::issuer::rotator::Rotation;
use crate::jose::Algorithm;
use crate::jose::jwk::Kid;
use crate::signing_keys::rotation;

/// What to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParameters {
    /// Keys that left the JWKS long ago, too.
    all: bool,
}

/// List the signing keys
///
/// Needs a grant of role viewer or admin. What is shown of a key is public, except the places that it waits for: of
/// feeds only those that the grant reaches are named.
#[utoipa::path(
    get,
    path = "/signing-keys",
    tag = "signing keys",
    operation_id = "listSigningKeys",
    params(ListParameters),
    responses((status = 200, description = "The keys, oldest first", body = Vec<SigningKeyAnswer>), Refusals),
)]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Parameters(parameters): Parameters<ListParameters>,
) -> Result<Json<Vec<SigningKeyAnswer>>, Refusal> {
    caller.needs(Role::Viewer)?;
    let clients = api.carnet().store().jwks_clients().await?;
    let key_set = api.carnet().issuer().key_set();
    let now = api.carnet().clock().now();
    Ok(Json(signing_keys::list(&key_set, &clients, parameters.all, now, caller.permissions())))
}

/// Rotate the signing keys
///
/// Promotes the prepared keys. A key that has not been published for long enough is refused, unless `force`
/// says to go on: then verifiers whose key set is older refuse new tokens until they fetch again. Needs an
/// admin's grant without limits.
#[utoipa::path(
    post,
    path = "/signing-keys/rotate",
    tag = "signing keys",
    operation_id = "rotateSigningKeys",
    request_body(content = Option<RotationRequest>, description = "All members may be absent, and the body too"),
    responses((status = 200, description = "What was changed", body = RotationAnswer), Refusals, Conflicts),
)]
pub(super) async fn rotate(
    State(api): State<Api>,
    caller: Caller,
    OptionalJsonBody(request): OptionalJsonBody<RotationRequest>,
) -> Result<Json<RotationAnswer>, Refusal> {
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
/// It leaves the JWKS at once and its private half is destroyed. Revoking it again changes nothing. Verifiers that
/// fetch only for an unknown `kid` go on accepting the key; unless `nudge` is false, a server then shows each of them a
/// token of a key that they do not know, and the audit log names each (`key.nudge`). Needs an admin's grant without
/// limits.
#[utoipa::path(
    post,
    path = "/signing-keys/{kid}/revoke",
    tag = "signing keys",
    operation_id = "revokeSigningKey",
    params(("kid" = KidText, Path, description = "The key's identifier")),
    request_body(content = Option<RevocationRequest>, description = "All members may be absent, and the body too"),
    responses((status = 200, description = "What was changed", body = RotationAnswer), Refusals, Conflicts),
)]
pub(super) async fn revoke(
    State(api): State<Api>,
    caller: Caller,
    Names(kid): Names<String>,
    OptionalJsonBody(request): OptionalJsonBody<RevocationRequest>,
) -> Result<Json<RotationAnswer>, Refusal> {
    caller.needs_unlimited_admin()?;
    let kid: Kid = kid.parse().map_err(|_| Refusal::not_found())?;
    let rotator = match request.nudge {
        true => api.carnet().rotator().as_ref(),
        false => &api.carnet().rotator().without_nudges(),
    };
    let rotation = rotator.revoke(&kid, caller.principal()).await?;
    changed(&api, &rotation).await
}

/// What was changed is what this server publishes and signs with, before it says so.
async fn changed(api: &Api, rotation: &Rotation) -> Result<Json<RotationAnswer>, Refusal> {
    api.carnet().issuer().refresh().await?;
    Ok(Json(RotationAnswer::from(rotation)))
}
