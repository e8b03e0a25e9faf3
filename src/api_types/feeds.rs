//! Feeds in the API's requests and responses.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::texts::{
    AudienceText, EndpointText, NameText, RegistryText, RoleArnText, ServiceAccountText, SlugText,
    SubjectKeyName, UuidText, WorkloadIdentityProviderText,
};
use crate::feed::display_name::DisplayName;
use crate::feed::endpoints::Endpoints;
use crate::feed::google::JwksSource;
use crate::feed::provider_fields::{OwnFieldsError, ProviderFields};
use crate::feed::registry_host::RegistryHost;
use crate::feed::{Feed, FeedChanges, FeedDraft, FeedType, Provider};
use crate::feeds::Changed;
use crate::jose::Algorithm;
use crate::oidc::audience::Audience;
use crate::oidc::subject::SubjectKeys;
use crate::values::slug::Slug;

/// A feed. Only the members of its type are present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FeedAnswer {
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
    #[schema(value_type = FeedTypeName)]
    pub feed_type: String,
    /// AWS: the role that trusts the issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// AWS: the requested duration of the role session, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_duration: Option<u32>,
    /// Azure: the tenant of the identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// Azure: the identity that trusts the issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Google: the provider that trusts the issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_identity_provider: Option<String>,
    /// Google: the service account to impersonate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// Google: the requested lifetime of the service account's token, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<u32>,
    /// Google: the way in which it gets the issuer's keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<JwksSourceName>)]
    pub jwks: Option<JwksSource>,
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

/// The types of feed.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
#[allow(dead_code, reason = "the schema of a type that is no schema itself")]
pub enum FeedTypeName {
    /// A private registry of Amazon ECR.
    AwsEcr,
    /// Amazon ECR Public.
    AwsEcrPublic,
    /// An Azure container registry.
    AzureAcr,
    /// Google Artifact Registry.
    GoogleArtifactRegistry,
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

/// A feed to be added. `type` determines which of the other members are required or allowed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewFeed {
    /// The feed's name in subjects. It never changes.
    #[schema(value_type = SlugText)]
    pub slug: Slug,
    /// The type.
    #[serde(rename = "type")]
    #[schema(value_type = FeedTypeName)]
    pub feed_type: FeedType,
    /// The registry from which images are pulled: a host of the type's cloud, or any host if every endpoint
    /// is given.
    #[schema(value_type = RegistryText, example = "123456789012.dkr.ecr.eu-central-1.amazonaws.com")]
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
    #[schema(value_type = EndpointsBody, required = false)]
    pub endpoints: Endpoints,
    /// AWS, required: the role that trusts the issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<RoleArnText>)]
    pub role_arn: Option<crate::feed::aws::RoleArn>,
    /// AWS: the duration of the role session, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 900, maximum = 43200)]
    pub session_duration: Option<crate::feed::aws::SessionDuration>,
    /// Azure, required: the tenant of the identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<UuidText>)]
    pub tenant_id: Option<crate::feed::azure::EntraId>,
    /// Azure, required: the identity that trusts the issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<UuidText>)]
    pub client_id: Option<crate::feed::azure::EntraId>,
    /// Google, required: the provider that trusts the issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<WorkloadIdentityProviderText>)]
    pub workload_identity_provider: Option<crate::feed::google::WorkloadIdentityProvider>,
    /// Google: the service account to impersonate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ServiceAccountText>)]
    pub service_account: Option<crate::feed::google::ServiceAccount>,
    /// Google: the lifetime of the service account's token, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 43200)]
    pub lifetime: Option<crate::feed::google::AccessTokenLifetime>,
    /// Google: the way in which it gets the issuer's keys; by default `fetched`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<JwksSourceName>)]
    pub jwks: Option<JwksSource>,
    /// Allows a subject that a removed feed had, and thus inherits any trust that clouds still have in it.
    /// Requires a grant without limits.
    #[serde(default)]
    pub reuse_slug: bool,
    /// Allows a subject that another feed of the space can have, and thus shares the trust that clouds have
    /// in it. Requires a grant without limits.
    #[serde(default)]
    pub share_subject: bool,
}

/// Overridden hosts of the cloud's APIs. Each type has two of these names.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only described: the type that is parsed is `Endpoints`")]
pub struct EndpointsBody {
    /// AWS's STS, or Google's.
    #[schema(required = false)]
    sts: EndpointText,
    /// AWS's ECR.
    #[schema(required = false)]
    ecr: EndpointText,
    /// Azure's Entra.
    #[schema(required = false)]
    authority: EndpointText,
    /// Azure's registry.
    #[schema(required = false)]
    registry: EndpointText,
    /// Google's IAM Service Account Credentials.
    #[schema(required = false)]
    iamcredentials: EndpointText,
}

