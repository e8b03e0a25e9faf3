//! The OpenAPI document, generated from the routes themselves so that it cannot contradict them.

use std::collections::BTreeMap;

use axum::Router;
use axum::response::{IntoResponse as _, Response as HttpResponse};
use axum::routing::get;
use bytes::Bytes;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Content, Ref, RefOr, Required, Response, ResponseBuilder};
use utoipa::{IntoResponses, Modify, OpenApi};

use crate::api_types::PREFIX;
use crate::api_types::feed_schemas::describe_types;
use crate::api_types::problem::{PROBLEM_JSON, Problem, ProblemType};
use crate::api_types::texts::{EventKindName, KidText, OutcomeName, RegistryText, SlugText, TimeText};

/// The parts of the document that are common to all routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "carnet",
        description = "Short-lived container registry credentials, and the issuer behind them.\n\nEvery \
                       request except those for this document carries a grant's token as `Authorization: \
                       Bearer carnet_…`. Every refusal is `application/problem+json` (RFC 9457) with a \
                       stable `type`.",
        license(name = "Apache-2.0 OR MIT"),
    ),
    components(schemas(Problem, SlugText, RegistryText, KidText, EventKindName, OutcomeName, TimeText)),
    modifiers(&BearerTokens),
    security(("grant" = [])),
    tags(
        (name = "credentials", description = "Registry credentials for deployments"),
        (name = "feeds", description = "The registries, and how they trust this issuer"),
        (name = "signing keys", description = "The keys that tokens are signed with"),
        (name = "grants", description = "The permissions to use this API"),
        (name = "audit", description = "The recorded events"),
    ),
)]
pub(super) struct Described;

struct BearerTokens;

impl Modify for BearerTokens {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let mut bearer = Http::new(HttpAuthScheme::Bearer);
        bearer.bearer_format = Some("carnet_…".to_owned());
        bearer.description = Some("A grant's token, as `carnet grant create` prints it".to_owned());
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("grant", SecurityScheme::Http(bearer));
    }
}

/// Returns the route of the document. It is public, because it reveals nothing beyond the source code.
pub(super) fn router(description: &utoipa::openapi::OpenApi) -> Router {
    let json = Bytes::from(serde_json::to_vec(description).unwrap_or_default());
    let response = move || -> std::future::Ready<HttpResponse> {
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        ];
        std::future::ready((headers, json.clone()).into_response())
    };
    Router::new().route(&format!("{PREFIX}/openapi.json"), get(response))
}

/// Completes the document that utoipa collects from the routes.
pub(super) fn complete(openapi: &mut utoipa::openapi::OpenApi) {
    name_optional_bodies(openapi);
    describe_types(openapi.components.get_or_insert_default());
}

/// Describes an optional body by its type and as not required. utoipa describes it as that type or `null`;
/// clients generated from this require an argument and send the literal `null`.
fn name_optional_bodies(openapi: &mut utoipa::openapi::OpenApi) {
    for path in openapi.paths.paths.values_mut() {
        let operations = [&mut path.get, &mut path.post, &mut path.put, &mut path.patch, &mut path.delete];
        for operation in operations.into_iter().flatten() {
            let Some(RefOr::T(body)) = &mut operation.request_body else { continue };
            for content in body.content.values_mut() {
                let RefOr::T(content) = content else { continue };
                let Some(RefOr::T(Schema::OneOf(choices))) = &content.schema else { continue };
                let named = choices.items.iter().find_map(|choice| match choice {
                    RefOr::Ref(named) => Some(named.clone()),
                    RefOr::T(_) => None,
                });
                if let Some(named) = named {
                    content.schema = Some(RefOr::Ref(named));
                    body.required = Some(Required::False);
                }
            }
        }
    }
}

/// The refusals of any route.
pub(super) struct Refusals;

/// The additional refusals of routes that change something.
pub(super) struct Conflicts;

/// The additional refusals of routes that contact a provider.
pub(super) struct UpstreamRefusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses(|status| !Conflicts::has(status) && !UpstreamRefusals::has(status))
    }
}

impl IntoResponses for Conflicts {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses(Self::has)
    }
}

impl IntoResponses for UpstreamRefusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses(|status| Self::has(status) || Conflicts::has(status))
    }
}

impl Conflicts {
    fn has(status: u16) -> bool {
        status == 409
    }
}

impl UpstreamRefusals {
    fn has(status: u16) -> bool {
        matches!(status, 502 | 504)
    }
}

/// Returns one response for each of the wanted statuses, with its problem types.
fn responses(wanted: impl Fn(u16) -> bool) -> BTreeMap<String, RefOr<Response>> {
    let mut names: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for problem in ProblemType::ALL.iter().filter(|problem| wanted(problem.status())) {
        names.entry(problem.status()).or_default().push(problem.name());
    }
    names
        .into_iter()
        .map(|(status, names)| {
            let list: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            let response = ResponseBuilder::new()
                .description(format!("Refused: {}", list.join(", ")))
                .content(PROBLEM_JSON, Content::new(Some(Ref::from_schema_name("Problem"))))
                .build();
            (status.to_string(), RefOr::T(response))
        })
        .collect()
}
