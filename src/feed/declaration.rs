//! The declarations of a type of feed and of the fields that only some types have.
//!
//! A provider declares its fields next to the struct that holds them. The flags of the command line, the
//! members of the API and the OpenAPI document are made from the declarations.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::endpoints::Endpoints;
use super::registry_host::RegistryHost;
use super::scope::{Scope, ScopeError};
use crate::jose::Algorithm;
use crate::oidc::audience::Audience;

/// A type of feed, as its provider declares it.
#[derive(Debug, Clone, Copy)]
pub struct TypeDeclaration {
    /// The description, without a full stop.
    pub about: &'static str,
    /// The registries of the type.
    pub registry: KnownRegistry,
    /// The fields of the type, in the order in which they are shown.
    pub fields: &'static [Field],
    /// The endpoints that a feed of the type can override.
    pub endpoints: &'static [&'static str],
    /// The default signature algorithm of its tokens.
    pub algorithm: Algorithm,
    /// The maximum length of a subject at the provider, in bytes, if the provider states one.
    pub subject_limit: Option<usize>,
    /// Checks that credentials can be limited to a scope that limits something.
    pub check_scope: fn(&Scope) -> Result<(), ScopeError>,
}

/// The settings of feeds, with the rules that depend on them.
pub trait Settings {
    /// Returns the default `aud` of tokens.
    fn default_audience(&self, registry: &RegistryHost, endpoints: &Endpoints) -> Audience;

    /// Returns advice for a caller that needs a longer life than the feed's credentials have.
    fn longer_life(&self) -> &'static str;

    /// Returns the maximum lifetime of tokens at the provider, if a credential ends together with the token
    /// for which it was exchanged.
    fn ends_with_the_token(&self) -> Option<Duration> {
        None
    }
}

/// The registries of a type of feed.
#[derive(Debug, Clone, Copy)]
pub enum KnownRegistry {
    /// Each feed names its own, such as this one.
    Such(&'static str),
    /// There is one, which is the default on the command line.
    Only(&'static str),
}

/// A type of values that fields can have.
pub trait FieldValue: FromStr<Err: Display> + Serialize + DeserializeOwned {
    /// The placeholder for a value in the help of the command line.
    const VALUE_NAME: &'static str;
    /// The values' form in JSON.
    const SHAPE: Shape;
}

/// The form of a field's values in JSON. A value of the type may be limited further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A text that matches a regular expression.
    Text {
        /// The regular expression, of the whole text.
        pattern: &'static str,
        /// The minimum number of characters.
        min: usize,
        /// The maximum number of characters.
        max: usize,
    },
    /// One of these texts.
    Words(&'static [&'static str]),
    /// A duration in whole seconds.
    Seconds {
        /// The minimum.
        min: u32,
        /// The maximum.
        max: u32,
    },
}

/// The meaning of a field's absence in a new feed.
#[derive(Debug, Clone, Copy)]
pub enum Presence {
    /// A new feed needs the field.
    Required,
    /// The field gets a default, which the function writes as the command line does.
    Default(fn() -> String),
    /// The feed is without the field, and a change can remove it.
    Optional {
        /// The consequence of the absence.
        absent: &'static str,
        /// The description of its removal.
        removal: &'static str,
    },
}

/// A field that only some types of feed have.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The name in JSON. The flag is the name with dashes.
    pub name: &'static str,
    /// The name in tables.
    pub label: &'static str,
    /// The description, without a full stop.
    pub description: &'static str,
    /// The meaning of its absence.
    pub presence: Presence,
    /// The placeholder for a value in the help of the command line.
    pub value_name: &'static str,
    /// The values' form in JSON.
    pub shape: Shape,
    /// Another field, without which this one has no effect.
    pub only_with: Option<&'static str>,
    check: fn(&Value) -> Result<(), String>,
    parse: fn(&str) -> Result<Value, String>,
}

impl Field {
    /// Declares a field that a new feed needs.
    #[must_use]
    pub const fn required<T: FieldValue>(
        name: &'static str,
        label: &'static str,
        description: &'static str,
    ) -> Self {
        Self::new::<T>(name, label, description, Presence::Required)
    }

    /// Declares a field with a default.
    #[must_use]
    pub const fn with_default<T: FieldValue + Default + Display>(
        name: &'static str,
        label: &'static str,
        description: &'static str,
    ) -> Self {
        Self::new::<T>(name, label, description, Presence::Default(|| T::default().to_string()))
    }

    /// Declares a field that a feed can be without.
    #[must_use]
    pub const fn optional<T: FieldValue>(
        name: &'static str,
        label: &'static str,
        description: &'static str,
        absent: &'static str,
        removal: &'static str,
    ) -> Self {
        Self::new::<T>(name, label, description, Presence::Optional { absent, removal })
    }

    const fn new<T: FieldValue>(
        name: &'static str,
        label: &'static str,
        description: &'static str,
        presence: Presence,
    ) -> Self {
        Self {
            name,
            label,
            description,
            presence,
            value_name: T::VALUE_NAME,
            shape: T::SHAPE,
            only_with: None,
            check: |value| T::deserialize(value).map(drop).map_err(|error| error.to_string()),
            parse: |text| {
                let value = text.parse::<T>().map_err(|error| error.to_string())?;
                serde_json::to_value(value).map_err(|error| error.to_string())
            },
        }
    }

    /// Declares that the field has no effect without another one.
    #[must_use]
    pub const fn only_with(self, other: &'static str) -> Self {
        Self { only_with: Some(other), ..self }
    }

    /// Returns the flag of the command line, without the dashes before it.
    #[must_use]
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// Returns whether a change can remove the field.
    #[must_use]
    pub fn is_removable(&self) -> bool {
        matches!(self.presence, Presence::Optional { .. })
    }

    /// Checks a value that is given in JSON.
    ///
    /// # Errors
    ///
    /// The rule that the value breaks.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        (self.check)(value)
    }

    /// Returns the function that reads a value of the command line and returns it as in JSON, or the rule that
    /// it breaks.
    #[must_use]
    pub fn parser(&self) -> fn(&str) -> Result<Value, String> {
        self.parse
    }

    /// Returns a value as in tables.
    #[must_use]
    pub fn shown(&self, value: &Value) -> String {
        match (self.shape, value) {
            (Shape::Seconds { .. }, seconds) => format!("{seconds} s"),
            (_, Value::String(text)) => text.clone(),
            (_, other) => other.to_string(),
        }
    }
}
