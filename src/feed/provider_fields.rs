//! The fields that only some types of feed have, all optional.
//!
//! This module alone knows which type has which field, for the command line, files and the API.

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use super::aws::{AssumedRole, RoleArn, SessionDuration};
use super::azure::{AzureAcr, EntraId};
use super::google::{
    AccessTokenLifetime, GoogleArtifactRegistry, JwksSource, ServiceAccount, WorkloadIdentityProvider,
};
use super::{FeedType, Provider};

/// The fields of every type. An absent field is not changed, or gets its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProviderFields {
    /// AWS: the role that trusts the issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<RoleArn>,
    /// AWS: the duration of the role session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_duration: Option<SessionDuration>,
    /// Azure: the tenant of the identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<EntraId>,
    /// Azure: the identity that trusts the issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<EntraId>,
    /// Google: the provider that trusts the issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_identity_provider: Option<WorkloadIdentityProvider>,
    /// Google: the service account to impersonate; `Some(None)`, in JSON `null`, removes it.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "even_null")]
    pub service_account: Option<Option<ServiceAccount>>,
    /// Google: the lifetime of the service account's token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<AccessTokenLifetime>,
    /// Google: the way in which it gets the issuer's keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks: Option<JwksSource>,
}

/// The fields do not match the type.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OwnFieldsError {
    /// The field belongs to another type.
    #[error("{field}: a feed of type {feed_type} has no such field")]
    NotOfThisType {
        /// The field.
        field: &'static str,
        /// The feed's type.
        feed_type: FeedType,
    },
    /// This type requires the field.
    #[error("{field}: a feed of type {feed_type} needs it")]
    Missing {
        /// The field.
        field: &'static str,
        /// The feed's type.
        feed_type: FeedType,
    },
}

impl OwnFieldsError {
    /// Returns the field concerned.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::NotOfThisType { field, .. } | Self::Missing { field, .. } => field,
        }
    }
}

impl ProviderFields {
    /// Returns the provider of a new feed of this type.
    ///
    /// # Errors
    ///
    /// [`OwnFieldsError`] names the first field that is missing or belongs to another type.
    pub fn provider(self, feed_type: FeedType) -> Result<Provider, OwnFieldsError> {
        self.check(feed_type)?;
        let missing = |field| OwnFieldsError::Missing { field, feed_type };
        Ok(match feed_type {
            FeedType::AwsEcr | FeedType::AwsEcrPublic => {
                let role_arn = self.role_arn.ok_or(missing("role_arn"))?;
                let role =
                    AssumedRole { role_arn, session_duration: self.session_duration.unwrap_or_default() };
                match feed_type {
                    FeedType::AwsEcrPublic => Provider::AwsEcrPublic(role),
                    _ => Provider::AwsEcr(role),
                }
            }
            FeedType::AzureAcr => Provider::AzureAcr(AzureAcr {
                tenant_id: self.tenant_id.ok_or(missing("tenant_id"))?,
                client_id: self.client_id.ok_or(missing("client_id"))?,
            }),
            FeedType::GoogleArtifactRegistry => Provider::GoogleArtifactRegistry(GoogleArtifactRegistry {
                workload_identity_provider: self
                    .workload_identity_provider
                    .ok_or(missing("workload_identity_provider"))?,
                service_account: self.service_account.flatten(),
                lifetime: self.lifetime.unwrap_or_default(),
                jwks: self.jwks.unwrap_or_default(),
            }),
        })
    }

