//! Grants in the API's requests and responses.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::credentials::listed;
use super::secret_text;
use super::texts::{ContextRuleText, FeedPatternText, NameText, RepositoryText, SlugText};
use crate::feed::display_name::DisplayName;
use crate::feed::scope::{Action, RepositoryName, Scope, ScopeError};
use crate::grant::{ContextRule, ContextRules, FeedLimit, Grant, GrantDraft, Permissions, Role, SpaceLimit};
use crate::values::secret::SecretString;

/// The default lifetime of a grant.
pub const DEFAULT_LIFE: SignedDuration = SignedDuration::from_hours(90 * 24);

/// A grant to be created.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGrant {
    /// The kind of actions that its holder may take.
    #[schema(value_type = RoleName)]
    pub role: Role,
    /// The display name.
    #[schema(value_type = NameText)]
    pub name: DisplayName,
    /// Limits the grant to these spaces, at most 256; absent or null for all.
    #[serde(default = "all_spaces")]
    #[schema(value_type = Option<Vec<SlugText>>, min_items = 1)]
    pub spaces: SpaceLimit,
    /// Limits the grant to feeds whose slug matches one of these patterns, at most 256, in which `*` matches
    /// anything; absent or null for all.
    #[serde(default = "all_feeds")]
    #[schema(value_type = Option<Vec<FeedPatternText>>, min_items = 1, example = json!(["prod-*"]))]
    pub feeds: FeedLimit,
    /// The fixed value of each context key, or `*` for any value. A key that is not named is open for an
    /// admin and closed for other roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ContextRulesBody>, example = json!({"environment": "production", "tenant": "*"}))]
    pub context: Option<ContextRules>,
    /// Limits credentials to these repositories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<RepositoryText>>, min_items = 1, max_items = 16)]
    pub repositories: Option<Vec<RepositoryName>>,
    /// Limits credentials to these actions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<super::credentials::ActionName>>, min_items = 1)]
    pub actions: Option<Vec<Action>>,
    /// The expiry; null for none. By default 90 days from now, or the expiry of the grant that creates it if
    /// that is earlier.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "even_null")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Option<Timestamp>>,
}

/// The fixed value of each context key, or `*` for any value.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only described: the type that is parsed is `ContextRules`")]
pub struct ContextRulesBody {
    /// The deployed project.
    #[schema(required = false)]
    project: ContextRuleText,
    /// The runbook that runs.
    #[schema(required = false)]
    runbook: ContextRuleText,
    /// The tenant that is deployed to.
    #[schema(required = false)]
    tenant: ContextRuleText,
    /// The environment that is deployed to.
    #[schema(required = false)]
    environment: ContextRuleText,
    /// The kind of work.
    #[schema(required = false)]
    r#type: ContextRuleText,
}

/// The kind of actions that a grant's holder may take.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code, reason = "the schema of a type that is no schema itself")]
pub enum RoleName {
    /// Everything.
    Admin,
    /// Reads everything, changes nothing, takes no credentials.
    Viewer,
    /// Takes credentials.
    Deployer,
}

impl NewGrant {
    /// Returns the draft of this grant at `now`, for a caller whose own grant expires at `latest`.
    ///
    /// # Errors
    ///
    /// [`ScopeError`] if a list is empty or too long.
    pub fn draft(self, now: Timestamp, latest: Option<Timestamp>) -> Result<GrantDraft, ScopeError> {
        listed(self.repositories.as_deref())?;
        let default_end = now.saturating_add(DEFAULT_LIFE).unwrap_or(Timestamp::MAX);
        let default_end = latest.map_or(default_end, |latest| default_end.min(latest));
        Ok(GrantDraft {
            name: self.name,
            permissions: Permissions {
                role: self.role,
                spaces: self.spaces,
                feeds: self.feeds,
                context: self.context.unwrap_or_else(|| ContextRules::of_role(self.role)),
                scope: Scope::new(self.repositories, self.actions)?,
            },
            expires_at: self.expires_at.unwrap_or(Some(default_end)),
        })
    }
}

/// A grant, without its token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantResponse {
    /// The grant's id in routes, logs and the audit log.
    pub id: Uuid,
    /// The display name.
    pub name: String,
    /// `admin`, `viewer` or `deployer`.
    #[schema(value_type = RoleName)]
    pub role: String,
    /// `valid`, `expired` or `revoked`.
    pub state: String,
    /// The spaces to which the grant is limited; null for all.
    pub spaces: Option<Vec<String>>,
    /// The patterns to which the grant's feeds are limited; null for all.
    pub feeds: Option<Vec<String>>,
    /// The fixed value of each allowed context key, or `*` for any value.
    pub context: BTreeMap<String, String>,
    /// The repositories to which credentials are limited; null for all.
    pub repositories: Option<Vec<String>>,
    /// The actions to which credentials are limited.
    pub actions: Vec<String>,
    /// The time of the grant's creation.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// The maker.
    pub created_by: String,
    /// The expiry; null if it never expires.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// The time of its revocation.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
    /// The time of its last use, to about a minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
}

/// Grants that were revoked together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevokedGrantsResponse {
    /// Their ids, oldest grant first, except grants that were already revoked.
    pub revoked: Vec<Uuid>,
}

/// A newly created grant with its token, which is shown only here.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct NewGrantResponse {
    /// The bearer token.
    #[serde(serialize_with = "secret_text::reveal", deserialize_with = "secret_text::conceal")]
    #[schema(value_type = String, format = Password)]
    pub token: SecretString,
    /// The grant.
    #[serde(flatten)]
    pub grant: GrantResponse,
}

impl GrantResponse {
    /// Returns the response about `grant` at `now`.
    #[must_use]
    pub fn new(grant: &Grant, now: Timestamp) -> Self {
        let Permissions { role, spaces, feeds, context, scope } = &grant.permissions;
        let value = |rule: &ContextRule| match rule {
            ContextRule::Fixed(slug) => Some(slug.to_string()),
            ContextRule::Open => Some("*".to_owned()),
            ContextRule::Closed => None,
        };
        Self {
            id: grant.id,
            name: grant.name.to_string(),
            role: role.to_string(),
            state: grant.state(now).as_str().to_owned(),
            spaces: match spaces {
                SpaceLimit::All => None,
                SpaceLimit::Only(spaces) => Some(spaces.iter().map(ToString::to_string).collect()),
            },
            feeds: match feeds {
                FeedLimit::All => None,
                FeedLimit::Matching(patterns) => Some(patterns.iter().map(ToString::to_string).collect()),
            },
            context: context.iter().filter_map(|(key, rule)| Some((key.to_string(), value(rule)?))).collect(),
            repositories: scope.repositories().map(|names| names.iter().map(ToString::to_string).collect()),
            actions: Action::ALL
                .into_iter()
                .filter(|action| scope.allows(*action))
                .map(|action| action.to_string())
                .collect(),
            created_at: grant.created_at,
            created_by: grant.created_by.clone(),
            expires_at: grant.expires_at,
            revoked_at: grant.revoked_at,
            last_used_at: grant.last_used_at,
        }
    }
}

fn all_spaces() -> SpaceLimit {
    SpaceLimit::All
}

fn all_feeds() -> FeedLimit {
    FeedLimit::All
}

/// Distinguishes a `null` member from an absent one.
fn even_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Timestamp>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
