//! The AWS stand-in: STS `AssumeRoleWithWebIdentity`, and `GetAuthorizationToken` of ECR and ECR Public.

mod ecr;
mod sessions;
mod sigv4;
mod sts;
mod trust;

use std::sync::Arc;

use axum::Router;
use axum::routing::post;

use super::config::AwsConfig;
use super::identity::Verifier;
use crate::values::clock::Clock;
use crate::values::random::{Random, RandomnessUnavailable};
use sessions::Sessions;

/// The state that the services share.
#[derive(Debug)]
pub(super) struct Aws {
    verifier: Verifier,
    config: AwsConfig,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    sessions: Sessions,
}

/// Returns the routes with their full paths: clients sign the path that they send.
pub(super) fn router(aws: Arc<Aws>) -> Router {
    Router::new().route("/aws/sts", post(sts::handle)).route("/aws/ecr", post(ecr::handle)).with_state(aws)
}

impl Aws {
    pub(super) fn new(
        verifier: Verifier,
        config: AwsConfig,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self { verifier, config, clock, random, sessions: Sessions::default() }
    }

    /// Returns a request ID, a UUID as in AWS. Without randomness it is the nil UUID.
    fn request_id(&self) -> String {
        crate::values::random::uuid(self.random.as_ref()).unwrap_or_default().to_string()
    }

    /// Returns random text of `length` characters. `alphabet` must have 32 or 64 characters: with another
    /// size that does not divide 256, some characters would be more likely than others.
    fn random_text(&self, alphabet: &[u8], length: usize) -> Result<String, RandomnessUnavailable> {
        let mut bytes = vec![0; length];
        self.random.fill(&mut bytes)?;
        Ok(bytes.iter().map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()])).collect())
    }
}

/// A refusal in AWS's format.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AwsError {
    status: u16,
    code: &'static str,
    message: String,
}

impl AwsError {
    fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }
}

impl From<RandomnessUnavailable> for AwsError {
    fn from(error: RandomnessUnavailable) -> Self {
        Self::new(500, "InternalFailure", error.to_string())
    }
}
