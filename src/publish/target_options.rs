//! The options for opening a target, and its errors.

use crate::exchange::proxy::ProxyUrl;
use crate::exchange::transport::TransportConfigError;
use crate::values::target_url::TargetUrl;

/// Network options for object stores; folders need none.
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
    /// The environment's settings for the object store cannot be used.
    #[error("{target} cannot be reached with what the environment says: {reason}")]
    Environment {
        /// The target.
        target: TargetUrl,
        /// The setting that is missing or wrong.
        reason: String,
    },
}
