//! Problem details (RFC 9457), the API's error responses.
//!
//! Every refusal has a stable `type`, by which programs may decide. The `detail` is for people and may
//! change.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The prefix of every problem type.
const PREFIX: &str = "urn:carnet:problem:";

macro_rules! problem_types {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal, $status:literal, $title:literal;)+) => {
        /// The types of refusal. Their names and statuses are part of the API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProblemType {
            $($(#[$doc])+ $variant,)+
        }

        impl ProblemType {
            /// All types, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Returns the name after `urn:carnet:problem:`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// Returns the HTTP status of such a response.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status),+ }
            }

            /// Returns the `title`, which all problems of the type share.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),+ }
            }
        }
    };
}

problem_types! {
    /// The body is not JSON, a member is missing, or a parameter is unknown or has the wrong form.
    MalformedRequest = "malformed-request", 400, "The request is malformed";
    /// There is no grant, or it is no longer valid. The response does not say which.
    Unauthorized = "unauthorized", 401, "No valid grant was presented";
    /// The grant's role or limits do not allow this.
    Forbidden = "forbidden", 403, "The grant does not allow this";
    /// The grant does not allow the claimed context.
    ContextRefused = "context-refused", 403, "The grant does not allow this context";
    /// The grant would be wider than its maker's.
    WiderGrant = "wider-grant", 403, "A grant cannot allow more than the grant that makes it";
    /// The resource does not exist, or this grant may not see it.
    NotFound = "not-found", 404, "There is no such resource";
    /// The resource does not support the method.
    MethodNotAllowed = "method-not-allowed", 405, "The resource has no such method";
    /// The client took too long to send its request.
    RequestTimeout = "request-timeout", 408, "The request did not arrive in time";
    /// A resource of this name already exists.
    Exists = "exists", 409, "The name is already in use";
    /// A removed feed had the subject, and the new feed would inherit its trust.
    SlugReused = "slug-reused", 409, "The name belonged to a removed feed";
    /// Another feed of the space can have the subject.
    SubjectShared = "subject-shared", 409, "Another feed can have the same subject";
    /// Several feeds inside the grant have this registry.
    SeveralFeeds = "several-feeds", 409, "Several feeds of the grant have this registry";
    /// The feed was changed during the request.
    FeedChanged = "feed-changed", 409, "The feed has changed in the meantime";
    /// The signing keys cannot be changed in this way at this time.
    RotationRefused = "rotation-refused", 409, "The signing keys cannot be changed now";
    /// The maximum number is reached.
    LimitReached = "limit-reached", 409, "The maximum number is reached";
    /// The body is longer than the API accepts.
    TooLarge = "too-large", 413, "The request is too large";
    /// The body is not `application/json`.
    UnsupportedMediaType = "unsupported-media-type", 415, "The body must be application/json";
    /// A value breaks a rule of its field, or there is no such field.
    InvalidField = "invalid-field", 422, "A field breaks a rule";
    /// The feed's subject needs a context key that the request lacks.
    MissingContext = "missing-context", 422, "The feed's subject needs more context";
    /// The credential cannot be limited as requested.
    ScopeRefused = "scope-refused", 422, "The credential cannot be limited in this way";
    /// A fresh credential does not live as long as requested.
    MinRemainingUnattainable = "min-remaining-unattainable", 422, "No credential has such a long lifetime";
    /// The caller sent more requests than it may.
    RateLimited = "rate-limited", 429, "Too many requests";
    /// An internal error occurred.
    Internal = "internal", 500, "carnet could not handle the request";
    /// The provider refused, or its response is unusable.
    UpstreamRefused = "upstream-refused", 502, "The provider refused";
    /// There was no response from the provider.
    UpstreamUnreachable = "upstream-unreachable", 502, "The provider could not be reached";
    /// Too many requests are in progress.
    Busy = "busy", 503, "carnet is busy";
    /// No token can be minted: the key state is unconfirmed, the clock is behind, or a key is missing.
    NotMinting = "not-minting", 503, "carnet is not minting tokens at the moment";
    /// The database or the audit log does not respond.
    StorageUnavailable = "storage-unavailable", 503, "carnet's database is not available";
    /// The provider did not respond within the deadline.
    UpstreamTimeout = "upstream-timeout", 504, "The provider did not respond in time";
}

