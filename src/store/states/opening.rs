//! The check of a database when it is opened: it must be the one that witnesses outside it remember.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::guard::{Guard, Tolerated};
use super::{Change, StateError, Vouched};
use crate::states::{Contents, DatabaseId, State, StatePoint, Table};
use crate::store::keyring::Purpose;
use crate::store::state_file::{Known, StateFile, StateFileError, StateRecord};
use crate::store::{ReadTransaction, StoreError, Trusted, Unlocked};

/// The witnesses: everything outside a database that remembers its state.
#[derive(Debug, Clone, Default)]
pub struct Witnesses {
    /// The state file.
    pub file: Option<StateFile>,
    /// A state that the database must have reached, as an operator states.
    pub at_least: Option<StatePoint>,
}

/// The name of [`Witnesses::at_least`] in errors.
const AT_LEAST: &str = "--state-at-least";

impl Witnesses {
    fn record(&self, store: &Unlocked) -> Result<Option<StateRecord>, StoreError> {
        let keyring = store.keyring();
        Ok(self.file.as_ref().map(|file| file.read(keyring.sealer())).transpose()?.flatten())
    }

    fn file_name(&self) -> String {
        self.file
            .as_ref()
            .map_or_else(String::new, |file| format!("the state file {}", file.path().display()))
    }
}

impl Unlocked {
    /// Checks the database against its witnesses. The result accepts only rows that its states vouch for.
    /// Makes the first state of a database that has none, because it is new or from before states existed.
    ///
    /// # Errors
    ///
    /// [`StoreError::State`] if the database was replaced or altered, or the state file cannot be trusted.
    pub async fn establish_state(self, witnesses: &Witnesses) -> Result<Trusted, StoreError> {
        let record = witnesses.record(&self)?;
        let mut read = self.read().await?;
        let (vouched, is_proved) = match read.last_state_row().await? {
            Some(last) => {
                let vouched = read.load_vouched(&last).await?;
                let is_proved = read.check_witnesses(&vouched, record.as_ref(), witnesses).await?;
                (vouched, is_proved)
            }
            None => {
                drop(read);
                self.begin_states(witnesses).await?
            }
        };
        let accepted = record.as_ref().and_then(|record| record.get(&vouched.id)?.accepted);
        let guard = Guard::of(Arc::new(vouched), (!is_proved, accepted), witnesses.file.clone());
        let trusted = Trusted::new(self, guard);
        trusted.guard.write_file(None).await;
        Ok(trusted)
    }

    /// Checks the database as [`Unlocked::establish_state`] does, without writing anything. Returns the last
    /// state, and whether anything outside the database proves it.
    pub async fn examine_state(
        &self,
        witnesses: &Witnesses,
    ) -> Result<Option<(DatabaseId, StatePoint, bool)>, StoreError> {
        let record = witnesses.record(self)?;
        let mut read = self.read().await?;
        let Some(last) = read.last_state_row().await? else {
            return read.check_first(record.as_ref(), witnesses).await.map(|_| None);
        };
        let vouched = read.load_vouched(&last).await?;
        let is_proved = read.check_witnesses(&vouched, record.as_ref(), witnesses).await?;
        Ok(Some((vouched.id, vouched.state.point(), is_proved)))
    }

    /// Prepares a recovery, which ends whatever may have been restored. Called instead of
    /// [`Unlocked::establish_state`].
    ///
    /// The first change appends a state above every one that the witnesses remember. It vouches for the rows
    /// that the change wrote or said to keep, and fails if the tables have others. Renames a state file that
    /// cannot be trusted, and returns its new path.
    pub fn tolerate_state(self, witnesses: &Witnesses) -> Result<(Trusted, Option<PathBuf>), StoreError> {
        let (record, moved) = match (witnesses.record(&self), &witnesses.file) {
            (Err(StoreError::State(StateError::File(error))), Some(file)) if error.is_distrust() => {
                (None, Some(file.set_aside()?))
            }
            (record, _) => (record?, None),
        };
        let tolerated = Tolerated { record: record.unwrap_or_default(), at_least: witnesses.at_least };
        let guard = Guard::tolerating(tolerated, witnesses.file.clone());
        Ok((Trusted::new(self, guard), moved))
    }

