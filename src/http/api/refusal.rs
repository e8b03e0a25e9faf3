//! Refusals: the single conversion of every error of the floors below into problem details.
//!
//! Details of the database go only to the log. The provider's own words go to the caller in full.

use std::error::Error;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};

use crate::access::grants::GrantsError;
use crate::access::principal::PrincipalError;
use crate::api_types::problem::{Problem, ProblemType, UpstreamResponse};
use crate::audit_log::AuditError;
use crate::broker::{AttemptError, BrokerError};
use crate::exchange::{ExchangeError, ExchangeFailure, NO_PROVIDER, Step};
use crate::feed::provider_fields::OwnFieldsError;
use crate::feed::scope::ScopeError;
use crate::feed::{FeedError, FeedPath};
use crate::feeds::FeedsError;
use crate::grant::{ContextRefusal, DraftError};
use crate::issuer::rotator::RotationError;
use crate::issuer::{KeyStateError, MintError};
use crate::oidc::subject::SubjectError;
use crate::store::StoreError;

/// A refused request.
#[derive(Debug)]
pub(crate) struct ApiRefusal(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    problem: Problem,
    retry_after: Option<Duration>,
    about: Option<FeedPath>,
    why: Option<String>,
}

/// The data that [`ApiRefusal`] leaves in a response's extensions, from which the envelope creates the body.
#[derive(Debug, Clone)]
pub(super) struct RefusedRequest {
    pub(super) problem: Problem,
    /// The feed concerned, for the audit log.
    pub(super) about: Option<FeedPath>,
    /// The reason, only for the log.
    pub(super) why: Option<String>,
}

impl ApiRefusal {
    pub(super) fn new(problem_type: ProblemType) -> Self {
        Problem::new(problem_type).into()
    }

    /// Returns the same refusal for a resource that does not exist and for one that the caller may not know
    /// of.
    pub(super) fn not_found() -> Self {
        Self::new(ProblemType::NotFound)
    }

    /// Refuses a member of the request that breaks a rule.
    pub(super) fn field(field: &str, rule: impl std::fmt::Display) -> Self {
        Problem::new(ProblemType::InvalidField).field(field).detail(rule.to_string()).into()
    }

    /// Sets the time after which to retry.
    pub(super) fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// Adds advice.
    pub(super) fn hint(mut self, hint: &str) -> Self {
        self.0.problem = self.0.problem.hint(Some(hint));
        self
    }

    /// Sets the feed concerned, for the audit log.
    pub(super) fn about(mut self, feed: &FeedPath) -> Self {
        self.0.about = Some(feed.clone());
        self
    }

    /// Sets the reason, only for the log. The caller does not get it.
    pub(super) fn because(mut self, why: String) -> Self {
        self.0.why = Some(why);
        self
    }

    pub(super) fn problem_type(&self) -> Option<ProblemType> {
        self.0.problem.known_type()
    }

