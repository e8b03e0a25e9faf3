//! Quotas for grants. No limited admin can use up the room of all others.

use jiff::{SignedDuration, Timestamp};

use super::GrantsError;
use crate::access::principal::Confirmed;
use crate::clock_watch::ClockReading;
use crate::grant::{GrantDraft, SpaceLimit};
use crate::store::{ReadTransaction, Transaction};
use crate::values::slug::Slug;

/// The maximum number of grants in a database. Ended grants are removed when room is needed.
pub const MAX_GRANTS: usize = 10_000;

/// The maximum for admins with limits. The rest of [`MAX_GRANTS`] is reserved for the command line and for
/// admins without limits.
pub const MAX_OF_LIMITED: usize = 9_000;

/// The maximum number of valid grants that one admin with limits has made, including those that these made in
/// turn.
pub const MAX_OF_MAKER: usize = 500;

/// The maximum number of valid grants that name one space. Beyond it, admins with limits create no more for
/// that space.
pub const MAX_IN_SPACE: usize = 2_000;

/// The time for which an ended grant stays listed. After it, the next new grant removes it.
const LISTED_AFTER_END: SignedDuration = SignedDuration::from_hours(90 * 24);

/// A quota for grants is exhausted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuotaExceeded {
    /// [`MAX_GRANTS`], or [`MAX_OF_LIMITED`] for an admin with limits.
    #[error("there are already {0} grants that have not ended: revoke some, or wait until some expire")]
    All(usize),
    /// [`MAX_OF_MAKER`].
    #[error(
        "an admin with limits can have at most {MAX_OF_MAKER} valid grants, including those that its grants \
         have made: revoke some, or have an admin without limits make it"
    )]
    OfMaker,
    /// [`MAX_IN_SPACE`].
    #[error(
        "spaces: {MAX_IN_SPACE} valid grants name the space {0}, the maximum for admins with limits: revoke \
         some, or have an admin without limits make it"
    )]
    InSpace(Slug),
}

impl QuotaExceeded {
    /// Returns the field that the quota concerns, if any.
    #[must_use]
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::InSpace(_) => Some("spaces"),
            Self::All(_) | Self::OfMaker => None,
        }
    }
}

/// Refuses a grant for which a quota leaves no room. Removes grants that ended long ago, and if there is
/// still no room, all ended grants. Otherwise, a party that once filled the table would keep others from
/// creating grants even after its own are revoked. A grant stays while a grant that it made exists, so that
/// all its descendants can be found.
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

/// Checks the quota of the maker and of every maker above it, so that creating further makers gains nothing.
/// Makers without limits have no quota.
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