    /// Makes the first state of a database that has none. Returns whether the database is proved: one that has
    /// keys or grants need not be new, because someone may have removed its states.
    async fn begin_states(&self, witnesses: &Witnesses) -> Result<(Vouched, bool), StoreError> {
        let _turn = self.turn.lock().await;
        let mut write = self.begun(self.begin_immediate().await?).await?;
        // Read again: another process may have been faster.
        let record = witnesses.record(self)?;
        if let Some(last) = write.last_state_row().await? {
            let vouched = write.load_vouched(&last).await?;
            let is_proved = write.check_witnesses(&vouched, record.as_ref(), witnesses).await?;
            return Ok((vouched, is_proved));
        }
        let vouched = write.check_first(record.as_ref(), witnesses).await?;
        let known = record.as_ref().and_then(|record| record.get(&vouched.id));
        let is_new = [Table::SigningKeys, Table::Grants]
            .iter()
            .all(|table| vouched.contents.of(*table).next().is_none());
        let is_proved = is_new || witnesses.at_least.is_some() || known.is_some_and(|known| !known.unproved);
        if let Some(file) = witnesses.file.clone() {
            // Written before the database has the state. If the state file knows a state that the database
            // lacks, the database never gets a first state again, unless it is this same one.
            let vouched = vouched.clone();
            let known = Known { unproved: !is_proved, ..vouched.known() };
            let written = tokio::task::spawn_blocking(move || {
                file.raise(&vouched.id, &known, vouched.keyring.sealer(), None)
            });
            if let Ok(Err(error)) = written.await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the state file could not be written"
                );
            }
        }
        write.insert_state(&vouched.id, &vouched.state).await?;
        write.transaction.commit().await?;
        Ok((vouched, is_proved))
    }
}

impl Trusted {
    /// Checks that the database has had the state `known`, which `witness` remembers. Returns whether that is its
    /// last state, which proves the database. An earlier state shows only that the database is not older than
    /// that; one that is too old to be kept, or from before an operator accepted the database, shows nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::State`] if the database is older, or has another history. It is not trusted from then on.
    pub async fn prove_state(&self, known: &StatePoint, witness: &str) -> Result<bool, StoreError> {
        // Another process may have continued, and the witness may have seen that.
        self.catch_up().await?;
        let Some(vouched) = self.guard.vouched() else { return Ok(false) };
        match self.read().await?.check_standing(&vouched.id, known, witness).await {
            Ok(()) if *known == vouched.state.point() => {
                self.proved().await;
                Ok(true)
            }
            Ok(()) | Err(StoreError::State(StateError::Forgotten { .. })) => Ok(false),
            Err(_) if known.n < self.guard.accepted.load(Ordering::Relaxed) => Ok(false),
            Err(error) => {
                if let StoreError::State(error) = &error {
                    self.guard.disprove(error);
                }
                Err(error)
            }
        }
    }

    /// Records that a witness has proved the database.
    async fn proved(&self) {
        if self.guard.unproved.swap(false, Ordering::Relaxed) {
            self.guard.write_file(None).await;
        }
    }

    /// Takes over a proof that another process has written to the state file, as a command with
    /// `--state-at-least` does.
    pub(super) async fn adopt_proof(&self) -> Result<(), StoreError> {
        let (Some(file), Some(vouched)) = (self.guard.file.clone(), self.guard.vouched()) else {
            return Ok(());
        };
        if !self.guard.unproved.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (id, witness) = (vouched.id.clone(), format!("the state file {}", file.path().display()));
        let read = tokio::task::spawn_blocking(move || file.read(vouched.keyring.sealer()));
        // A file that cannot be read proves nothing.
        let Ok(Ok(Some(record))) = read.await else { return Ok(()) };
        let Some(known) = record.get(&id).filter(|known| !known.unproved) else { return Ok(()) };
        self.read().await?.check_standing(&id, &known.state, &witness).await?;
        self.proved().await;
        Ok(())
    }
}

