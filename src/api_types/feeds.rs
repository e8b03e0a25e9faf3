//! Feeds in the API's requests and responses.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

use super::own_members::split;
use super::texts::{AudienceText, EndpointText, NameText, RegistryText, SlugText, SubjectKeyName};
use crate::feed::display_name::DisplayName;
use crate::feed::endpoints::Endpoints;
use crate::feed::provider_fields::{OwnFieldsError, ProviderFields};
use crate::feed::registry_host::RegistryHost;
use crate::feed::{Feed, FeedChanges, FeedDraft, FeedType};
use crate::feeds::Changed;
use crate::jose::Algorithm;
use crate::oidc::audience::Audience;
use crate::oidc::subject::SubjectKeys;
use crate::values::slug::Slug;

/// A feed. Only the members of its type are present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FeedResponse {
    /// The id, which is never reused.
    pub id: Uuid,
    /// The version, which grows with every change.
    pub version: i64,
    /// The feed's space.
    pub space: String,
    /// The feed's name in subjects. It never changes.
    pub slug: String,
    /// The display name.
    pub name: String,
    /// The type.
    #[serde(rename = "type")]
    pub feed_type: String,
    /// The members that only feeds of this type have.
    #[serde(flatten)]
    #[schema(ignore)]
    pub own: Map<String, Value>,
    /// The registry from which images are pulled.
    pub registry: String,
    /// The `aud` of the feed's tokens.
    pub audience: String,
    /// The parts of the `sub` of the feed's tokens.
    pub subject_keys: Vec<String>,
    /// The signature algorithm of the feed's tokens.
    #[schema(value_type = AlgorithmName)]
    pub alg: String,
    /// The lifetime of the feed's tokens, in seconds.
    pub token_lifetime: u64,
    /// Endpoint overrides, by name.
    pub endpoints: BTreeMap<String, String>,
    /// The time of the feed's creation.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// The time of the feed's last change.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// After a change: the trust that the feed now shares or inherits, and the feeds with the same registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The signature algorithms.
#[derive(ToSchema)]
#[schema(rename_all = "UPPERCASE")]
#[allow(dead_code, reason = "the schema of a type that is no schema itself")]
pub enum AlgorithmName {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
}

/// The way in which Google gets the issuer's keys.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code, reason = "the schema of a type that is no schema itself")]
pub enum JwksSourceName {
    /// Google fetches them from the issuer, which it must be able to reach.
    Fetched,
    /// An operator uploads them to the provider. A key signs only after `feed confirm-jwks` has confirmed its
    /// upload.
    Uploaded,
}

/// A feed to be added. `type` determines the members that are required or allowed beside those of every feed.
#[derive(Debug, Clone, Serialize)]
pub struct NewFeed {
    /// The members of every feed.
    #[serde(flatten)]
    pub common: NewFeedMembers,
    /// The members that only feeds of some types have.
    #[serde(flatten)]
    pub own: ProviderFields,
}

/// A feed to be added. `type` determines the members that are required or allowed beside those of every feed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewFeedMembers {
    /// The feed's name in subjects. It never changes.
    #[schema(value_type = SlugText)]
    pub slug: Slug,
    /// The type.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub feed_type: FeedType,
    /// The registry from which images are pulled: a host of the type's cloud, or any host if every endpoint
    /// is given.
    #[schema(value_type = RegistryText)]
    pub registry: RegistryHost,
    /// The display name; by default the slug.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<NameText>)]
    pub name: Option<DisplayName>,
    /// The `aud` of the feed's tokens; by default the type's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<AudienceText>)]
    pub audience: Option<Audience>,
    /// The parts of the `sub`; by default `["space", "feed"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<SubjectKeyName>>, min_items = 1, max_items = 8, example = json!(["space", "tenant?", "feed"]))]
    pub subject_keys: Option<SubjectKeys>,
    /// The signature algorithm; by default the type's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<AlgorithmName>)]
    pub alg: Option<Algorithm>,
    /// The lifetime of tokens, in seconds, up to the key policy's max-token-lifetime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub token_lifetime: Option<u32>,
    /// Overridden hosts of the cloud's APIs, by name.
    #[serde(default, skip_serializing_if = "Endpoints::is_empty")]
    #[schema(value_type = BTreeMap<String, EndpointText>, required = false)]
    pub endpoints: Endpoints,
    /// Allows a subject that a removed feed had, and thus inherits any trust that clouds still have in it.
    /// Requires a grant without limits.
    #[serde(default)]
    pub reuse_slug: bool,
    /// Allows a subject that another feed of the space can have, and thus shares the trust that clouds have
    /// in it. Requires a grant without limits.
    #[serde(default)]
    pub share_subject: bool,
}

