//! TLS for the listeners: reads a certificate with its key.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, ServerConfig};
use zeroize::Zeroizing;

use crate::values::{regular_file, x509};

mod certificate;

pub use certificate::Certificate;

/// The maximum size of a file. Neither a certificate chain nor a key is larger.
const MAX_BYTES: usize = 1024 * 1024;

/// The certificate or its key is unusable.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{} cannot be read", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// The file contains no PEM certificate.
    #[error("{} holds no PEM certificate", .0.display())]
    NoCertificate(PathBuf),
    /// The file contains no PEM private key.
    #[error("{} holds no PEM private key (PKCS #8, PKCS #1 or SEC 1)", .0.display())]
    NoKey(PathBuf),
    /// The certificate and the key do not match, or TLS does not support one of them.
    #[error("the certificate and the private key cannot be used together for TLS")]
    Pair(#[from] rustls::Error),
}

/// The contents of the certificate's file and of the key's file.
struct Files {
    certificate: Zeroizing<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
}

/// A certificate with its key, ready to serve.
struct Pair {
    acceptor: TlsAcceptor,
    /// The certificate's expiry; `None` if it cannot be parsed.
    expires_at: Option<Timestamp>,
}

impl Files {
    fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self { certificate: read(certificate)?, key: read(key)? })
    }
}

impl Pair {
    /// Creates a pair from the contents of two PEM files. The paths are only for errors, which never show
    /// content.
    ///
    /// Sessions of another pair are not resumed, so every client sees this certificate.
    fn new(files: &Files, certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_slice_iter(&files.certificate)
            .collect::<Result<Vec<_>, pem::Error>>()
            .ok()
            .filter(|chain| !chain.is_empty())
            .ok_or_else(|| TlsError::NoCertificate(certificate.to_owned()))?;
        let key = PrivateKeyDer::from_pem_slice(&files.key).map_err(|_| TlsError::NoKey(key.to_owned()))?;
        let expires_at = chain.first().and_then(|certificate| x509::not_after(certificate));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), expires_at })
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let failed = |error| TlsError::Read(path.to_owned(), error);
    regular_file::read(path, MAX_BYTES).map_err(failed)
}
