//! Files that may be anything: links, folders, too long.
//!
//! The checks are against accidents. Who may write in the folder needs no link to publish keys of his own.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use bytes::Bytes;

use crate::publish::target::LONGEST_DOCUMENT;
use crate::values::regular_file;

/// Everybody may read: a web server that runs as somebody else, too.
const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;

/// A regular file.
pub(super) struct Found {
    /// What it holds; nothing if that is too much.
    pub(super) body: Bytes,
    pub(super) length: u64,
    /// Who may do what with it, as `chmod` counts.
    pub(super) mode: u32,
}

/// What could not be done to what, and why.
pub(super) fn report(path: &Path, done: &str, error: &io::Error) -> String {
    format!("{} cannot be {done}: {error}", path.display())
}

/// The file at `path`, if there is one.
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

/// Whether there is a folder. A target itself may be a link to one, what is inside may not.
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

/// Makes the folder if it is not there; the one above it must be.
pub(super) fn make_folder(path: &Path) -> Result<(), String> {
    if is_folder(path)? {
        return Ok(());
    }
    let failed = |error| report(path, "made", &error);
    match fs::create_dir(path) {
        // Somebody else has made it at the same moment.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return is_folder(path).map(drop),
        outcome => outcome.map_err(failed)?,
    }
    fs::set_permissions(path, fs::Permissions::from_mode(FOLDER_MODE)).map_err(failed)?;
    path.parent().map_or(Ok(()), sync).map_err(failed)
}

/// The lock file, which is made if it is not there: for its owner alone, so that nobody else can hold the lock.
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

/// Puts a file of `bytes` in the place of `folder`/`name`: afterwards that is on disk, and before it nothing has
/// changed. Needs the lock: two would write one temporary file.
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
        // It may not be there at all.
        let _ = fs::remove_file(&unfinished);
        report(&path, "written", &error)
    })
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        // What a crash left.
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    file.write_all(bytes)?;
    // Whatever the umask says.
    file.set_permissions(fs::Permissions::from_mode(FILE_MODE))?;
    file.sync_all()
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