    /// Returns `provider` with its fields replaced by these.
    ///
    /// # Errors
    ///
    /// [`OwnFieldsError::NotOfThisType`] if a field belongs to another type.
    pub fn applied_to(self, provider: Provider) -> Result<Provider, OwnFieldsError> {
        self.check(provider.feed_type())?;
        let role = |own: AssumedRole| AssumedRole {
            role_arn: self.role_arn.unwrap_or(own.role_arn),
            session_duration: self.session_duration.unwrap_or(own.session_duration),
        };
        Ok(match provider {
            Provider::AwsEcr(own) => Provider::AwsEcr(role(own)),
            Provider::AwsEcrPublic(own) => Provider::AwsEcrPublic(role(own)),
            Provider::AzureAcr(own) => Provider::AzureAcr(AzureAcr {
                tenant_id: self.tenant_id.unwrap_or(own.tenant_id),
                client_id: self.client_id.unwrap_or(own.client_id),
            }),
            Provider::GoogleArtifactRegistry(own) => {
                Provider::GoogleArtifactRegistry(GoogleArtifactRegistry {
                    workload_identity_provider: self
                        .workload_identity_provider
                        .unwrap_or(own.workload_identity_provider),
                    service_account: self.service_account.unwrap_or(own.service_account),
                    lifetime: self.lifetime.unwrap_or(own.lifetime),
                    jwks: self.jwks.unwrap_or(own.jwks),
                })
            }
        })
    }

    /// Refuses fields of another type.
    ///
    /// # Errors
    ///
    /// [`OwnFieldsError::NotOfThisType`] names the first such field.
    pub fn check(&self, feed_type: FeedType) -> Result<(), OwnFieldsError> {
        let aws: &[FeedType] = &[FeedType::AwsEcr, FeedType::AwsEcrPublic];
        let azure: &[FeedType] = &[FeedType::AzureAcr];
        let google: &[FeedType] = &[FeedType::GoogleArtifactRegistry];
        let fields = [
            ("role_arn", self.role_arn.is_some(), aws),
            ("session_duration", self.session_duration.is_some(), aws),
            ("tenant_id", self.tenant_id.is_some(), azure),
            ("client_id", self.client_id.is_some(), azure),
            ("workload_identity_provider", self.workload_identity_provider.is_some(), google),
            ("service_account", self.service_account.is_some(), google),
            ("lifetime", self.lifetime.is_some(), google),
            ("jwks", self.jwks.is_some(), google),
        ];
        match fields.into_iter().find(|(_, given, types)| *given && !types.contains(&feed_type)) {
            Some((field, ..)) => Err(OwnFieldsError::NotOfThisType { field, feed_type }),
            None => Ok(()),
        }
    }
}

/// Distinguishes a `null` member from an absent one.
pub(crate) fn even_null<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<ServiceAccount>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> ProviderFields {
        serde_json::from_str(json).unwrap()
    }

    const ROLE: &str = "arn:aws:iam::123456789012:role/pull";
    const TENANT: &str = "8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c";

    #[test]
    fn a_new_feed_needs_its_types_fields_and_no_others() {
        let role = fields(&format!(r#"{{"role_arn": "{ROLE}"}}"#));
        for (given, feed_type, problem) in [
            (role.clone(), FeedType::AwsEcr, None),
            (role.clone(), FeedType::AwsEcrPublic, None),
            (role, FeedType::AzureAcr, Some("role_arn: a feed of type azure-acr has no such field")),
            (ProviderFields::default(), FeedType::AwsEcr, Some("role_arn: a feed of type aws-ecr needs it")),
            (
                fields(&format!(r#"{{"tenant_id": "{TENANT}"}}"#)),
                FeedType::AzureAcr,
                Some("client_id: a feed of type azure-acr needs it"),
            ),
            (
                fields(r#"{"lifetime": 60}"#),
                FeedType::GoogleArtifactRegistry,
                Some("workload_identity_provider: a feed of type google-artifact-registry needs it"),
            ),
        ] {
            let made = given.provider(feed_type);
            assert_eq!(made.err().map(|error| error.to_string()).as_deref(), problem);
        }
    }

    #[test]
    fn null_takes_a_service_account_away_and_absence_leaves_it() {
        let name = "projects/1/locations/global/workloadIdentityPools/pool/providers/prov";
        let provider = fields(&format!(
            r#"{{"workload_identity_provider": "{name}", "service_account": "sa@p-roject.iam.gserviceaccount.com"}}"#
        ))
        .provider(FeedType::GoogleArtifactRegistry)
        .unwrap();
        let account = |changes: &str| match fields(changes).applied_to(provider.clone()).unwrap() {
            Provider::GoogleArtifactRegistry(google) => google.service_account,
            other => panic!("{other:?}"),
        };
        assert!(account("{}").is_some());
        assert!(account(r#"{"service_account": null}"#).is_none());
    }
}
