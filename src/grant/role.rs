//! Roles: the kind of actions that a caller takes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::values::excerpt::excerpt;

/// The kind of actions that a grant allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything, within the grant's limits.
    Admin,
    /// Reads everything within the limits, changes nothing, and never takes credentials.
    Viewer,
    /// Takes credentials, and nothing else.
    Deployer,
}

/// A text is not a [`Role`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0} is not a role: use admin, viewer or deployer")]
pub struct RoleError(String);

impl Role {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Admin, Self::Viewer, Self::Deployer];

    /// Returns the role's name in requests and responses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Viewer => "viewer",
            Self::Deployer => "deployer",
        }
    }

    /// Returns whether this role allows everything that `other` allows. A viewer reads much and a deployer
    /// holds credentials, so neither covers the other.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self == Self::Admin || self == other
    }
}

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| RoleError(excerpt(text)))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_covers_all_roles_and_no_other_role_covers_another() {
        let covered: Vec<_> = Role::ALL
            .into_iter()
            .flat_map(|role| Role::ALL.map(|other| (role, other)))
            .filter(|(role, other)| role.covers(*other))
            .collect();
        let expected = [
            (Role::Admin, Role::Admin),
            (Role::Admin, Role::Viewer),
            (Role::Admin, Role::Deployer),
            (Role::Viewer, Role::Viewer),
            (Role::Deployer, Role::Deployer),
        ];
        assert_eq!(covered, expected);
    }

    #[test]
    fn a_role_is_the_same_text_everywhere() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
        assert!("Admin".parse::<Role>().unwrap_err().to_string().contains("admin, viewer or deployer"));
    }
}
