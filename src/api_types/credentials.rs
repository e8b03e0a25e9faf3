//! Requests for credentials, and the credentials returned.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::secret_text;
use super::texts::{RepositoryText, SlugText};
use crate::broker::{Served, Source};
use crate::exchange::{Secret, StatedExpiry};
use crate::feed::FeedPath;
use crate::feed::scope::{Action, RepositoryName, Scope, ScopeError};
use crate::oidc::subject::Context;
use crate::values::secret::{self, SecretString};

/// A request for a credential. Every member is optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CredentialRequest {
    /// The minimum remaining life of the credential, in seconds. A value below the feed's own minimum,
    /// usually 300, has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 43200, example = 600)]
    pub min_remaining_seconds: Option<u32>,
    /// The context of the deployment. The grant may fix keys, and refuses those that it does not allow.
    #[serde(skip_serializing_if = "Context::is_empty")]
    #[schema(value_type = ContextBody)]
    pub context: Context,
    /// Limits the credential to these repositories, as far as the grant allows them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<RepositoryText>>, min_items = 1, max_items = 16, example = json!(["team/app"]))]
    pub repositories: Option<Vec<RepositoryName>>,
    /// Limits the credential to these actions, as far as the grant allows them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<ActionName>>, min_items = 1)]
    pub actions: Option<Vec<Action>>,
}

/// The maximum of `min_remaining_seconds`: no cloud issues credentials with a longer life.
pub const MAX_MIN_REMAINING: Duration = Duration::from_secs(12 * 60 * 60);

impl CredentialRequest {
    /// Returns the requested scope.
    ///
    /// # Errors
    ///
    /// [`ScopeError`] if a list is empty or too long.
    pub fn scope(&self) -> Result<Scope, ScopeError> {
        listed(self.repositories.as_deref())?;
        Scope::new(self.repositories.clone(), self.actions.clone())
    }

    /// Returns the requested minimum remaining life.
    #[must_use]
    pub fn min_remaining(&self) -> Option<Duration> {
        self.min_remaining_seconds.map(|seconds| Duration::from_secs(seconds.into()))
    }
}

/// Refuses a list with more names than a scope may have, even if names occur twice.
pub(super) fn listed(repositories: Option<&[RepositoryName]>) -> Result<(), ScopeError> {
    match repositories.map_or(0, <[_]>::len) {
        many if many > Scope::MAX_REPOSITORIES => Err(ScopeError::TooMany(many)),
        _ => Ok(()),
    }
}

/// The context of a deployment: slugs by context key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only described: the type that is parsed is `Context`")]
pub struct ContextBody {
    /// The deployed project.
    #[schema(required = false)]
    project: SlugText,
    /// The runbook that runs.
    #[schema(required = false)]
    runbook: SlugText,
    /// The tenant that is deployed to.
    #[schema(required = false)]
    tenant: SlugText,
    /// The environment that is deployed to.
    #[schema(required = false)]
    environment: SlugText,
    /// The kind of work.
    #[schema(required = false)]
    r#type: SlugText,
}

/// `pull` or `push`.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code, reason = "the schema of a type that is no schema itself")]
pub enum ActionName {
    /// Reads images.
    Pull,
    /// Writes images.
    Push,
}

/// A credential. The response has `Cache-Control: no-store`. Anyone with its password or token can use it
/// until it expires.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CredentialResponse {
    /// The feed, as SPACE/FEED.
    #[schema(example = "default/prod")]
    pub feed: String,
    /// The registry for which the credential is valid.
    pub registry: String,
    /// The user name of the login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password of the login.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "secret_text::reveal_option",
        deserialize_with = "secret::deserialize_option"
    )]
    #[schema(value_type = Option<String>, format = Password)]
    pub password: Option<SecretString>,
    /// A bearer token instead of user name and password, for an Azure credential that is limited to
    /// repositories: the `registrytoken` of Docker's configuration.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "secret_text::reveal_option",
        deserialize_with = "secret::deserialize_option"
    )]
    #[schema(value_type = Option<String>, format = Password)]
    pub registry_token: Option<SecretString>,
    /// The time at which the exchange began.
    #[schema(value_type = String, format = DateTime)]
    pub issued_at: Timestamp,
    /// The expiry of the credential: the earliest of `expiries`.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Every expiry that the services of the exchange stated.
    pub expiries: Vec<ExpiryResponse>,
    /// `exchange`: exchanged for this request; `cache`: cached; `stale-refresh`: cached, and the provider
    /// refused to issue the next one.
    #[schema(value_type = SourceName)]
    pub source: String,
    /// The id of the token for which the credential was exchanged.
    pub jti: Uuid,
}

