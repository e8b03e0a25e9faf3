//! Principals: the authority for a change.
//!
//! Every service that changes something for a caller takes a [`Principal`] and begins its transaction by
//! confirming it. The confirmation reads the grant's row again, so that a grant that ended after the request
//! began changes nothing. The API hands out no other type that permits a change.

use jiff::Timestamp;
use uuid::Uuid;

use crate::grant::{Grant, GrantState, Permissions, Role};
use crate::store::grants::GrantRow;
use crate::store::{ReadTransaction, StoreError};
use crate::values::actor::Actor;

/// The authority on which something is changed, listed or revoked.
#[derive(Debug, Clone, Copy)]
pub enum Principal<'a> {
    /// A user of the machine, or the server itself. Nothing limits them.
    Local(&'a Actor),
    /// The holder of a grant.
    Grant(&'a Grant),
}

/// The principal does not have this authority, or no longer has it.
#[derive(Debug, thiserror::Error)]
pub enum PrincipalError {
    /// The grant has ended since the request began.
    #[error("the grant {0} is no longer valid")]
    Ended(Uuid),
    /// The action needs an admin.
    #[error("this needs a grant of role admin")]
    NotAdmin,
    /// The action needs an admin without limits.
    #[error("this needs an admin's grant without limits to spaces, feeds, context or scope")]
    Limited,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A principal as confirmed inside a transaction.
#[derive(Debug, Clone)]
pub struct Confirmed {
    /// The grant; `None` for a local principal.
    pub grant: Option<Grant>,
    /// Its permissions.
    pub permissions: Permissions,
}

impl<'a> From<&'a Actor> for Principal<'a> {
    fn from(actor: &'a Actor) -> Self {
        Self::Local(actor)
    }
}

impl<'a> From<&'a Grant> for Principal<'a> {
    fn from(grant: &'a Grant) -> Self {
        Self::Grant(grant)
    }
}

impl Principal<'_> {
    /// Returns the principal's name in records.
    #[must_use]
    pub fn actor(&self) -> Actor {
        match self {
            Self::Local(actor) => (*actor).clone(),
            Self::Grant(grant) => Actor::grant(grant.id),
        }
    }

    /// Returns the principal as it was when the request began.
    #[must_use]
    pub fn presented(&self) -> Confirmed {
        match self {
            Self::Local(_) => Confirmed { grant: None, permissions: Permissions::unlimited_admin() },
            Self::Grant(grant) => {
                Confirmed { permissions: grant.permissions.clone(), grant: Some((*grant).clone()) }
            }
        }
    }

    /// Reads the principal's grant again, inside the transaction that is about to change something.
    ///
    /// # Errors
    ///
    /// [`PrincipalError::Ended`] if the grant is not valid any more.
    pub async fn confirm(
        &self,
        read: &mut ReadTransaction,
        now: Timestamp,
    ) -> Result<Confirmed, PrincipalError> {
        let Self::Grant(presented) = self else { return Ok(self.presented()) };
        match read.grant(presented.id).await? {
            Some(GrantRow::Authentic(stored)) if stored.grant.state(now) == GrantState::Valid => {
                Ok(Confirmed { permissions: stored.grant.permissions.clone(), grant: Some(stored.grant) })
            }
            _ => Err(PrincipalError::Ended(presented.id)),
        }
    }
}

impl Confirmed {
    /// Refuses a principal that is not an admin.
    pub fn admin(&self) -> Result<(), PrincipalError> {
        if self.permissions.role == Role::Admin { Ok(()) } else { Err(PrincipalError::NotAdmin) }
    }

    /// Refuses a principal that has any limit.
    pub fn unlimited(&self) -> Result<(), PrincipalError> {
        if self.is_unlimited() { Ok(()) } else { Err(PrincipalError::Limited) }
    }

    /// Returns whether the principal is an admin without limits.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.permissions.is_unlimited_admin()
    }

    /// Returns whether the principal may know of `grant`, and an admin revoke it: see [`Grant::sees`].
    #[must_use]
    pub fn sees(&self, grant: &Grant) -> bool {
        self.grant.as_ref().is_none_or(|own| own.sees(grant))
    }
}
