//! Making, listing and revoking grants, and finding out who calls.
//!
//! What a grant allows is [`crate::grant`]'s to say; here it is found, made and ended. Every change is in
//! the audit log, in the transaction that makes it.

mod uses;

use std::error::Error;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use self::uses::Uses;
use crate::actor::Actor;
use crate::audit::{Event, EventKind, Outcome};
use crate::clock::Clock;
use crate::grant::{
    DraftError, Grant, GrantDraft, GrantState, GrantToken, Permissions, Role, SpaceLimit, TokenError, Wider,
};
use crate::random::{Random, RandomnessUnavailable, uuid};
use crate::store::grants::{GrantRow, StoredGrant};
use crate::store::{Store, StoreError, Write};

/// The most grants of one database. Those that have ended make room when it is needed.
pub const MAX_GRANTS: usize = 10_000;

/// A grant that has ended is listed for so long; then it makes room when another is made.
const LISTED_AFTER_END: SignedDuration = SignedDuration::from_hours(90 * 24);

/// Keeps the grants of one database.
#[derive(Debug)]
pub struct Grants {
    store: Store,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    uses: Uses,
}

/// Who makes, lists or revokes grants.
#[derive(Debug, Clone, Copy)]
pub enum Creator<'a> {
    /// A user of the machine, whom nothing limits: the database is his.
    Local(&'a Actor),
    /// The holder of a grant.
    Grant(&'a Grant),
}

/// A grant that was just made, and the only sight of its token.
pub struct NewGrant {
    /// The grant.
    pub grant: Grant,
    /// Its token, to be handed over once.
    pub token: GrantToken,
}

/// Grants as somebody may see them.
#[derive(Debug)]
pub struct GrantList {
    /// Oldest first.
    pub grants: Vec<Grant>,
    /// The ids of rows that carnet did not write as they are, and that are worth nothing. Only whom
    /// nothing limits is told.
    pub forged: Vec<String>,
}

/// A revocation's outcome.
#[derive(Debug)]
pub struct Revocation {
    /// The grant, revoked.
    pub grant: Grant,
    /// Whether that is news.
    pub is_new: bool,
}

/// Grants were not changed, or not shown.
#[derive(Debug, thiserror::Error)]
pub enum GrantsError {
    /// The draft makes no sense.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// The grant would be wider than its maker's own.
    #[error(transparent)]
    Wider(#[from] Wider),
    /// The caller's role does not have this.
    #[error("a {0} cannot do this")]
    Role(Role),
    /// The caller's own grant has ended meanwhile.
    #[error("the grant {0} is not valid any more")]
    CallerEnded(Uuid),
    /// There is no such grant, or not for this caller.
    #[error("there is no grant {0}")]
    Unknown(Uuid),
    /// A row fails its MAC.
    #[error("the row of grant {0} fails its MAC: something other than carnet wrote it; it is not honoured")]
    Forged(String),
    /// [`MAX_GRANTS`] is reached.
    #[error("there are {MAX_GRANTS} grants already, and none of them has ended")]
    TooMany,
    /// The database would not.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing to make a token of.
    #[error(transparent)]
    Randomness(#[from] RandomnessUnavailable),
}

/// A caller's token is not honoured. What it was is never repeated.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticationError {
    /// It is no token.
    #[error(transparent)]
    Malformed(#[from] TokenError),
    /// No grant has it.
    #[error("no grant has this token")]
    Unknown,
    /// Its grant's time is over.
    #[error("the grant has expired")]
    Expired,
    /// Its grant was withdrawn.
    #[error("the grant was revoked")]
    Revoked,
    /// Its grant's row fails its MAC.
    #[error("the grant's row in the database was not written by carnet")]
    Forged,
    /// The database cannot be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Creator<'_> {
    fn actor(&self) -> Actor {
        match self {
            Self::Local(actor) => (*actor).clone(),
            Self::Grant(grant) => Actor::grant(grant.id),
        }
    }

    fn permissions(&self) -> Permissions {
        match self {
            Self::Local(_) => Permissions::unlimited_admin(),
            Self::Grant(grant) => grant.permissions.clone(),
        }
    }
}

impl Grants {
    /// The grants in `store`, which must have been unlocked.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self { store, clock, random, uses: Uses::default() }
    }

    /// Makes a grant and its token.
    ///
    /// # Errors
    ///
    /// [`GrantsError`]; nothing has changed then.
    pub async fn create(&self, draft: GrantDraft, creator: &Creator<'_>) -> Result<NewGrant, GrantsError> {
        let id = uuid(self.random.as_ref())?;
        let token = GrantToken::generate(id, self.random.as_ref())?;
        let mut write = self.store.write().await?;
        // After the lock was waited for: what ends meanwhile makes no grant.
        let now = self.clock.now();
        draft.check(now)?;
        if let Creator::Grant(own) = creator {
            self.still_valid(&mut write, own, now).await?.may_create(&draft)?;
        }
        make_room(&mut write, now).await?;
        let actor = creator.actor();
        let grant = Grant {
            id,
            name: draft.name,
            permissions: draft.permissions,
            created_at: now,
            created_by: actor.to_string(),
            expires_at: draft.expires_at.map(as_stored),
            revoked_at: None,
            last_used_at: None,
        };
        let stored = StoredGrant { grant, token_hash: token.hash() };
        write.insert_grant(&stored).await?;
        write.append_audit(now, &[event(EventKind::GrantCreate, &actor, &stored.grant)]).await?;
        write.commit().await?;
        Ok(NewGrant { grant: stored.grant, token })
    }

    /// The grants that `by` may see: those whose spaces are within his own.
    ///
    /// # Errors
    ///
    /// [`GrantsError::Role`] for a deployer, else [`GrantsError::Store`].
    pub async fn list(&self, by: &Creator<'_>) -> Result<GrantList, GrantsError> {
        let own = by.permissions();
        if !own.role.covers(Role::Viewer) {
            return Err(GrantsError::Role(own.role));
        }
        let mut list = GrantList { grants: Vec::new(), forged: Vec::new() };
        for row in self.store.grants().await? {
            match row {
                GrantRow::Authentic(stored) => list.grants.push(stored.grant),
                GrantRow::Forged { id } => list.forged.push(report_forged(id)),
            }
        }
        list.grants.retain(|grant| is_visible(grant, &own));
        if !own.is_unlimited_admin() {
            list.forged.clear();
        }
        Ok(list)
    }

    /// Withdraws a grant: once this has returned, nobody who asks the database honours it. Again changes
    /// nothing and is no error.
    ///
    /// # Errors
    ///
    /// [`GrantsError`]; nothing has changed then. A grant that `by` may not see is
    /// [`GrantsError::Unknown`], like one that there is not.
    pub async fn revoke(&self, id: Uuid, by: &Creator<'_>) -> Result<Revocation, GrantsError> {
        let mut write = self.store.write_first().await?;
        let now = self.clock.now();
        let own = match by {
            Creator::Local(_) => by.permissions(),
            Creator::Grant(own) => self.still_valid(&mut write, own, now).await?.permissions,
        };
        if own.role != Role::Admin {
            return Err(GrantsError::Role(own.role));
        }
        let mut stored = match write.grant(id).await? {
            Some(GrantRow::Authentic(stored)) if is_visible(&stored.grant, &own) => stored,
            Some(GrantRow::Forged { id }) if own.is_unlimited_admin() => {
                return Err(GrantsError::Forged(report_forged(id)));
            }
            _ => return Err(GrantsError::Unknown(id)),
        };
        if stored.grant.revoked_at.is_some() {
            return Ok(Revocation { grant: stored.grant, is_new: false });
        }
        stored.grant.revoked_at = Some(now);
        write.update_grant_revocation(&stored).await?;
        write.append_audit(now, &[event(EventKind::GrantRevoke, &by.actor(), &stored.grant)]).await?;
        write.commit().await?;
        Ok(Revocation { grant: stored.grant, is_new: true })
    }

    /// The grant whose token this is, if it is honoured at `now`. Reads the database once, or not at all
    /// if the text cannot be a token; of an id that there is not, as much is computed as of one that
    /// there is. Only who has the right token is told that its grant has ended.
    ///
    /// # Errors
    ///
    /// [`AuthenticationError`], which does not repeat the token.
    pub async fn authenticate(&self, token: &str, now: Timestamp) -> Result<Grant, AuthenticationError> {
        let token = GrantToken::parse(token)?;
        let row = self.store.grant(token.id()).await?;
        let (hash, grant) = match row {
            Some(GrantRow::Authentic(stored)) => (stored.token_hash, Some(stored.grant)),
            Some(GrantRow::Forged { id }) => {
                report_forged(id);
                return Err(AuthenticationError::Forged);
            }
            None => (crate::grant::TokenHash::of_nothing(), None),
        };
        let is_its_token = token.hash().matches(&hash);
        let grant = grant.filter(|_| is_its_token).ok_or(AuthenticationError::Unknown)?;
        match grant.state(now) {
            GrantState::Valid => Ok(grant),
            GrantState::Expired => Err(AuthenticationError::Expired),
            GrantState::Revoked => Err(AuthenticationError::Revoked),
        }
    }

    /// Remembers that a grant was used, until [`Grants::write_uses`].
    pub fn note_used(&self, id: Uuid, now: Timestamp) {
        self.uses.note(id, now);
    }

    /// Writes down which grants were used. A failure is logged and tried again next time: nothing is
    /// decided by it.
    pub async fn write_uses(&self) {
        let uses = self.uses.take();
        if uses.is_empty() {
            return;
        }
        if let Err(error) = self.store.note_grant_uses(&uses).await {
            tracing::warn!(error = &error as &dyn Error, "the last use of grants could not be written");
            uses.into_iter().for_each(|(id, at)| self.uses.note(id, at));
        }
    }

    /// The caller's grant as it is inside the transaction: it may have ended since he was let in.
    async fn still_valid(
        &self,
        write: &mut Write,
        own: &Grant,
        now: Timestamp,
    ) -> Result<Grant, GrantsError> {
        match write.grant(own.id).await? {
            Some(GrantRow::Authentic(stored)) if stored.grant.state(now) == GrantState::Valid => {
                Ok(stored.grant)
            }
            _ => Err(GrantsError::CallerEnded(own.id)),
        }
    }
}

/// Removes grants that ended long ago; where there is no room else, all that have ended, or who once filled
/// the table would keep others from making grants even after his own are revoked.
async fn make_room(write: &mut Write, now: Timestamp) -> Result<(), GrantsError> {
    let long_ago = now.checked_sub(LISTED_AFTER_END).unwrap_or(Timestamp::MIN);
    for ended_before in [long_ago, now] {
        write.remove_grants_ended_before(ended_before).await?;
        if usize::try_from(write.count_grants().await?).is_ok_and(|count| count < MAX_GRANTS) {
            return Ok(());
        }
    }
    Err(GrantsError::TooMany)
}

/// Whether a caller with these permissions may know of `grant`, and end it if he is an admin.
fn is_visible(grant: &Grant, own: &Permissions) -> bool {
    own.spaces.covers(&grant.permissions.spaces)
}

/// What the log says of a grant. One of a single space is that space's affair.
fn event(kind: EventKind, actor: &Actor, grant: &Grant) -> Event {
    let space = match &grant.permissions.spaces {
        SpaceLimit::Only(spaces) if spaces.len() == 1 => spaces.first().cloned(),
        _ => None,
    };
    let end = grant.expires_at.map_or_else(|| "never".to_owned(), |end| end.to_string());
    let detail = format!("{} “{}”, expires {end}", grant.permissions.role, grant.name);
    Event { space, ..Event::new(kind, Outcome::Done, actor).about_grant(grant.id).detail(&detail) }
}

fn report_forged(id: String) -> String {
    tracing::error!(
        grant = id,
        "the row of a grant fails its MAC: something other than carnet wrote it; it is not honoured"
    );
    id
}

/// To the millisecond, which is what the database keeps.
fn as_stored(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}
