//! Creates, lists and revokes grants, and authenticates callers by their token.
//!
//! `crate::grant` decides what a grant allows. Every change is recorded in the audit log, in the same
//! transaction.

pub mod quotas;
mod uses;

use std::error::Error;
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use self::quotas::make_room;
pub use self::quotas::{MAX_GRANTS, QuotaExceeded};
use self::uses::Uses;
use crate::access::principal::{Confirmed, Principal, PrincipalError};
use crate::audit::{Event, EventKind, Outcome};
use crate::clock_watch::{ClockReading, ClockWatch};
use crate::grant::{
    DraftError, Grant, GrantDraft, GrantState, GrantToken, Role, SpaceLimit, TokenError, Wider,
};
use crate::signing_keys::clock_guard::ClockDoubt;
use crate::store::grants::{GrantRow, StoredGrant};
use crate::store::{ReadTransaction, StoreError, Transaction, Trusted};
use crate::values::actor::Actor;
use crate::values::random::{Random, RandomnessUnavailable, uuid};

/// The grants of one database.
#[derive(Debug)]
pub struct Grants {
    store: Trusted,
    watch: Arc<ClockWatch>,
    random: Arc<dyn Random>,
    uses: Uses,
}

/// A newly created grant with its token, which cannot be shown again.
pub struct NewGrant {
    /// The grant.
    pub grant: Grant,
    /// Its token, to be handed over once.
    pub token: GrantToken,
}

/// The grants that a caller may see.
#[derive(Debug)]
pub struct GrantList {
    /// The grants, oldest first.
    pub grants: Vec<Grant>,
    /// The ids of rows that something other than carnet wrote. They are not honoured. Empty for principals
    /// with limits.
    pub forged: Vec<String>,
}

/// The outcome of a revocation.
#[derive(Debug)]
pub struct Revocation {
    /// The revoked grant.
    pub grant: Grant,
    /// Set unless the grant was already revoked.
    pub is_new: bool,
}