impl ReadTransaction {
    /// Checks the database's last state against the witnesses. Returns whether one of them proves that the
    /// database is not an older one: a state file that began with an unproved database does not.
    async fn check_witnesses(
        &mut self,
        vouched: &Vouched,
        record: Option<&StateRecord>,
        witnesses: &Witnesses,
    ) -> Result<bool, StoreError> {
        if let Some(at_least) = &witnesses.at_least {
            self.check_standing(&vouched.id, at_least, AT_LEAST).await?;
        }
        match record.map(|record| record.get(&vouched.id)) {
            Some(Some(known)) => {
                self.check_standing(&vouched.id, &known.state, &witnesses.file_name()).await?;
                Ok(!known.unproved || witnesses.at_least.is_some())
            }
            Some(None) if witnesses.at_least.is_none() => {
                Err(self.unknown(vouched.id.clone(), witnesses).into())
            }
            Some(None) | None => Ok(witnesses.at_least.is_some()),
        }
    }

    fn unknown(&self, id: DatabaseId, witnesses: &Witnesses) -> StateError {
        StateError::Unknown { database: self.url.clone(), id, witness: witnesses.file_name() }
    }

    /// Returns the first state of a database that has none, because it is new or from before states existed.
    /// If someone has removed the rows of `states` from another database, the state file knows its id, or its
    /// keys are of a later epoch.
    async fn check_first(
        &mut self,
        record: Option<&StateRecord>,
        witnesses: &Witnesses,
    ) -> Result<Vouched, StoreError> {
        let keyring = self.keyring();
        if keyring.epoch() > 1 {
            return Err(StateError::Lost(self.url.clone()).into());
        }
        let (id, contents) = (self.first_id()?, Arc::new(self.contents().await?));
        let state = State::first(&id, contents.digest());
        let older = |known: &StatePoint, witness: String| {
            let (database, known) = (self.url.clone(), known.n);
            StoreError::from(StateError::Older { database, found: 0, known, witness })
        };
        if let Some(at_least) = witnesses.at_least.filter(|at_least| *at_least != state.point()) {
            return Err(older(&at_least, AT_LEAST.to_owned()));
        }
        let master_key = keyring.sealer().master_key_id().as_str();
        match record.map(|record| (record, record.get(&id))) {
            Some((_, Some(known))) if known.state != state.point() => {
                return Err(older(&known.state, witnesses.file_name()));
            }
            // An attacker with the previous master key can create a database that no witness knows.
            Some((record, None)) if !record.is_of(master_key) => {
                return Err(self.unknown(id, witnesses).into());
            }
            _ => {}
        }
        Ok(Vouched { id, state, contents, revoked: self.revoked_kids().await?, keyring })
    }

    /// Returns the id of a database. It follows from a random key that was generated with the database, so a
    /// copy from before states existed has the same id.
    fn first_id(&self) -> Result<DatabaseId, StoreError> {
        let tag = self.keyring().mac(Purpose::SigningKeys).tag(&["database-id-1"]);
        Ok(DatabaseId::of(tag.as_bytes()))
    }

    /// Begins the change of a recovery. It takes over the issuer URL and the policy, which carry no MAC, and no
    /// row of another table: the recovery says which ones it keeps. The next state is above every remembered
    /// one.
    ///
    /// # Errors
    ///
    /// [`StateError::Indexes`] if a table does not agree with its indexes: a recovery would not find rows.
    pub(super) async fn change_of_recovery(&mut self, tolerated: &Tolerated) -> Result<Change, StoreError> {
        self.check_indexes().await?;
        let keyring = self.keyring();
        let last = self.last_state_row().await?;
        let stated = last.as_ref().and_then(|last| last.database_id.parse().ok());
        let id = match (stated, keyring.epoch(), tolerated.record.only()) {
            (Some(id), ..) => id,
            (None, ..=1, _) => self.first_id()?,
            (None, _, Some(id)) => id.clone(),
            (None, _, None) => {
                DatabaseId::of(keyring.mac(Purpose::States).tag(&["database-id-1"]).as_bytes())
            }
        };
        let mut contents = Contents::default();
        for (table, value) in self.stored_values().await? {
            contents.set(table, "", Some(value));
        }
        let contents = Arc::new(contents);
        let state = match last.as_ref().map(super::Row::state) {
            Some(Ok(state)) => state,
            _ => State::first(&id, contents.digest()),
        };
        let known = tolerated.highest(&id);
        let base = Vouched { id, state, contents, revoked: Vec::new(), keyring };
        Ok(Change::recovery(Arc::new(base), known))
    }
}

impl From<StateFileError> for StoreError {
    fn from(error: StateFileError) -> Self {
        Self::State(error.into())
    }
}
