//! The state file: what is known of databases outside them.
//!
//! It keeps, for each database, the last state and the keys that were revoked, under a MAC of a key that is derived
//! from the master key alone: whoever can write the database cannot write this. Written by rename under a lock that
//! all processes take; a state in it is never lowered.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::master_key::{MasterKeyId, MasterKeySource};
use super::sealed::RowMac;
use crate::jose::jwk::Kid;
use crate::states::{DatabaseId, StatePoint};

/// The name of the file inside the keys folder.
pub const FILE_NAME: &str = "state";

const FORMAT: &str = "carnet-state-1";
/// A file of some thousand revoked keys is far smaller.
const MAX_BYTES: u64 = 4 << 20;
/// Revoked keys that are kept of one database: the latest.
const MAX_REVOKED: usize = 4096;
/// Another process that writes the file needs milliseconds; one that holds the lock for longer than these tries does
/// not go on.
const LOCK_TRIES: u32 = 1000;
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// The state file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateFileError {
    /// It cannot be read or written.
    #[error("the state file {} cannot be {action}: {reason}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What failed: `read` or `written`.
        action: &'static str,
        /// The operating system's message.
        reason: String,
    },
    /// Another process has held its lock for seconds.
    #[error("the state file {} stays locked by another process", .0.display())]
    Locked(PathBuf),
    /// The content is none that carnet writes.
    #[error("the state file {} is damaged: it does not hold what carnet writes", .0.display())]
    Malformed(PathBuf),
    /// None of the master keys that authenticate it is at hand.
    #[error("the state file {} is authenticated with the master key {needed}, which is not at hand", .path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// The identifiers of the master keys, as the file gives them.
        needed: String,
    },
    /// It fails its MAC.
    #[error("the state file {} fails its MAC: something other than carnet changed it", .0.display())]
    Forged(PathBuf),
}

/// What is known of one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Its last state.
    pub state: StatePoint,
    /// The keys that were revoked in it.
    #[serde(default)]
    pub revoked: Vec<Kid>,
}

/// The content of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateRecord {
    databases: BTreeMap<DatabaseId, Known>,
    /// The master keys that authenticate it.
    master_keys: Vec<String>,
}

impl StateRecord {
    /// What is known of `database`.
    #[must_use]
    pub fn get(&self, database: &DatabaseId) -> Option<&Known> {
        self.databases.get(database)
    }

    /// Tells whether `master_key` authenticates the file.
    #[must_use]
    pub fn is_of(&self, master_key: &MasterKeyId) -> bool {
        self.master_keys.iter().any(|id| id == master_key.as_str())
    }

    /// The database, if the file knows one only.
    #[must_use]
    pub fn only(&self) -> Option<&DatabaseId> {
        let mut all = self.databases.keys();
        all.next().filter(|_| all.next().is_none())
    }

    /// Takes over what `known` says; says whether that is news. A state is never lowered, and a revoked key stays.
    fn raise(&mut self, database: &DatabaseId, known: &Known) -> bool {
        let Some(entry) = self.databases.get_mut(database) else {
            self.databases.insert(database.clone(), known.clone());
            return true;
        };
        let before = entry.clone();
        if known.state.n > entry.state.n {
            entry.state = known.state;
        }
        let named: BTreeSet<&str> = before.revoked.iter().map(Kid::as_str).collect();
        entry.revoked.extend(known.revoked.iter().filter(|kid| !named.contains(kid.as_str())).cloned());
        let surplus = entry.revoked.len().saturating_sub(MAX_REVOKED);
        entry.revoked.drain(..surplus);
        *entry != before
    }
}

/// The master keys that a change of the file is written with.
#[derive(Debug, Clone, Copy)]
pub struct WrittenWith<'a> {
    /// The database's master key. Those that authenticated the file before and are at hand stay.
    pub master_key: &'a MasterKeyId,
    /// One that does not stay.
    pub without: Option<&'a str>,
}

/// One state file.
#[derive(Debug, Clone)]
pub struct StateFile {
    path: PathBuf,
    keys: MasterKeySource,
}