/// The problem details of a refusal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:carnet:problem:NAME`; the names are listed in `docs/api.md`.
    #[serde(rename = "type")]
    #[schema(example = "urn:carnet:problem:not-found", pattern = "^urn:carnet:problem:[a-z-]+$")]
    pub problem_type: String,
    /// The title, which all problems of the type share.
    pub title: Cow<'static, str>,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// The error of this request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The member of the request that breaks a rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The first thing to check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The request's id, as in logs and the audit log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The provider's response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<UpstreamResponse>,
    /// The claims presented to the provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presented: Option<PresentedClaims>,
    /// Only for `several-feeds`: the feeds inside the grant, as SPACE/FEED.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feeds: Option<Vec<String>>,
    /// Only for `min-remaining-unattainable`: the lifetime of a fresh credential, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub life_observed_seconds: Option<u64>,
}

/// A provider's response, or the lack of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UpstreamResponse {
    /// The provider: `aws`, `azure`, `google`.
    pub provider: String,
    /// The provider's name of the operation.
    #[schema(example = "sts:AssumeRoleWithWebIdentity")]
    pub step: String,
    /// The HTTP status; null without a response.
    pub status: Option<u16>,
    /// The provider's error code.
    pub code: Option<String>,
    /// The provider's message, at most 2 KiB, with secrets removed.
    pub message: Option<String>,
    /// The provider's id of the request.
    pub request_id: Option<String>,
}

/// The claims and header members by which a provider decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PresentedClaims {
    /// The issuer.
    pub iss: String,
    /// The subject.
    pub sub: String,
    /// The audience.
    pub aud: String,
    /// The signing key's id.
    pub kid: String,
    /// The signature algorithm.
    pub alg: String,
}

impl Problem {
    /// Creates a problem of this type.
    #[must_use]
    pub fn new(problem_type: ProblemType) -> Self {
        Self {
            problem_type: format!("{PREFIX}{}", problem_type.name()),
            title: Cow::Borrowed(problem_type.title()),
            status: problem_type.status(),
            detail: None,
            field: None,
            hint: None,
            request_id: None,
            upstream: None,
            presented: None,
            feeds: None,
            life_observed_seconds: None,
        }
    }

    /// Adds the error of this request.
    #[must_use]
    pub fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// Adds the member of the request that breaks a rule.
    #[must_use]
    pub fn field(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// Adds advice.
    #[must_use]
    pub fn hint(self, hint: Option<impl Into<String>>) -> Self {
        Self { hint: hint.map(Into::into), ..self }
    }

    /// Returns the type, if this version knows it.
    #[must_use]
    pub fn known_type(&self) -> Option<ProblemType> {
        let name = self.problem_type.strip_prefix(PREFIX)?;
        ProblemType::ALL.iter().copied().find(|known| known.name() == name)
    }
}

impl From<&crate::exchange::Upstream> for UpstreamResponse {
    fn from(upstream: &crate::exchange::Upstream) -> Self {
        Self {
            provider: upstream.provider.to_owned(),
            step: upstream.step.to_owned(),
            status: upstream.status,
            code: upstream.code.clone(),
            message: upstream.message.clone(),
            request_id: upstream.request_id.clone(),
        }
    }
}

impl From<&crate::oidc::token::Presented> for PresentedClaims {
    fn from(presented: &crate::oidc::token::Presented) -> Self {
        Self {
            iss: presented.iss.clone(),
            sub: presented.sub.clone(),
            aud: presented.aud.clone(),
            kid: presented.kid.clone(),
            alg: presented.alg.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_type_has_a_name_of_its_own_and_is_found_by_it() {
        let names: HashSet<_> = ProblemType::ALL.iter().map(|known| known.name()).collect();
        assert_eq!(names.len(), ProblemType::ALL.len());
        for known in ProblemType::ALL {
            assert_eq!(Problem::new(*known).known_type(), Some(*known));
            assert!((400..600).contains(&known.status()), "{known:?}");
        }
    }

    #[test]
    fn absent_members_are_left_out() {
        let problem = Problem::new(ProblemType::NotFound);
        assert_eq!(
            serde_json::to_value(&problem).unwrap(),
            serde_json::json!({
                "type": "urn:carnet:problem:not-found", "title": "There is no such resource", "status": 404
            })
        );
    }
}
