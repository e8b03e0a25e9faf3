//! The Azure stand-ins: Entra's token endpoint with federated credentials, and the token endpoints of an
//! Azure container registry.

mod acr;
pub(super) mod config;
mod entra;
mod entra_error;
mod registry;
mod tokens;
mod trust;

use std::sync::Arc;

use axum::Router;
use axum::routing::{any, post};
use uuid::Uuid;

use self::config::AzureConfig;
use self::tokens::Tokens;
use super::identity::Verifier;
use crate::values::clock::Clock;
use crate::values::random::Random;

/// The state that the services share.
#[derive(Debug)]
pub(super) struct Azure {
    verifier: Verifier,
    config: AzureConfig,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    /// Entra's access tokens.
    access: Tokens,
    /// The registry's refresh and access tokens.
    registry: Tokens,
}

pub(super) fn router(azure: Arc<Azure>) -> Router {
    Router::new()
        .route("/azure/entra/{tenant}/oauth2/v2.0/token", post(entra::handle))
        .route("/azure/acr/oauth2/exchange", post(acr::exchange))
        .route("/azure/acr/oauth2/token", post(acr::token))
        .route("/azure/acr/v2/{*path}", any(registry::handle))
        .with_state(azure)
}

impl Azure {
    pub(super) fn new(
        verifier: Verifier,
        config: AzureConfig,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self { verifier, config, clock, random, access: Tokens::default(), registry: Tokens::default() }
    }

    /// Returns a request ID. Without randomness it is the nil UUID.
    fn request_id(&self) -> Uuid {
        crate::values::random::uuid(self.random.as_ref()).unwrap_or_default()
    }
}
