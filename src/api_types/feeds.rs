//! Feeds, as the API shows and takes them.

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

/// A feed. Only the members of its type are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FeedAnswer {
    /// Never given to another feed.
    pub id: Uuid,
    /// Grows with every change.
    pub version: i64,
    /// The space that the feed lives in.
    pub space: String,
    /// The feed's name in subjects; never changes.
    pub slug: String,
    /// The name that people read.
    pub name: String,
    /// The type.
    #[serde(rename = "type")]
    #[schema(value_type = FeedTypeName)]
    pub feed_type: String,
    /// AWS: the role that trusts the issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// AWS: how long the role's session is asked to last, in seconds.
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
    /// Google: the service account to act as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// Google: how long the service account's token is asked to last, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<u32>,
    /// Google: how it comes by the issuer's keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<JwksSourceName>)]
    pub jwks: Option<JwksSource>,
    /// Where images are pulled from.
    pub registry: String,
    /// The `aud` of the feed's tokens.
    pub audience: String,
    /// What the `sub` of the feed's tokens is made of.
    pub subject_keys: Vec<String>,
    /// What the feed's tokens are signed with.
    #[schema(value_type = AlgorithmName)]
    pub alg: String,
    /// How long the feed's tokens live, in seconds.
    pub token_lifetime: u64,
    /// Endpoint overrides, by name.
    pub endpoints: BTreeMap<String, String>,
    /// When the feed was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When the feed last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// Of a change: the trust that the feed shares or inherits now, and whose registry it shares.
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

/// How Google comes by the issuer's keys.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code, reason = "the schema of a type that is no schema itself")]
pub enum JwksSourceName {
    /// It fetches them from the issuer, which it must reach.
    Fetched,
    /// Somebody uploads them to the provider; a key signs only once `feed confirm-jwks` has said that it is there.
    Uploaded,
}

/// A feed to be added. `type` says which of the other members it needs and may have.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewFeed {
    /// The feed's name in subjects; never changes.
    #[schema(value_type = SlugText)]
    pub slug: Slug,
    /// The type.
    #[serde(rename = "type")]
    #[schema(value_type = FeedTypeName)]
    pub feed_type: FeedType,
    /// Where images are pulled from: a host of the type's cloud, or any if every endpoint is given.
    #[schema(value_type = RegistryText, example = "123456789012.dkr.ecr.eu-central-1.amazonaws.com")]
    pub registry: RegistryHost,
    /// The name that people read; the slug if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<NameText>)]
    pub name: Option<DisplayName>,
    /// The `aud` of the feed's tokens; the type's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<AudienceText>)]
    pub audience: Option<Audience>,
    /// What the `sub` is made of; `["space", "feed"]` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<SubjectKeyName>>, min_items = 1, max_items = 8, example = json!(["space", "tenant?", "feed"]))]
    pub subject_keys: Option<SubjectKeys>,
    /// The signature algorithm; the type's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<AlgorithmName>)]
    pub alg: Option<Algorithm>,
    /// How long tokens live, in seconds, up to the key policy's max-token-lifetime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub token_lifetime: Option<u32>,
    /// Other hosts for the cloud's APIs, by name.
    #[serde(default, skip_serializing_if = "Endpoints::is_empty")]
    #[schema(value_type = EndpointsBody, required = false)]
    pub endpoints: Endpoints,
    /// AWS, required: the role that trusts the issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<RoleArnText>)]
    pub role_arn: Option<crate::feed::aws::RoleArn>,
    /// AWS: how long the role's session lasts, in seconds.
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
    /// Google: the service account to act as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ServiceAccountText>)]
    pub service_account: Option<crate::feed::google::ServiceAccount>,
    /// Google: how long the service account's token lasts, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 43200)]
    pub lifetime: Option<crate::feed::google::AccessTokenLifetime>,
    /// Google: how it comes by the issuer's keys; `fetched` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<JwksSourceName>)]
    pub jwks: Option<JwksSource>,
    /// Give a subject that a removed feed gave, and inherit the trust that clouds may still have in it. Needs a grant
    /// without limits.
    #[serde(default)]
    pub reuse_slug: bool,
    /// Give a subject that another feed of the space can give, and share the trust that clouds have in it. Needs a
    /// grant without limits.
    #[serde(default)]
    pub share_subject: bool,
}

/// Other hosts for the cloud's APIs. Each type has two of these names.
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

/// A change of a feed. What is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FeedPatch {
    /// Another display name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<NameText>)]
    pub name: Option<DisplayName>,
    /// Another registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<RegistryText>)]
    pub registry: Option<RegistryHost>,
    /// Another audience.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<AudienceText>)]
    pub audience: Option<Audience>,
    /// Another subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<SubjectKeyName>>, min_items = 1, max_items = 8)]
    pub subject_keys: Option<SubjectKeys>,
    /// Another algorithm.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<AlgorithmName>)]
    pub alg: Option<Algorithm>,
    /// Another lifetime of tokens, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub token_lifetime: Option<u32>,
    /// Other overrides, in place of all that there were.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<EndpointsBody>)]
    pub endpoints: Option<Endpoints>,
    /// AWS: another role.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<RoleArnText>)]
    pub role_arn: Option<crate::feed::aws::RoleArn>,
    /// AWS: another session duration, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 900, maximum = 43200)]
    pub session_duration: Option<crate::feed::aws::SessionDuration>,
    /// Azure: another tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<UuidText>)]
    pub tenant_id: Option<crate::feed::azure::EntraId>,
    /// Azure: another identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<UuidText>)]
    pub client_id: Option<crate::feed::azure::EntraId>,
    /// Google: another provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<WorkloadIdentityProviderText>)]
    pub workload_identity_provider: Option<crate::feed::google::WorkloadIdentityProvider>,
    /// Google: another service account; `null` for none any more.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::feed::provider_fields::even_null"
    )]
    #[schema(value_type = Option<ServiceAccountText>)]
    pub service_account: Option<Option<crate::feed::google::ServiceAccount>>,
    /// Google: another lifetime of the service account's token, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 43200)]
    pub lifetime: Option<crate::feed::google::AccessTokenLifetime>,
    /// Google: another way by which it comes by the issuer's keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<JwksSourceName>)]
    pub jwks: Option<JwksSource>,
    /// Give a subject that a removed feed gave, and inherit the trust that clouds may still have in it. Needs a grant
    /// without limits.
    pub reuse_slug: bool,
    /// Give a subject that another feed of the space can give, and share the trust that clouds have in it. Needs a
    /// grant without limits.
    pub share_subject: bool,
}

impl NewFeed {
    /// The feed that this wants in `space`.
    ///
    /// # Errors
    ///
    /// [`OwnFieldsError`] names a field that the type needs or does not have.
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
    /// The change that this makes to a feed of `feed_type`.
    ///
    /// # Errors
    ///
    /// [`OwnFieldsError::NotOfThisType`].
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
            // Of the feed's own type: what does not suit it was refused above.
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
