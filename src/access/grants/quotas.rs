//! Quotas: how many grants there may be, so that no limited admin uses up the room of all others.

use jiff::{SignedDuration, Timestamp};

use super::GrantsError;
use crate::access::principal::Confirmed;
use crate::clock_watch::ClockReading;
use crate::grant::{GrantDraft, SpaceLimit};
use crate::store::{ReadTransaction, Transaction};
use crate::values::slug::Slug;

/// The most grants of one database. Those that have ended make room when it is needed.
pub const MAX_GRANTS: usize = 10_000;

/// Admins with limits leave the rest of [`MAX_GRANTS`] to the command line and to admins without limits.
pub const MAX_OF_LIMITED: usize = 9_000;

/// The most valid grants that one admin with limits has made, together with those that they made in turn.
pub const MAX_OF_MAKER: usize = 500;

/// The most valid grants that name one space, before admins with limits make no more for it.
pub const MAX_IN_SPACE: usize = 2_000;

/// A grant that has ended is listed for so long; then it makes room when another is made.
const LISTED_AFTER_END: SignedDuration = SignedDuration::from_hours(90 * 24);

/// There are as many grants as there may be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuotaExceeded {
    /// [`MAX_GRANTS`], or [`MAX_OF_LIMITED`] for an admin with limits.
    #[error(
        "there are {0} grants already, and none of them has ended: revoke some, or wait until some expire"
    )]
    All(usize),
    /// [`MAX_OF_MAKER`].
    #[error(
        "an admin with limits makes at most {MAX_OF_MAKER} grants that are valid at a time, together with those that \
         they make: revoke some, or have an admin without limits make it"
    )]
    OfMaker,
    /// [`MAX_IN_SPACE`].
    #[error(
        "spaces: at most {MAX_IN_SPACE} valid grants name the space {0} before admins with limits make no more: revoke \
         some, or have an admin without limits make it"
    )]
    InSpace(Slug),
}

impl QuotaExceeded {
    /// The field that the quota is about, if it is about one.
    #[must_use]
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::InSpace(_) => Some("spaces"),
            Self::All(_) | Self::OfMaker => None,
        }
    }
}

/// Refuses a grant that a quota leaves no room for. Removes grants that ended long ago; where there is no room
/// otherwise, all that have ended, or whoever once filled the table would keep others from making grants even after
/// theirs are revoked. A grant stays while one that it made does, so that what came of it can be found.
pub(super) async fn make_room(
    write: &mut Transaction,
    draft: &GrantDraft,
    by: &Confirmed,
    reading: ClockReading,
) -> Result<(), GrantsError> {
    let ClockReading { now, pruning_time, .. } = reading;
    if !by.is_unlimited() {
        check_maker(write, by, now).await?;
        check_spaces(write, draft, now).await?;
    }
    let most = if by.is_unlimited() { MAX_GRANTS } else { MAX_OF_LIMITED };
    let long_ago = pruning_time.checked_sub(LISTED_AFTER_END).unwrap_or(Timestamp::MIN);
    for ended_before in [long_ago, pruning_time] {
        write.remove_grants_ended_before(ended_before).await?;
        if count(write.count_grants().await?) < most {
            return Ok(());
        }
    }
    Err(QuotaExceeded::All(most).into())
}

/// The quota of a maker counts for each of those above it as well, so that making makers gets nobody further. It
/// does not count for makers without limits.
async fn check_maker(read: &mut ReadTransaction, by: &Confirmed, now: Timestamp) -> Result<(), GrantsError> {
    let Some(own) = &by.grant else { return Ok(()) };
    for maker in read.makers_of(own).await? {
        let is_unlimited = maker.permissions.is_unlimited_admin();
        if !is_unlimited && count(read.count_valid_grants_made_by(maker.id, now).await?) >= MAX_OF_MAKER {
            return Err(QuotaExceeded::OfMaker.into());
        }
    }
    Ok(())
}

async fn check_spaces(
    read: &mut ReadTransaction,
    draft: &GrantDraft,
    now: Timestamp,
) -> Result<(), GrantsError> {
    let SpaceLimit::Only(spaces) = &draft.permissions.spaces else { return Ok(()) };
    for space in spaces {
        if count(read.count_valid_grants_of_space(space, now).await?) >= MAX_IN_SPACE {
            return Err(QuotaExceeded::InSpace(space.clone()).into());
        }
    }
    Ok(())
}

fn count(rows: i64) -> usize {
    usize::try_from(rows).unwrap_or(usize::MAX)
}
