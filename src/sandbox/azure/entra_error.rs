//! Entra's refusals, shared by the token endpoint and the trust decision.

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::values::random::RandomnessUnavailable;

/// A refusal in Entra's format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EntraError {
    pub(super) status: u16,
    /// OAuth's error code.
    pub(super) error: &'static str,
    /// The number after `AADSTS`.
    pub(super) number: u32,
    pub(super) message: String,
}

impl EntraError {
    pub(super) fn new(status: u16, error: &'static str, number: u32, message: impl Into<String>) -> Self {
        Self { status, error, number, message: message.into() }
    }

    pub(super) fn request(number: u32, message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request", number, message)
    }

    /// Returns the response body as Entra writes it.
    pub(super) fn body(&self, now: Timestamp, trace_id: Uuid, correlation_id: Uuid) -> Value {
        let timestamp = now.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
        let Self { error, number, message, .. } = self;
        json!({
            "error": error,
            "error_description": format!(
                "AADSTS{number}: {message} Trace ID: {trace_id} Correlation ID: {correlation_id} Timestamp: {timestamp}"
            ),
            "error_codes": [number],
            "timestamp": timestamp,
            "trace_id": trace_id,
            "correlation_id": correlation_id,
            "error_uri": format!("https://login.microsoftonline.com/error?code={number}"),
        })
    }
}

impl From<RandomnessUnavailable> for EntraError {
    fn from(error: RandomnessUnavailable) -> Self {
        Self::new(500, "server_error", 90_033, error.to_string())
    }
}
