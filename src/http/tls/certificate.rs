//! The served certificate, and its reload.
//!
//! This is written by hand, because rustls does not reread files, and a file watcher cannot distinguish a
//! complete pair from a partly written one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use jiff::Timestamp;
use tokio_rustls::TlsAcceptor;

use super::{Files, Pair, TlsError};
use crate::values::clock::Clock;

/// The interval at which the files are read.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A certificate with its key, from two files, reloaded when their content changes.
pub struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    current: ArcSwap<Pair>,
    seen: Mutex<Seen>,
}

/// The result of reading the files once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// The files have the served content.
    Unchanged,
    /// The content is new. It is served if the next read finds the same.
    Unsettled,
    /// The content is new, and is served from now on.
    Reloaded,
    /// The content cannot be served. The previous certificate still is.
    Refused,
}

/// The SHA-256 of both files.
type Fingerprint = [u8; digest::SHA256_OUTPUT_LEN];

struct Seen {
    served: Fingerprint,
    last: Fingerprint,
    /// The reason why the files' content is not served.
    refused: Option<RefusedPair>,
}

struct RefusedPair {
    /// `None` if the files could not be read.
    fingerprint: Option<Fingerprint>,
    reason: String,
}

impl Certificate {
    /// Reads the certificate chain and the key from two PEM files. An error names the file and never contains
    /// its content.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let files = Files::read(certificate, key)?;
        let pair = Pair::new(&files, certificate, key)?;
        let served = fingerprint(&files);
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            current: ArcSwap::from_pointee(pair),
            seen: Mutex::new(Seen { served, last: served, refused: None }),
        })
    }

    /// Returns the expiry of the served certificate; `None` if it cannot be parsed.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.current.load().expires_at
    }

    /// Returns the reason why the current files are not served, if they are not.
    #[must_use]
    pub fn reload_error(&self) -> Option<String> {
        self.seen().refused.as_ref().map(|refused| refused.reason.clone())
    }

    /// Returns the TLS acceptor for a new connection.
    pub(in crate::http) fn acceptor(&self) -> TlsAcceptor {
        self.current.load().acceptor.clone()
    }

    /// Reads the files, which blocks. New content is served once two reads have found the same, so that a
    /// partly written file is not; or at once, if `settled` says that the files are complete.
    pub fn poll(&self, settled: bool) -> ReloadOutcome {
        let files = Files::read(&self.certificate, &self.key);
        let mut seen = self.seen();
        let files = match files {
            Ok(files) => files,
            Err(error) => return seen.refuse(None, &error),
        };
        let found = fingerprint(&files);
        let was_seen = std::mem::replace(&mut seen.last, found) == found;
        if found == seen.served {
            seen.refused = None;
            return ReloadOutcome::Unchanged;
        }
        if !was_seen && !settled {
            return ReloadOutcome::Unsettled;
        }
        if seen.refused.as_ref().is_some_and(|refused| refused.fingerprint == Some(found)) {
            return ReloadOutcome::Refused;
        }
        match Pair::new(&files, &self.certificate, &self.key) {
            Ok(pair) => {
                tracing::info!(
                    certificate = %self.certificate.display(),
                    expires_at = pair.expires_at.map(tracing::field::display),
                    "the TLS certificate was reloaded"
                );
                self.current.store(Arc::new(pair));
                (seen.served, seen.refused) = (found, None);
                ReloadOutcome::Reloaded
            }
            Err(error) => seen.refuse(Some(found), &error),
        }
    }

    /// Reads the files periodically, and at once when `asked` returns a value. Runs forever. Calls `checked`
    /// at the beginning and after each read.
    pub async fn keep_current(
        self: Arc<Self>,
        clock: &dyn Clock,
        mut asked: impl AsyncFnMut() -> Option<()>,
        mut checked: impl FnMut(&Self),
    ) {
        checked(&self);
        // A pipe has nothing to read again, and the attempt could block forever.
        if !self.certificate.is_file() || !self.key.is_file() {
            return std::future::pending().await;
        }
        loop {
            let settled = tokio::select! {
                () = clock.sleep_until(clock.monotonic() + LOOK_EVERY) => false,
                Some(()) = asked() => true,
            };
            let certificate = Arc::clone(&self);
            // A failed read loses nothing, because the next one follows.
            let _ = tokio::task::spawn_blocking(move || certificate.poll(settled)).await;
            checked(&self);
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// Records the reason, and logs it once.
    fn refuse(&mut self, fingerprint: Option<Fingerprint>, error: &TlsError) -> ReloadOutcome {
        let reason = match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        if self.refused.as_ref().is_none_or(|refused| refused.reason != reason) {
            tracing::warn!(reason, "the TLS certificate is not reloaded; the earlier one is still served");
        }
        self.refused = Some(RefusedPair { fingerprint, reason });
        ReloadOutcome::Refused
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Returns a hash that changes with either file. The length at the start separates the two.
fn fingerprint(files: &Files) -> Fingerprint {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&files.certificate.len().to_be_bytes());
    context.update(&files.certificate);
    context.update(&files.key);
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(context.finish().as_ref());
    fingerprint
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pem {
        certificate: String,
        key: String,
    }

    impl Pem {
        fn new() -> Self {
            let key = rcgen::KeyPair::generate().unwrap();
            let parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
            Self { certificate: parameters.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
        }
    }

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new(pem: &Pem) -> (Self, Certificate) {
            let folder = Self(tempfile::tempdir().unwrap());
            folder.write("crt", &pem.certificate);
            folder.write("key", &pem.key);
            let certificate = Certificate::load(&folder.path("crt"), &folder.path("key")).unwrap();
            (folder, certificate)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.path(name), text).unwrap();
        }
    }

    fn polls<const N: usize>(certificate: &Certificate) -> [ReloadOutcome; N] {
        [(); N].map(|()| certificate.poll(false))
    }

    #[test]
    fn a_new_pair_is_served_once_it_has_settled() {
        let (old, new) = (Pem::new(), Pem::new());
        let (folder, certificate) = Folder::new(&old);
        assert_eq!(polls(&certificate), [ReloadOutcome::Unchanged; 2]);
        folder.write("crt", &new.certificate);
        assert_eq!(polls(&certificate), [ReloadOutcome::Unsettled]);
        folder.write("key", &new.key);
        assert_eq!(
            polls(&certificate),
            [ReloadOutcome::Unsettled, ReloadOutcome::Reloaded, ReloadOutcome::Unchanged]
        );
        folder.write("crt", &old.certificate);
        folder.write("key", &old.key);
        assert_eq!(certificate.poll(true), ReloadOutcome::Reloaded, "whoever asks says that it is whole");
        assert_eq!(certificate.reload_error(), None);
    }

    #[test]
    fn a_mismatched_pair_is_not_served_and_is_reported_with_the_reason() {
        let (old, new) = (Pem::new(), Pem::new());
        let (folder, certificate) = Folder::new(&old);
        let half = |text: &str| text[..text.len() / 2].to_owned();
        let refused = |what: &str, reason: &str| {
            assert_eq!(
                polls(&certificate),
                [ReloadOutcome::Unsettled, ReloadOutcome::Refused, ReloadOutcome::Refused],
                "{what}"
            );
            let error = certificate.reload_error().unwrap();
            assert!(error.contains(reason), "{what}: {error}");
        };
        folder.write("crt", &new.certificate);
        refused("another key", "cannot be used together for TLS");
        folder.write("crt", &half(&new.certificate));
        refused("half a certificate", "holds no PEM certificate");
        folder.write("crt", "");
        refused("an empty file", "holds no PEM certificate");
        folder.write("crt", &(old.certificate.clone() + &half(&new.certificate)));
        refused("a chain that breaks off", "holds no PEM certificate");
        folder.write("crt", &new.certificate);
        folder.write("key", &half(&new.key));
        refused("half a key", "holds no PEM private key");
        std::fs::remove_file(folder.path("key")).unwrap();
        assert_eq!(polls(&certificate), [ReloadOutcome::Refused; 2]);
        assert!(certificate.reload_error().unwrap().contains("cannot be read"));

        folder.write("key", &new.key);
        assert_eq!(polls(&certificate), [ReloadOutcome::Unsettled, ReloadOutcome::Reloaded]);
        assert_eq!(certificate.reload_error(), None);
    }
}
