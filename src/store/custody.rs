//! Checks that no other user can change the files that trust depends on.
//!
//! A user who can write the database can replace it with an older copy. A user who can write the keys folder
//! can replace the master key. A user who can write the state file can put back an older one, which then
//! accepts the older database. carnet uses none of them while another user could do so: [`check`] must pass before
//! anything is opened. Read access is a separate matter: [`MasterKeySource`] checks it for the master key,
//! and `doctor` warns about it for the database.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::master_key::MasterKeySource;
use crate::values::shell::word;

/// A file or folder that trust depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The database, or one of the files that SQLite creates beside it.
    Database,
    /// The folder of the database. A user who can write there can replace the database.
    DatabaseFolder,
    /// The folder of the master key.
    KeysFolder,
    /// The file that remembers the database's state.
    StateFile,
    /// The folder of the state file, if that is not the keys folder.
    StateFolder,
    /// The file of the master key. Its permissions are checked when it is read.
    MasterKey,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Database => "the database file",
            Self::DatabaseFolder => "the database's folder",
            Self::StateFile => "the state file",
            Self::StateFolder => "the state file's folder",
            Self::KeysFolder => "the keys folder",
            Self::MasterKey => "the master key file",
        })
    }
}

/// A file or folder belongs to another user, or another user can change it.
#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    /// Its permissions let other users write.
    #[error("{kept} {} has mode {mode:04o}: other users can change it", .path.display())]
    Mode {
        /// The kind of file or folder.
        kept: Kept,
        /// Its path.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to a user other than this process's user and root.
    #[error("{kept} {} belongs to user {owner}, and this process runs as user {user}", .path.display())]
    Owner {
        /// The kind of file or folder.
        kept: Kept,
        /// Its path.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The user that this process runs as.
        user: u32,
    },
}

impl CustodyError {
    /// Returns the command that fixes the problem and, for a mounted file, the setting that keeps it fixed.
    #[must_use]
    pub fn fix(&self) -> String {
        match self {
            Self::Mode { kept, path, .. } => {
                let path = path.display().to_string();
                let path = word(&path);
                match kept {
                    Kept::Database | Kept::StateFile | Kept::MasterKey => format!(
                        "`chmod 0600 {path}`; on a Kubernetes volume with fsGroup, also set \
                         `fsGroupChangePolicy: OnRootMismatch`, or the next mount opens it to the group again"
                    ),
                    Kept::DatabaseFolder | Kept::StateFolder | Kept::KeysFolder => {
                        format!("`chmod go-w {path}`")
                    }
                }
            }
            Self::Owner { path, owner, user, .. } => {
                format!("run carnet as user {owner}, or `chown {user} {}`", word(&path.display().to_string()))
            }
        }
    }
}

/// The user and groups of this process.
#[derive(Debug, Clone)]
struct Process {
    user: u32,
    groups: Vec<u32>,
}

impl Process {
    fn this() -> Self {
        let mut groups = vec![rustix::process::getegid().as_raw()];
        groups.extend(rustix::process::getgroups().unwrap_or_default().iter().map(|group| group.as_raw()));
        Self { user: rustix::process::geteuid().as_raw(), groups }
    }
}

/// The attributes of a file or folder that decide whether it is safe.
#[derive(Debug, Clone, Copy)]
struct Found {
    mode: u32,
    owner: u32,
    group: u32,
    /// The owner of the folder that contains it.
    folder_owner: u32,
}

/// The reason to refuse a file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Mode,
    Owner,
}

const STICKY: u32 = 0o1000;
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const ROOT: u32 = 0;

