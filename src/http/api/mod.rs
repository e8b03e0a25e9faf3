//! The API below `/api/v1`: grants come in, credentials and answers go out.
//!
//! Handlers translate: a request into calls of the services below, their results into the shapes of
//! [`crate::api_types`]. They decide nothing but whether the caller's permissions allow what he asks for.
//!
//! Invariants: role comes before anything is looked up; what a caller may not see is not there for him; no
//! credential is answered before its audit row is durable; every refusal is problem details.

mod audit;
mod audit_turns;
mod body;
mod caller;
mod check;
mod credentials;
mod envelope;
mod feeds;
mod grants;
mod limits;
mod metrics;
mod openapi;
mod refusal;
mod request_id;
mod setup;
mod signing_keys;

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::audit_turns::AuditTurns;
use self::limits::Limits;
pub use self::limits::{ApiLimits, Rate};
use self::refusal::Refusal;
use crate::api_types::PREFIX;
use crate::api_types::problem::ProblemType;
use crate::broker::Broker;
use crate::carnet::Carnet;
use crate::exchange::transport::TransportConfigError;
use crate::values::random::Uuids;

/// The API of one issuer. Clones share everything.
#[derive(Debug, Clone)]
pub struct Api(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    carnet: Arc<Carnet>,
    broker: Broker,
    api_limits: ApiLimits,
    limits: Limits,
    audit_turns: AuditTurns,
    request_ids: Uuids,
}

impl Api {
    /// The API of `carnet` within `limits`.
    ///
    /// # Errors
    ///
    /// [`TransportConfigError`] when the broker's HTTP client cannot be made.
    pub fn new(carnet: Arc<Carnet>, limits: ApiLimits) -> Result<Self, TransportConfigError> {
        let broker = carnet.broker()?;
        let counted = Limits::new(&limits, Arc::clone(carnet.clock()), Arc::clone(carnet.metrics()));
        let request_ids = Uuids::new(Arc::clone(carnet.random()));
        let audit_turns = AuditTurns::default();
        let (api_limits, limits) = (limits, counted);
        Ok(Self(Arc::new(Shared { carnet, broker, api_limits, limits, audit_turns, request_ids })))
    }

    /// Everything that it serves: `/api/v1/…` and `/metrics`. To be merged into an application at its root.
    ///
    /// Addresses of clients are known if requests carry a [`crate::http::client_address::ClientAddress`]
    /// among their extensions, as [`crate::http::server::serve`] puts it there.
    pub fn router(&self) -> Router {
        let (router, description) = self.described();
        let documents = openapi::router(&description);
        let metrics = Router::new().route("/metrics", axum::routing::get(metrics::metrics));
        let metrics = metrics.route_layer(from_fn_with_state(self.clone(), metrics::admit));
        Router::new()
            .nest(PREFIX, router)
            .merge(metrics)
            .with_state(self.clone())
            .merge(documents)
            .layer(CatchPanicLayer::custom(panicked))
            .layer(from_fn_with_state(self.clone(), envelope::envelope))
    }

    /// The OpenAPI document of the routes.
    #[cfg(any(test, feature = "test-internals"))]
    #[must_use]
    pub fn openapi() -> utoipa::openapi::OpenApi {
        let mut description = described_routes().split_for_parts().1;
        openapi::name_optional_bodies(&mut description);
        description
    }

    fn described(&self) -> (Router<Self>, utoipa::openapi::OpenApi) {
        let (router, mut description) = described_routes().split_for_parts();
        openapi::name_optional_bodies(&mut description);
        let router = router
            .route_layer(from_fn_with_state(self.clone(), caller::authenticate))
            .fallback(async || Refusal::not_found());
        (router, description)
    }

    fn carnet(&self) -> &Carnet {
        &self.0.carnet
    }

    fn broker(&self) -> &Broker {
        &self.0.broker
    }

    fn api_limits(&self) -> &ApiLimits {
        &self.0.api_limits
    }

    fn limits(&self) -> &Limits {
        &self.0.limits
    }

    fn audit_turns(&self) -> &AuditTurns {
        &self.0.audit_turns
    }

    /// A name for a request that brings none.
    fn new_request_id(&self) -> String {
        // Without randomness the request itself will fail; a name is the least of it.
        self.0.request_ids.next().map_or_else(|_| "unnamed".to_owned(), |id| id.to_string())
    }
}

impl Carnet {
    /// The API below `/api/v1` and `/metrics`, with the limits by default, to be merged into an
    /// application at its root. Addresses of clients are known only if the application puts a
    /// [`crate::http::client_address::ClientAddress`] into each request's extensions.
    ///
    /// # Errors
    ///
    /// [`TransportConfigError`] when the broker's HTTP client cannot be made.
    pub fn api_router(self: &Arc<Self>) -> Result<Router, TransportConfigError> {
        Api::new(Arc::clone(self), ApiLimits::default()).map(|api| api.router())
    }
}

/// The routes below [`PREFIX`], with their description.
fn described_routes() -> OpenApiRouter<Api> {
    let mut description = openapi::Described::openapi();
    description.servers = Some(vec![utoipa::openapi::Server::new(PREFIX)]);
    OpenApiRouter::with_openapi(description)
        .routes(routes!(credentials::of_feed))
        .routes(routes!(credentials::of_registry))
        .routes(routes!(feeds::list, feeds::create))
        .routes(routes!(feeds::show, feeds::update, feeds::remove))
        .routes(routes!(setup::show))
        .routes(routes!(check::run))
        .routes(routes!(signing_keys::list))
        .routes(routes!(signing_keys::rotate))
        .routes(routes!(signing_keys::revoke))
        .routes(routes!(grants::list, grants::create, grants::revoke_made_by))
        .routes(routes!(grants::revoke))
        .routes(routes!(audit::list))
}

/// The panic's message stays here: it may hold anything.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    tracing::error!("a request's handler panicked");
    Refusal::new(ProblemType::Internal).into_response()
}
