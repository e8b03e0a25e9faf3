//! The state file: a record of databases, outside them.
//!
//! For each database it keeps the last state and the revoked keys, under a MAC whose key depends on the
//! master key alone: an attacker who can write the database cannot forge it. It is replaced by rename, under
//! a lock that all processes take. A state in it is never lowered.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::master_key::MasterKeys;
use super::sealed::{RowMac, Sealer};
use crate::jose::jwk::Kid;
use crate::states::{DatabaseId, StatePoint};
use crate::values::regular_file;

/// The name of the file inside the keys folder.
pub const FILE_NAME: &str = "state";

const FORMAT: &str = "carnet-state-1";
/// The maximum size of the file. With some thousand revoked keys it is far smaller.
const MAX_BYTES: usize = 4 << 20;
/// The maximum number of revoked keys kept for one database. The latest ones stay.
const MAX_REVOKED: usize = 4096;
/// The maximum number of attempts to take the lock. Another process needs milliseconds to write the file; one
/// that holds the lock for longer than all attempts has stopped working.
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
        /// The action that failed: `read` or `written`.
        action: &'static str,
        /// The operating system's message.
        reason: String,
    },
    /// Another process has held its lock for seconds.
    #[error("the state file {} stays locked by another process", .0.display())]
    Locked(PathBuf),
    /// The content is not one that carnet writes.
    #[error("the state file {} is damaged: it does not hold what carnet writes", .0.display())]
    Malformed(PathBuf),
    /// None of the master keys that authenticate it is available.
    #[error("the state file {} is authenticated with the master key {needed}, which this process does not \
             have", .path.display())]
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

impl StateFileError {
    /// Returns whether the file can be read and is not trusted.
    #[must_use]
    pub fn is_distrust(&self) -> bool {
        matches!(self, Self::Malformed(_) | Self::NoKey { .. } | Self::Forged(_))
    }
}

/// The record of one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// The last state.
    pub state: StatePoint,
    /// The keys that were revoked in the database.
    #[serde(default)]
    pub revoked: Vec<Kid>,
    /// `true` until a witness proves that the database was not an older one when this record began.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unproved: bool,
    /// The number of the state in which an operator accepted the database, which ends all earlier ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<i64>,
}

/// The content of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateRecord {
    databases: BTreeMap<DatabaseId, Known>,
    /// The identifiers of the master keys that authenticate the file.
    master_keys: Vec<String>,
}

impl StateRecord {
    /// Returns the record of `database`.
    #[must_use]
    pub fn get(&self, database: &DatabaseId) -> Option<&Known> {
        self.databases.get(database)
    }

    /// Returns whether `master_key` authenticates the file.
    #[must_use]
    pub fn is_of(&self, master_key: &str) -> bool {
        self.master_keys.iter().any(|id| id == master_key)
    }

    /// Returns the database, if the file knows exactly one.
    #[must_use]
    pub fn only(&self) -> Option<&DatabaseId> {
        let mut all = self.databases.keys();
        all.next().filter(|_| all.next().is_none())
    }

    /// Adds `known` to the record of `database`, and returns whether that changed the record. A state is
    /// never lowered, and a revoked key stays. An unproved state ends only with a proved one.
    fn raise(&mut self, database: &DatabaseId, known: &Known) -> bool {
        let Some(entry) = self.databases.get_mut(database) else {
            self.databases.insert(database.clone(), known.clone());
            return true;
        };
        let before = entry.clone();
        if known.state.n > entry.state.n {
            (entry.state, entry.unproved) = (known.state, known.unproved);
        } else if known.state == entry.state {
            entry.unproved &= known.unproved;
        }
        entry.accepted = entry.accepted.max(known.accepted);
        let named: BTreeSet<&str> = before.revoked.iter().map(Kid::as_str).collect();
        entry.revoked.extend(known.revoked.iter().filter(|kid| !named.contains(kid.as_str())).cloned());
        let surplus = entry.revoked.len().saturating_sub(MAX_REVOKED);
        entry.revoked.drain(..surplus);
        *entry != before
    }
}

/// One state file.
#[derive(Debug, Clone)]
pub struct StateFile {
    path: PathBuf,
    keys: MasterKeys,
}

impl StateFile {
    /// Returns the file at `path`, with the master keys of `keys`.
    #[must_use]
    pub fn new(path: PathBuf, keys: MasterKeys) -> Self {
        Self { path, keys }
    }