impl StateFile {
    /// The file at `path`, with the master keys that `keys` finds.
    #[must_use]
    pub fn new(path: PathBuf, keys: MasterKeySource) -> Self {
        Self { path, keys }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The content; `None` if there is no file.
    ///
    /// # Errors
    ///
    /// [`StateFileError`] when there is one that cannot be read or that is not authentic.
    pub fn read(&self) -> Result<Option<StateRecord>, StateFileError> {
        // Looked at before it is opened: opening a pipe would wait for a writer.
        let metadata = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => metadata.map_err(|error| self.failed("read", &error))?,
        };
        if !metadata.is_file() || metadata.len() > MAX_BYTES {
            return Err(StateFileError::Malformed(self.path.clone()));
        }
        let file = File::open(&self.path).map_err(|error| self.failed("read", &error))?;
        let mut text = String::new();
        match file.take(MAX_BYTES).read_to_string(&mut text) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(StateFileError::Malformed(self.path.clone()));
            }
            read => read.map_err(|error| self.failed("read", &error))?,
        };
        self.parse(&text).map(Some)
    }

    /// Records `known` of `database`, unless the file says as much or more. Makes the file if there is none.
    ///
    /// # Errors
    ///
    /// [`StateFileError`]; a file that is not authentic is never replaced.
    pub fn raise(
        &self,
        database: &DatabaseId,
        known: &Known,
        with: WrittenWith<'_>,
    ) -> Result<(), StateFileError> {
        self.change(with, |record| record.raise(database, known))
    }

    /// Authenticates the file with `master_key`, too, if there is one: before a database is sealed with it, so that
    /// a crash on either side of that leaves a file that can be read.
    ///
    /// # Errors
    ///
    /// As [`StateFile::raise`].
    pub fn prepare(&self, master_key: &MasterKeyId) -> Result<(), StateFileError> {
        if self.read()?.is_none() {
            return Ok(());
        }
        self.change(WrittenWith { master_key, without: None }, |_| false)
    }

    /// Moves a file that is not authentic out of the way, and gives where it is now.
    ///
    /// # Errors
    ///
    /// [`StateFileError::Io`] when it cannot be renamed.
    pub fn set_aside(&self) -> Result<PathBuf, StateFileError> {
        let aside = self.beside("refused");
        fs::rename(&self.path, &aside).map_err(|error| self.failed("written", &error))?;
        Ok(aside)
    }

    fn change(
        &self,
        with: WrittenWith<'_>,
        change: impl FnOnce(&mut StateRecord) -> bool,
    ) -> Result<(), StateFileError> {
        let _lock = self.lock()?;
        let mut record = self.read()?.unwrap_or_default();
        let is_news = change(&mut record);
        let mut keys = record.master_keys.clone();
        if !keys.iter().any(|id| id == with.master_key.as_str()) {
            keys.push(with.master_key.to_string());
        }
        keys.retain(|id| Some(id.as_str()) != with.without);
        if !is_news && keys == record.master_keys {
            return Ok(());
        }
        let text = self.render(&record, &keys, with.master_key)?;
        self.replace(&text).map_err(|error| self.failed("written", &error))
    }

    fn render(
        &self,
        record: &StateRecord,
        keys: &[String],
        needed: &MasterKeyId,
    ) -> Result<String, StateFileError> {
        let databases: BTreeMap<&str, &Known> =
            record.databases.iter().map(|(id, known)| (id.as_str(), known)).collect();
        let content = serde_json::to_string(&databases)
            .map_err(|error| self.failed("written", &io::Error::other(error)))?;
        let mut text = format!("{FORMAT}\n{content}\n");
        let mut has_needed = false;
        for id in keys {
            // A key of before that is gone authenticates nothing any more.
            let Some(mac) = self.mac(id) else { continue };
            has_needed |= id == needed.as_str();
            text.push_str(&format!("{id} {}\n", mac.tag(&[FORMAT, &content])));
        }
        if has_needed {
            Ok(text)
        } else {
            Err(StateFileError::NoKey { path: self.path.clone(), needed: needed.to_string() })
        }
    }

    fn parse(&self, text: &str) -> Result<StateRecord, StateFileError> {
        let malformed = || StateFileError::Malformed(self.path.clone());
        let mut lines = text.lines();
        if lines.next() != Some(FORMAT) {
            return Err(malformed());
        }
        let content = lines.next().ok_or_else(malformed)?;
        let tags: Vec<(&str, &str)> =
            lines.map(|line| line.split_once(' ')).collect::<Option<_>>().ok_or_else(malformed)?;
        let mut is_authentic = false;
        for (id, tag) in &tags {
            if let Some(mac) = self.mac(id) {
                if !mac.verifies(&[FORMAT, content], tag) {
                    return Err(StateFileError::Forged(self.path.clone()));
                }
                is_authentic = true;
            }
        }
        let master_keys: Vec<String> = tags.iter().map(|(id, _)| excerpt(id)).collect();
        if !is_authentic {
            let needed = master_keys.join(" or ");
            return Err(if needed.is_empty() {
                malformed()
            } else {
                StateFileError::NoKey { path: self.path.clone(), needed }
            });
        }
        let databases: BTreeMap<String, Known> = serde_json::from_str(content).map_err(|_| malformed())?;
        let databases = databases
            .into_iter()
            .map(|(id, known)| Some((id.parse().ok()?, known)))
            .collect::<Option<_>>()
            .ok_or_else(malformed)?;
        Ok(StateRecord { databases, master_keys })
    }

    fn mac(&self, id: &str) -> Option<RowMac> {
        let key = self.keys.find(id).ok().filter(|key| key.id().as_str() == id)?;
        Some(RowMac::new(&key.state_file_key()))
    }

    /// Waits for other processes. The file of the lock stays, because one that waits may have it open.
    fn lock(&self) -> Result<File, StateFileError> {
        let failed = |error: &io::Error| self.failed("written", error);
        let path = self.beside("lock");
        let open = || OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = open().map_err(|error| failed(&error))?;
        for _ in 0..LOCK_TRIES {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::Error(error)) => return Err(failed(&error)),
                Err(TryLockError::WouldBlock) => std::thread::sleep(TRY_AGAIN),
            }
        }
        Err(StateFileError::Locked(self.path.clone()))
    }

    /// Puts `text` in the place of the file, durably and whole.
    fn replace(&self, text: &str) -> io::Result<()> {
        let new = self.beside("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        super::master_key::sync_folder(&self.path)
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".");
        name.push(suffix);
        PathBuf::from(name)
    }

    fn failed(&self, action: &'static str, error: &io::Error) -> StateFileError {
        StateFileError::Io { path: self.path.clone(), action, reason: error.to_string() }
    }
}

