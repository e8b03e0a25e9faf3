//! Grants: what a caller of the API may do, and until when.
//!
//! Who calls is found out elsewhere; what he may do is decided here, by [`Permissions`] alone, so that
//! callers with another issuer's token can have them too. Pure: storage is elsewhere.
//!
//! Invariant: nobody makes a grant wider than his own, in role, spaces, feeds, context, scope or expiry.
//! [`Permissions::covers`] is the order that this rests on; it may refuse what would have been right,
//! and never allows what would have been wrong.

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
/// In JSON the permissions stand beside the other members, times are RFC 3339 in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Grant {
    /// Never given to another grant.
    pub id: Uuid,
    /// The name that people read.
    pub name: DisplayName,
    /// What it allows.
    #[serde(flatten)]
    pub permissions: Permissions,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it: `local:USER` or `grant:ID`.
    pub created_by: String,
    /// From when on it is worth nothing; none: never.
    pub expires_at: Option<Timestamp>,
    /// When somebody withdrew it.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, to the minute or so.
    pub last_used_at: Option<Timestamp>,
}

/// What a grant is worth at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GrantState {
    /// It is honoured.
    Valid,
    /// Its time is over.
    Expired,
    /// Somebody withdrew it, whatever its time.
    Revoked,
}

impl GrantState {
    /// The state as in answers.
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
    /// What the grant is worth at `now`. A revocation counts whatever time it bears: a clock that went
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

    /// Whether the holder of this grant may make that one.
    ///
    /// # Errors
    ///
    /// [`Wider`] names what it does not allow.
    pub fn may_create(&self, draft: &GrantDraft) -> Result<(), Wider> {
        if self.permissions.role != Role::Admin {
            return Err(Wider::NotAnAdmin);
        }
        self.covers(&draft.permissions, draft.expires_at)
    }

    /// Returns whether the holder of this grant may know of `other`: this one covers it in every respect, or has made it.
    #[must_use]
    pub fn sees(&self, other: &Self) -> bool {
        self.covers(&other.permissions, other.expires_at).is_ok() || other.was_made_by(self.id)
    }

    /// Returns whether the grant `maker` has made this one.
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
