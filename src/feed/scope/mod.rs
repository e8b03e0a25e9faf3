//! Scopes: the repositories of a registry that a credential is for, and the actions allowed there.
//!
//! A scope can only narrow the access that the feed's own trust gives. Names become parts of policies and of
//! other services' scope texts. So they must follow the grammar of OCI's distribution specification, in which
//! no name contains a wildcard, a variable or a separator of these.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::values::excerpt::{character, excerpt};

/// A repository's name: path segments of `a`–`z` and `0`–`9`, separated inside by `.`, `_`, `__` or any
/// number of `-`; at most 256 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct RepositoryName(String);

/// A text is not a [`RepositoryName`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{value} is not a repository: {rule}")]
pub struct RepositoryNameError {
    /// An excerpt of the text, quoted and escaped.
    pub value: String,
    /// The rule that the text breaks.
    pub rule: RepositoryNameRule,
}

/// The rules for repository names. Each message says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RepositoryNameRule {
    /// More than [`RepositoryName::MAX_LEN`] characters.
    #[error("use at most {} characters", RepositoryName::MAX_LEN)]
    TooLong,
    /// A wildcard. No name is matched as a pattern.
    #[error("name each repository: wildcards are not allowed")]
    Wildcard,
    /// A tag or a digest.
    #[error("leave off the tag or digest")]
    Tag,
    /// A character that no name has.
    #[error("use a–z, 0–9, “.”, “_”, “-” and “/”, not {}", character(*.0))]
    Character(char),
    /// An empty segment, or a misplaced separator.
    #[error(
        "each segment begins and ends with a letter or digit, and inside it single “.”, “_”, “__” or “-”"
    )]
    Segment,
}

impl RepositoryName {
    /// The maximum length of a name, in characters.
    pub const MAX_LEN: usize = 256;

    /// Returns the name, without the registry.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepositoryName {
    type Err = RepositoryNameError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match check_name(value) {
            Ok(()) => Ok(Self(value.to_owned())),
            Err(rule) => Err(RepositoryNameError { value: excerpt(value), rule }),
        }
    }
}

fn check_name(value: &str) -> Result<(), RepositoryNameRule> {
    for c in value.chars() {
        match c {
            'a'..='z' | '0'..='9' | '.' | '_' | '-' | '/' => {}
            '*' | '?' => return Err(RepositoryNameRule::Wildcard),
            ':' | '@' => return Err(RepositoryNameRule::Tag),
            _ => return Err(RepositoryNameRule::Character(c)),
        }
    }
    if value.len() > RepositoryName::MAX_LEN {
        return Err(RepositoryNameRule::TooLong);
    }
    if value.split('/').all(is_segment) { Ok(()) } else { Err(RepositoryNameRule::Segment) }
}

/// Matches `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, given that all bytes are in that alphabet.
fn is_segment(segment: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_alphanumeric();
    segment.starts_with(alphanumeric)
        && segment.ends_with(alphanumeric)
        && segment
            .split(alphanumeric)
            .all(|between| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|b| b == b'-'))
}

impl TryFrom<String> for RepositoryName {
    type Error = RepositoryNameError;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// An action on a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Reads images.
    Pull,
    /// Writes images.
    Push,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 2] = [Self::Pull, Self::Push];

    /// Returns the action's name in requests and in the registries' own scope texts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
        }
    }
}

/// A text is not an [`Action`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0} is not an action: use pull or push")]
pub struct ActionError(String);

impl FromStr for Action {
    type Err = ActionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|action| action.as_str() == text);
        found.ok_or_else(|| ActionError(excerpt(text)))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The limit of a credential. It always allows something; by default it limits nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Parts")]
pub struct Scope {
    /// `None` allows every repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    repositories: Option<BTreeSet<RepositoryName>>,
    actions: BTreeSet<Action>,
}

/// A scope in JSON. An absent member limits nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parts {
    repositories: Option<Vec<RepositoryName>>,
    actions: Option<Vec<Action>>,
}

/// A scope is invalid, or the provider does not support it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ScopeError {
    /// A list is empty. Nobody wants a credential for nothing, and only an absent list means “all”.
    #[error("{0}: name at least one, or leave the list off")]
    Empty(&'static str),
    /// More than [`Scope::MAX_REPOSITORIES`].
    #[error("repositories: name at most {max}, not {0}", max = Scope::MAX_REPOSITORIES)]
    TooMany(usize),
    /// The fixed scope allows nothing of the request.
    #[error("{0}: nothing that was requested is allowed here")]
    Outside(&'static str),
    /// The AWS session policy for the scope is longer than STS accepts.
    #[error(
        "repositories: the session policy has {length} characters and AWS accepts at most {limit}; request \
         fewer repositories, or only actions"
    )]
    SessionPolicyTooLong {
        /// Its length in characters.
        length: usize,
        /// AWS's limit.
        limit: usize,
    },
    /// Everyone may pull from ECR Public, and the role's policy decides who may push.
    #[error(
        "repositories and actions cannot be limited at ECR Public: anyone can pull there, and the role's own \
         policy decides about pushing"
    )]
    EcrPublic,
    /// Google's access tokens cannot be limited to repositories.
    #[error(
        "repositories and actions cannot be limited at Google: no access token for Artifact Registry can be \
         narrowed after the fact; give the feed a service account with only these permissions"
    )]
    Google,
    /// ACR's tokens name repositories; no token allows certain actions on every repository.
    #[error(
        "actions alone cannot be limited at Azure Container Registry: its tokens are for repositories by \
         name; name them too, or assign the feed's identity a role with only these permissions"
    )]
    Azure,
}

