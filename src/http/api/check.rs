//! `POST …/check`: checks of a feed's chain.

use axum::Json;
use axum::extract::State;

use super::Api;
use super::body::{Names, OptionalJsonBody};
use super::caller::Caller;
use super::openapi::Refusals;
use super::refusal::ApiRefusal;
use crate::api_types::check::{CheckCause, CheckRequest, CheckResponse, CheckStep};
use crate::api_types::problem::ProblemType;
use crate::api_types::texts::SlugText;
use crate::audit::{EventKind, Outcome};
use crate::check::{Check, ImageReference, check};
use crate::exchange::NO_PROVIDER;
use crate::exchange::transport::TransportConfigError;
use crate::grant::Role;

/// Check a feed's chain
///
/// Tries every link from the issuer's documents to the registry, without the credential cache, and ends with
/// the first one that fails. A failed check is still a response with status 200. The credential is not
/// returned. Requires a grant of role admin for the feed; the grant's context and scope apply as for
/// credentials.
#[utoipa::path(
    post,
    path = "/spaces/{space}/feeds/{feed}/check",
    tag = "feeds",
    operation_id = "checkFeed",
    params(("space" = SlugText, Path, description = "The space"), ("feed" = SlugText, Path, description = "The feed")),
    request_body(content = Option<CheckRequest>, description = "All members may be absent, and the body too"),
    responses((status = 200, description = "The result of each step", body = CheckResponse), Refusals),
)]
pub(super) async fn run(
    State(api): State<Api>,
    caller: Caller,
    Names((space, feed)): Names<(String, String)>,
    OptionalJsonBody(request): OptionalJsonBody<CheckRequest>,
) -> Result<Json<CheckResponse>, ApiRefusal> {
    caller.needs(Role::Admin)?;
    let path = caller.feed_path(&space, &feed)?;
    let feed = api.carnet().store().feed(&path).await?.ok_or_else(ApiRefusal::not_found)?;
    let context = caller.permissions().context.admit(&request.context)?;
    let scope = &caller.permissions().scope;
    let image = request.image.as_deref().map(|image| ImageReference::parse(image, &feed.registry));
    let image = image.transpose().map_err(|error| ApiRefusal::field("image", error))?;
    let asked = caller.event(EventKind::TokenMint, Outcome::Done).detail("feed check");
    let wanted = Check { feed: &feed, context: &context, scope, image: image.as_ref(), network: &[], asked };
    let mut response = check(api.carnet(), wanted, &|_| {}).await?;
    if !caller.permissions().is_unlimited_admin() && !feed.endpoints.is_empty() {
        hide_endpoints(&mut response);
    }
    Ok(Json(response))
}

/// Replaces the details of a failure at an endpoint or a registry by the statement that it is no response of
/// the provider. A refusal with a code, by a provider or a registry, stays. The steps of carnet itself have
/// nothing to hide.
fn hide_endpoints(response: &mut CheckResponse) {
    let is_own = |step: &CheckStep| matches!(step.step.as_str(), "discovery" | "jwks" | "mint" | "scope");
    for step in response.steps.iter_mut().filter(|step| !step.ok && !is_own(step)) {
        if step.upstream.as_ref().is_some_and(|upstream| upstream.code.is_some()) {
            continue;
        }
        step.detail = Some(NO_PROVIDER.to_owned());
        step.upstream = None;
        step.causes = vec![CheckCause {
            cause: "no server listens there, or it is not the provider's; only the server's log shows which"
                .to_owned(),
            fix: "ask the operator of the server for its log, or for `carnet feed check` on its host"
                .to_owned(),
            command: None,
        }];
    }
}

impl From<TransportConfigError> for ApiRefusal {
    fn from(error: TransportConfigError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "the HTTP client could not be made");
        Self::new(ProblemType::Internal)
    }
}