    /// Refuses because of an internal error. Only the log contains the error.
    fn hidden(problem_type: ProblemType, error: &(dyn Error + 'static)) -> Self {
        // The envelope logs the error at most once a minute for each caller.
        tracing::debug!(error, "a request failed");
        Self::new(problem_type).because(causes(error))
    }
}

impl From<Problem> for ApiRefusal {
    fn from(problem: Problem) -> Self {
        Self(Box::new(Inner { problem, retry_after: None, about: None, why: None }))
    }
}

impl IntoResponse for ApiRefusal {
    fn into_response(self) -> Response {
        let Inner { problem, retry_after, about, why } = *self.0;
        let mut response = Response::default();
        *response.status_mut() =
            StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if let Some(wait) = retry_after {
            // Rounded up, so that a retry after it is not too early.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response.extensions_mut().insert(RefusedRequest { problem, about, why });
        response
    }
}

/// Returns an error and its causes, in one line.
fn causes(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // A transparent error repeats its source.
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// The time after which clients retry when the server is busy or briefly unavailable.
const SOON: Duration = Duration::from_secs(1);

impl From<StoreError> for ApiRefusal {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::LogBusy | StoreError::LogTooSlow) {
            return Self::from(Problem::new(ProblemType::Busy).detail(error.to_string())).retry_after(SOON);
        }
        Self::hidden(ProblemType::StorageUnavailable, &error).retry_after(SOON)
    }
}

impl From<KeyStateError> for ApiRefusal {
    fn from(error: KeyStateError) -> Self {
        Self::hidden(ProblemType::StorageUnavailable, &error).retry_after(SOON)
    }
}

impl From<AuditError> for ApiRefusal {
    fn from(error: AuditError) -> Self {
        Self::hidden(ProblemType::StorageUnavailable, &error).retry_after(SOON)
    }
}

impl From<GrantsError> for ApiRefusal {
    fn from(error: GrantsError) -> Self {
        let detail = error.to_string();
        match error {
            GrantsError::Draft(draft) => Self::from(draft),
            GrantsError::Wider(wider) => {
                Problem::new(ProblemType::WiderGrant).field(wider.field()).detail(detail).into()
            }
            GrantsError::Role(_) => Problem::new(ProblemType::Forbidden).detail(detail).into(),
            GrantsError::Principal(error) => error.into(),
            GrantsError::Unknown(_) => Self::not_found(),
            GrantsError::Forged(_) => Self::hidden(ProblemType::NotFound, &error),
            GrantsError::Clock(doubt) => {
                Problem::new(ProblemType::NotMinting).detail(detail).hint(Some(doubt.fix())).into()
            }
            GrantsError::TooMany(quota) => {
                let problem = Problem::new(ProblemType::LimitReached).detail(detail);
                match quota.field() {
                    Some(field) => problem.field(field).into(),
                    None => problem.into(),
                }
            }
            GrantsError::Store(error) => error.into(),
            GrantsError::Randomness(error) => error.into(),
        }
    }
}

impl From<DraftError> for ApiRefusal {
    fn from(error: DraftError) -> Self {
        let field = match &error {
            DraftError::Empty(field) | DraftError::TooMany(field) => field,
            DraftError::NothingNamed => "spaces",
            DraftError::Ended(_) => "expires_at",
        };
        Self::field(field, error)
    }
}

impl From<crate::values::random::RandomnessUnavailable> for ApiRefusal {
    fn from(error: crate::values::random::RandomnessUnavailable) -> Self {
        Self::hidden(ProblemType::Internal, &error)
    }
}

impl From<FeedsError> for ApiRefusal {
    fn from(error: FeedsError) -> Self {
        let detail = error.to_string();
        match error {
            FeedsError::Unknown(_) => Self::not_found(),
            FeedsError::Taken(_) => Problem::new(ProblemType::Exists).field("slug").detail(detail).into(),
            FeedsError::SlugReused { path, from, is_limited, .. } => Problem::new(ProblemType::SlugReused)
                .field(if path == from { "slug" } else { "subject_keys" })
                .detail(detail)
                .hint(Some(if is_limited {
                    "choose another slug, or put feed_id among the subject_keys; an admin without limits may \
                     use reuse_slug"
                } else {
                    "choose another slug, put feed_id among the subject_keys, or use reuse_slug if this feed \
                     should inherit that trust"
                }))
                .into(),
            FeedsError::SubjectShared { is_limited, .. } => Problem::new(ProblemType::SubjectShared)
                .field("subject_keys")
                .detail(detail)
                .hint(Some(if is_limited {
                    "put feed or feed_id among the subject_keys; an admin without limits may use \
                     share_subject"
                } else {
                    "put feed or feed_id among the subject_keys, or use share_subject if both feeds should \
                     share one trust"
                }))
                .into(),
            FeedsError::RegistryElsewhere => {
                Problem::new(ProblemType::Forbidden).field("registry").detail(detail).into()
            }
            FeedsError::Refused(refusal) => {
                Problem::new(ProblemType::Forbidden).field(refusal.field()).detail(detail).into()
            }
            FeedsError::OwnAudience(_) => Self::field("audience", detail),
            FeedsError::Address { field, error } => Self::field(&field, error),
            FeedsError::TooMany { .. } => Problem::new(ProblemType::LimitReached).detail(detail).into(),
            FeedsError::Principal(error) => error.into(),
            FeedsError::Feed(error) => error.into(),
            FeedsError::Clock(doubt) => {
                Problem::new(ProblemType::NotMinting).detail(detail).hint(Some(doubt.fix())).into()
            }
            FeedsError::Store(error) => error.into(),
            FeedsError::Randomness(error) => error.into(),
        }
    }
}

impl From<PrincipalError> for ApiRefusal {
    fn from(error: PrincipalError) -> Self {
        match error {
            PrincipalError::Ended(_) => Self::new(ProblemType::Unauthorized),
            PrincipalError::NotAdmin | PrincipalError::Limited => {
                Problem::new(ProblemType::Forbidden).detail(error.to_string()).into()
            }
            PrincipalError::Store(error) => error.into(),
        }
    }
}

impl From<FeedError> for ApiRefusal {
    /// Takes the field from the beginning of the message: `role_arn: …`.
    fn from(error: FeedError) -> Self {
        let text = error.to_string();
        let field = text.split_once(": ").map(|(field, _)| field).filter(|field| {
            !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        });
        let problem = Problem::new(ProblemType::InvalidField).detail(text.clone());
        match field {
            Some(field) => problem.field(field).into(),
            None => problem.into(),
        }
    }
}

impl From<OwnFieldsError> for ApiRefusal {
    fn from(error: OwnFieldsError) -> Self {
        Self::field(error.field(), error)
    }
}

impl From<ScopeError> for ApiRefusal {
    fn from(error: ScopeError) -> Self {
        let field = match &error {
            ScopeError::Empty(field) | ScopeError::Outside(field) => field,
            _ => "repositories",
        };
        Problem::new(ProblemType::ScopeRefused).field(field).detail(error.to_string()).into()
    }
}

impl From<ContextRefusal> for ApiRefusal {
    fn from(error: ContextRefusal) -> Self {
        let field = format!("context.{}", error.key());
        Problem::new(ProblemType::ContextRefused).field(field).detail(error.to_string()).into()
    }
}

impl From<RotationError> for ApiRefusal {
    fn from(error: RotationError) -> Self {
        match error {
            RotationError::Refused(refusal) => {
                Problem::new(ProblemType::RotationRefused).detail(refusal.to_string()).into()
            }
            RotationError::Unknown(_) => Self::not_found(),
            RotationError::Clock(doubt) => {
                Problem::new(ProblemType::NotMinting).detail(error.to_string()).hint(Some(doubt.fix())).into()
            }
            RotationError::Principal(error) => error.into(),
            RotationError::Store(error) => error.into(),
            error @ (RotationError::KeyPair(_) | RotationError::Generation(_)) => {
                Self::hidden(ProblemType::Internal, &error)
            }
        }
    }
}

impl From<&MintError> for ApiRefusal {
    fn from(error: &MintError) -> Self {
        let detail = error.to_string();
        match error {
            MintError::Subject(subject) => {
                let problem = Problem::new(match subject {
                    SubjectError::Missing(_) => ProblemType::MissingContext,
                    SubjectError::TooLong { .. } => ProblemType::InvalidField,
                });
                let field = match subject {
                    SubjectError::Missing(key) => format!("context.{key}"),
                    SubjectError::TooLong { .. } => "context".to_owned(),
                };
                problem.field(field).detail(detail).into()
            }
            MintError::Unconfirmed(_)
            | MintError::Disbelieved(_)
            | MintError::Clock(_)
            | MintError::NoSigner(_)
            | MintError::Unpublished { .. } => {
                Self::from(Problem::new(ProblemType::NotMinting).detail(detail)).retry_after(SOON)
            }
            MintError::OwnAudience(_) => {
                Problem::new(ProblemType::NotMinting).field("audience").detail(detail).into()
            }
            MintError::Lifetime { .. } => {
                Problem::new(ProblemType::NotMinting).field("token_lifetime").detail(detail).into()
            }
            MintError::Randomness(_) | MintError::Claims(_) | MintError::Signing(_) => {
                Self::hidden(ProblemType::Internal, error)
            }
        }
    }
}

impl From<BrokerError> for ApiRefusal {
    fn from(error: BrokerError) -> Self {
        let detail = error.to_string();
        match &error {
            BrokerError::Failed { error, .. } => Self::attempt(error, detail),
            BrokerError::MinRemainingUnattainable { life_observed, .. } => Problem {
                life_observed_seconds: Some(life_observed.as_secs()),
                ..Problem::new(ProblemType::MinRemainingUnattainable)
                    .field("min_remaining_seconds")
                    .detail(detail)
            }
            .into(),
            BrokerError::FeedChanged => Problem::new(ProblemType::FeedChanged).detail(detail).into(),
            BrokerError::Busy | BrokerError::Interrupted => {
                Self::from(Problem::new(ProblemType::Busy).detail(detail)).retry_after(SOON)
            }
        }
    }
}

impl ApiRefusal {
    /// Returns the refusal for a caller with limits, at a feed with overridden endpoints. It does not reveal
    /// which service responds there.
    pub(super) fn of_named_endpoint(error: BrokerError) -> Self {
        let BrokerError::Failed { error: failed, .. } = &error else { return error.into() };
        let upstream = match &**failed {
            AttemptError::Exchange(error) if error.is_about_the_endpoint() => {
                let Step { provider, name } = error.step();
                Some(UpstreamResponse {
                    provider: provider.to_owned(),
                    step: name.to_owned(),
                    status: None,
                    code: None,
                    message: Some(NO_PROVIDER.to_owned()),
                    request_id: None,
                })
            }
            AttemptError::NoAnswer(_) => None,
            _ => return error.into(),
        };
        Problem {
            upstream,
            ..Problem::new(ProblemType::UpstreamUnreachable).detail(NO_PROVIDER).hint(Some(
                "the server's log has the details; so has the response to a grant without limits, and the \
                 command line on the server's host",
            ))
        }
        .into()
    }

