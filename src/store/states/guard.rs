//! What this process believes: the last state that it has seen, and the state file beside it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;

use super::StateError;
use crate::jose::jwk::Kid;
use crate::states::{Contents, DatabaseId, State, StatePoint, Table};
use crate::store::keyring::Keyring;
use crate::store::state_file::{Known, StateFile, StateFileError, StateRecord};
use crate::store::{ReadTransaction, Store, StoreError};

/// A state, and the rows that it vouches for.
#[derive(Debug, Clone)]
pub(in crate::store) struct Vouched {
    pub(super) id: DatabaseId,
    pub(super) state: State,
    pub(super) contents: Arc<Contents>,
    pub(super) revoked: Vec<Kid>,
    /// The keys of the state's epoch.
    pub(super) keyring: Arc<Keyring>,
}

impl Vouched {
    pub(super) fn known(&self) -> Known {
        Known { state: self.state.point(), revoked: self.revoked.clone() }
    }
}

/// Shared by a store and its clones.
#[derive(Debug, Default)]
pub(in crate::store) struct Guard {
    vouched: ArcSwapOption<Vouched>,
    pub(super) file: OnceLock<StateFile>,
    file_error: ArcSwapOption<StateFileError>,
    pub(super) unproved: AtomicBool,
    /// Set in a recovery, which takes the tables as they are: what the state file remembers.
    pub(super) tolerated: OnceLock<StateRecord>,
    refused: ArcSwapOption<StateError>,
    /// One reading of all rows at a time, whoever needs it.
    loading: Mutex<()>,
}

/// What there is to show of the state of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateStatus {
    /// The database's identifier.
    pub database_id: DatabaseId,
    /// Its last state that this process has seen.
    pub state: StatePoint,
    /// The state file, if there is to be one.
    pub file: Option<PathBuf>,
    /// The reason for which that could not be written the last time.
    pub file_error: Option<StateFileError>,
    /// Nothing outside the database showed at the start that it was not put back.
    pub unproved: bool,
    /// The reason for which the database is not believed.
    pub refused: Option<StateError>,
}

impl Guard {
    /// What this process believes; `None` before the states were looked at.
    pub(in crate::store) fn vouched(&self) -> Option<Arc<Vouched>> {
        self.vouched.load_full()
    }

    /// Takes `vouched` into use, unless a later one is; gives the one that is.
    pub(super) fn believe(&self, vouched: Arc<Vouched>) {
        self.vouched.rcu(|current| match current {
            Some(current) if current.state.n >= vouched.state.n => Some(Arc::clone(current)),
            _ => Some(Arc::clone(&vouched)),
        });
    }

    /// Tells whether the row is one that the last state of which this process knows vouches for.
    pub(in crate::store) fn vouches(&self, table: Table, row: &str, mac: &str) -> bool {
        self.vouched.load().as_ref().is_none_or(|vouched| vouched.contents.get(table, row) == Some(mac))
    }

    /// Writes down outside the database what this process believes, no longer authenticated with the master key
    /// `without`. A failure does not undo what was committed: it is shown, and tried again.
    pub(super) async fn write_file(&self, without: Option<String>) {
        let (Some(file), Some(vouched)) = (self.file.get().cloned(), self.vouched()) else { return };
        let written = tokio::task::spawn_blocking(move || {
            file.raise(&vouched.id, &vouched.known(), vouched.keyring.sealer(), without.as_deref())
        });
        // A task that panics or is cancelled as the process ends has written nothing.
        let Ok(written) = written.await else { return };
        let before = self.file_error.load_full();
        match written {
            Ok(()) => self.file_error.store(None),
            Err(error) => {
                if before.as_deref() != Some(&error) {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the state file could not be written: until it is, an older database could pass for this one"
                    );
                }
                self.file_error.store(Some(Arc::new(error)));
            }
        }
    }
}

impl Store {
    /// What there is to show of the database's state; `None` before that was looked at.
    #[must_use]
    pub fn state_status(&self) -> Option<StateStatus> {
        let vouched = self.guard.vouched()?;
        Some(StateStatus {
            database_id: vouched.id.clone(),
            state: vouched.state.point(),
            file: self.guard.file.get().map(|file| file.path().to_owned()),
            file_error: self.guard.file_error.load().as_deref().cloned(),
            unproved: self.guard.unproved.load(Ordering::Relaxed),
            refused: self.guard.refused.load().as_deref().cloned(),
        })
    }

