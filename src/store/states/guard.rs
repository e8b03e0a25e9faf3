//! The trust of this process in its database: the last state that it has verified, and the state file.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use arc_swap::ArcSwapOption;
use sqlx::Connection as _;
use tokio::sync::Mutex;

use super::{StateError, Vouched};
use crate::states::{Contents, DatabaseId, StatePoint, Table};
use crate::store::state_file::{Known, StateFile, StateFileError, StateRecord};
use crate::store::{ReadTransaction, StoreError, Trusted, Unlocked};

/// The states that the witnesses of a database remember when a recovery takes it as it is.
#[derive(Debug, Clone, Default)]
pub(super) struct Tolerated {
    /// The content of the state file.
    pub(super) record: StateRecord,
    /// The state that the operator states.
    pub(super) at_least: Option<StatePoint>,
}

impl Tolerated {
    /// Returns the highest number of a remembered state of the database; 0 if there is none.
    pub(super) fn highest(&self, id: &DatabaseId) -> i64 {
        let known = self.record.get(id).map(|known| known.state);
        [known, self.at_least].into_iter().flatten().map(|state| state.n).max().unwrap_or(0)
    }
}

/// The trusted state, shared by a [`Trusted`] and its clones.
#[derive(Debug)]
pub(in crate::store) struct Guard {
    /// `None` in a recovery before its first change, which takes the tables as they are.
    vouched: ArcSwapOption<Vouched>,
    pub(super) file: Option<StateFile>,
    file_error: ArcSwapOption<StateFileError>,
    /// `true` until a witness proves the database.
    pub(super) unproved: AtomicBool,
    /// The number of the state in which an operator accepted the database; 0 if none did.
    pub(super) accepted: AtomicI64,
    /// The error of a witness that was asked later and remembers another database. It stays.
    disproved: ArcSwapOption<StateError>,
    /// The remembered states before a recovery. Used only while there is no trusted state.
    pub(super) tolerated: Tolerated,
    refused: ArcSwapOption<StateError>,
    /// Held by the task that reads all rows, so that only one does at a time.
    loading: Mutex<()>,
}

/// The state that a process trusted when a transaction began.
#[derive(Debug, Clone)]
pub(in crate::store) struct Seen {
    vouched: Arc<Vouched>,
    guard: Arc<Guard>,
}

/// The state of a database, for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateStatus {
    /// The database's identifier.
    pub database_id: DatabaseId,
    /// The last state of the database that this process has seen.
    pub state: StatePoint,
    /// The path of the state file, if there is one.
    pub file: Option<PathBuf>,
    /// The error of the last attempt to write that file, if it failed.
    pub file_error: Option<StateFileError>,
    /// `true` as long as nothing outside the database has proved that it was not replaced by an older copy.
    pub unproved: bool,
    /// The reason not to trust the database, if there is one.
    pub refused: Option<StateError>,
}

impl Guard {
    /// Trusts `vouched`. `unproved` is `true` if no witness proves the database, and `accepted` is the number of
    /// the state in which an operator accepted it.
    pub(super) fn of(
        vouched: Arc<Vouched>,
        (unproved, accepted): (bool, Option<i64>),
        file: Option<StateFile>,
    ) -> Self {
        Self {
            vouched: ArcSwapOption::new(Some(vouched)),
            unproved: AtomicBool::new(unproved),
            accepted: AtomicI64::new(accepted.unwrap_or(0)),
            ..Self::tolerating(Tolerated::default(), file)
        }
    }

    /// Trusts no state until the first change.
    pub(super) fn tolerating(tolerated: Tolerated, file: Option<StateFile>) -> Self {
        Self {
            vouched: ArcSwapOption::empty(),
            file,
            file_error: ArcSwapOption::empty(),
            unproved: AtomicBool::new(false),
            accepted: AtomicI64::new(0),
            disproved: ArcSwapOption::empty(),
            tolerated,
            refused: ArcSwapOption::empty(),
            loading: Mutex::default(),
        }
    }

    /// Returns the trusted state; `None` in a recovery before its first change.
    pub(super) fn vouched(&self) -> Option<Arc<Vouched>> {
        self.vouched.load_full()
    }

    /// Returns the trusted state for a transaction that begins now.
    pub(in crate::store) fn seen(self: &Arc<Self>) -> Option<Seen> {
        Some(Seen { vouched: self.vouched()?, guard: Arc::clone(self) })
    }

    /// Fails with the reason not to trust the database, if there is one.
    pub(in crate::store) fn believed(&self) -> Result<(), StateError> {
        self.refused.load().as_deref().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Trusts `vouched`, unless a later state is already trusted.
    pub(super) fn believe(&self, vouched: Arc<Vouched>) {
        self.vouched.rcu(|current| match current {
            Some(current) if current.state.n >= vouched.state.n => Some(Arc::clone(current)),
            _ => Some(Arc::clone(&vouched)),
        });
    }

    /// Returns whether the trusted state vouches for the row. Also `true` if there is none.
    pub(in crate::store) fn vouches(&self, table: Table, row: &str, mac: &str) -> bool {
        self.vouched.load().as_ref().is_none_or(|vouched| vouched.contents.get(table, row) == Some(mac))
    }

    /// Stops trusting the database for good: a witness that was asked after the start remembers another one.
    pub(super) fn disprove(&self, error: &StateError) {
        let error = Arc::new(error.clone());
        self.disproved.store(Some(Arc::clone(&error)));
        self.refused.store(Some(error));
    }

    /// Writes the trusted state to the state file, which the master key `without` no longer authenticates. A
    /// failure does not undo the commit: [`StateStatus`] shows it, and the next check of the state tries
    /// again.
    pub(super) async fn write_file(&self, without: Option<String>) {
        let (Some(file), Some(vouched)) = (self.file.clone(), self.vouched()) else { return };
        let accepted = Some(self.accepted.load(Ordering::Relaxed)).filter(|accepted| *accepted > 0);
        let unproved = self.unproved.load(Ordering::Relaxed);
        let known = Known { unproved, accepted, ..vouched.known() };
        let written = tokio::task::spawn_blocking(move || {
            file.raise(&vouched.id, &known, vouched.keyring.sealer(), without.as_deref())
        });
        // A task that panics, or is cancelled as the process ends, has written nothing.
        let Ok(written) = written.await else { return };
        let before = self.file_error.load_full();
        match written {
            Ok(()) => self.file_error.store(None),
            Err(error) => {
                if before.as_deref() != Some(&error) {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the state file could not be written: until it is, an older database in its place \
                         would not be detected"
                    );
                }
                self.file_error.store(Some(Arc::new(error)));
            }
        }
    }
}

