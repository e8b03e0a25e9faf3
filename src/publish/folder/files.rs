//! Reads and writes files at paths where anything may be: links, folders, files that are too long.
//!
//! The checks protect against accidents only. An attacker with write access to the folder can publish keys
//! without a link.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use bytes::Bytes;

use crate::publish::target::LONGEST_DOCUMENT;
use crate::values::regular_file;

/// Readable by all, also for a web server that runs as another user.
const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;

/// A regular file.
pub(super) struct Found {
    /// Its content; empty if it is too long.
    pub(super) body: Bytes,
    pub(super) length: u64,
    /// The permission bits, as for `chmod`.
    pub(super) mode: u32,
}

/// Describes a failed operation on a file.
pub(super) fn report(path: &Path, done: &str, error: &io::Error) -> String {
    format!("{} cannot be {done}: {error}", path.display())
}

/// Returns the file at `path`, if it exists.
pub(super) fn find(path: &Path) -> Result<Option<Found>, String> {
    let failed = |error| report(path, "read", &error);
    let before = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        outcome => outcome.map_err(failed)?,
    };
    if !before.is_file() {
        return Err(format!("{} is {}, not a file", path.display(), kind(&before)));
    }
    let (file, opened) = regular_file::open(path).map_err(failed)?;
    if (opened.dev(), opened.ino()) != (before.dev(), before.ino()) {
        return Err(format!("{} was replaced while it was opened", path.display()));
    }
    let (length, mode) = (opened.len(), opened.permissions().mode() & 0o777);
    let most = LONGEST_DOCUMENT as u64;
    let mut body = Vec::new();
    file.take(most + 1).read_to_end(&mut body).map_err(failed)?;
    if body.len() > LONGEST_DOCUMENT {
        body.clear();
    }
    Ok(Some(Found { body: body.into(), length, mode }))
}

fn kind(metadata: &fs::Metadata) -> &'static str {
    if metadata.is_symlink() {
        "a symbolic link"
    } else if metadata.is_dir() {
        "a folder"
    } else {
        "a device, pipe or socket"
    }
}

/// Returns whether the folder exists. The target itself may be a symbolic link to a folder; a folder inside
/// it may not.
pub(super) fn is_folder(path: &Path) -> Result<bool, String> {
    let is_inside = path.ends_with(".well-known");
    let found = if is_inside { fs::symlink_metadata(path) } else { fs::metadata(path) };
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Ok(metadata) if !metadata.is_dir() => {
            Err(format!("{} is {}, not a folder", path.display(), kind_or_file(&metadata)))
        }
        outcome => outcome.map(|_| true).map_err(|error| report(path, "looked at", &error)),
    }
}

fn kind_or_file(metadata: &fs::Metadata) -> &'static str {
    if metadata.is_file() { "a file" } else { kind(metadata) }
}

/// Creates the folder if it does not exist. Its parent must exist.
pub(super) fn make_folder(path: &Path) -> Result<(), String> {
    if is_folder(path)? {
        return Ok(());
    }
    let failed = |error| report(path, "made", &error);
    match fs::create_dir(path) {
        // Another process has created it at the same moment.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return is_folder(path).map(drop),
        outcome => outcome.map_err(failed)?,
    }
    fs::set_permissions(path, fs::Permissions::from_mode(FOLDER_MODE)).map_err(failed)?;
    path.parent().map_or(Ok(()), sync).map_err(failed)
}

/// Opens the lock file, and creates it if needed. It is accessible only to its owner, so that no other user
/// can hold the lock.
pub(super) fn open_lock(path: &Path) -> Result<File, String> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            return Err(format!("{} is {}, not a file", path.display(), kind(&metadata)));
        }
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(|error| report(path, "opened", &error))
}

/// Replaces `folder`/`name` with a file of `bytes`. On success the new file is synced to disk; on failure the
/// old one is normally unchanged. The caller must hold the lock: two concurrent calls would write the same
/// temporary file.
pub(super) fn replace(folder: &Path, name: &OsStr, bytes: &[u8]) -> Result<(), String> {
    let path = folder.join(name);
    let mut unfinished = OsStr::new(".").to_owned();
    unfinished.push(name);
    unfinished.push(".carnet-unfinished");
    let unfinished = folder.join(unfinished);
    let outcome = write_new(&unfinished, bytes)
        .and_then(|()| fs::rename(&unfinished, &path))
        .and_then(|()| sync(folder));
    outcome.map_err(|error| {
        // The file may not exist.
        let _ = fs::remove_file(&unfinished);
        report(&path, "written", &error)
    })
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        // A crash left it behind.
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    file.write_all(bytes)?;
    // Independent of the umask.
    file.set_permissions(fs::Permissions::from_mode(FILE_MODE))?;
    file.sync_all()
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
