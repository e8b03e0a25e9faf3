//! The types of feeds: one line for each, with its settings and the module of its provider.
//!
//! That module has a [`TypeDeclaration`] `DECLARATION`, a function `check_feed` with the rules between the
//! settings and the other fields of a feed, and `RuleError`, in which they answer.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::aws::{self, AssumedRole};
use super::azure::{self, AzureAcr};
use super::declaration::{Field, Settings, TypeDeclaration};
use super::google::{self, GoogleArtifactRegistry};
use super::{Feed, ecr_public};

/// Declares the types with everything that has to name each of them, so that none is forgotten.
macro_rules! feed_types {
    ($($(#[$doc:meta])* $variant:ident($settings:ty) = $name:literal, $provider:ident;)+) => {
        /// The type of a feed, as in `feed add TYPE`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum FeedType {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)+
        }

        /// The cloud behind a registry, with the fields of its type.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "type")]
        pub enum Provider {
            $($(#[$doc])* #[serde(rename = $name)] $variant($settings),)+
        }

        /// The settings of a feed break a rule of its type.
        #[derive(Debug, Clone, PartialEq, Eq, Error)]
        pub enum RuleError {
            $($(#[$doc])* #[error(transparent)] $variant($provider::RuleError),)+
        }

        impl FeedType {
            /// All types.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// Returns the name on the command line and in JSON.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// Returns what the provider declares of the type.
            #[must_use]
            pub fn declaration(self) -> &'static TypeDeclaration {
                match self {
                    $(Self::$variant => &$provider::DECLARATION,)+
                }
            }

            /// Returns the names of the members of the type's settings.
            #[cfg(test)]
            fn members(self) -> &'static [&'static str] {
                match self {
                    $(Self::$variant => tests::members::<$settings>(),)+
                }
            }
        }

        impl Provider {
            /// Returns the type.
            #[must_use]
            pub fn feed_type(&self) -> FeedType {
                match self {
                    $(Self::$variant(_) => FeedType::$variant,)+
                }
            }

            /// Returns the settings.
            pub(super) fn settings(&self) -> &dyn Settings {
                match self {
                    $(Self::$variant(settings) => settings,)+
                }
            }

            /// Checks the rules of the feed's type.
            pub(super) fn check(&self, feed: &Feed) -> Result<(), RuleError> {
                match self {
                    $(Self::$variant(settings) => {
                        $provider::check_feed(settings, feed).map_err(RuleError::$variant)
                    })+
                }
            }
        }
    };
}

feed_types! {
    /// A private registry of Amazon ECR.
    AwsEcr(AssumedRole) = "aws-ecr", aws;
    /// Amazon ECR Public.
    AwsEcrPublic(AssumedRole) = "aws-ecr-public", ecr_public;
    /// An Azure container registry.
    AzureAcr(AzureAcr) = "azure-acr", azure;
    /// Google Artifact Registry, and Container Registry before it.
    GoogleArtifactRegistry(GoogleArtifactRegistry) = "google-artifact-registry", google;
}

impl FeedType {
    /// Returns the fields of the type.
    #[must_use]
    pub fn fields(self) -> &'static [Field] {
        self.declaration().fields
    }

    /// Returns the type's field of this name.
    #[must_use]
    pub fn field(self, name: &str) -> Option<&'static Field> {
        self.fields().iter().find(|field| field.name == name)
    }

    /// Returns the field of this name of the first type that has one.
    #[must_use]
    pub fn field_of_any(name: &str) -> Option<&'static Field> {
        Self::ALL.into_iter().find_map(|feed_type| feed_type.field(name))
    }

    /// Returns the fields of all types, each name once, with the types that have it.
    #[must_use]
    pub fn all_fields() -> Vec<(&'static Field, Vec<Self>)> {
        let mut all: Vec<(&'static Field, Vec<Self>)> = Vec::new();
        for feed_type in Self::ALL {
            for field in feed_type.fields() {
                match all.iter_mut().find(|(known, _)| known.name == field.name) {
                    Some((_, types)) => types.push(feed_type),
                    None => all.push((field, vec![feed_type])),
                }
            }
        }
        all
    }
}

impl fmt::Display for FeedType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Display;

    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use proptest::string::string_regex;
    use proptest::test_runner::TestRunner;
    use serde::de::{IntoDeserializer, Visitor};
    use serde::{Deserializer, forward_to_deserialize_any};
    use serde_json::Value;

    use super::*;
    use crate::feed::declaration::{Presence, Shape};
    use crate::feed::provider_fields::ProviderFields;

    /// Ends every deserialization with the names of the members that a struct reads.
    struct Members;

    #[derive(Debug)]
    struct Found(&'static [&'static str]);

    impl Display for Found {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{:?}", self.0)
        }
    }

    impl std::error::Error for Found {}

    impl serde::de::Error for Found {
        fn custom<T: Display>(_: T) -> Self {
            Self(&[])
        }
    }

    impl<'de> Deserializer<'de> for Members {
        type Error = Found;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Found> {
            Err(Found(&[]))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            members: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Found> {
            Err(Found(members))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    pub(super) fn members<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
        T::deserialize(Members).err().map_or(&[], |Found(members)| members)
    }

    /// Values of the field's form in JSON.
    fn fitting(field: &Field) -> BoxedStrategy<Value> {
        match field.shape {
            Shape::Text { pattern, min, max } => string_regex(&pattern[1..pattern.len() - 1])
                .unwrap()
                .prop_filter("its length", move |text| (min..=max).contains(&text.chars().count()))
                .prop_map(Value::from)
                .boxed(),
            Shape::Words(words) => proptest::sample::select(words).prop_map(Value::from).boxed(),
            Shape::Seconds { min, max } => (min..=max).prop_map(Value::from).boxed(),
        }
    }

    #[test]
    fn declared_fields_are_the_members_of_the_settings() {
        for feed_type in FeedType::ALL {
            let names: Vec<&str> = feed_type.fields().iter().map(|field| field.name).collect();
            assert_eq!(names, feed_type.members(), "{feed_type}");
            let name: Result<FeedType, serde::de::value::Error> =
                FeedType::deserialize(feed_type.as_str().into_deserializer());
            assert_eq!(name, Ok(feed_type));
        }
    }

    #[test]
    fn values_of_the_declared_form_are_accepted_and_defaults_are_as_declared() {
        let mut runner = TestRunner::deterministic();
        for feed_type in FeedType::ALL {
            // Generating texts from patterns is slow.
            for _ in 0..32 {
                let mut required = ProviderFields::default();
                for field in feed_type.fields() {
                    let value = fitting(field).new_tree(&mut runner).unwrap().current();
                    assert_eq!(field.check(&value), Ok(()), "{feed_type} {}: {value}", field.name);
                    if matches!(field.presence, Presence::Required) {
                        required.set(field, value).unwrap();
                    }
                }
                let made = required.provider(feed_type).unwrap().fields();
                for field in feed_type.fields() {
                    let value = made.get(field.name);
                    match field.presence {
                        Presence::Required => assert!(value.is_some(), "{feed_type} {}", field.name),
                        Presence::Default(default) => {
                            assert_eq!(value, Some(&field.parser()(&default()).unwrap()), "{}", field.name);
                        }
                        Presence::Optional { .. } => assert_eq!(value, None, "{feed_type} {}", field.name),
                    }
                }
            }
        }
    }

    /// The command line has one flag for both, and the change of a feed one member.
    #[test]
    fn fields_of_one_name_are_one_field() {
        for (first, types) in FeedType::all_fields() {
            for field in types.into_iter().filter_map(|feed_type| feed_type.field(first.name)) {
                let all_but_functions = |field: &Field| {
                    (field.label, field.description, field.value_name, field.shape, field.is_removable())
                };
                assert_eq!(all_but_functions(field), all_but_functions(first), "{}", first.name);
            }
        }
    }
}
