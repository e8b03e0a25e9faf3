//! What a server knows of itself that its issuer does not: whether it stops, and its certificate.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::client_address::Peer;
use super::tls::Certificate;

/// The status of a server with all its listeners, for `/readyz`.
#[derive(Debug, Default)]
pub struct ServerStatus {
    draining: AtomicBool,
    certificate: Option<Arc<Certificate>>,
    /// The first peer that spoke for others without being trusted to.
    undeclared_proxy: OnceLock<Peer>,
}

impl ServerStatus {
    /// Of a server that is not stopping, with the certificate that it shows, if any.
    #[must_use]
    pub fn new(certificate: Option<Arc<Certificate>>) -> Self {
        Self { certificate, ..Self::default() }
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

    /// Notes that `peer` sent a request with `header`, and is not among the trusted proxies. Logged once.
    pub fn undeclared_proxy(&self, peer: Peer, header: &'static str) {
        if self.undeclared_proxy.set(peer).is_ok() {
            let peer = peer.to_string();
            tracing::warn!(
                peer,
                header,
                "a request has a forwarding header, and its peer is not among --trusted-proxies: the header is not \
                 read, and everyone behind this peer shares the limits of one address; if it is a proxy of yours, name \
                 it in --trusted-proxies"
            );
        }
    }

    /// The first peer that spoke for others without being trusted to.
    #[must_use]
    pub fn first_undeclared_proxy(&self) -> Option<Peer> {
        self.undeclared_proxy.get().copied()
    }

    /// The certificate that it shows; `None` without TLS.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_deref()
    }
}