    fn attempt(error: &AttemptError, detail: String) -> Self {
        match error {
            AttemptError::Mint(error) => error.into(),
            AttemptError::Audit(error) => {
                Self::hidden(ProblemType::StorageUnavailable, error).retry_after(SOON)
            }
            AttemptError::Exchange(error) => Self::exchange(error),
            AttemptError::ArrivedExpired(_) => Problem::new(ProblemType::UpstreamRefused)
                .detail(error.to_string())
                .hint(Some("compare this machine's clock with the provider's"))
                .into(),
            AttemptError::TooLong(_) => {
                Problem::new(ProblemType::UpstreamRefused).detail(error.to_string()).into()
            }
            AttemptError::NoAnswer(_) => {
                Problem::new(ProblemType::UpstreamTimeout).detail(format!("{detail}: {error}")).into()
            }
            AttemptError::NoTurn(_) => {
                Self::from(Problem::new(ProblemType::Busy).detail(error.to_string())).retry_after(SOON)
            }
        }
    }

    fn exchange(error: &ExchangeError) -> Self {
        let problem_type = match error.failure() {
            ExchangeFailure::Scope(scope) => return scope.clone().into(),
            ExchangeFailure::Unreachable { .. } => ProblemType::UpstreamUnreachable,
            ExchangeFailure::Request(_)
            | ExchangeFailure::Refused(_)
            | ExchangeFailure::Unusable { .. }
            | ExchangeFailure::ArrivedExpired { .. } => ProblemType::UpstreamRefused,
        };
        Problem {
            upstream: error.upstream().map(Into::into),
            presented: Some(error.presented().into()),
            ..Problem::new(problem_type).detail(format!("{error}: {}", error.failure())).hint(error.hint())
        }
        .into()
    }
}
