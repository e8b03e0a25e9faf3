//! The options for opening a target, and its errors.

use crate::exchange::proxy::ProxyUrl;
use crate::exchange::transport::TransportConfigError;
use crate::values::target_url::TargetUrl;

/// Network options for object stores. Folders need none.
#[derive(Debug, Clone, Default)]
pub struct TargetOptions {
    /// CA certificates in PEM that are trusted in addition to the operating system's.
    pub extra_ca_pem: Option<Vec<u8>>,
    /// The proxy for requests, except those to the machine's metadata service and to the machine itself.
    /// Proxies named by the environment are never used.
    pub proxy: Option<ProxyUrl>,
}

/// A target cannot be opened. The text contains no secret.
#[derive(Debug, thiserror::Error)]
pub enum OpenTargetError {
    /// This build supports only folders.
    #[cfg(not(feature = "publish"))]
    #[error("{0} cannot be reached: this build has no object stores (feature `publish`)")]
    NotBuilt(TargetUrl),
    /// The HTTP client could not be created.
    #[error(transparent)]
    Client(#[from] TransportConfigError),
    /// The environment's settings for the object store are unusable.
    #[error("{target} cannot be reached with the settings in the environment: {reason}")]
    Environment {
        /// The target.
        target: TargetUrl,
        /// The setting that is missing or wrong.
        reason: String,
    },
}