    /// Returns the path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the content, which an available master key must authenticate; `None` if there is no file.
    pub fn read(&self, sealer: &Sealer) -> Result<Option<StateRecord>, StateFileError> {
        let (file, metadata) = match regular_file::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| self.failed("read", &error))?,
        };
        let content =
            regular_file::content(file, &metadata, MAX_BYTES).map_err(|error| self.failed("read", &error))?;
        let text = std::str::from_utf8(&content).map_err(|_| StateFileError::Malformed(self.path.clone()))?;
        self.parse(text, sealer).map(Some)
    }

    /// Records `known` for `database`, unless the file says as much or more. Creates the file if there is
    /// none.
    ///
    /// Afterwards, the master key of `sealer` authenticates the file, and so do those that did before and are
    /// available, except `without`.
    ///
    /// # Errors
    ///
    /// A file that is not authentic is never replaced: the error says why it is not.
    pub fn raise(
        &self,
        database: &DatabaseId,
        known: &Known,
        sealer: &Sealer,
        without: Option<&str>,
    ) -> Result<(), StateFileError> {
        self.change(sealer, None, without, |record| record.raise(database, known))
    }

    /// Adds the master key of `next` to those that authenticate the file, if the file exists. Called before
    /// that key seals a database, so that the file can be read after a crash on either side of that commit.
    pub fn prepare(&self, sealer: &Sealer, next: &Sealer) -> Result<(), StateFileError> {
        if self.read(sealer)?.is_none() {
            return Ok(());
        }
        self.change(sealer, Some(next), None, |_| false)
    }

    /// Renames a file that is not authentic, and returns its new path.
    pub fn set_aside(&self) -> Result<PathBuf, StateFileError> {
        let aside = self.beside("refused");
        fs::rename(&self.path, &aside).map_err(|error| self.failed("written", &error))?;
        Ok(aside)
    }

    fn change(
        &self,
        sealer: &Sealer,
        next: Option<&Sealer>,
        without: Option<&str>,
        change: impl FnOnce(&mut StateRecord) -> bool,
    ) -> Result<(), StateFileError> {
        let _lock = self.lock()?;
        let mut record = self.read(sealer)?.unwrap_or_default();
        let is_news = change(&mut record);
        let mut macs: BTreeMap<String, RowMac> = BTreeMap::new();
        for id in record.master_keys.iter().filter(|id| Some(id.as_str()) != without) {
            // A key that is no longer available authenticates nothing any more.
            macs.extend(self.mac(id).map(|mac| (id.clone(), mac)));
        }
        for sealer in [Some(sealer), next].into_iter().flatten() {
            macs.insert(sealer.master_key_id().to_string(), sealer.state_file().clone());
        }
        if !is_news && macs.keys().eq(&record.master_keys) {
            return Ok(());
        }
        let databases: BTreeMap<&str, &Known> =
            record.databases.iter().map(|(id, known)| (id.as_str(), known)).collect();
        let content = serde_json::to_string(&databases)
            .map_err(|error| self.failed("written", &io::Error::other(error)))?;
        let mut text = format!("{FORMAT}\n{content}\n");
        for (id, mac) in macs {
            text.extend([&id, " ", &mac.tag(&[FORMAT, &content]), "\n"]);
        }
        self.replace(&text).map_err(|error| self.failed("written", &error))
    }

    fn parse(&self, text: &str, sealer: &Sealer) -> Result<StateRecord, StateFileError> {
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
            let is_of_sealer = *id == sealer.master_key_id().as_str();
            let mac = is_of_sealer.then(|| sealer.state_file().clone());
            if let Some(mac) = mac.or_else(|| self.mac(id)) {
                if !mac.verifies(&[FORMAT, content], tag) {
                    return Err(StateFileError::Forged(self.path.clone()));
                }
                is_authentic = true;
            }
        }
        let mut master_keys: Vec<String> = tags
            .iter()
            .map(|(id, _)| id.chars().filter(char::is_ascii_alphanumeric).take(16).collect())
            .collect();
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
        master_keys.sort_unstable();
        Ok(StateRecord { databases, master_keys })
    }

    fn mac(&self, id: &str) -> Option<RowMac> {
        Some(RowMac::new(&self.keys.get(id)?.state_file_key()))
    }

    /// Takes the lock, and waits for other processes. The lock file is never removed, because a waiting
    /// process may have it open.
    fn lock(&self) -> Result<File, StateFileError> {
        let failed = |error: &io::Error| self.failed("written", error);
        let path = self.beside("lock");
        let lock = open_lock(&path).map_err(|error| failed(&error))?;
        for _ in 0..LOCK_TRIES {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::Error(error)) => return Err(failed(&error)),
                Err(TryLockError::WouldBlock) => std::thread::sleep(TRY_AGAIN),
            }
        }
        Err(StateFileError::Locked(self.path.clone()))
    }

    /// Replaces the file with `text`, durably and as a whole.
    fn replace(&self, text: &str) -> io::Result<()> {
        let new = self.beside("new");
        // A crash may have left one. It is never written through, because it may be a link.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
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

/// Opens or creates the lock file. Follows no link, and does not wait for the other end of a pipe.
fn open_lock(path: &Path) -> io::Result<File> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
    let lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags)
        .open(path)?;
    if !lock.metadata()?.is_file() {
        return Err(io::Error::other("its lock is not a regular file"));
    }
    Ok(lock)
}

#[cfg(test)]
mod tests;