/// Grants could not be changed or shown.
#[derive(Debug, thiserror::Error)]
pub enum GrantsError {
    /// The draft is invalid.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// The grant would be wider than its maker's own.
    #[error(transparent)]
    Wider(#[from] Wider),
    /// The caller's role does not allow this.
    #[error("a {0} cannot do this")]
    Role(Role),
    /// The caller lacks the authority, or their own grant has ended since the request began.
    #[error(transparent)]
    Principal(#[from] PrincipalError),
    /// There is no such grant, or the caller may not see it.
    #[error("there is no grant {0}")]
    Unknown(Uuid),
    /// A row fails its MAC.
    #[error("the row of grant {0} fails its MAC: something other than carnet wrote it; it is not honoured")]
    Forged(String),
    /// A quota is exhausted.
    #[error(transparent)]
    TooMany(#[from] QuotaExceeded),
    /// This machine's clock is not trusted.
    #[error("{0}; no grant can be made while the clock is in doubt")]
    Clock(ClockDoubt),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gave no randomness for a token.
    #[error(transparent)]
    Randomness(#[from] RandomnessUnavailable),
}

/// A caller's token is not honoured. The error never contains the token.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticationError {
    /// The text is not a token.
    #[error(transparent)]
    Malformed(#[from] TokenError),
    /// No grant has this token.
    #[error("no grant has this token")]
    Unknown,
    /// Its grant has expired.
    #[error("the grant has expired")]
    Expired,
    /// Its grant was revoked.
    #[error("the grant was revoked")]
    Revoked,
    /// Its grant's row fails its MAC.
    #[error("the grant's row in the database was not written by carnet")]
    Forged,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Grants {
    /// Creates the service for the grants in `store`.
    #[must_use]
    pub fn new(store: Trusted, watch: Arc<ClockWatch>, random: Arc<dyn Random>) -> Self {
        Self { store, watch, random, uses: Uses::default() }
    }

    /// Creates a grant and its token. On an error, nothing has changed.
    pub async fn create(
        &self,
        draft: GrantDraft,
        by: impl Into<Principal<'_>>,
    ) -> Result<NewGrant, GrantsError> {
        let by = by.into();
        let id = uuid(self.random.as_ref())?;
        let token = GrantToken::generate(id, self.random.as_ref())?;
        let mut write = self.store.write().await?;
        // Read after the wait for the lock: a maker whose grant ended meanwhile creates nothing.
        let reading = self.clock_reading(&mut write).await?;
        reading.check().map_err(GrantsError::Clock)?;
        let now = reading.now;
        draft.check(now)?;
        let confirmed = by.confirm(&mut write, now).await?;
        if let Some(own) = &confirmed.grant {
            own.may_create(&draft)?;
        }
        make_room(&mut write, &draft, &confirmed, reading).await?;
        let actor = by.actor();
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

    /// Returns the grants that `by` may see: those that its own grant covers in every respect, and those that
    /// it made.
    ///
    /// # Errors
    ///
    /// [`GrantsError::Role`] for a deployer.
    pub async fn list(&self, by: impl Into<Principal<'_>>) -> Result<GrantList, GrantsError> {
        let own = by.into().presented();
        if !own.permissions.role.covers(Role::Viewer) {
            return Err(GrantsError::Role(own.permissions.role));
        }
        let mut list = GrantList { grants: Vec::new(), forged: Vec::new() };
        for row in self.store.grants().await? {
            match row {
                GrantRow::Authentic(stored) => list.grants.push(stored.grant),
                GrantRow::Forged { id } => list.forged.push(report_forged(id)),
            }
        }
        list.grants.retain(|grant| own.sees(grant));
        if !own.is_unlimited() {
            list.forged.clear();
        }
        Ok(list)
    }

    /// Revokes a grant. After the return, every check against the database refuses it. Revoking it again
    /// changes nothing and succeeds.
    ///
    /// # Errors
    ///
    /// [`GrantsError::Unknown`] both for a grant that `by` may not see and for one that does not exist. On
    /// every error, nothing has changed.
    pub async fn revoke(&self, id: Uuid, by: impl Into<Principal<'_>>) -> Result<Revocation, GrantsError> {
        let by = by.into();
        let (mut write, own, now) = self.begin_revocation(&by).await?;
        let mut stored = match write.grant(id).await? {
            Some(GrantRow::Authentic(stored)) if own.sees(&stored.grant) => stored,
            Some(GrantRow::Forged { id }) if own.is_unlimited() => {
                return Err(GrantsError::Forged(report_forged(id)));
            }
            _ => return Err(GrantsError::Unknown(id)),
        };
        if stored.grant.revoked_at.is_some() {
            return Ok(Revocation { grant: stored.grant, is_new: false });
        }
        revoke(&mut write, &mut stored, &by, now).await?;
        write.commit().await?;
        Ok(Revocation { grant: stored.grant, is_new: true })
    }

    /// Revokes every grant that `maker` made, those that they made in turn, and so on, in one transaction.
    /// The grant `maker` itself is not revoked. Returns the newly revoked grants. Rows that carnet did not
    /// write are skipped, because they are not honoured anyway.
    ///
    /// # Errors
    ///
    /// [`GrantsError::Unknown`] both for a maker that `by` may not see and for one that does not exist and
    /// made nothing. On every error, nothing has changed.
    pub async fn revoke_made_by(
        &self,
        maker: Uuid,
        by: impl Into<Principal<'_>>,
    ) -> Result<Vec<Grant>, GrantsError> {
        let by = by.into();
        let (mut write, own, now) = self.begin_revocation(&by).await?;
        let made = write.grants_made_by(maker).await?;
        let is_known = match write.grant(maker).await? {
            Some(GrantRow::Authentic(stored)) => own.sees(&stored.grant),
            // The maker's row may be gone while grants that it made still exist.
            Some(GrantRow::Forged { .. }) | None => own.is_unlimited() && !made.is_empty(),
        };
        if !is_known {
            return Err(GrantsError::Unknown(maker));
        }
        let mut revoked = Vec::new();
        for row in made {
            match row {
                GrantRow::Authentic(mut stored) if own.sees(&stored.grant) => {
                    if stored.grant.state(now) != GrantState::Revoked {
                        revoke(&mut write, &mut stored, &by, now).await?;
                        revoked.push(stored.grant);
                    }
                }
                GrantRow::Authentic(_) => {}
                GrantRow::Forged { id } => drop(report_forged(id)),
            }
        }
        write.commit().await?;
        Ok(revoked)
    }

    /// Returns whether the grant's row, read now, is valid at `now`.
    pub async fn is_valid(&self, id: Uuid, now: Timestamp) -> Result<bool, StoreError> {
        Ok(match self.store.grant(id).await? {
            Some(GrantRow::Authentic(stored)) => stored.grant.state(now) == GrantState::Valid,
            Some(GrantRow::Forged { .. }) | None => false,
        })
    }

    async fn begin_revocation(
        &self,
        by: &Principal<'_>,
    ) -> Result<(Transaction, Confirmed, Timestamp), GrantsError> {
        let mut write = self.store.write_first().await?;
        let now = self.watch.clock().now();
        let own = by.confirm(&mut write, now).await?;
        match own.permissions.role {
            Role::Admin => Ok((write, own, now)),
            role => Err(GrantsError::Role(role)),
        }
    }

    /// Returns the grant of this token if it is valid at `now`. A text that cannot be a token causes no read;
    /// every other one causes a single read. An unknown id costs the same work as a known one. Only the right
    /// token reveals that its grant has ended.
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

    /// Records in memory that a grant was used, until [`Grants::write_uses`].
    pub fn note_used(&self, id: Uuid, now: Timestamp) {
        self.uses.note(id, now);
    }

    /// Writes the recorded uses to the database. A failure is logged and retried at the next call, because no
    /// decision depends on these times.
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

    async fn clock_reading(&self, read: &mut ReadTransaction) -> Result<ClockReading, StoreError> {
        let settings = read.key_settings().await?;
        Ok(self.watch.assess(settings.time(), &settings.policy))
    }
}

/// Revokes the grant in the caller's transaction.
async fn revoke(
    write: &mut Transaction,
    stored: &mut StoredGrant,
    by: &Principal<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    stored.grant.revoked_at = Some(now);
    write.update_grant_times(stored).await?;
    write.append_audit(now, &[event(EventKind::GrantRevoke, &by.actor(), &stored.grant)]).await?;
    Ok(())
}

/// Returns the audit event about a grant. It belongs to a space if the grant has exactly one.
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

/// Truncates to milliseconds, the precision of the database.
fn as_stored(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}
