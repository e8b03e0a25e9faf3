//! `/spaces/{space}/feeds`: feeds.

use axum::Json;
use axum::extract::State;
use http::StatusCode;

use super::Api;
use super::body::{JsonBody, Names};
use super::caller::Caller;
use super::openapi::{Conflicts, Refusals};
use super::refusal::Refusal;
use crate::api::feeds::{FeedAnswer, FeedPatch, NewFeed};
use crate::api::texts::SlugText;
use crate::feed::FeedPath;
use crate::feeds::{Feeds, ReuseSlug};
use crate::grant::Role;

/// List the feeds of a space
///
/// Those that the grant allows. Needs a grant of role viewer or admin.
#[utoipa::path(
    get,
    path = "/spaces/{space}/feeds",
    tag = "feeds",
    operation_id = "listFeeds",
    params(("space" = SlugText, Path, description = "The space")),
    responses((status = 200, description = "The feeds, by slug", body = Vec<FeedAnswer>), Refusals),
)]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Names(space): Names<String>,
) -> Result<Json<Vec<FeedAnswer>>, Refusal> {
    caller.needs(Role::Viewer)?;
    let space = caller.space(&space)?;
    let feeds = api.carnet().store().feeds(Some(&space)).await?;
    let visible = feeds.iter().filter(|feed| caller.permissions().may_see(&feed.path()));
    Ok(Json(visible.map(FeedAnswer::from).collect()))
}

/// Add a feed
///
/// A space that does not exist yet is made. Needs a grant of role admin for the space and the slug.
#[utoipa::path(
    post,
    path = "/spaces/{space}/feeds",
    tag = "feeds",
    operation_id = "createFeed",
    params(("space" = SlugText, Path, description = "The space")),
    request_body = NewFeed,
    responses((status = 201, description = "The feed", body = FeedAnswer), Refusals, Conflicts),
)]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    Names(space): Names<String>,
    JsonBody(new): JsonBody<NewFeed>,
) -> Result<(StatusCode, Json<FeedAnswer>), Refusal> {
    caller.needs(Role::Admin)?;
    let space = caller.space(&space)?;
    let path = FeedPath { space: space.clone(), slug: new.slug.clone() };
    // A feed that its maker could not see afterwards is none of his.
    if !caller.permissions().may_see(&path) {
        return Err(Refusal::field("slug", "your grant reaches no feed of that name"));
    }
    let reuse = reuse(new.reuse_slug);
    let draft = new.draft(space)?;
    let added = feeds(&api).add(draft, reuse, caller.actor()).await;
    let feed = added.map_err(|error| Refusal::from(error).about(&path))?;
    Ok((StatusCode::CREATED, Json(FeedAnswer::from(&feed))))
}

/// Show a feed
///
/// Needs a grant of role viewer or admin for the feed.
#[utoipa::path(
    get,
    path = "/spaces/{space}/feeds/{feed}",
    tag = "feeds",
    operation_id = "getFeed",
    params(("space" = SlugText, Path, description = "The space"), ("feed" = SlugText, Path, description = "The feed")),
    responses((status = 200, description = "The feed", body = FeedAnswer), Refusals),
)]
pub(super) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Names((space, feed)): Names<(String, String)>,
) -> Result<Json<FeedAnswer>, Refusal> {
    caller.needs(Role::Viewer)?;
    let path = caller.feed_path(&space, &feed)?;
    let feed = api.carnet().store().feed(&path).await?.ok_or_else(Refusal::not_found)?;
    Ok(Json(FeedAnswer::from(&feed)))
}

/// Change a feed
///
/// Slug and type never change. Needs a grant of role admin for the feed.
#[utoipa::path(
    patch,
    path = "/spaces/{space}/feeds/{feed}",
    tag = "feeds",
    operation_id = "updateFeed",
    params(("space" = SlugText, Path, description = "The space"), ("feed" = SlugText, Path, description = "The feed")),
    request_body = FeedPatch,
    responses((status = 200, description = "The feed as it is now", body = FeedAnswer), Refusals, Conflicts),
)]
pub(super) async fn update(
    State(api): State<Api>,
    caller: Caller,
    Names((space, feed)): Names<(String, String)>,
    JsonBody(patch): JsonBody<FeedPatch>,
) -> Result<Json<FeedAnswer>, Refusal> {
    caller.needs(Role::Admin)?;
    let path = caller.feed_path(&space, &feed)?;
    let before = api.carnet().store().feed(&path).await?.ok_or_else(Refusal::not_found)?;
    let reuse = reuse(patch.reuse_slug);
    let changes = patch.changes(before.provider.feed_type())?;
    let updated = feeds(&api).update(&path, changes, reuse, caller.actor()).await;
    let feed = updated.map_err(|error| Refusal::from(error).about(&path))?;
    Ok(Json(FeedAnswer::from(&feed)))
}

/// Remove a feed
///
/// Its name stays marked, because clouds may still trust it. Needs a grant of role admin for the feed.
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
) -> Result<StatusCode, Refusal> {
    caller.needs(Role::Admin)?;
    let path = caller.feed_path(&space, &feed)?;
    let removed = feeds(&api).remove(&path, caller.actor()).await;
    let feed = removed.map_err(|error| Refusal::from(error).about(&path))?;
    api.broker().forget(feed.id);
    Ok(StatusCode::NO_CONTENT)
}

fn feeds(api: &Api) -> Feeds {
    api.carnet().feeds()
}

fn reuse(reuse_slug: bool) -> ReuseSlug {
    if reuse_slug { ReuseSlug::Accept } else { ReuseSlug::Refuse }
}