fn judge(kept: Kept, found: Found, process: &Process) -> Option<Wrong> {
    let Found { mode, owner, group, folder_owner } = found;
    let is_folder = matches!(kept, Kept::DatabaseFolder | Kept::StateFolder | Kept::KeysFolder);
    let is_root = process.user == ROOT;
    // Root works on behalf of other users: an administrator at the command line, or a container that uses a
    // folder of its host.
    let is_owned =
        owner == ROOT || owner == process.user || (is_root && (is_folder || owner == folder_owner));
    if !is_owned {
        return Some(Wrong::Owner);
    }
    // In a sticky folder, no user can move or replace the files of another user.
    let is_sticky = mode & STICKY != 0;
    let forbidden = match kept {
        Kept::MasterKey => 0,
        Kept::Database | Kept::StateFile => GROUP_WRITES | OTHERS_WRITE,
        // Kubernetes mounts a secret as a sticky folder that root owns.
        Kept::KeysFolder if is_sticky && owner == ROOT => 0,
        Kept::KeysFolder => GROUP_WRITES | OTHERS_WRITE,
        Kept::DatabaseFolder if is_sticky => 0,
        // The process's own group and the group assigned to a volume may write.
        Kept::DatabaseFolder | Kept::StateFolder
            if process.groups.contains(&group) || (is_root && group == owner) =>
        {
            OTHERS_WRITE
        }
        Kept::DatabaseFolder | Kept::StateFolder => GROUP_WRITES | OTHERS_WRITE,
    };
    (mode & forbidden != 0).then_some(Wrong::Mode)
}

/// Refuses the first file or folder that another user could change. Accepts those that do not exist yet,
/// because carnet creates them private.
pub fn check(
    database: &Path,
    master_key: &MasterKeySource,
    state_file: Option<&Path>,
) -> Result<(), CustodyError> {
    all(database, master_key, state_file).into_iter().try_for_each(|(kept, path)| check_one(kept, &path))
}

