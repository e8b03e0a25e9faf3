//! The accept loop: connections, their limits, and graceful shutdown.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::future::RouteFuture;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Either, Full};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower_service::Service as _;

use super::client_address::{Peer, TrustedProxies};
use super::header_timer::HeaderTimer;
use super::host;
use super::limits::{Admission, Limits};
use super::listener::{Listener, Stream};
use super::public::PublicDocuments;
use super::slow::{TimedBody, Watched};
use crate::values::clock::Clock;

/// The backoff after an accept fails, for example because file descriptors run out.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// The content that a listener serves.
#[derive(Debug, Clone)]
pub struct Served {
    /// The public documents, served first and without the router: every verifier fetches these, often many at
    /// once.
    pub documents: PublicDocuments,
    /// All other routes. A request's extensions contain a
    /// [`ClientAddress`](super::client_address::ClientAddress).
    pub router: Router,
}

impl Served {
    /// Returns the public documents without any other route.
    #[must_use]
    pub fn documents_only(documents: PublicDocuments) -> Self {
        Self { documents, router: Router::new() }
    }
}

/// The settings of a listener for its clients.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The limits.
    pub limits: Limits,
    /// The proxies that are trusted to name their clients.
    pub trusted_proxies: TrustedProxies,
}

/// The state shared by the connections of one listener.
struct Shared {
    served: Served,
    settings: Settings,
}

/// Serves `served` on `listener` until `shutdown` completes, then lets requests in progress finish.
///
/// Supports only HTTP/1.1. After `shutdown`, no client can connect, idle connections are closed, and every
/// response closes its connection.
pub async fn serve(
    listener: impl Into<Listener>,
    served: Served,
    settings: Settings,
    clock: Arc<dyn Clock>,
    shutdown: impl Future<Output = ()>,
) {
    let listener = listener.into();
    let admission = Admission::new(&settings.limits);
    let shared = Arc::new(Shared { served, settings });
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        // While all permits are taken, clients wait in the operating system's queue.
        let next = async {
            let permit = admission.permit().await;
            (permit, listener.accept().await)
        };
        let (mut permit, accepted) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            // Removes finished connections, so that the set does not grow.
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
            next = next => next,
        };
        match accepted {
            Ok((stream, peer)) => {
                if !admits(&shared.settings.trusted_proxies, &admission, &mut permit, peer) {
                    tracing::debug!(?peer, "closed: too many connections from this address");
                    continue;
                }
                let (shared, watcher) = (Arc::clone(&shared), graceful.watcher());
                connections.spawn(async move {
                    let ended = connection(stream, peer, shared, watcher).await;
                    drop(permit);
                    ended
                });
            }
            // Not an error of the server: the client disconnected before its connection was accepted.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) => {}
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                clock.sleep_until(clock.monotonic() + ACCEPT_BACKOFF).await;
            }
        }
    }
    drop(listener);
    let drain = shared.settings.limits.drain;
    if timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were cut off: they did not finish within {drain:?}");
    }
}

/// Returns whether one more connection of `peer` is admitted.
fn admits(
    trusted: &TrustedProxies,
    admission: &Admission,
    permit: &mut super::limits::Permit,
    peer: Peer,
) -> bool {
    match peer {
        Peer::Ip(address) if !address.is_loopback() && !trusted.trust(peer) => {
            admission.admits(permit, address)
        }
        Peer::Ip(_) | Peer::Unix => true,
    }
}

fn report(ended: Result<io::Result<()>, tokio::task::JoinError>) {
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "connection ended early"),
        Err(error) => tracing::error!(%error, "a request ended its connection"),
    }
}

async fn connection(stream: Stream, peer: Peer, shared: Arc<Shared>, watcher: Watcher) -> io::Result<()> {
    // Responses are written whole, so waiting to fill a packet would only delay them.
    match stream {
        Stream::Tcp(stream) => {
            stream.set_nodelay(true)?;
            requests(stream, peer, shared, watcher).await
        }
        Stream::Tls(stream, acceptor) => {
            stream.set_nodelay(true)?;
            let stream = timeout(shared.settings.limits.handshake, acceptor.accept(stream)).await??;
            requests(stream, peer, shared, watcher).await
        }
        Stream::Unix(stream) => requests(stream, peer, shared, watcher).await,
    }
    .map_err(io::Error::other)
}

async fn requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    shared: Arc<Shared>,
    watcher: Watcher,
) -> hyper::Result<()> {
    let limits = &shared.settings.limits;
    let timer = HeaderTimer::new(limits.header);
    let stream = Watched::new(stream, timer.activity(), limits.response);
    let connection = http1::Builder::new()
        .timer(timer)
        .header_read_timeout(limits.idle)
        .max_buf_size(limits.header_bytes)
        // Responses are small: copying them after their header is cheaper than a vectored write.
        .writev(false)
        .serve_connection(TokioIo::new(stream), Requests { shared, peer });
    watcher.watch(connection).await
}

/// The requests of one connection.
struct Requests {
    shared: Arc<Shared>,
    peer: Peer,
}

/// The future of a response. A separate type, so that documents need neither the router nor the heap.
enum ResponseFuture {
    /// A document's response; `None` once it is taken.
    Now(Option<Response<Full<Bytes>>>),
    /// The router's response.
    Later(Pin<Box<RouteFuture<Infallible>>>),
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response<Either<Full<Bytes>, Body>>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn call(&self, request: Request<Incoming>) -> ResponseFuture {
        let Shared { served, settings } = &*self.shared;
        if !host::is_one(request.version(), request.headers()) {
            return ResponseFuture::Now(Some(host::refusal()));
        }
        match served.documents.response(request.method(), request.uri().path(), request.headers()) {
            Some(response) => ResponseFuture::Now(Some(response)),
            None => {
                let client = settings.trusted_proxies.client(self.peer, request.headers());
                if let Some(header) = settings.trusted_proxies.undeclared(self.peer, request.headers()) {
                    served.documents.status().undeclared_proxy(self.peer, header);
                }
                let mut request = request.map(|body| match body.is_end_stream() {
                    true => Body::empty(),
                    false => Body::new(TimedBody::new(body, settings.limits.body)),
                });
                request.extensions_mut().insert(client);
                ResponseFuture::Later(Box::pin(served.router.clone().call(request)))
            }
        }
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<Either<Full<Bytes>, Body>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            // As for every future, a caller must not poll again after the response.
            Self::Now(response) => match response.take() {
                Some(response) => Poll::Ready(Ok(response.map(Either::Left))),
                None => Poll::Pending,
            },
            Self::Later(response) => {
                response.as_mut().poll(context).map_ok(|response| response.map(Either::Right))
            }
        }
    }
}
