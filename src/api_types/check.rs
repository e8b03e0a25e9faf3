//! Checks of a feed's chain: each step, and the likely causes if one fails.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::{PresentedClaims, UpstreamResponse};
use crate::oidc::subject::Context;

/// The deployment to check for, and an image to pull. Every member is optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckRequest {
    /// The context of the deployment. The grant may fix keys, and refuses those that it does not allow.
    #[serde(skip_serializing_if = "Context::is_empty")]
    #[schema(value_type = super::credentials::ContextBody)]
    pub context: Context,
    /// An image of the registry to pull a small part of: `NAME`, `NAME:TAG` or `NAME@DIGEST`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 512, example = "team/app:v1")]
    pub image: Option<String>,
}

/// The result of a check. It ends with the first step that fails.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CheckResponse {
    /// The feed, as SPACE/FEED.
    #[schema(example = "default/prod")]
    pub feed: String,
    /// Its registry.
    pub registry: String,
    /// True if every step succeeded.
    pub ok: bool,
    /// Possible problems that carnet found, even if no step failed because of them.
    pub warnings: Vec<String>,
    /// The steps, in order.
    pub steps: Vec<CheckStep>,
}

/// One step of a check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CheckStep {
    /// `discovery`, `jwks`, `mint`, `scope`, a provider's own name for one of its exchanges, `registry` or
    /// `pull`.
    #[schema(example = "sts:AssumeRoleWithWebIdentity")]
    pub step: String,
    /// True if the step succeeded.
    pub ok: bool,
    /// The duration of the step, in milliseconds.
    pub duration_ms: u64,
    /// The findings of the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// On failure: the claims that were presented, as far as they are known at that step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presented: Option<PresentedClaims>,
    /// On failure: the service's response, verbatim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<UpstreamResponse>,
    /// On failure: the likely causes, most likely first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<CheckCause>,
}

/// A likely cause of a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckCause {
    /// The likely cause.
    pub cause: String,
    /// The fix.
    pub fix: String,
    /// The command for the fix, if there is one. Words in capitals stand for values that carnet cannot know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl CheckResponse {
    /// Returns the step that failed, if one did.
    #[must_use]
    pub fn failed(&self) -> Option<&CheckStep> {
        self.steps.iter().find(|step| !step.ok)
    }
}