impl Scope {
    /// The maximum number of repositories in a request or a new grant.
    pub const MAX_REPOSITORIES: usize = 16;

    /// Returns the scope that limits nothing.
    #[must_use]
    pub fn everything() -> Self {
        Self { repositories: None, actions: Action::ALL.into() }
    }

    /// Creates a scope of these repositories and actions. An absent list limits nothing.
    ///
    /// # Errors
    ///
    /// [`ScopeError::Empty`] and [`ScopeError::TooMany`].
    pub fn new(
        repositories: Option<impl IntoIterator<Item = RepositoryName>>,
        actions: Option<impl IntoIterator<Item = Action>>,
    ) -> Result<Self, ScopeError> {
        let scope = Self::of(repositories, actions)?;
        match scope.repositories.as_ref().map(BTreeSet::len) {
            Some(many) if many > Self::MAX_REPOSITORIES => Err(ScopeError::TooMany(many)),
            _ => Ok(scope),
        }
    }

    fn of(
        repositories: Option<impl IntoIterator<Item = RepositoryName>>,
        actions: Option<impl IntoIterator<Item = Action>>,
    ) -> Result<Self, ScopeError> {
        let repositories: Option<BTreeSet<_>> = repositories.map(|names| names.into_iter().collect());
        if repositories.as_ref().is_some_and(BTreeSet::is_empty) {
            return Err(ScopeError::Empty("repositories"));
        }
        let actions: BTreeSet<_> =
            actions.map_or_else(|| Action::ALL.into(), |actions| actions.into_iter().collect());
        if actions.is_empty() {
            return Err(ScopeError::Empty("actions"));
        }
        Ok(Self { repositories, actions })
    }

    /// Returns whether the scope limits nothing.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.repositories.is_none() && self.actions.len() == Action::ALL.len()
    }

    /// Returns the repositories, sorted; `None` for every repository.
    #[must_use]
    pub fn repositories(&self) -> Option<&BTreeSet<RepositoryName>> {
        self.repositories.as_ref()
    }

    /// Returns whether the scope allows `action`.
    #[must_use]
    pub fn allows(&self, action: Action) -> bool {
        self.actions.contains(&action)
    }

    /// Returns whether this scope allows everything that `other` allows.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.contains_repositories_of(other) && self.contains_actions_of(other)
    }

    /// Returns whether this scope has every repository of `other`.
    #[must_use]
    pub fn contains_repositories_of(&self, other: &Self) -> bool {
        match (&self.repositories, &other.repositories) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(other)) => other.is_subset(own),
        }
    }

    /// Returns whether this scope has every action of `other`.
    #[must_use]
    pub fn contains_actions_of(&self, other: &Self) -> bool {
        other.actions.is_subset(&self.actions)
    }

    /// Returns the intersection of this fixed scope and `requested`.
    ///
    /// # Errors
    ///
    /// [`ScopeError::Outside`] if the intersection is empty.
    pub fn narrowed_to(&self, requested: &Self) -> Result<Self, ScopeError> {
        let repositories = match (&self.repositories, &requested.repositories) {
            (Some(fixed), Some(asked)) => Some(fixed & asked),
            (Some(only), None) | (None, Some(only)) => Some(only.clone()),
            (None, None) => None,
        };
        if repositories.as_ref().is_some_and(BTreeSet::is_empty) {
            return Err(ScopeError::Outside("repositories"));
        }
        let actions = &self.actions & &requested.actions;
        if actions.is_empty() {
            return Err(ScopeError::Outside("actions"));
        }
        Ok(Self { repositories, actions })
    }
}

impl Default for Scope {
    fn default() -> Self {
        Self::everything()
    }
}

impl TryFrom<Parts> for Scope {
    type Error = ScopeError;

    /// Accepts any number of repositories: grants created before [`Scope::MAX_REPOSITORIES`] was lowered have
    /// more. [`Scope::new`] checks the scopes that callers request.
    fn try_from(parts: Parts) -> Result<Self, ScopeError> {
        Self::of(parts.repositories, parts.actions)
    }
}

#[cfg(test)]
mod tests;
