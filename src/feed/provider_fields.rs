//! Values for the fields that only some types of feed have, before they belong to a feed of one type.

use serde::Serialize;
use serde_json::{Map, Value};
use thiserror::Error;

use super::declaration::{Field, Presence};
use super::{FeedType, Provider};

/// Values for the fields of any type. An absent field is not changed, or gets its default; `null` removes a
/// field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ProviderFields(Map<String, Value>);

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
    /// The declared fields are not those of the type's settings, which is an error in carnet.
    #[error("type: {0}")]
    Declaration(String),
}

impl OwnFieldsError {
    /// Returns the field concerned.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::NotOfThisType { field, .. } | Self::Missing { field, .. } => field,
            Self::Declaration(_) => "type",
        }
    }
}

impl ProviderFields {
    /// Sets a field. `null` removes a field that a feed can be without, and counts as the absence of another
    /// one.
    ///
    /// # Errors
    ///
    /// The rule that the value breaks.
    pub fn set(&mut self, field: &Field, value: Value) -> Result<(), String> {
        if !value.is_null() {
            field.check(&value)?;
        }
        self.0.insert(field.name.to_owned(), value);
        Ok(())
    }

    /// Returns whether the field is set.
    #[must_use]
    pub fn has(&self, field: &Field) -> bool {
        self.0.contains_key(field.name)
    }

    /// Returns the provider of a new feed of this type.
    ///
    /// # Errors
    ///
    /// [`OwnFieldsError`] names the first field that is missing or belongs to another type.
    pub fn provider(mut self, feed_type: FeedType) -> Result<Provider, OwnFieldsError> {
        self.0.retain(|_, value| !value.is_null());
        self.check(feed_type)?;
        let is_required = |field: &&Field| matches!(field.presence, Presence::Required);
        let missing = |field: &&Field| !self.has(field);
        match feed_type.fields().iter().filter(is_required).find(missing) {
            Some(field) => Err(OwnFieldsError::Missing { field: field.name, feed_type }),
            None => Provider::from_fields(feed_type, self.0),
        }
    }

    /// Returns `provider` with its fields replaced by these.
    ///
    /// # Errors
    ///
    /// [`OwnFieldsError::NotOfThisType`] if a field belongs to another type.
    pub fn applied_to(self, provider: Provider) -> Result<Provider, OwnFieldsError> {
        let feed_type = provider.feed_type();
        self.check(feed_type)?;
        let mut fields = provider.fields();
        for (name, value) in self.0 {
            match value {
                Value::Null if feed_type.field(&name).is_some_and(Field::is_removable) => {
                    fields.remove(&name)
                }
                Value::Null => None,
                value => fields.insert(name, value),
            };
        }
        Provider::from_fields(feed_type, fields)
    }

    /// Refuses fields of another type.
    ///
    /// # Errors
    ///
    /// [`OwnFieldsError::NotOfThisType`] names the first such field.
    pub fn check(&self, feed_type: FeedType) -> Result<(), OwnFieldsError> {
        let is_given = |field: &Field| {
            self.0.get(field.name).is_some_and(|value| !value.is_null() || field.is_removable())
        };
        let is_foreign = |field: &Field| is_given(field) && feed_type.field(field.name).is_none();
        match FeedType::all_fields().into_iter().find(|(field, _)| is_foreign(field)) {
            Some((field, _)) => Err(OwnFieldsError::NotOfThisType { field: field.name, feed_type }),
            None => Ok(()),
        }
    }
}

impl Provider {
    /// Returns the fields of the type, in the form of the API and the store.
    #[must_use]
    pub fn fields(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(mut fields)) => {
                fields.remove("type");
                fields
            }
            // Settings are an object of texts and numbers, so they always have this form.
            _ => Map::new(),
        }
    }

    fn from_fields(feed_type: FeedType, mut fields: Map<String, Value>) -> Result<Self, OwnFieldsError> {
        fields.insert("type".to_owned(), feed_type.as_str().into());
        serde_json::from_value(Value::Object(fields))
            .map_err(|error| OwnFieldsError::Declaration(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(given: &Value) -> ProviderFields {
        let mut fields = ProviderFields::default();
        for (name, value) in given.as_object().unwrap() {
            fields.set(FeedType::field_of_any(name).unwrap(), value.clone()).unwrap();
        }
        fields
    }

    const ROLE: &str = "arn:aws:iam::123456789012:role/pull";
    const TENANT: &str = "8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c";

    #[test]
    fn a_new_feed_needs_its_types_fields_and_no_others() {
        let role = fields(&json!({ "role_arn": ROLE, "service_account": null, "jwks": null }));
        for (given, feed_type, problem) in [
            (role.clone(), FeedType::AwsEcr, None),
            (role.clone(), FeedType::AwsEcrPublic, None),
            (role, FeedType::AzureAcr, Some("role_arn: a feed of type azure-acr has no such field")),
            (ProviderFields::default(), FeedType::AwsEcr, Some("role_arn: a feed of type aws-ecr needs it")),
            (
                fields(&json!({ "tenant_id": TENANT })),
                FeedType::AzureAcr,
                Some("client_id: a feed of type azure-acr needs it"),
            ),
            (
                fields(&json!({ "lifetime": 60 })),
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
        let provider = fields(&json!({
            "workload_identity_provider": name, "service_account": "sa@p-roject.iam.gserviceaccount.com",
        }))
        .provider(FeedType::GoogleArtifactRegistry)
        .unwrap();
        let account = |changes: Value| match fields(&changes).applied_to(provider.clone()).unwrap() {
            Provider::GoogleArtifactRegistry(google) => google.service_account,
            other => panic!("{other:?}"),
        };
        assert!(account(json!({})).is_some());
        assert!(account(json!({ "service_account": null })).is_none());
        let aws = fields(&json!({ "role_arn": ROLE })).provider(FeedType::AwsEcr).unwrap();
        assert_eq!(
            fields(&json!({ "service_account": null })).applied_to(aws).unwrap_err().field(),
            "service_account"
        );
    }

    #[test]
    fn a_value_is_checked_when_it_is_set() {
        for (name, value, rule) in [
            ("role_arn", json!("x"), "\"x\" is not the ARN of a role: use 20 to 2048 characters"),
            ("role_arn", json!(1), "invalid type: integer `1`, expected a string"),
            ("session_duration", json!(899), "a session lasts 900 to 43200 seconds"),
            ("jwks", json!("x"), "unknown variant `x`, expected `fetched` or `uploaded`"),
        ] {
            let refused = ProviderFields::default().set(FeedType::field_of_any(name).unwrap(), value);
            assert!(refused.unwrap_err().starts_with(rule));
        }
    }
}
