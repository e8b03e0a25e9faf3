//! The Google stand-in: `token` of the Security Token Service and `generateAccessToken` of the IAM Service
//! Account Credentials API.

pub(super) mod config;
mod iam_credentials;
mod oauth_error;
mod sts;
mod trust;

use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;

use super::identity::Verifier;
use super::recent::Recent;
use crate::values::clock::Clock;
use crate::values::random::{Random, RandomnessUnavailable};
use config::GoogleConfig;

/// The state that the two services share.
#[derive(Debug)]
pub(super) struct Google {
    verifier: Verifier,
    config: GoogleConfig,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    /// The federated identities, by access token.
    federated: Recent<Federated>,
}

/// The identity behind an access token of the Security Token Service.
#[derive(Debug, Clone)]
struct Federated {
    sub: String,
    expires_at: Timestamp,
}

/// Returns the routes below the two base URLs that a feed's endpoints override. The Security Token Service
/// also responds at its base URL, which can therefore serve as a `token_url`.
pub(super) fn router(google: Arc<Google>) -> Router {
    const GENERATE: &str = "/google/iamcredentials/v1/projects/-/serviceAccounts/{operation}";
    Router::new()
        .route("/google/sts", post(sts::handle))
        .route("/google/sts/v1/token", post(sts::handle))
        .route(GENERATE, post(iam_credentials::handle))
        .with_state(google)
}

impl Google {
    pub(super) fn new(
        verifier: Verifier,
        config: GoogleConfig,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self { verifier, config, clock, random, federated: Recent::default() }
    }

    /// Returns the configured access token, or else a random one with Google's prefix.
    fn access_token(&self) -> Result<String, RandomnessUnavailable> {
        if let Some(fixed) = &self.config.access_token {
            return Ok(fixed.reveal().to_owned());
        }
        let mut bytes = [0; 96];
        self.random.fill(&mut bytes)?;
        Ok(format!("ya29.{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Returns the time that many seconds from now, in whole seconds, as Google writes times.
    fn expiry(&self, seconds: u32) -> Timestamp {
        Timestamp::from_second(self.clock.now().as_second() + i64::from(seconds)).unwrap_or(Timestamp::MAX)
    }
}
