//! `/spaces/{space}/feeds`: feeds.

use axum::Json;
use axum::extract::State;
use http::StatusCode;

use super::Api;
use super::body::{JsonBody, Names};
use super::caller::Caller;
use super::openapi::{Conflicts, Refusals};
use super::refusal::ApiRefusal;
use crate::api_types::feeds::{FeedPatch, FeedResponse, NewFeed};
use crate::api_types::texts::SlugText;
use crate::feed::FeedPath;
use crate::feeds::{Feeds, Sharing};
use crate::grant::Role;
use crate::store::feeds::FeedsOf;

/// List the feeds of a space
///
/// Returns the feeds that the grant allows. Requires a grant of role viewer or admin.
#[utoipa::path(
    get,
    path = "/spaces/{space}/feeds",
    tag = "feeds",
    operation_id = "listFeeds",
    params(("space" = SlugText, Path, description = "The space")),
    responses((status = 200, description = "The feeds, by slug", body = Vec<FeedResponse>), Refusals),
)]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Names(space): Names<String>,
) -> Result<Json<Vec<FeedResponse>>, ApiRefusal> {
    caller.needs(Role::Viewer)?;
    let space = caller.space(&space)?;
    let limits = (&caller.permissions().spaces, &caller.permissions().feeds);
    let feeds = api.carnet().store().feeds_inside(limits, FeedsOf::Space(&space)).await?;
    Ok(Json(feeds.iter().map(FeedResponse::from).collect()))
}

/// Add a feed
///
/// Creates the space if it does not exist. Requires a grant of role admin for the space and the slug. A grant
/// that is limited to feeds can add only feeds whose subject names `feed` or `feed_id`. A grant that is
/// limited in context, repositories or actions can add none. `share_subject`, `reuse_slug`,
/// `"jwks": "uploaded"` and the registry of a feed outside the grant require a grant without limits.
#[utoipa::path(
    post,
    path = "/spaces/{space}/feeds",
    tag = "feeds",
    operation_id = "createFeed",
    params(("space" = SlugText, Path, description = "The space")),
    request_body = NewFeed,
    responses((status = 201, description = "The feed", body = FeedResponse), Refusals, Conflicts),
)]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    Names(space): Names<String>,
    JsonBody(new): JsonBody<NewFeed>,
) -> Result<(StatusCode, Json<FeedResponse>), ApiRefusal> {
    caller.needs(Role::Admin)?;
    let space = caller.space(&space)?;
    let path = FeedPath { space: space.clone(), slug: new.common.slug.clone() };
    // A feed is added only where its maker may see it.
    if !caller.permissions().may_see(&path) {
        return Err(ApiRefusal::field("slug", "your grant has no feed of that name"));
    }
    let sharing = Sharing { share_subject: new.common.share_subject, reuse_slug: new.common.reuse_slug };
    let draft = new.draft(space)?;
    let added = feeds(&api).add(draft, sharing, caller.principal()).await;
    let added = added.map_err(|error| ApiRefusal::from(error).about(&path))?;
    Ok((StatusCode::CREATED, Json(FeedResponse::from(&added))))
}

/// Show a feed
///
/// Requires a grant of role viewer or admin for the feed.
#[utoipa::path(
    get,
    path = "/spaces/{space}/feeds/{feed}",
    tag = "feeds",
    operation_id = "getFeed",
    params(("space" = SlugText, Path, description = "The space"), ("feed" = SlugText, Path, description = "The feed")),
    responses((status = 200, description = "The feed", body = FeedResponse), Refusals),
)]
pub(super) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Names((space, feed)): Names<(String, String)>,
) -> Result<Json<FeedResponse>, ApiRefusal> {
    caller.needs(Role::Viewer)?;
    let path = caller.feed_path(&space, &feed)?;
    let feed = api.carnet().store().feed(&path).await?.ok_or_else(ApiRefusal::not_found)?;
    Ok(Json(FeedResponse::from(&feed)))
}

/// Change a feed
///
/// Slug and type never change. Requires a grant of role admin for the feed. A grant that is limited to feeds
/// can change only feeds whose subject names `feed` or `feed_id`. A grant that is limited in context,
/// repositories or actions cannot change `subject_keys`, `endpoints`, `registry`, `audience` or the fields of
/// the feed's type. A change that affects which keys wait for an uploaded JWKS requires a grant without
/// limits.
#[utoipa::path(
    patch,
    path = "/spaces/{space}/feeds/{feed}",
    tag = "feeds",
    operation_id = "updateFeed",
    params(("space" = SlugText, Path, description = "The space"), ("feed" = SlugText, Path, description = "The feed")),
    request_body = FeedPatch,
    responses((status = 200, description = "The feed as it is now", body = FeedResponse), Refusals, Conflicts),
)]
pub(super) async fn update(
    State(api): State<Api>,
    caller: Caller,
    Names((space, feed)): Names<(String, String)>,
    JsonBody(patch): JsonBody<FeedPatch>,
) -> Result<Json<FeedResponse>, ApiRefusal> {
    caller.needs(Role::Admin)?;
    let path = caller.feed_path(&space, &feed)?;
    let before = api.carnet().store().feed(&path).await?.ok_or_else(ApiRefusal::not_found)?;
    let sharing = Sharing { share_subject: patch.common.share_subject, reuse_slug: patch.common.reuse_slug };
    let changes = patch.changes(before.provider.feed_type())?;
    let updated = feeds(&api).update(&path, changes, sharing, caller.principal()).await;
    let updated = updated.map_err(|error| ApiRefusal::from(error).about(&path))?;
    Ok(Json(FeedResponse::from(&updated)))
}

/// Remove a feed
///
/// The feed's subject stays marked, because clouds may still trust it. Requires a grant of role admin for the
/// feed.
#[utoipa::path(
    delete,
    path = "/spaces/{space}/feeds/{feed}",
    tag = "feeds",
    operation_id = "deleteFeed",
    params(("space" = SlugText, Path, description = "The space"), ("feed" = SlugText, Path, description = "The feed")),
    responses((status = 204, description = "The feed is gone"), Refusals),
)]
pub(super) async fn remove(
    State(api): State<Api>,
    caller: Caller,
    Names((space, feed)): Names<(String, String)>,
) -> Result<StatusCode, ApiRefusal> {
    caller.needs(Role::Admin)?;
    let path = caller.feed_path(&space, &feed)?;
    let removed = feeds(&api).remove(&path, caller.principal()).await;
    let feed = removed.map_err(|error| ApiRefusal::from(error).about(&path))?;
    api.broker().forget(feed.id);
    Ok(StatusCode::NO_CONTENT)
}

fn feeds(api: &Api) -> Feeds {
    api.carnet().feeds()
}