    /// The reason for which the database is not believed, if it is not: nothing may be signed, handed out or
    /// changed then.
    ///
    /// # Errors
    ///
    /// That reason.
    pub fn believed(&self) -> Result<(), StateError> {
        self.guard.refused.load().as_deref().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Compares `found`, the last state in the database, with what this process believes, and follows one that goes on
    /// from that. Cheap where nothing has changed.
    ///
    /// # Errors
    ///
    /// [`StoreError::State`] when the database was put back or altered; [`Store::believed`] says so from then on,
    /// until this succeeds.
    pub async fn follow_state(&self, found: Option<StatePoint>) -> Result<(), StoreError> {
        let followed = self.try_follow(found).await;
        match &followed {
            Ok(()) => self.guard.refused.store(None),
            Err(StoreError::State(error)) => self.guard.refused.store(Some(Arc::new(error.clone()))),
            Err(_) => {}
        }
        followed
    }

    async fn try_follow(&self, found: Option<StatePoint>) -> Result<(), StoreError> {
        let Some(vouched) = self.guard.vouched() else { return Ok(()) };
        if self.is_replaced() {
            return Err(StateError::Replaced(self.url.clone()).into());
        }
        if found != Some(vouched.state.point()) {
            self.catch_up().await?;
        }
        if self.guard.file_error.load().is_some() {
            self.guard.write_file(None).await;
        }
        Ok(())
    }

    /// Loads what the database's last state vouches for, if it is another one than this process believes.
    pub(in crate::store) async fn catch_up(&self) -> Result<(), StoreError> {
        let _turn = self.guard.loading.lock().await;
        let before = self.guard.vouched().map(|vouched| vouched.state.n);
        self.read_from(&self.readers.keys).await?.vouched().await?;
        if self.guard.vouched().map(|vouched| vouched.state.n) != before {
            self.guard.write_file(None).await;
        }
        Ok(())
    }
}

impl ReadTransaction {
    /// What the last state vouches for, as this transaction sees it, without its own changes; `None` in a store whose
    /// states were not looked at.
    pub(super) async fn vouched(&mut self) -> Result<Option<Arc<Vouched>>, StoreError> {
        // Seen before this transaction's first look at the database, which therefore has it or a later one.
        let Some(seen) = self.seen.clone() else { return Ok(None) };
        let last = self.last_state_row().await?.ok_or_else(|| StateError::Lost(self.url.clone()))?;
        let last_point = last.state()?.point();
        for believed in [Some(&seen), self.guard.vouched().as_ref()].into_iter().flatten() {
            if believed.state.point() == last_point {
                return Ok(Some(Arc::clone(believed)));
            }
        }
        let found = self.load_vouched(&last).await?;
        if found.id != seen.id {
            return Err(StateError::Lost(self.url.clone()).into());
        }
        self.check_standing(&found.id, &seen.state.point(), "this process").await?;
        let found = Arc::new(found);
        self.guard.believe(Arc::clone(&found));
        Ok(Some(found))
    }

    /// The rows that a state vouches for, with this transaction's own changes; `None` as for [`Transaction::vouched`].
    pub(in crate::store) async fn vouched_contents(&mut self) -> Result<Option<Arc<Contents>>, StoreError> {
        match &self.change {
            Some(change) => Ok(Some(change.contents())),
            None => Ok(self.vouched().await?.map(|vouched| Arc::clone(&vouched.contents))),
        }
    }

    /// Tells whether a state vouches for this row.
    pub(in crate::store) async fn is_vouched(
        &mut self,
        table: Table,
        row: &str,
        mac: &str,
    ) -> Result<bool, StoreError> {
        Ok(self.vouched_contents().await?.is_none_or(|contents| contents.get(table, row) == Some(mac)))
    }

    /// Checks that these are all rows of `table`, each as a state vouches for it.
    ///
    /// # Errors
    ///
    /// [`StateError::NotVouched`] names one that is not, is missing or is too many.
    pub(in crate::store) async fn check_rows<'a>(
        &mut self,
        table: Table,
        rows: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), StoreError> {
        let Some(contents) = self.vouched_contents().await? else { return Ok(()) };
        contents.difference(table, rows).map_or(Ok(()), |row| {
            let row = row.chars().take(64).collect();
            Err(StateError::NotVouched { table: table.name(), row }.into())
        })
    }
}
