//! `/grants`: who may use the API.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use uuid::Uuid;

use super::Api;
use super::body::{JsonBody, Names};
use super::caller::Caller;
use super::openapi::{Conflicts, Refusals};
use super::refusal::Refusal;
use crate::api::grants::{GrantAnswer, NewGrant, NewGrantAnswer};
use crate::grant::Role;
use crate::grants::Creator;
use crate::secret::SecretString;

/// List the grants
///
/// Those whose spaces all lie within the caller's own. Needs an admin's grant.
#[utoipa::path(
    get,
    path = "/grants",
    tag = "grants",
    operation_id = "listGrants",
    responses((status = 200, description = "The grants, oldest first, without their tokens", body = Vec<GrantAnswer>), Refusals),
)]
pub(super) async fn list(State(api): State<Api>, caller: Caller) -> Result<Json<Vec<GrantAnswer>>, Refusal> {
    caller.needs(Role::Admin)?;
    let now = api.carnet().clock().now();
    let list = api.carnet().grants().list(&Creator::Grant(caller.grant())).await?;
    for id in &list.forged {
        tracing::error!(id, "the row of a grant fails its MAC; it is not honoured");
    }
    Ok(Json(list.grants.iter().map(|grant| GrantAnswer::new(grant, now)).collect()))
}

/// Make a grant
///
/// The answer holds its token, which is shown this once. A grant is never wider than the one that makes it,
/// in role, spaces, feeds, context, repositories, actions or expiry. Needs an admin's grant.
#[utoipa::path(
    post,
    path = "/grants",
    tag = "grants",
    operation_id = "createGrant",
    request_body = NewGrant,
    responses((status = 201, description = "The grant and its token", body = NewGrantAnswer), Refusals, Conflicts),
)]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    JsonBody(new): JsonBody<NewGrant>,
) -> Result<(StatusCode, Json<NewGrantAnswer>), Refusal> {
    caller.needs(Role::Admin)?;
    let now = api.carnet().clock().now();
    let draft = new.draft(now, caller.grant().expires_at)?;
    let new = api.carnet().grants().create(draft, &Creator::Grant(caller.grant())).await?;
    let token = SecretString::new(new.token.reveal().to_owned());
    let answer = NewGrantAnswer { token, grant: GrantAnswer::new(&new.grant, now) };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Revoke a grant
///
/// Revoking it again changes nothing. Needs an admin's grant whose spaces hold all of its own.
#[utoipa::path(
    delete,
    path = "/grants/{id}",
    tag = "grants",
    operation_id = "revokeGrant",
    params(("id" = Uuid, Path, description = "The grant's identifier")),
    responses((status = 204, description = "The grant counts no more"), Refusals),
)]
pub(super) async fn revoke(
    State(api): State<Api>,
    caller: Caller,
    Names(id): Names<String>,
) -> Result<StatusCode, Refusal> {
    caller.needs(Role::Admin)?;
    let id: Uuid = id.parse().map_err(|_| Refusal::not_found())?;
    api.carnet().grants().revoke(id, &Creator::Grant(caller.grant())).await?;
    Ok(StatusCode::NO_CONTENT)
}
