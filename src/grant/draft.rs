//! Drafts of grants, before they are created.

use jiff::Timestamp;
use thiserror::Error;

use super::limits::{FeedLimit, SpaceLimit};
use super::permissions::Permissions;
use super::role::Role;
use crate::feed::display_name::DisplayName;

/// A grant to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantDraft {
    /// The display name.
    pub name: DisplayName,
    /// The permissions that it will have.
    pub permissions: Permissions,
    /// The expiry; `None` if it never expires.
    pub expires_at: Option<Timestamp>,
}

/// A draft is invalid, independently of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DraftError {
    /// A list is empty.
    #[error("{0}: name at least one, or leave the list off")]
    Empty(&'static str),
    /// A list is too long.
    #[error("{0}: name at most {max}", max = GrantDraft::MAX_NAMED)]
    TooMany(&'static str),
    /// A deployer's grant names neither spaces nor feeds.
    #[error(
        "a deployer has only the named spaces and feeds: name at least one space, or one feed or pattern"
    )]
    NothingNamed,
    /// The expiry has passed.
    #[error("expires_at: {0} has passed")]
    Ended(Timestamp),
}

impl GrantDraft {
    /// The maximum number of spaces, and of feed patterns, in one grant.
    pub const MAX_NAMED: usize = 256;

    /// Checks the rules that do not depend on the caller.
    pub fn check(&self, now: Timestamp) -> Result<(), DraftError> {
        let Permissions { role, spaces, feeds, .. } = &self.permissions;
        if let SpaceLimit::Only(spaces) = spaces {
            check_length("spaces", spaces.len())?;
        }
        if let FeedLimit::Matching(patterns) = feeds {
            check_length("feeds", patterns.len())?;
        }
        // The feed pattern “*” names every feed in every space explicitly.
        if let (Role::Deployer, SpaceLimit::All, FeedLimit::All) = (role, spaces, feeds) {
            return Err(DraftError::NothingNamed);
        }
        match self.expires_at {
            Some(end) if end <= now => Err(DraftError::Ended(end)),
            _ => Ok(()),
        }
    }
}

fn check_length(list: &'static str, length: usize) -> Result<(), DraftError> {
    match length {
        0 => Err(DraftError::Empty(list)),
        length if length > GrantDraft::MAX_NAMED => Err(DraftError::TooMany(list)),
        _ => Ok(()),
    }
}