/// An expiry, and the service that stated it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExpiryResponse {
    /// The service.
    pub of: String,
    /// The expiry of the thing that the service issued.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// The origin of a credential.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
#[allow(dead_code, reason = "the schema of a type that is no schema itself")]
pub enum SourceName {
    /// An exchange for this request, or for others at the same time.
    Exchange,
    /// The cache.
    Cache,
    /// The cache, after the provider refused to issue the next credential.
    StaleRefresh,
}

impl CredentialResponse {
    /// Returns the response for `feed`.
    #[must_use]
    pub fn new(feed: &FeedPath, served: &Served) -> Self {
        let credential = &served.credential;
        let (username, password, registry_token) = match &credential.secret {
            Secret::Password { username, password } => (Some(username.clone()), Some(password.clone()), None),
            Secret::RegistryToken(token) => (None, None, Some(token.clone())),
        };
        Self {
            feed: feed.to_string(),
            registry: credential.registry.as_str().to_owned(),
            username,
            password,
            registry_token,
            issued_at: credential.issued_at,
            expires_at: credential.expires_at,
            expiries: credential.expiries.iter().map(ExpiryResponse::from).collect(),
            source: Source::as_str(served.source).to_owned(),
            jti: served.jti,
        }
    }
}

impl From<&StatedExpiry> for ExpiryResponse {
    fn from(expiry: &StatedExpiry) -> Self {
        Self { of: expiry.of.to_owned(), at: expiry.at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_object_asks_for_anything() {
        let request: CredentialRequest = serde_json::from_str("{}").unwrap();
        assert_eq!(request, CredentialRequest::default());
        assert!(request.scope().unwrap().is_everything());
        assert_eq!(serde_json::to_string(&request).unwrap(), "{}");
    }

    #[test]
    fn unknown_members_and_broken_rules_are_refused() {
        for (body, problem) in [
            (r#"{"contxt": {}}"#, "unknown field `contxt`"),
            (r#"{"context": {"stage": "a"}}"#, "not a context key"),
            (r#"{"context": {"tenant": "A"}}"#, "not a slug"),
            (r#"{"repositories": ["a*"]}"#, "wildcards"),
            (r#"{"actions": ["delete"]}"#, "unknown variant"),
            (r#"{"min_remaining_seconds": -1}"#, "invalid value"),
        ] {
            let error = serde_json::from_str::<CredentialRequest>(body).unwrap_err().to_string();
            assert!(error.contains(problem), "{body}: {error}");
        }
        let empty: CredentialRequest = serde_json::from_str(r#"{"repositories": []}"#).unwrap();
        assert_eq!(empty.scope().unwrap_err(), ScopeError::Empty("repositories"));
    }

    #[test]
    fn a_password_is_in_the_json_and_not_in_debug() {
        let response = CredentialResponse {
            feed: "default/prod".to_owned(),
            registry: "r".to_owned(),
            username: Some("u".to_owned()),
            password: Some(SecretString::new("hunter2".to_owned())),
            registry_token: None,
            issued_at: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::UNIX_EPOCH,
            expiries: Vec::new(),
            source: "cache".to_owned(),
            jti: Uuid::nil(),
        };
        assert!(!format!("{response:?}").contains("hunter2"));
        let json = serde_json::to_string(&response).unwrap();
        let back: CredentialResponse = serde_json::from_str(&json).unwrap();
        assert_eq!(back.password.unwrap().reveal(), "hunter2");
    }
}
