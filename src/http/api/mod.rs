//! The API below `/api/v1`: it accepts grants and returns credentials and other responses.
//!
//! Handlers only translate: a request into calls of the services below, and their results into the types of
//! `crate::api_types`. They decide only if the caller's permissions allow the request.
//!
//! Invariants: the role is checked before any lookup; a resource outside the caller's grant is not found; no
//! credential is returned before its audit row is durable; every refusal is problem details.

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
use self::refusal::ApiRefusal;
use crate::api_types::PREFIX;
use crate::api_types::problem::ProblemType;
use crate::broker::Broker;
use crate::carnet::Carnet;
use crate::exchange::transport::TransportConfigError;
use crate::values::random::Uuids;

/// The API of one issuer. Clones share all state.
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
    /// Creates the API of `carnet` within `limits`.
    ///
    /// # Errors
    ///
    /// [`TransportConfigError`] if the broker's HTTP client cannot be created.
    pub fn new(carnet: Arc<Carnet>, limits: ApiLimits) -> Result<Self, TransportConfigError> {
        let broker = carnet.broker()?;
        let counted = Limits::new(&limits, Arc::clone(carnet.clock()), Arc::clone(carnet.metrics()));
        let request_ids = Uuids::new(Arc::clone(carnet.random()));
        let audit_turns = AuditTurns::default();
        let (api_limits, limits) = (limits, counted);
        Ok(Self(Arc::new(Shared { carnet, broker, api_limits, limits, audit_turns, request_ids })))
    }

    /// Returns the routes `/api/v1/…` and `/metrics`, to be merged into an application at its root.
    ///
    /// Client addresses are known only if each request has a [`crate::http::client_address::ClientAddress`]
    /// among its extensions, as [`crate::http::server::serve`] provides.
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

    #[cfg(any(test, feature = "test-internals"))]
    /// Returns the OpenAPI document of the routes.
    #[must_use]
    pub fn openapi() -> utoipa::openapi::OpenApi {
        let mut description = described_routes().split_for_parts().1;
        openapi::complete(&mut description);
        description
    }

    fn described(&self) -> (Router<Self>, utoipa::openapi::OpenApi) {
        let (router, mut description) = described_routes().split_for_parts();
        openapi::complete(&mut description);
        let router = router
            .route_layer(from_fn_with_state(self.clone(), caller::authenticate))
            .fallback(async || ApiRefusal::not_found());
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

    /// Returns an id for a request without one.
    fn new_request_id(&self) -> String {
        // Without randomness the request itself fails, so its id hardly matters.
        self.0.request_ids.next().map_or_else(|_| "unnamed".to_owned(), |id| id.to_string())
    }
}

impl Carnet {
    /// Returns the routes below `/api/v1` and `/metrics` with the default limits, to be merged into an
    /// application at its root. Client addresses are limited and recorded only if the application adds a
    /// [`ClientAddress`](crate::ClientAddress) to each request's extensions.
    ///
    /// # Errors
    ///
    /// [`TransportConfigError`] if the broker's HTTP client cannot be created.
    pub fn api_router(self: &Arc<Self>) -> Result<Router, TransportConfigError> {
        Api::new(Arc::clone(self), ApiLimits::default()).map(|api| api.router())
    }
}

/// Returns the routes below [`PREFIX`], with their description.
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

/// Responds to a panic. The panic's message is not returned, because it may contain anything.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    tracing::error!("a request's handler panicked");
    ApiRefusal::new(ProblemType::Internal).into_response()
}