impl Trusted {
    /// Returns the state of the database for display; `None` in a recovery before its first change.
    #[must_use]
    pub fn state_status(&self) -> Option<StateStatus> {
        let vouched = self.guard.vouched()?;
        Some(StateStatus {
            database_id: vouched.id.clone(),
            state: vouched.state.point(),
            file: self.guard.file.as_ref().map(|file| file.path().to_owned()),
            file_error: self.guard.file_error.load().as_deref().cloned(),
            unproved: self.guard.unproved.load(Ordering::Relaxed),
            refused: self.guard.refused.load().as_deref().cloned(),
        })
    }

    /// Checks that the database is trusted. If it is not, nothing may be signed, issued or changed.
    ///
    /// # Errors
    ///
    /// The reason not to trust it.
    pub fn believed(&self) -> Result<(), StateError> {
        self.guard.believed()
    }

    /// Compares `found`, the last state in the database, with the trusted state, and trusts a state that
    /// follows from that. Cheap if nothing has changed.
    ///
    /// # Errors
    ///
    /// [`StoreError::State`] if the database was replaced or altered. [`Trusted::believed`] then fails as well,
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
        if let Some(error) = self.guard.disproved.load_full() {
            return Err(StateError::clone(&error).into());
        }
        if self.is_replaced() {
            return Err(StateError::Replaced(self.url.clone()).into());
        }
        let mut pulse = self.readers.pulse.acquire().await?;
        let checked = self.schema.check(&self.url, &mut *pulse.begin().await?).await;
        if checked.is_err() {
            // It has parsed a schema that is not carnet's.
            pulse.close_on_drop();
        }
        drop(pulse);
        checked?;
        if found != Some(vouched.state.point()) {
            self.catch_up().await?;
        }
        if self.guard.file_error.load().is_some() {
            self.guard.write_file(None).await;
        }
        self.adopt_proof().await
    }
}

impl Unlocked {
    /// Loads the rows that the database's last state vouches for, if that is not the trusted state. Does
    /// nothing if no state is trusted.
    pub(in crate::store) async fn catch_up(&self) -> Result<(), StoreError> {
        let Some(guard) = &self.guard else { return Ok(()) };
        let _turn = guard.loading.lock().await;
        let before = guard.vouched().map(|vouched| vouched.state.n);
        self.read_from(&self.readers.keys).await?.vouched().await?;
        if guard.vouched().map(|vouched| vouched.state.n) != before {
            guard.write_file(None).await;
        }
        Ok(())
    }
}

impl ReadTransaction {
    /// Returns the last state that this transaction sees, without its own changes; `None` if no state is
    /// trusted.
    pub(super) async fn vouched(&mut self) -> Result<Option<Arc<Vouched>>, StoreError> {
        // Trusted before this transaction first read the database, which therefore has that state or a later
        // one.
        let Some(Seen { vouched: seen, guard }) = self.seen.clone() else { return Ok(None) };
        let last = self.last_state_row().await?.ok_or_else(|| StateError::Lost(self.url.clone()))?;
        let last_point = last.state()?.point();
        for believed in [Some(&seen), guard.vouched().as_ref()].into_iter().flatten() {
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
        guard.believe(Arc::clone(&found));
        Ok(Some(found))
    }

    /// Returns the rows that a state vouches for, with this transaction's own changes; `None` if no
    /// state is trusted.
    pub(in crate::store) async fn vouched_contents(&mut self) -> Result<Option<Arc<Contents>>, StoreError> {
        match &self.change {
            Some(change) => Ok(Some(change.contents())),
            None => Ok(self.vouched().await?.map(|vouched| Arc::clone(&vouched.contents))),
        }
    }

    /// Returns whether a state vouches for this row. Also `true` if no state is trusted.
    pub(in crate::store) async fn is_vouched(
        &mut self,
        table: Table,
        row: &str,
        mac: &str,
    ) -> Result<bool, StoreError> {
        Ok(self.vouched_contents().await?.is_none_or(|contents| contents.get(table, row) == Some(mac)))
    }

    /// Checks that `rows` are all the rows of `table`, and that a state vouches for each of them.
    ///
    /// # Errors
    ///
    /// [`StateError::NotVouched`] names a row that differs, is missing or is surplus.
    pub(in crate::store) async fn check_rows<'a>(
        &mut self,
        table: Table,
        rows: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), StoreError> {
        let Some(contents) = self.vouched_contents().await? else { return Ok(()) };
        contents
            .difference(table, rows)
            .map_or(Ok(()), |row| Err(StateError::not_vouched(table, &row).into()))
    }
}
