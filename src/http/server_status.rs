//! A server's own state, which its issuer does not know: its shutdown, its certificate, and an undeclared
//! proxy.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::client_address::Peer;
use super::tls::Certificate;

/// The state of a server with all its listeners, for `/readyz`.
#[derive(Debug, Default)]
pub struct ServerStatus {
    draining: AtomicBool,
    certificate: Option<Arc<Certificate>>,
    /// The first peer that forwarded for others without being trusted to.
    undeclared_proxy: OnceLock<Peer>,
}

impl ServerStatus {
    /// Creates the state of a server that is not stopping, with its certificate, if any.
    #[must_use]
    pub fn new(certificate: Option<Arc<Certificate>>) -> Self {
        Self { certificate, ..Self::default() }
    }

    /// Makes `/readyz` report from now on that the server is stopping, so that load balancers use other
    /// servers.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Returns whether the server is stopping.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Records that `peer` sent a request with `header` and is not a trusted proxy. Only the first such peer
    /// is logged.
    pub fn undeclared_proxy(&self, peer: Peer, header: &'static str) {
        if self.undeclared_proxy.set(peer).is_ok() {
            let peer = peer.to_string();
            tracing::warn!(
                peer,
                header,
                "a request has a forwarding header, but its peer is not among --trusted-proxies: carnet \
                 ignores the header, and all clients behind this peer share the limits of one address; if \
                 the peer is your proxy, name it in --trusted-proxies"
            );
        }
    }

    /// Returns the first peer that forwarded for others without being trusted to.
    #[must_use]
    pub fn first_undeclared_proxy(&self) -> Option<Peer> {
        self.undeclared_proxy.get().copied()
    }

    /// Returns the served certificate; `None` without TLS.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_deref()
    }
}
