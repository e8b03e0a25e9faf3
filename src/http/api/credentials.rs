//! `POST …/credentials`: credentials for deployments.

use axum::Json;
use axum::extract::State;

use super::Api;
use super::body::{Names, OptionalJsonBody};
use super::caller::Caller;
use super::openapi::{Refusals, UpstreamRefusals};
use super::refusal::ApiRefusal;
use crate::api_types::credentials::{CredentialRequest, CredentialResponse, MAX_MIN_REMAINING};
use crate::api_types::problem::{Problem, ProblemType};
use crate::api_types::texts::{RegistryText, SlugText};
use crate::audit::{EventKind, Outcome};
use crate::broker::BrokerError;
use crate::feed::Feed;
use crate::grant::Role;
use crate::store::feeds::{FeedsOf, MAX_OF_REGISTRY};

/// Get a credential of a feed's registry
///
/// Requires a grant of role deployer for the feed. The token's subject and claims contain the request's
/// context as far as the grant allows it. The response is sent only after its audit row is durable.
#[utoipa::path(
    post,
    path = "/spaces/{space}/feeds/{feed}/credentials",
    tag = "credentials",
    operation_id = "createCredential",
    params(("space" = SlugText, Path, description = "The space"), ("feed" = SlugText, Path, description = "The feed")),
    request_body(content = Option<CredentialRequest>, description = "All members may be absent, and the body too"),
    responses((status = 200, description = "A credential", body = CredentialResponse), Refusals, UpstreamRefusals),
)]
pub(super) async fn of_feed(
    State(api): State<Api>,
    caller: Caller,
    Names((space, feed)): Names<(String, String)>,
    OptionalJsonBody(request): OptionalJsonBody<CredentialRequest>,
) -> Result<Json<CredentialResponse>, ApiRefusal> {
    caller.needs(Role::Deployer)?;
    let path = caller.feed_path(&space, &feed)?;
    let feed = api.carnet().store().feed(&path).await?.ok_or_else(ApiRefusal::not_found);
    let answered = match feed {
        Ok(feed) => response(&api, &caller, &feed, &request).await,
        Err(refusal) => Err(refusal),
    };
    answered.map_err(|refusal| refusal.about(&path))
}

/// Get a credential for a registry
///
/// For clients that know a registry's host but no feed, such as a Docker credential helper. Exactly one of
/// the feeds that the grant allows must have this registry.
#[utoipa::path(
    post,
    path = "/registries/{host}/credentials",
    tag = "credentials",
    operation_id = "createRegistryCredential",
    params(("host" = RegistryText, Path, description = "The registry's host, as images name it")),
    request_body(content = Option<CredentialRequest>, description = "All members may be absent, and the body too"),
    responses((status = 200, description = "A credential", body = CredentialResponse), Refusals, UpstreamRefusals),
)]
pub(super) async fn of_registry(
    State(api): State<Api>,
    caller: Caller,
    Names(host): Names<String>,
    OptionalJsonBody(request): OptionalJsonBody<CredentialRequest>,
) -> Result<Json<CredentialResponse>, ApiRefusal> {
    caller.needs(Role::Deployer)?;
    let host = host.parse().map_err(|_| ApiRefusal::not_found())?;
    // The role is sufficient, so every feed inside the limits is one that the caller may deploy.
    let limits = (&caller.permissions().spaces, &caller.permissions().feeds);
    let feeds = api.carnet().store().feeds_inside(limits, FeedsOf::Registry(&host)).await?;
    match feeds.as_slice() {
        [] => Err(ApiRefusal::not_found()),
        [feed] => {
            response(&api, &caller, feed, &request).await.map_err(|refusal| refusal.about(&feed.path()))
        }
        several => {
            // A longer list would not be useful.
            let is_cut = several.len() >= MAX_OF_REGISTRY as usize;
            let more =
                if is_cut { format!(" (the first {MAX_OF_REGISTRY} are listed)") } else { String::new() };
            let detail = format!("name one of them{more}: POST /spaces/{{space}}/feeds/{{feed}}/credentials");
            let feeds = Some(several.iter().map(|feed| feed.path().to_string()).collect());
            Err(Problem { feeds, ..Problem::new(ProblemType::SeveralFeeds).detail(detail) }.into())
        }
    }
}

/// Returns a credential of `feed` to a caller that may deploy it.
async fn response(
    api: &Api,
    caller: &Caller,
    feed: &Feed,
    request: &CredentialRequest,
) -> Result<Json<CredentialResponse>, ApiRefusal> {
    let permissions = caller.permissions();
    let min_remaining = request.min_remaining();
    if min_remaining.is_some_and(|wanted| wanted > MAX_MIN_REMAINING) {
        let rule = format!("{} at most", MAX_MIN_REMAINING.as_secs());
        return Err(ApiRefusal::field("min_remaining_seconds", rule));
    }
    let context = permissions.context.admit(&request.context)?;
    let scope = permissions.scope.narrowed_to(&request.scope()?)?;
    feed.provider.check_scope(&scope)?;
    let served = api.broker().credential_for(caller.account(), feed, &context, &scope, min_remaining).await;
    let served = match served {
        Err(error @ BrokerError::MinRemainingUnattainable { .. }) => {
            return Err(ApiRefusal::from(error).hint(feed.provider.longer_life()));
        }
        Err(error) if !permissions.is_unlimited_admin() && !feed.endpoints.is_empty() => {
            return Err(ApiRefusal::of_named_endpoint(error));
        }
        served => served?,
    };
    // Providers are slow. If the grant has ended meanwhile, the caller gets nothing, and no hand-out is
    // recorded.
    caller.confirm(api).await?;
    let asked = crate::exchange::asked(feed);
    let event = caller
        .event(EventKind::Credential, Outcome::Done)
        .about_feed(feed)
        .with_jti(served.jti)
        .detail(&format!("{asked}{}", served.source));
    // No credential leaves before its audit row is durable.
    api.carnet().audit_log().record(event).await?;
    Ok(Json(CredentialResponse::new(&feed.path(), &served)))
}
