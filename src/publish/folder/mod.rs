//! A folder of this machine as a target: what a web server shows as the issuer's documents.
//!
//! A document is replaced whole, by renaming a file that is on disk already, so that no reader sees half of one.
//! Read, compare and write happen under a lock that other carnet processes of this machine respect. What the
//! lock is worth on a network file system depends on that file system: there, one process should publish.

mod files;
mod labels;

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;

use self::files::{Found, find, is_folder, make_folder, replace, report};
use self::labels::Labels;
use super::target::{DocumentName, Label, Stored, Target, TargetError, TargetFuture, Version};
use crate::oidc::metadata::Document;
use crate::values::target_url::TargetUrl;

/// What carnet knows of the documents in the folder.
const LABELS: &str = ".carnet-publication.json";
/// Empty; whoever reads or writes here holds its lock.
const LOCK: &str = ".carnet-publication.lock";

/// How often a lock that somebody holds is asked for, and how long apart: five seconds in all. Whoever writes needs
/// some milliseconds.
const LOCK_ATTEMPTS: usize = 250;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A file system over a network may never answer.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// A document that nobody may read is not shown, whatever it says.
const READABLE_BY_ALL: u32 = 0o444;

/// A folder, which is made when something is first written if only the folder above it is there.
#[derive(Debug)]
pub struct FolderTarget {
    url: TargetUrl,
    root: PathBuf,
}

/// What a piece of work in the folder ended with, other than well.
enum Failure {
    Changed,
    Failed(String),
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

impl FolderTarget {
    /// The folder at `root`, an absolute path.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { url: TargetUrl::Folder(root.clone()), root }
    }

    /// Runs `work` on the folder where it may block.
    fn run<T: Send + 'static>(
        &self,
        name: DocumentName,
        work: impl FnOnce(&Path) -> Result<T, Failure> + Send + 'static,
    ) -> TargetFuture<'_, T> {
        let root = self.root.clone();
        Box::pin(async move {
            let working = tokio::task::spawn_blocking(move || work(&root));
            let done = match tokio::time::timeout(ENDS_WITHIN, working).await {
                Ok(Ok(done)) => done,
                Ok(Err(_)) => Err("the work on it was broken off".to_owned().into()),
                // It may still come to an end, and then under the lock, and on its condition.
                Err(_) => Err("the file system gives no answer".to_owned().into()),
            };
            done.map_err(|failure| match failure {
                Failure::Changed => TargetError::Changed(name),
                Failure::Failed(reason) => {
                    TargetError::Failed { document: name, target: self.url.clone(), reason }
                }
            })
        })
    }
}

impl Target for FolderTarget {
    fn url(&self) -> &TargetUrl {
        &self.url
    }

    fn read<'a>(&'a self, name: DocumentName, _expected: &'a Document) -> TargetFuture<'a, Option<Stored>> {
        self.run(name, move |root| {
            if !is_folder(root)? {
                return Ok(None);
            }
            let _lock = lock(root)?;
            Ok(look(root, name, &Labels::read(&root.join(LABELS))?)?)
        })
    }

    fn write<'a>(
        &'a self,
        name: DocumentName,
        document: &'a Document,
        label: &'a Label,
        over: Option<&'a Version>,
    ) -> TargetFuture<'a, ()> {
        let (body, label, over) = (document.body.clone(), label.clone(), over.cloned());
        self.run(name, move |root| write(root, name, &body, &label, over.as_ref()))
    }
}

fn write(
    root: &Path,
    name: DocumentName,
    body: &Bytes,
    label: &Label,
    over: Option<&Version>,
) -> Result<(), Failure> {
    make_folder(root)?;
    let _lock = lock(root)?;
    let path = root.join(name.path());
    let (Some(folder), Some(file_name)) = (path.parent(), path.file_name()) else {
        return Err("the document has no place in it".to_owned().into());
    };
    make_folder(folder)?;
    let mut labels = Labels::read(&root.join(LABELS))?;
    let stored = look(root, name, &labels)?;
    if stored.as_ref().map(|stored| &stored.version) != over {
        return Err(Failure::Changed);
    }
    // First, and beside that of the document that stands there still: whatever a crash leaves is known.
    labels.expect(name, stored.as_ref().map(|stored| &stored.body), body, label);
    replace(root, LABELS.as_ref(), labels.to_json()?.as_bytes())?;
    replace(folder, file_name, body)?;
    Ok(())
}

fn look(root: &Path, name: DocumentName, labels: &Labels) -> Result<Option<Stored>, String> {
    let path = root.join(name.path());
    if !path.parent().map_or(Ok(false), is_folder)? {
        return Ok(None);
    }
    let Some(Found { body, length, mode }) = find(&path)? else { return Ok(None) };
    let label = labels.of(name, &body);
    let version = labels::version(&body, length, mode, label.as_ref());
    let headers_fit = mode & READABLE_BY_ALL == READABLE_BY_ALL;
    Ok(Some(Stored { body, label, version, headers_fit }))
}

/// Waits for its turn, but not for ever. The lock ends with what this returns, or with the process.
fn lock(root: &Path) -> Result<File, String> {
    let path = root.join(LOCK);
    let file = files::open_lock(&path)?;
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(report(&path, "locked", &error)),
        }
    }
    Err(report(&path, "locked", &io::Error::from(io::ErrorKind::TimedOut)))
}

#[cfg(test)]
mod tests;
