//! Names of workload identity providers, in the forms that users paste.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::feed::declaration::{FieldValue, Shape};
use crate::oidc::audience::Audience;
use crate::values::excerpt::excerpt;

/// The prefix of a full resource name.
const SERVICE: &str = "//iam.googleapis.com/";

/// The name `projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER`.
///
/// The parser also accepts the prefixes `//iam.googleapis.com/` and `https://iam.googleapis.com/`, as shown
/// by Google's console and other tools. The name is stored without them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkloadIdentityProvider {
    name: String,
    /// The index at which `/providers/…` begins.
    pool_end: usize,
}

/// A text is not a [`WorkloadIdentityProvider`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{value} is not the name of a workload identity provider: {rule}")]
pub struct WorkloadIdentityProviderError {
    /// An excerpt of the text, quoted and escaped.
    pub value: String,
    /// The rule that the text breaks.
    pub rule: WorkloadIdentityProviderRule,
}

/// The rules for names of providers. Each message says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WorkloadIdentityProviderRule {
    /// The text does not have the eight segments.
    #[error("write projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER")]
    Form,
    /// The project is given by its id instead of its number.
    #[error("after “projects/” there must be the project's number, not its id")]
    Project,
    /// The location is not `global`.
    #[error("the location is “global”")]
    Location,
    /// The pool's id breaks Google's rule.
    #[error("the pool's id has 4 to 32 characters of a–z, 0–9 and “-”")]
    Pool,
    /// The provider's id breaks Google's rule.
    #[error("the provider's id has 4 to 32 characters of a–z, 0–9 and “-”")]
    Provider,
}

impl WorkloadIdentityProvider {
    /// Returns the name, without a host.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Returns the name of the provider's pool, without a host.
    #[must_use]
    pub fn pool(&self) -> &str {
        &self.name[..self.pool_end]
    }

    /// Returns the number of the pool's project.
    #[must_use]
    pub fn project_number(&self) -> &str {
        self.segment(1)
    }

    /// Returns the pool's id.
    #[must_use]
    pub fn pool_id(&self) -> &str {
        self.segment(5)
    }

    /// Returns the provider's id.
    #[must_use]
    pub fn provider_id(&self) -> &str {
        self.segment(7)
    }

    fn segment(&self, index: usize) -> &str {
        self.name.split('/').nth(index).unwrap_or_default()
    }

    /// Returns the full name, `//iam.googleapis.com/projects/…`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{SERVICE}{}", self.name)
    }

    /// Returns the audience that a provider accepts if it lists none: its full name, in that one of the two
    /// spellings that Google itself calls full.
    #[must_use]
    pub fn default_audience(&self) -> Audience {
        // By the rules above, this is visible ASCII of fewer than 255 characters.
        Audience::trusted(self.full_name())
    }

    /// Returns whether Google accepts this `aud` without the provider listing it.
    #[must_use]
    pub fn is_default_audience(&self, audience: &str) -> bool {
        let full = audience.strip_prefix("https:").unwrap_or(audience);
        full.strip_prefix(SERVICE) == Some(self.as_str())
    }

    /// Returns whether the audience has the form of a provider's full name, but names another provider.
    pub(super) fn is_of_another_provider(&self, audience: &Audience) -> bool {
        let audience = audience.as_str();
        let full = audience.strip_prefix("https:").unwrap_or(audience);
        full.starts_with(SERVICE) && !self.is_default_audience(audience)
    }
}

impl FieldValue for WorkloadIdentityProvider {
    const VALUE_NAME: &'static str = "NAME";
    const SHAPE: Shape = Shape::Text {
        pattern: r"^((https:)?//iam\.googleapis\.com/)?projects/[1-9][0-9]{0,17}/locations/global/workloadIdentityPools/[a-z0-9-]{4,32}/providers/[a-z0-9-]{4,32}$",
        min: 1,
        max: 255,
    };
}

impl FromStr for WorkloadIdentityProvider {
    type Err = WorkloadIdentityProviderError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        parse(value).map_err(|rule| WorkloadIdentityProviderError { value: excerpt(value), rule })
    }
}

fn parse(value: &str) -> Result<WorkloadIdentityProvider, WorkloadIdentityProviderRule> {
    use WorkloadIdentityProviderRule as Rule;
    let full = value.strip_prefix("https:").filter(|rest| rest.starts_with(SERVICE)).unwrap_or(value);
    let name = full.strip_prefix(SERVICE).unwrap_or(full);
    let segments: Vec<_> = name.split('/').collect();
    let ["projects", project, "locations", location, "workloadIdentityPools", pool, "providers", provider] =
        segments[..]
    else {
        return Err(Rule::Form);
    };
    // Google's project numbers are positive 64-bit integers, and have about 12 digits. Up to 18 digits are
    // accepted: every such number is one, and a pattern in the API's schema can say so.
    let is_number = project.len() <= 18
        && project.bytes().all(|byte| byte.is_ascii_digit())
        && project.starts_with(|first| matches!(first, '1'..='9'));
    if !is_number {
        return Err(Rule::Project);
    }
    if location != "global" {
        return Err(Rule::Location);
    }
    if !is_id(pool) {
        return Err(Rule::Pool);
    }
    if !is_id(provider) {
        return Err(Rule::Provider);
    }
    let pool_end = name.len() - "/providers/".len() - provider.len();
    Ok(WorkloadIdentityProvider { name: name.to_owned(), pool_end })
}

fn is_id(text: &str) -> bool {
    (4..=32).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

impl TryFrom<String> for WorkloadIdentityProvider {
    type Error = WorkloadIdentityProviderError;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<WorkloadIdentityProvider> for String {
    fn from(provider: WorkloadIdentityProvider) -> Self {
        provider.name
    }
}

impl fmt::Display for WorkloadIdentityProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}
