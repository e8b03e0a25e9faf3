//! Grants: what a caller of the API may do, and until when.
//!
//! Authentication is elsewhere. [`Permissions`] alone decide, so that a caller with another issuer's token
//! can have them too. This module is pure; the storage is elsewhere.
//!
//! Invariant: no grant makes one that is wider than itself in role, spaces, feeds, context, scope or expiry.
//! [`Permissions::covers`] is the order on which this rests. It may refuse a grant that would be within, and
//! never allows one that would not.

mod context_rules;
mod draft;
mod feed_rules;
mod limits;
mod pattern;
mod permissions;
mod role;
mod set_back;
mod token;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

pub use self::context_rules::{ContextRefusal, ContextRule, ContextRules};
pub use self::draft::{DraftError, GrantDraft};
pub use self::feed_rules::FeedRefusal;
pub use self::limits::{FeedLimit, SpaceLimit};
pub use self::pattern::FeedPattern;
pub use self::permissions::{Permissions, Wider};
pub use self::role::Role;
pub use self::token::{GrantToken, TokenError, TokenHash};
use crate::feed::display_name::DisplayName;
use crate::values::actor::Actor;

/// A caller's right to use the API.
///
/// In JSON, the permissions are members beside the others. Times are RFC 3339 in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Grant {
    /// The id, which is never reused.
    pub id: Uuid,
    /// The display name.
    pub name: DisplayName,
    /// The permissions that it gives.
    #[serde(flatten)]
    pub permissions: Permissions,
    /// The time of its creation.
    pub created_at: Timestamp,
    /// The maker: `local:USER` or `grant:ID`.
    pub created_by: String,
    /// The expiry; `None` if it never expires.
    pub expires_at: Option<Timestamp>,
    /// The time of its revocation, if it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// The time of its last use, to about a minute.
    pub last_used_at: Option<Timestamp>,
}

/// The state of a grant at a given time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GrantState {
    /// The grant is honoured.
    Valid,
    /// The grant has expired.
    Expired,
    /// The grant was revoked, even if it has not expired.
    Revoked,
}

impl GrantState {
    /// Returns the state's name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl Grant {
    /// Returns the state of the grant at `now`. A revocation counts whatever its time is: a clock that went
    /// back makes no revoked grant valid.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> GrantState {
        if self.revoked_at.is_some() {
            GrantState::Revoked
        } else if self.expires_at.is_some_and(|end| end <= now) {
            GrantState::Expired
        } else {
            GrantState::Valid
        }
    }

    /// Checks that the holder of this grant may create a grant from `draft`.
    ///
    /// # Errors
    ///
    /// [`Wider`] names the first respect in which the draft exceeds this grant.
    pub fn may_create(&self, draft: &GrantDraft) -> Result<(), Wider> {
        if self.permissions.role != Role::Admin {
            return Err(Wider::NotAnAdmin);
        }
        self.covers(&draft.permissions, draft.expires_at)
    }

    /// Returns whether the holder of this grant may know of `other`: this grant covers it in every respect,
    /// or made it.
    #[must_use]
    pub fn sees(&self, other: &Self) -> bool {
        self.covers(&other.permissions, other.expires_at).is_ok() || other.was_made_by(self.id)
    }

    /// Returns whether the grant `maker` made this one.
    #[must_use]
    pub fn was_made_by(&self, maker: Uuid) -> bool {
        self.created_by == Actor::grant(maker).as_str()
    }

    fn covers(&self, permissions: &Permissions, expires_at: Option<Timestamp>) -> Result<(), Wider> {
        self.permissions.covers(permissions)?;
        match (self.expires_at, expires_at) {
            (None, _) => Ok(()),
            (Some(own), Some(other)) if other <= own => Ok(()),
            (Some(_), _) => Err(Wider::Expiry),
        }
    }
}

#[cfg(test)]
mod tests;
