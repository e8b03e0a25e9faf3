//! The permissions of carnet's files. The database holds sealed keys and hashes of tokens; the keys folder
//! holds the master key that opens them.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{Finding, Status};
use crate::store::custody::{self, Kept};
use crate::store::master_key::MasterKeySource;

const DATABASE_FILES: &str = "database-files";
const KEYS_FOLDER: &str = "keys-folder";
const MASTER_KEY_FILE: &str = "master-key-file";

/// The kind of a file, which decides the access that other users may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The database and SQLite's files beside it.
    Database,
    /// The folder of the database or of the state file.
    DatabaseFolder,
    /// The file that remembers the database's state.
    StateFile,
    /// The folder of the master key.
    KeysFolder,
    /// A master key that carnet created.
    MasterKey,
    /// A master key that the operator provides. Its group may read it, which is how systemd and Kubernetes
    /// mount such files.
    ProvidedMasterKey,
}

/// A file or folder and its permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The kind of file.
    pub kind: Kind,
    /// The path.
    pub path: PathBuf,
    /// The permission bits. `None` if the file does not exist.
    pub mode: Option<u32>,
    /// The reason why carnet refuses to start with this file, and the fix.
    pub refused: Option<(String, String)>,
}

/// Reads the permissions of a database's files, of its master key's and of the state file. A file that does not exist has no
/// mode.
///
/// # Errors
///
/// Any I/O error except “not found”, for example for a folder that may not be searched.
pub fn inspect(
    database: &Path,
    master_key: &MasterKeySource,
    state_file: Option<&Path>,
) -> io::Result<Vec<Seen>> {
    let seen = custody::all(database, master_key, state_file).into_iter().map(|(kept, path)| {
        let kind = match (kept, master_key) {
            (Kept::Database, _) => Kind::Database,
            (Kept::DatabaseFolder | Kept::StateFolder, _) => Kind::DatabaseFolder,
            (Kept::StateFile, _) => Kind::StateFile,
            (Kept::KeysFolder, _) => Kind::KeysFolder,
            (Kept::MasterKey, MasterKeySource::Folder(_)) => Kind::MasterKey,
            (Kept::MasterKey, MasterKeySource::File(_)) => Kind::ProvidedMasterKey,
        };
        let refused = custody::check_one(kept, &path).err();
        let refused = refused.map(|refused| (refused.to_string(), refused.fix()));
        Ok(Seen { kind, mode: mode(&path)?, path, refused })
    });
    seen.collect()
}

fn mode(path: &Path) -> io::Result<Option<u32>> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.mode() & 0o777)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns one finding for the database's files, one for the keys folder and one for the master key.
#[must_use]
pub fn check(seen: &[Seen]) -> Vec<Finding> {
    [DATABASE_FILES, KEYS_FOLDER, MASTER_KEY_FILE].into_iter().filter_map(|id| check_one(id, seen)).collect()
}

fn check_one(id: &'static str, seen: &[Seen]) -> Option<Finding> {
    let judged: Vec<(Status, &Seen, u32)> = seen
        .iter()
        .filter(|seen| id_of(seen.kind) == id)
        .filter_map(|seen| Some((seen.status(seen.mode?), seen, seen.mode?)))
        .collect();
    let worst = judged.iter().map(|(status, ..)| *status).max()?;
    let bad: Vec<_> = judged.iter().filter(|(status, ..)| *status > Status::Ok).collect();
    if bad.is_empty() {
        return Some(Finding::ok(id, "no other user can read or change the files"));
    }
    let listed: Vec<String> = bad
        .iter()
        .map(|(_, seen, mode)| match &seen.refused {
            Some((why, _)) => format!("{why}, so carnet does not start"),
            None => format!("{} has mode {mode:04o}", seen.path.display()),
        })
        .collect();
    let commands: Vec<String> = bad
        .iter()
        .map(|(_, seen, _)| match &seen.refused {
            Some((_, fix)) => fix.clone(),
            _ => format!("chmod 0600 {}", seen.path.display()),
        })
        .collect();
    let why = match id {
        DATABASE_FILES => {
            "Users who can read them see every deployment and can copy sealed keys and wait for the master \
             key; users who can write them or their folder can replace the database with an older one."
        }
        KEYS_FOLDER => "Users who can write there can remove or replace the master key.",
        _ => "Users who can read it and the database can sign every token for which a cloud trusts carnet.",
    };
    Some(Finding::new(id, worst, listed.join("; ")).detail(why).hint(commands.join("; ")))
}

fn id_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Database | Kind::DatabaseFolder | Kind::StateFile => DATABASE_FILES,
        Kind::KeysFolder => KEYS_FOLDER,
        Kind::MasterKey | Kind::ProvidedMasterKey => MASTER_KEY_FILE,
    }
}

impl Seen {
    fn status(&self, mode: u32) -> Status {
        if self.refused.is_some() { Status::Failed } else { judge(self.kind, mode) }
    }
}

/// Judges read access, which [`custody`] does not check.
fn judge(kind: Kind, mode: u32) -> Status {
    let (failed, warning) = match kind {
        Kind::Database => (0, 0o044),
        Kind::DatabaseFolder | Kind::StateFile | Kind::KeysFolder => (0, 0),
        Kind::MasterKey => (0o077, 0),
        Kind::ProvidedMasterKey => (0o037, 0),
    };
    if mode & failed != 0 {
        Status::Failed
    } else if mode & warning != 0 {
        Status::Warning
    } else {
        Status::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_judged_by_the_access_of_other_users() {
        use Status::{Failed, Ok, Warning};
        for (kind, mode, expected) in [
            (Kind::Database, 0o600, Ok),
            (Kind::Database, 0o640, Warning),
            (Kind::Database, 0o604, Warning),
            (Kind::DatabaseFolder, 0o755, Ok),
            (Kind::KeysFolder, 0o755, Ok),
            (Kind::MasterKey, 0o400, Ok),
            (Kind::MasterKey, 0o600, Ok),
            (Kind::MasterKey, 0o640, Failed),
            (Kind::MasterKey, 0o604, Failed),
            (Kind::ProvidedMasterKey, 0o440, Ok),
            (Kind::ProvidedMasterKey, 0o444, Failed),
            (Kind::ProvidedMasterKey, 0o460, Failed),
        ] {
            assert_eq!(judge(kind, mode), expected, "{kind:?} {mode:o}");
        }
    }

    #[test]
    fn the_worst_file_decides_and_each_bad_one_is_named_with_its_command() {
        let seen = |kind, path: &str, mode| Seen { kind, path: path.into(), mode, refused: None };
        let refused = Some(("it has mode 0666".to_owned(), "`chmod 0600 a.db-wal`".to_owned()));
        let findings = check(&[
            seen(Kind::Database, "a.db", Some(0o644)),
            Seen { refused, ..seen(Kind::Database, "a.db-wal", Some(0o666)) },
            seen(Kind::Database, "a.db-shm", None),
            seen(Kind::MasterKey, "keys/master.key", Some(0o600)),
        ]);
        let [files, key] = &findings[..] else { panic!("{findings:?}") };
        assert_eq!((files.id, files.status), (DATABASE_FILES, Status::Failed));
        assert_eq!(files.summary, "a.db has mode 0644; it has mode 0666, so carnet does not start");
        assert_eq!(files.hint.as_deref(), Some("chmod 0600 a.db; `chmod 0600 a.db-wal`"));
        assert_eq!((key.id, key.status), (MASTER_KEY_FILE, Status::Ok));
    }
}