/// A change of a feed. Absent members stay as they are.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FeedPatch {
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
    #[schema(value_type = Option<EndpointsBody>)]
    pub endpoints: Option<Endpoints>,
    /// AWS: the new role.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<RoleArnText>)]
    pub role_arn: Option<crate::feed::aws::RoleArn>,
    /// AWS: the new session duration, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 900, maximum = 43200)]
    pub session_duration: Option<crate::feed::aws::SessionDuration>,
    /// Azure: the new tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<UuidText>)]
    pub tenant_id: Option<crate::feed::azure::EntraId>,
    /// Azure: the new identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<UuidText>)]
    pub client_id: Option<crate::feed::azure::EntraId>,
    /// Google: the new provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<WorkloadIdentityProviderText>)]
    pub workload_identity_provider: Option<crate::feed::google::WorkloadIdentityProvider>,
    /// Google: the new service account; `null` removes it.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::feed::provider_fields::even_null"
    )]
    #[schema(value_type = Option<ServiceAccountText>)]
    pub service_account: Option<Option<crate::feed::google::ServiceAccount>>,
    /// Google: the new lifetime of the service account's token, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 43200)]
    pub lifetime: Option<crate::feed::google::AccessTokenLifetime>,
    /// Google: the new way in which it gets the issuer's keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<JwksSourceName>)]
    pub jwks: Option<JwksSource>,
    /// Allows a subject that a removed feed had, and thus inherits any trust that clouds still have in it.
    /// Requires a grant without limits.
    pub reuse_slug: bool,
    /// Allows a subject that another feed of the space can have, and thus shares the trust that clouds have
    /// in it. Requires a grant without limits.
    pub share_subject: bool,
}

impl NewFeed {
    /// Returns the draft of this feed in `space`.
    ///
    /// # Errors
    ///
    /// [`OwnFieldsError`] names a field that the type requires or does not have.
    pub fn draft(self, space: Slug) -> Result<FeedDraft, OwnFieldsError> {
        let own = ProviderFields {
            role_arn: self.role_arn,
            session_duration: self.session_duration,
            tenant_id: self.tenant_id,
            client_id: self.client_id,
            workload_identity_provider: self.workload_identity_provider,
            service_account: self.service_account.map(Some),
            lifetime: self.lifetime,
            jwks: self.jwks,
        };
        Ok(FeedDraft {
            space,
            slug: self.slug,
            name: self.name,
            registry: self.registry,
            provider: own.provider(self.feed_type)?,
            audience: self.audience,
            subject_keys: self.subject_keys,
            alg: self.alg,
            token_lifetime: self.token_lifetime.map(seconds),
            endpoints: self.endpoints,
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
        let own = ProviderFields {
            role_arn: self.role_arn,
            session_duration: self.session_duration,
            tenant_id: self.tenant_id,
            client_id: self.client_id,
            workload_identity_provider: self.workload_identity_provider,
            service_account: self.service_account,
            lifetime: self.lifetime,
            jwks: self.jwks,
        };
        own.check(feed_type)?;
        Ok(move |feed: &Feed| FeedChanges {
            name: self.name,
            registry: self.registry,
            // Cannot fail: fields of another type were refused above.
            provider: own.applied_to(feed.provider.clone()).ok(),
            audience: self.audience,
            subject_keys: self.subject_keys,
            alg: self.alg,
            token_lifetime: self.token_lifetime.map(seconds),
            endpoints: self.endpoints,
        })
    }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

impl From<&Changed> for FeedAnswer {
    fn from(changed: &Changed) -> Self {
        let notes = changed.notes.iter().map(ToString::to_string).collect();
        Self { notes, ..Self::from(&changed.feed) }
    }
}

impl From<&Feed> for FeedAnswer {
    fn from(feed: &Feed) -> Self {
        let mut answer = Self {
            id: feed.id,
            version: feed.version,
            space: feed.space.to_string(),
            slug: feed.slug.to_string(),
            name: feed.name.to_string(),
            feed_type: feed.provider.feed_type().to_string(),
            role_arn: None,
            session_duration: None,
            tenant_id: None,
            client_id: None,
            workload_identity_provider: None,
            service_account: None,
            lifetime: None,
            jwks: None,
            registry: feed.registry.to_string(),
            audience: feed.audience.to_string(),
            subject_keys: Vec::from(feed.subject_keys.clone()),
            alg: feed.alg.to_string(),
            token_lifetime: feed.token_lifetime.as_secs(),
            endpoints: feed.endpoints.iter().map(|(name, url)| (name.to_owned(), url.to_string())).collect(),
            created_at: feed.created_at,
            updated_at: feed.updated_at,
            notes: Vec::new(),
        };
        match &feed.provider {
            Provider::AwsEcr(role) | Provider::AwsEcrPublic(role) => {
                answer.role_arn = Some(role.role_arn.to_string());
                answer.session_duration = Some(role.session_duration.as_secs());
            }
            Provider::AzureAcr(azure) => {
                answer.tenant_id = Some(azure.tenant_id.to_string());
                answer.client_id = Some(azure.client_id.to_string());
            }
            Provider::GoogleArtifactRegistry(google) => {
                answer.workload_identity_provider = Some(google.workload_identity_provider.to_string());
                answer.service_account = google.service_account.as_ref().map(ToString::to_string);
                answer.lifetime = Some(google.lifetime.as_secs());
                answer.jwks = Some(google.jwks);
            }
        }
        answer
    }
}
