//! Refusals of the Security Token Service, shared by its endpoint and the trust decision.

use http::StatusCode;

use crate::values::random::RandomnessUnavailable;

/// A refusal in OAuth's format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OAuthError {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) description: String,
}

impl OAuthError {
    pub(super) fn new(code: &'static str, description: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, description: description.into() }
    }
}

impl From<RandomnessUnavailable> for OAuthError {
    fn from(error: RandomnessUnavailable) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self { status, ..Self::new("server_error", error.to_string()) }
    }
}
