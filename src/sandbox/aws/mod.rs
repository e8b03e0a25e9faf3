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

/// Everything the two services share.
#[derive(Debug)]
pub(super) struct Aws {
    verifier: Verifier,
    config: AwsConfig,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    sessions: Sessions,
}

/// Routes with their whole path: what is signed is the path that the client sent.
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

    /// `AWS`'s request identifiers are UUIDs; without randomness there is the nil one.
    fn request_id(&self) -> String {
        crate::values::random::uuid(self.random.as_ref()).unwrap_or_default().to_string()
    }

    /// Random text of `length` characters of `alphabet`, which has 64 or 32.
    fn random_text(&self, alphabet: &[u8], length: usize) -> Result<String, RandomnessUnavailable> {
        let mut bytes = vec![0; length];
        self.random.fill(&mut bytes)?;
        Ok(bytes.iter().map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()])).collect())
    }
}

/// A refusal in AWS's words.
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
