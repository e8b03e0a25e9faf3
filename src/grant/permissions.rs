//! Permissions: everything that a grant allows, and the order among them.

use serde::Serialize;
use thiserror::Error;

use super::context_rules::ContextRules;
use super::limits::{FeedLimit, SpaceLimit};
use super::role::Role;
use crate::feed::FeedPath;
use crate::feed::scope::{Action, Scope};
use crate::oidc::subject::ContextKey;
use crate::values::slug::Slug;

/// The role, spaces, feeds, context and scope that a caller has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Permissions {
    /// The kind of actions.
    pub role: Role,
    /// The spaces in which they are allowed.
    pub spaces: SpaceLimit,
    /// The feeds in those spaces.
    pub feeds: FeedLimit,
    /// The deployment context that requests for credentials may claim.
    pub context: ContextRules,
    /// The limit of credentials.
    pub scope: Scope,
}

/// The respect in which one grant is wider than another, so that the other cannot create it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum Wider {
    /// The maker is not an admin. Only admins create grants.
    #[error("role: only an admin makes grants")]
    NotAnAdmin,
    /// The role.
    #[error("role: it allows more than this grant's own")]
    Role,
    /// The spaces.
    #[error("spaces: they include more than this grant's own")]
    Spaces,
    /// The feeds.
    #[error("feeds: they include more than this grant's own")]
    Feeds,
    /// A context key.
    #[error("context: “{0}” would allow values that this grant does not")]
    Context(ContextKey),
    /// The repositories.
    #[error("repositories: they include more than this grant's own")]
    Repositories,
    /// The actions.
    #[error("actions: they include more than this grant's own")]
    Actions,
    /// The expiry.
    #[error("expires_at: it is later than this grant's own expiry")]
    Expiry,
}

impl Wider {
    /// Returns the field's name in JSON.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::NotAnAdmin | Self::Role => "role",
            Self::Spaces => "spaces",
            Self::Feeds => "feeds",
            Self::Context(_) => "context",
            Self::Repositories => "repositories",
            Self::Actions => "actions",
            Self::Expiry => "expires_at",
        }
    }
}

impl Permissions {
    /// Returns all permissions, which the machine's own user has.
    #[must_use]
    pub fn unlimited_admin() -> Self {
        Self {
            role: Role::Admin,
            spaces: SpaceLimit::All,
            feeds: FeedLimit::All,
            context: ContextRules::open(),
            scope: Scope::everything(),
        }
    }

    /// Checks that these permissions cover `other`, in each respect separately.
    ///
    /// # Errors
    ///
    /// [`Wider`] names the first respect in which `other` may allow more.
    pub fn covers(&self, other: &Self) -> Result<(), Wider> {
        let refuse_unless = |covered, wider| if covered { Ok(()) } else { Err(wider) };
        refuse_unless(self.role.covers(other.role), Wider::Role)?;
        refuse_unless(self.spaces.covers(&other.spaces), Wider::Spaces)?;
        refuse_unless(self.feeds.covers(&other.feeds), Wider::Feeds)?;
        if let Some(key) = self.context.wider_key(&other.context) {
            return Err(Wider::Context(key));
        }
        refuse_unless(self.scope.contains_repositories_of(&other.scope), Wider::Repositories)?;
        refuse_unless(self.scope.contains_actions_of(&other.scope), Wider::Actions)
    }

    /// Returns whether the space exists for the caller. The caller must get the same response for a space
    /// outside the limit as for one that does not exist.
    #[must_use]
    pub fn sees_space(&self, space: &Slug) -> bool {
        self.spaces.contains(space)
    }

    /// Returns whether the feed exists for the caller, whatever their role permits.
    #[must_use]
    pub fn may_see(&self, feed: &FeedPath) -> bool {
        self.sees_space(&feed.space) && self.feeds.contains(&feed.slug)
    }

    /// Returns whether the caller may take credentials of the feed.
    #[must_use]
    pub fn may_deploy(&self, feed: &FeedPath) -> bool {
        self.role.covers(Role::Deployer) && self.may_see(feed)
    }

    /// Returns whether nothing is limited, as signing keys require: all spaces share them.
    #[must_use]
    pub fn is_unlimited_admin(&self) -> bool {
        self.covers(&Self::unlimited_admin()).is_ok()
    }
}

/// Writes `role`, `spaces` and `feeds` (`null`: all), `context`, `repositories` (`null`: all) and `actions`.
impl Serialize for Permissions {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            role: Role,
            spaces: &'a SpaceLimit,
            feeds: &'a FeedLimit,
            context: &'a ContextRules,
            repositories: Option<&'a std::collections::BTreeSet<crate::feed::scope::RepositoryName>>,
            actions: Vec<Action>,
        }
        let Self { role, spaces, feeds, context, scope } = self;
        let actions = Action::ALL.into_iter().filter(|action| scope.allows(*action)).collect();
        Shown { role: *role, spaces, feeds, context, repositories: scope.repositories(), actions }
            .serialize(serializer)
    }
}
