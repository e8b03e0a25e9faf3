//! A check of a feed's chain: each step, and of the first that failed why.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::{PresentedClaims, UpstreamAnswer};
use crate::oidc::subject::Context;

/// For which deployment to check, and what to pull. Every member may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckRequest {
    /// What the deployment is. The grant may fix keys, and refuses those that it does not allow.
    #[serde(skip_serializing_if = "Context::is_empty")]
    #[schema(value_type = super::credentials::ContextBody)]
    pub context: Context,
    /// An image of the registry to pull a little of: `NAME`, `NAME:TAG` or `NAME@DIGEST`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 512, example = "team/app:v1")]
    pub image: Option<String>,
}

/// What came of a check. It ends with the first step that fails.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CheckAnswer {
    /// The feed, as SPACE/FEED.
    #[schema(example = "default/prod")]
    pub feed: String,
    /// Its registry.
    pub registry: String,
    /// Whether every step succeeded.
    pub ok: bool,
    /// What carnet finds doubtful, though no step may have failed of it.
    pub warnings: Vec<String>,
    /// What was done, in order.
    pub steps: Vec<CheckStep>,
}

/// One step of a check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CheckStep {
    /// `discovery`, `jwks`, `mint`, a provider's own name for one of its exchanges, `registry` or `pull`.
    #[schema(example = "sts:AssumeRoleWithWebIdentity")]
    pub step: String,
    /// Whether it succeeded.
    pub ok: bool,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Of a failure: what was presented, as far as it is known by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presented: Option<PresentedClaims>,
    /// Of a failure: what was answered, word for word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<UpstreamAnswer>,
    /// Of a failure: why it may be so, most likely first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<CheckCause>,
}

/// A likely cause of a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckCause {
    /// What is likely wrong.
    pub cause: String,
    /// What to do about it.
    pub fix: String,
    /// The command that does it, if one does; words in capitals stand for values that carnet cannot know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl CheckAnswer {
    /// The step that failed, if one did.
    #[must_use]
    pub fn failed(&self) -> Option<&CheckStep> {
        self.steps.iter().find(|step| !step.ok)
    }
}
