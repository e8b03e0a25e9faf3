//! The limits of a listener and of each client: connections, time and bytes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::values::network::network;

/// The default of [`Limits::drain`].
pub const DRAIN: Duration = Duration::from_secs(7);

/// The limits of one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The maximum number of connections. Further ones wait to be accepted.
    pub connections: usize,
    /// The maximum number of connections of one IPv4 address or IPv6 /64 network. Further ones are closed.
    /// Loopback, the Unix socket and trusted proxies serve many clients, so only `connections` limits them.
    pub connections_per_address: usize,
    /// The timeout of the TLS handshake.
    pub handshake: Duration,
    /// The timeout of a request's header, from its first byte. For the first header of a connection, it
    /// starts with the connection.
    pub header: Duration,
    /// The timeout between two requests of a connection. It also limits the next request's header.
    pub idle: Duration,
    /// The timeout of a request's body, from the end of its header.
    pub body: Duration,
    /// The timeout for the client to receive the data waiting to be sent: a whole response, or about 16 KiB
    /// of a longer one.
    pub response: Duration,
    /// The maximum time for requests in progress when the server stops.
    pub drain: Duration,
    /// The maximum size of a request's first line and header, in bytes. A larger one is refused with 431.
    pub header_bytes: usize,
}

impl Limits {
    /// Returns the default limits with another number of connections, a quarter of them for one address.
    #[must_use]
    pub fn with_connections(connections: usize) -> Self {
        Self { connections, connections_per_address: connections.div_ceil(4), ..Self::default() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_address: 2_500,
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(30),
            // Longer than the minute for which load balancers keep connections: the side that sends requests
            // must close first.
            idle: Duration::from_secs(75),
            body: Duration::from_secs(30),
            response: Duration::from_secs(30),
            // Longer than most exchanges with a provider, and short enough for a server that must stop within
            // ten seconds.
            drain: DRAIN,
            header_bytes: 16 * 1024,
        }
    }
}

/// The admission of connections.
#[derive(Debug)]
pub(super) struct Admission {
    permits: Arc<Semaphore>,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    per_address: usize,
}

/// A permit for one connection, returned when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    _permit: OwnedSemaphorePermit,
    counted: Option<Counted>,
}

#[derive(Debug)]
struct Counted {
    network: IpAddr,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Admission {
    pub(super) fn new(limits: &Limits) -> Self {
        let permits = limits.connections.min(Semaphore::MAX_PERMITS);
        Self {
            permits: Arc::new(Semaphore::new(permits)),
            taken: Arc::default(),
            per_address: limits.connections_per_address,
        }
    }

    /// Waits for a permit.
    pub(super) async fn permit(&self) -> Permit {
        match Arc::clone(&self.permits).acquire_owned().await {
            Ok(permit) => Permit { _permit: permit, counted: None },
            // The semaphore is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    /// Returns whether a connection from `address` may keep its permit. If so, the connection counts until
    /// the permit is dropped.
    pub(super) fn admits(&self, permit: &mut Permit, address: IpAddr) -> bool {
        let network = network(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(network).or_default();
        if *count >= self.per_address {
            return false;
        }
        *count += 1;
        permit.counted = Some(Counted { network, taken: Arc::clone(&self.taken) });
        true
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_takes_its_share_and_leaves_the_rest() {
        let admission = Admission::new(&Limits::with_connections(8));
        let mut permits = Vec::new();
        for (address, admitted) in [
            ("203.0.113.7", true),
            ("203.0.113.7", true),
            ("203.0.113.7", false),
            ("203.0.113.8", true),
            ("2001:db8::1", true),
            ("2001:db8::ffff:1", true),
            ("2001:db8::2", false),
            ("2001:db8:0:1::1", true),
        ] {
            let mut permit = admission.permit().await;
            assert_eq!(admission.admits(&mut permit, address.parse().unwrap()), admitted, "{address}");
            permits.extend(admitted.then_some(permit));
        }
        permits.remove(0);
        let mut permit = admission.permit().await;
        assert!(admission.admits(&mut permit, "203.0.113.7".parse().unwrap()), "a place that is free again");
        drop((permit, permits));
        assert!(admission.taken.lock().unwrap().is_empty(), "what is over is forgotten");
        assert_eq!(admission.permits.available_permits(), 8);
    }

    #[tokio::test]
    async fn a_connection_beyond_the_limit_waits_for_a_free_permit() {
        let admission = Admission::new(&Limits::with_connections(1));
        let first = admission.permit().await;
        let mut second = Box::pin(admission.permit());
        let waits = std::future::poll_fn(|context| {
            std::task::Poll::Ready(second.as_mut().poll(context).is_pending())
        });
        assert!(waits.await);
        drop(first);
        second.await;
    }
}
