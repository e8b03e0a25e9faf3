//! Drafts: grants as somebody wants them.

use jiff::Timestamp;
use thiserror::Error;

use super::limits::{FeedLimit, SpaceLimit};
use super::permissions::Permissions;
use super::role::Role;
use crate::feed::display_name::DisplayName;

/// A grant as somebody wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantDraft {
    /// The name that people will read.
    pub name: DisplayName,
    /// What it is to allow.
    pub permissions: Permissions,
    /// When it is to end; none: never.
    pub expires_at: Option<Timestamp>,
}

/// A draft makes no sense, whoever asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DraftError {
    /// A list that names nothing.
    #[error("{0}: name at least one, or leave the list off")]
    Empty(&'static str),
    /// A list that is too long.
    #[error("{0}: name at most {max}", max = GrantDraft::MAX_NAMED)]
    TooMany(&'static str),
    /// A deployer holds credentials of what is named, and nothing was.
    #[error(
        "a deployer has the spaces and feeds that are named: name at least one space, or one feed or pattern"
    )]
    NothingNamed,
    /// It would have ended before it began.
    #[error("expires_at: {0} has passed")]
    Ended(Timestamp),
}

impl GrantDraft {
    /// The most spaces, and the most feed patterns, of one grant.
    pub const MAX_NAMED: usize = 256;

    /// Checks what does not depend on who asks.
    ///
    /// # Errors
    ///
    /// [`DraftError`] names the rule that is broken.
    pub fn check(&self, now: Timestamp) -> Result<(), DraftError> {
        let Permissions { role, spaces, feeds, .. } = &self.permissions;
        if let SpaceLimit::Only(spaces) = spaces {
            check_length("spaces", spaces.len())?;
        }
        if let FeedLimit::Matching(patterns) = feeds {
            check_length("feeds", patterns.len())?;
        }
        // “*” as the feed names every feed in every space: that is how to say so.
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
