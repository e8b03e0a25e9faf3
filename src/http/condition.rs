//! What a server knows of itself that its issuer does not: whether it stops, and its certificate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::tls::Certificate;

/// The condition of a server with all its listeners, for `/readyz`.
#[derive(Debug, Default)]
pub struct Condition {
    draining: AtomicBool,
    certificate: Option<Arc<Certificate>>,
}

impl Condition {
    /// Of a server that is not stopping, with the certificate that it shows, if any.
    #[must_use]
    pub fn new(certificate: Option<Arc<Certificate>>) -> Self {
        Self { draining: AtomicBool::new(false), certificate }
    }

    /// From now on `/readyz` says that the server is stopping, so that load balancers go elsewhere.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the server is stopping.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// The certificate that it shows; `None` without TLS.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_deref()
    }
}