/// Returns every file and folder that [`check`] checks.
#[must_use]
pub fn all(database: &Path, master_key: &MasterKeySource, state_file: Option<&Path>) -> Vec<(Kept, PathBuf)> {
    // SQLite creates its files beside the database itself, not beside a link to it.
    let database = std::fs::canonicalize(database).unwrap_or_else(|_| database.to_owned());
    let beside = |suffix: &str| {
        let mut name = database.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let mut all = vec![(Kept::DatabaseFolder, folder_of(&database).to_owned())];
    all.extend(["", "-wal", "-shm", "-journal"].map(|suffix| (Kept::Database, beside(suffix))));
    if let MasterKeySource::Folder(folder) = master_key {
        all.push((Kept::KeysFolder, folder.clone()));
    }
    all.push((Kept::MasterKey, master_key.path()));
    if let Some(state_file) = state_file {
        let folder = folder_of(state_file).to_owned();
        if !all.contains(&(Kept::KeysFolder, folder.clone())) {
            all.push((Kept::StateFolder, folder));
        }
        all.push((Kept::StateFile, state_file.to_owned()));
    }
    all
}

/// Checks one file or folder. Accepts one that is missing or cannot be inspected, because it cannot be opened
/// either.
pub fn check_one(kept: Kept, path: &Path) -> Result<(), CustodyError> {
    let Ok(metadata) = std::fs::metadata(path) else { return Ok(()) };
    // The folder that contains a link says nothing about the file, so links are resolved.
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder_owner = std::fs::metadata(folder_of(&real)).map_or(ROOT, |folder| folder.uid());
    let mode = metadata.mode() & 0o7777;
    let found = Found { mode, owner: metadata.uid(), group: metadata.gid(), folder_owner };
    let process = Process::this();
    let path = path.to_owned();
    match judge(kept, found, &process) {
        None => Ok(()),
        Some(Wrong::Mode) => Err(CustodyError::Mode { kept, path, mode }),
        Some(Wrong::Owner) => Err(CustodyError::Owner { kept, path, owner: found.owner, user: process.user }),
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_that_another_user_can_change_are_refused() {
        let service = || Process { user: 1000, groups: vec![1000, 2000] };
        let root = || Process { user: 0, groups: vec![0] };
        let folder = |mode, owner, group| Found { mode, owner, group, folder_owner: 0 };
        let file = |mode, owner, folder_owner| Found { mode, owner, group: owner, folder_owner };
        let (mode, owner) = (Some(Wrong::Mode), Some(Wrong::Owner));
        for (kept, found, process, expected) in [
            (Kept::Database, file(0o600, 1000, 0), service(), None),
            (Kept::Database, file(0o644, 1000, 0), service(), None),
            (Kept::Database, file(0o666, 1000, 0), service(), mode),
            (Kept::Database, file(0o660, 1000, 0), service(), mode),
            (Kept::Database, file(0o600, 0, 0), service(), None),
            (Kept::Database, file(0o644, 1001, 0), service(), owner),
            // Root may use a file that belongs to the owner of its folder, as under sudo, but no other user's
            // file.
            (Kept::Database, file(0o600, 1000, 1000), root(), None),
            (Kept::Database, file(0o600, 1001, 0), root(), owner),
            (Kept::DatabaseFolder, folder(0o755, 1000, 1000), service(), None),
            (Kept::DatabaseFolder, folder(0o775, 1000, 1000), service(), None),
            (Kept::DatabaseFolder, folder(0o2775, 0, 2000), service(), None),
            (Kept::DatabaseFolder, folder(0o775, 1000, 3000), service(), mode),
            (Kept::DatabaseFolder, folder(0o777, 1000, 1000), service(), mode),
            (Kept::DatabaseFolder, folder(0o1777, 0, 0), service(), None),
            (Kept::DatabaseFolder, folder(0o755, 1001, 1001), service(), owner),
            (Kept::DatabaseFolder, folder(0o775, 1000, 1000), root(), None),
            (Kept::DatabaseFolder, folder(0o775, 1000, 100), root(), mode),
            (Kept::KeysFolder, folder(0o700, 1000, 1000), service(), None),
            (Kept::KeysFolder, folder(0o755, 0, 0), service(), None),
            (Kept::KeysFolder, folder(0o770, 1000, 1000), service(), mode),
            (Kept::KeysFolder, folder(0o777, 1000, 1000), service(), mode),
            (Kept::KeysFolder, folder(0o3777, 0, 2000), service(), None),
            (Kept::KeysFolder, folder(0o1777, 1000, 1000), service(), mode),
            (Kept::KeysFolder, folder(0o700, 1001, 1001), service(), owner),
            (Kept::StateFile, file(0o600, 1000, 0), service(), None),
            (Kept::StateFile, file(0o644, 1000, 0), service(), None),
            (Kept::StateFile, file(0o666, 1000, 0), service(), mode),
            (Kept::StateFile, file(0o600, 1001, 0), service(), owner),
            (Kept::StateFolder, folder(0o775, 1000, 1000), service(), None),
            (Kept::StateFolder, folder(0o777, 1000, 1000), service(), mode),
            // Others could put a link where the new state is written, or hold its lock.
            (Kept::StateFolder, folder(0o1777, 0, 0), service(), mode),
            (Kept::MasterKey, file(0o440, 0, 0), service(), None),
            (Kept::MasterKey, file(0o600, 1001, 0), service(), owner),
        ] {
            assert_eq!(judge(kept, found, &process), expected, "{kept:?} {found:?} {process:?}");
        }
    }

    #[test]
    fn each_refusal_names_the_file_the_mode_and_the_command() {
        let path = PathBuf::from("/srv/it's here/carnet.db");
        let error = CustodyError::Mode { kept: Kept::Database, path: path.clone(), mode: 0o666 };
        assert_eq!(
            error.to_string(),
            "the database file /srv/it's here/carnet.db has mode 0666: other users can change it"
        );
        let fix = error.fix();
        assert!(fix.starts_with(r"`chmod 0600 '/srv/it'\''s here/carnet.db'`"), "{fix}");
        let error = CustodyError::Owner { kept: Kept::KeysFolder, path: "/k".into(), owner: 7, user: 8 };
        assert_eq!(
            error.to_string(),
            "the keys folder /k belongs to user 7, and this process runs as user 8"
        );
        assert_eq!(error.fix(), "run carnet as user 7, or `chown 8 /k`");
    }
}
