//! Grants, as the API shows and makes them.

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

/// A grant lives this long if its request does not say.
pub const DEFAULT_LIFE: SignedDuration = SignedDuration::from_hours(90 * 24);

/// A grant to be made.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGrant {
    /// What its holder may do.
    #[schema(value_type = RoleName)]
    pub role: Role,
    /// The name that people read.
    #[schema(value_type = NameText)]
    pub name: DisplayName,
    /// Only in these spaces, 256 at most; in all if absent or null.
    #[serde(default = "all_spaces")]
    #[schema(value_type = Option<Vec<SlugText>>, min_items = 1)]
    pub spaces: SpaceLimit,
    /// Only for feeds whose slug matches one of these, 256 at most, in which `*` stands for anything; all if
    /// absent or null.
    #[serde(default = "all_feeds")]
    #[schema(value_type = Option<Vec<FeedPatternText>>, min_items = 1, example = json!(["prod-*"]))]
    pub feeds: FeedLimit,
    /// Of each context key its fixed value, or `*` for any. A key that is not named is allowed to an admin,
    /// and to nobody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ContextRulesBody>, example = json!({"environment": "production", "tenant": "*"}))]
    pub context: Option<ContextRules>,
    /// Only for these repositories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<RepositoryText>>, min_items = 1, max_items = 16)]
    pub repositories: Option<Vec<RepositoryName>>,
    /// Only for these actions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<super::credentials::ActionName>>, min_items = 1)]
    pub actions: Option<Vec<Action>>,
    /// When it ends. If absent after 90 days, or with the grant that makes it; never if null.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "even_null")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Option<Timestamp>>,
}

/// Of each context key its fixed value, or `*` for any.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only described: the type that is parsed is `ContextRules`")]
pub struct ContextRulesBody {
    /// The project that is deployed.
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

/// What a grant's holder may do.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code, reason = "the schema of a type that is no schema itself")]
pub enum RoleName {
    /// Everything.
    Admin,
    /// Read everything, change nothing, take no credentials.
    Viewer,
    /// Take credentials.
    Deployer,
}

impl NewGrant {
    /// The draft that this wants at `now` of a caller whose own grant ends at `latest`.
    ///
    /// # Errors
    ///
    /// [`ScopeError`] for a list that is empty or too long.
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
pub struct GrantAnswer {
    /// Names the grant in routes, logs and audit.
    pub id: Uuid,
    /// The name that people read.
    pub name: String,
    /// `admin`, `viewer` or `deployer`.
    #[schema(value_type = RoleName)]
    pub role: String,
    /// `valid`, `expired` or `revoked`.
    pub state: String,
    /// Only in these spaces; null: in all.
    pub spaces: Option<Vec<String>>,
    /// Only for feeds that match; null: for all.
    pub feeds: Option<Vec<String>>,
    /// Of each context key that is allowed its fixed value, or `*` for any.
    pub context: BTreeMap<String, String>,
    /// Only for these repositories; null: for all.
    pub repositories: Option<Vec<String>>,
    /// Only for these actions.
    pub actions: Vec<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it ends; null: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, to the minute or so.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
}

/// Grants that were revoked together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevokedGrantsAnswer {
    /// Their identifiers, oldest grant first; without those that were revoked before.
    pub revoked: Vec<Uuid>,
}

/// A grant that was just made, with its token: the only time that it is shown.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct NewGrantAnswer {
    /// The bearer token.
    #[serde(serialize_with = "secret_text::reveal", deserialize_with = "secret_text::conceal")]
    #[schema(value_type = String, format = Password)]
    pub token: SecretString,
    /// The grant.
    #[serde(flatten)]
    pub grant: GrantAnswer,
}

impl GrantAnswer {
    /// What is shown of `grant` at `now`.
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

/// Tells a member that is `null` from one that is absent.
fn even_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Timestamp>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
