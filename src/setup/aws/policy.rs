//! The part of IAM's policy documents that a setup needs: statements that allow, with conditions on equality
//! only.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// A policy document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Policy {
    version: &'static str,
    pub(super) statement: Vec<Statement>,
}

/// A statement that allows. Empty parts are left out.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Statement {
    effect: Allow,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<Principal>,
    #[serde(rename = "Action")]
    pub(super) actions: Vec<String>,
    #[serde(rename = "Resource", skip_serializing_if = "Vec::is_empty")]
    pub(super) resources: Vec<String>,
    /// The condition keys, each with its only permitted value.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "string_equals")]
    condition: Vec<(String, String)>,
}

#[derive(Debug, Default, Serialize)]
enum Allow {
    #[default]
    Allow,
}

/// The principal that is allowed.
#[derive(Debug, Serialize)]
pub(super) enum Principal {
    /// Holders of tokens of an identity provider, by the provider's ARN.
    Federated(String),
    /// A role, by its ARN.
    #[serde(rename = "AWS")]
    Role(String),
}

impl Policy {
    pub(super) fn of(statement: Vec<Statement>) -> Self {
        Self { version: "2012-10-17", statement }
    }

    /// Returns the length of the policy as IAM counts it, without white space.
    pub(super) fn length_without_space(&self) -> Result<usize, serde_json::Error> {
        // Compact JSON; no name in a policy contains white space.
        serde_json::to_string(self).map(|text| text.len())
    }
}

impl Statement {
    pub(super) fn allow(
        actions: impl IntoIterator<Item = &'static str>,
        resources: impl IntoIterator<Item = String>,
    ) -> Self {
        Self {
            actions: actions.into_iter().map(str::to_owned).collect(),
            resources: resources.into_iter().collect(),
            ..Self::default()
        }
    }

    pub(super) fn to(self, principal: Principal) -> Self {
        Self { principal: Some(principal), ..self }
    }

    /// Limits the statement to requests in which each key has exactly this value.
    pub(super) fn when(self, condition: Vec<(String, String)>) -> Self {
        Self { condition, ..self }
    }

    pub(super) fn condition(&self) -> &[(String, String)] {
        &self.condition
    }
}

fn string_equals<S: Serializer>(pairs: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    struct Pairs<'a>(&'a [(String, String)]);
    impl Serialize for Pairs<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
        }
    }
    let mut condition = serializer.serialize_map(Some(1))?;
    condition.serialize_entry("StringEquals", &Pairs(pairs))?;
    condition.end()
}