fn excerpt(id: &str) -> String {
    id.chars().filter(char::is_ascii_alphanumeric).take(16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SecureRandom;
    use crate::states::{Contents, State, Table};
    use crate::store::master_key::MasterKey;

    struct World {
        folder: tempfile::TempDir,
        key: MasterKey,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let key = MasterKey::generate(&SecureRandom::default()).unwrap();
            key.write_new(&folder.path().join("keys/master.key")).unwrap();
            Self { folder, key }
        }

        fn file(&self) -> StateFile {
            let keys = self.folder.path().join("keys");
            StateFile::new(keys.join(FILE_NAME), MasterKeySource::Folder(keys))
        }

        fn with(&self) -> WrittenWith<'_> {
            WrittenWith { master_key: self.key.id(), without: None }
        }

        fn raise(&self, known: &Known) -> Result<(), StateFileError> {
            self.file().raise(&id(), known, self.with())
        }

        fn known(&self) -> Known {
            self.file().read().unwrap().unwrap().get(&id()).unwrap().clone()
        }
    }

    fn id() -> DatabaseId {
        DatabaseId::of(b"this one")
    }

    fn at(n: i64) -> Known {
        let state = State::first(&id(), Contents::default().digest());
        Known { state: state.next_above(n - 1, &id(), state.digest).point(), revoked: Vec::new() }
    }

    fn kid(number: u8) -> Kid {
        let mut contents = Contents::default();
        contents.set(Table::Grants, &number.to_string(), Some(String::new()));
        contents.digest().to_string().parse().unwrap()
    }

    #[test]
    fn a_state_is_raised_and_never_lowered() {
        let world = World::new();
        assert_eq!(world.file().read(), Ok(None));
        for (n, expected) in [(3, 3), (2, 3), (7, 7), (7, 7), (5, 7)] {
            world.raise(&at(n)).unwrap();
            assert_eq!(world.known(), at(expected), "{n}");
        }
        assert_eq!(world.file().read().unwrap().unwrap().get(&DatabaseId::of(b"another")), None);
    }

    #[test]
    fn a_revoked_key_stays_named_also_where_a_state_does_not_name_it() {
        let world = World::new();
        world.raise(&Known { revoked: vec![kid(1), kid(2)], ..at(3) }).unwrap();
        world.raise(&Known { revoked: vec![kid(3), kid(2)], ..at(4) }).unwrap();
        world.raise(&at(5)).unwrap();
        assert_eq!(world.known().revoked, [kid(1), kid(2), kid(3)]);
    }

    #[test]
    fn a_changed_byte_is_refused_and_the_file_is_not_replaced() {
        let world = World::new();
        world.raise(&Known { revoked: vec![kid(1)], ..at(3) }).unwrap();
        let path = world.file().path().to_owned();
        let written = fs::read(&path).unwrap();
        for position in 0..written.len() {
            let mut changed = written.clone();
            changed[position] = if changed[position] == b'3' { b'4' } else { b'3' };
            fs::write(&path, &changed).unwrap();
            assert!(world.file().read().is_err(), "{position}");
        }
        for changed in [Vec::new(), written[..written.len() / 2].to_vec(), vec![0xff; 100]] {
            fs::write(&path, &changed).unwrap();
            assert!(world.raise(&at(9)).is_err());
            assert_eq!(fs::read(&path).unwrap(), changed);
        }
    }

    #[test]
    fn a_file_of_another_master_key_is_refused_and_that_key_is_named() {
        let (ours, theirs) = (World::new(), World::new());
        theirs.raise(&at(3)).unwrap();
        fs::copy(theirs.file().path(), ours.file().path()).unwrap();
        let error = ours.file().read().unwrap_err();
        assert!(
            matches!(&error, StateFileError::NoKey { needed, .. } if needed == theirs.key.id().as_str()),
            "{error}"
        );
        assert!(ours.raise(&at(9)).is_err());
    }

    #[test]
    fn while_the_master_key_changes_the_file_can_be_read_with_either() {
        let world = World::new();
        world.raise(&at(3)).unwrap();
        let new = MasterKey::generate(&SecureRandom::default()).unwrap();
        let source = MasterKeySource::Folder(world.folder.path().join("keys"));
        source.add(&new).unwrap();
        world.file().prepare(new.id()).unwrap();
        let only = |key: &MasterKey, name: &str| {
            let path = world.folder.path().join(name);
            key.write_new(&path).unwrap();
            StateFile::new(world.file().path().to_owned(), MasterKeySource::File(path))
        };
        let (before, after) = (only(&world.key, "before.key"), only(&new, "after.key"));
        assert_eq!(before.read(), after.read());
        let with = WrittenWith { master_key: new.id(), without: Some(world.key.id().as_str()) };
        world.file().raise(&id(), &at(4), with).unwrap();
        assert!(matches!(before.read(), Err(StateFileError::NoKey { .. })));
        assert_eq!(after.read().unwrap().unwrap().get(&id()), Some(&at(4)));
    }

    #[test]
    fn a_pipe_or_a_folder_in_its_place_is_refused_and_holds_nothing_up() {
        let world = World::new();
        fs::create_dir(world.file().path()).unwrap();
        assert!(matches!(world.file().read(), Err(StateFileError::Malformed(_))));
    }

    #[test]
    fn writers_at_the_same_time_end_at_the_latest_state() {
        let world = World::new();
        std::thread::scope(|scope| {
            for n in 1..=16 {
                let world = &world;
                scope.spawn(move || world.raise(&at(n)).unwrap());
            }
        });
        assert_eq!(world.known(), at(16));
    }
}