/// A change of a feed. Absent members stay as they are.
#[derive(Debug, Clone, Default, Serialize)]
pub struct FeedPatch {
    /// The members of every feed.
    #[serde(flatten)]
    pub common: FeedPatchMembers,
    /// The members that only feeds of some types have.
    #[serde(flatten)]
    pub own: ProviderFields,
}

/// A change of a feed. Absent members stay as they are.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FeedPatchMembers {
    /// The new display name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<NameText>)]
    pub name: Option<DisplayName>,
    /// The new registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<RegistryText>)]
    pub registry: Option<RegistryHost>,
    /// The new audience.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<AudienceText>)]
    pub audience: Option<Audience>,
    /// The new parts of the `sub`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<SubjectKeyName>>, min_items = 1, max_items = 8)]
    pub subject_keys: Option<SubjectKeys>,
    /// The new algorithm.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<AlgorithmName>)]
    pub alg: Option<Algorithm>,
    /// The new lifetime of tokens, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub token_lifetime: Option<u32>,
    /// The new overrides, which replace all existing ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, EndpointText>>)]
    pub endpoints: Option<Endpoints>,
    /// Allows a subject that a removed feed had, and thus inherits any trust that clouds still have in it.
    /// Requires a grant without limits.
    pub reuse_slug: bool,
    /// Allows a subject that another feed of the space can have, and thus shares the trust that clouds have
    /// in it. Requires a grant without limits.
    pub share_subject: bool,
}

impl PartialSchema for NewFeed {
    /// Returns the members of every feed. `feed_schemas` adds those of some types.
    fn schema() -> RefOr<Schema> {
        NewFeedMembers::schema()
    }
}

impl ToSchema for NewFeed {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        NewFeedMembers::schemas(schemas);
    }
}

impl PartialSchema for FeedPatch {
    /// Returns the members of every feed. `feed_schemas` adds those of some types.
    fn schema() -> RefOr<Schema> {
        FeedPatchMembers::schema()
    }
}

impl ToSchema for FeedPatch {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        FeedPatchMembers::schemas(schemas);
    }
}

impl<'de> Deserialize<'de> for NewFeed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (common, own) = split(deserializer)?;
        Ok(Self { common, own })
    }
}

impl<'de> Deserialize<'de> for FeedPatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (common, own) = split(deserializer)?;
        Ok(Self { common, own })
    }
}

impl NewFeed {
    /// Returns the draft of this feed in `space`.
    ///
    /// # Errors
    ///
    /// [`OwnFieldsError`] names a field that the type requires or does not have.
    pub fn draft(self, space: Slug) -> Result<FeedDraft, OwnFieldsError> {
        let Self { common, own } = self;
        Ok(FeedDraft {
            space,
            slug: common.slug,
            name: common.name,
            registry: common.registry,
            provider: own.provider(common.feed_type)?,
            audience: common.audience,
            subject_keys: common.subject_keys,
            alg: common.alg,
            token_lifetime: common.token_lifetime.map(seconds),
            endpoints: common.endpoints,
        })
    }
}

impl FeedPatch {
    /// Returns the change that this makes to a feed of `feed_type`.
    ///
    /// # Errors
    ///
    /// [`OwnFieldsError::NotOfThisType`] if a field belongs to another type.
    pub fn changes(
        self,
        feed_type: FeedType,
    ) -> Result<impl FnOnce(&Feed) -> FeedChanges + Send, OwnFieldsError> {
        let Self { common, own } = self;
        own.check(feed_type)?;
        Ok(move |feed: &Feed| FeedChanges {
            name: common.name,
            registry: common.registry,
            // Cannot fail: fields of another type were refused above.
            provider: own.applied_to(feed.provider.clone()).ok(),
            audience: common.audience,
            subject_keys: common.subject_keys,
            alg: common.alg,
            token_lifetime: common.token_lifetime.map(seconds),
            endpoints: common.endpoints,
        })
    }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

impl From<&Changed> for FeedResponse {
    fn from(changed: &Changed) -> Self {
        let notes = changed.notes.iter().map(ToString::to_string).collect();
        Self { notes, ..Self::from(&changed.feed) }
    }
}

impl From<&Feed> for FeedResponse {
    fn from(feed: &Feed) -> Self {
        Self {
            id: feed.id,
            version: feed.version,
            space: feed.space.to_string(),
            slug: feed.slug.to_string(),
            name: feed.name.to_string(),
            feed_type: feed.provider.feed_type().to_string(),
            own: feed.provider.fields(),
            registry: feed.registry.to_string(),
            audience: feed.audience.to_string(),
            subject_keys: Vec::from(feed.subject_keys.clone()),
            alg: feed.alg.to_string(),
            token_lifetime: feed.token_lifetime.as_secs(),
            endpoints: feed.endpoints.iter().map(|(name, url)| (name.to_owned(), url.to_string())).collect(),
            created_at: feed.created_at,
            updated_at: feed.updated_at,
            notes: Vec::new(),
        }
    }
}
