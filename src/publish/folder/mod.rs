//! A local folder as a target, for a web server that serves the issuer's documents from it.
//!
//! A document is replaced atomically: carnet writes and syncs a temporary file, then renames it, so no reader
//! sees a partial document. Reading, comparing and writing happen under a file lock that other carnet
//! processes on this machine respect. On a network file system the lock is only as good as that file system
//! makes it: let a single process publish there.

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

/// The file that holds the labels of the documents in the folder.
const LABELS: &str = ".carnet-publication.json";
/// The lock file. It is empty; readers and writers of the folder hold its lock.
const LOCK: &str = ".carnet-publication.lock";

/// The number of attempts to take a lock that another process holds, [`LOCK_PAUSE`] apart: five seconds in
/// all. A writer holds it for some milliseconds.
const LOCK_ATTEMPTS: usize = 250;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The timeout for one operation. A network file system may never respond.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// The permission bits that every document needs: a web server cannot serve a file that it may not read.
const READABLE_BY_ALL: u32 = 0o444;

/// A folder as a target. It is created on the first write; its parent must exist.
#[derive(Debug)]
pub struct FolderTarget {
    url: TargetUrl,
    root: PathBuf,
}

/// The reasons why an operation on the folder failed.
enum FolderFailure {
    Changed,
    Failed(String),
}

impl From<String> for FolderFailure {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

impl FolderTarget {
    /// Creates a target for the folder at `root`, an absolute path.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { url: TargetUrl::Folder(root.clone()), root }
    }

    /// Runs `work` on the folder in a thread where blocking is allowed.
    fn run<T: Send + 'static>(
        &self,
        name: DocumentName,
        work: impl FnOnce(&Path) -> Result<T, FolderFailure> + Send + 'static,
    ) -> TargetFuture<'_, T> {
        let root = self.root.clone();
        Box::pin(async move {
            let working = tokio::task::spawn_blocking(move || work(&root));
            let done = match tokio::time::timeout(ENDS_WITHIN, working).await {
                Ok(Ok(done)) => done,
                Ok(Err(_)) => Err("the work on it was interrupted".to_owned().into()),
                // The work may still finish later. It then holds the lock and checks its condition, so it
                // does no harm.
                Err(_) => Err("the file system does not respond".to_owned().into()),
            };
            done.map_err(|failure| match failure {
                FolderFailure::Changed => TargetError::Changed(name),
                FolderFailure::Failed(reason) => {
                    TargetError::Failed { document: name, target: self.url.clone(), reason, tls: None }
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
            Ok(stored_document(root, name, &Labels::read(&root.join(LABELS))?)?)
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
) -> Result<(), FolderFailure> {
    make_folder(root)?;
    let _lock = lock(root)?;
    let path = root.join(name.path());
    let (Some(folder), Some(file_name)) = (path.parent(), path.file_name()) else {
        return Err("the document does not belong in it".to_owned().into());
    };
    make_folder(folder)?;
    let mut labels = Labels::read(&root.join(LABELS))?;
    let stored = stored_document(root, name, &labels)?;
    if stored.as_ref().map(|stored| &stored.version) != over {
        return Err(FolderFailure::Changed);
    }
    // Written before the document, and together with the label of the current document: whichever of the two
    // a crash leaves behind has a label.
    labels.expect(name, stored.as_ref().map(|stored| &stored.body), body, label);
    replace(root, LABELS.as_ref(), labels.to_json()?.as_bytes())?;
    // If only the label is new, web servers and their clients see no new document.
    if !stored.is_some_and(|stored| stored.body == *body && stored.headers_fit) {
        replace(folder, file_name, body)?;
    }
    Ok(())
}

fn stored_document(root: &Path, name: DocumentName, labels: &Labels) -> Result<Option<Stored>, String> {
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

/// Takes the lock, or fails after five seconds. Dropping the returned file, or the end of the process,
/// releases it.
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
