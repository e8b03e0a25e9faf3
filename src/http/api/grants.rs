//! `/grants`: the grants for the API.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::Api;
use super::body::{JsonBody, Names, Parameters};
use super::caller::Caller;
use super::openapi::{Conflicts, Refusals};
use super::refusal::ApiRefusal;
use crate::api_types::grants::{GrantResponse, NewGrant, NewGrantResponse, RevokedGrantsResponse};
use crate::grant::Role;
use crate::values::secret::SecretString;

/// List the grants
///
/// Returns the grants that the caller's grant covers in every respect (role, spaces, feeds, context,
/// repositories, actions and expiry), and those that it made. Requires an admin's grant.
#[utoipa::path(
    get,
    path = "/grants",
    tag = "grants",
    operation_id = "listGrants",
    responses((status = 200, description = "The grants, oldest first, without their tokens", body = Vec<GrantResponse>), Refusals),
)]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
) -> Result<Json<Vec<GrantResponse>>, ApiRefusal> {
    caller.needs(Role::Admin)?;
    let now = api.carnet().clock().now();
    let list = api.carnet().grants().list(caller.principal()).await?;
    Ok(Json(list.grants.iter().map(|grant| GrantResponse::new(grant, now)).collect()))
}

/// Create a grant
///
/// The response contains the grant's token, which is shown only once. A grant is never wider than the one
/// that creates it, in role, spaces, feeds, context, repositories, actions or expiry. Requires an admin's
/// grant.
#[utoipa::path(
    post,
    path = "/grants",
    tag = "grants",
    operation_id = "createGrant",
    request_body = NewGrant,
    responses((status = 201, description = "The grant and its token", body = NewGrantResponse), Refusals, Conflicts),
)]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    JsonBody(new): JsonBody<NewGrant>,
) -> Result<(StatusCode, Json<NewGrantResponse>), ApiRefusal> {
    caller.needs(Role::Admin)?;
    let now = api.carnet().clock().now();
    let draft = new.draft(now, caller.expires_at())?;
    let new = api.carnet().grants().create(draft, caller.principal()).await?;
    let token = SecretString::new(new.token.reveal().to_owned());
    let response = NewGrantResponse { token, grant: GrantResponse::new(&new.grant, now) };
    Ok((StatusCode::CREATED, Json(response)))
}

/// Revoke a grant
///
/// Revoking it again changes nothing. Requires an admin's grant that covers it in every respect, or that made
/// it.
#[utoipa::path(
    delete,
    path = "/grants/{id}",
    tag = "grants",
    operation_id = "revokeGrant",
    params(("id" = Uuid, Path, description = "The grant's identifier")),
    responses((status = 204, description = "The grant is no longer valid"), Refusals),
)]
pub(super) async fn revoke(
    State(api): State<Api>,
    caller: Caller,
    Names(id): Names<String>,
) -> Result<StatusCode, ApiRefusal> {
    caller.needs(Role::Admin)?;
    let id: Uuid = id.parse().map_err(|_| ApiRefusal::not_found())?;
    api.carnet().grants().revoke(id, caller.principal()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The maker whose grants to revoke.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct MadeBy {
    /// The grant that made them.
    made_by: Uuid,
}

/// Revoke the grants that a grant has made
///
/// Revokes every grant that this one made, those that they made in turn, and so on, in one transaction. This
/// grant itself is not revoked: revoke it first, and it makes no more. Requires an admin's grant, and revokes
/// only the grants that it could revoke one by one.
#[utoipa::path(
    delete,
    path = "/grants",
    tag = "grants",
    operation_id = "revokeGrantsMadeBy",
    params(MadeBy),
    responses((status = 200, description = "The grants that were revoked just now", body = RevokedGrantsResponse), Refusals),
)]
pub(super) async fn revoke_made_by(
    State(api): State<Api>,
    caller: Caller,
    Parameters(MadeBy { made_by }): Parameters<MadeBy>,
) -> Result<Json<RevokedGrantsResponse>, ApiRefusal> {
    caller.needs(Role::Admin)?;
    let revoked = api.carnet().grants().revoke_made_by(made_by, caller.principal()).await?;
    Ok(Json(RevokedGrantsResponse { revoked: revoked.iter().map(|grant| grant.id).collect() }))
}
