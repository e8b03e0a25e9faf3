//! What opening a target takes, and how it fails.

use crate::exchange::proxy::ProxyUrl;
use crate::exchange::transport::TransportConfigError;
use crate::target_url::TargetUrl;

/// How object stores are reached. Folders need none of it.
#[derive(Debug, Clone, Default)]
pub struct TargetOptions {
    /// Certificates in PEM that are trusted beside the operating system's.
    pub extra_ca_pem: Option<Vec<u8>>,
    /// The proxy that requests go through, but for those to the machine's metadata service and to the machine
    /// itself; never one of the environment's.
    pub proxy: Option<ProxyUrl>,
}

/// A target cannot be used, whatever may stand there. The text holds nothing secret.
#[derive(Debug, thiserror::Error)]
pub enum OpenTargetError {
    /// This build knows folders only.
    #[error("{0} cannot be reached: this build has no object stores (feature `publish`)")]
    NotBuilt(TargetUrl),
    /// The HTTP client could not be made.
    #[error(transparent)]
    Client(#[from] TransportConfigError),
    /// What the environment says of the object store is of no use.
    #[error("{target} cannot be reached with what the environment says: {reason}")]
    Environment {
        /// The target.
        target: TargetUrl,
        /// What is missing or wrong.
        reason: String,
    },
}
