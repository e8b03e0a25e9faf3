//! The accept loop: connections, time limits, graceful shutdown.

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
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower_service::Service as _;

use super::header_timer::HeaderTimer;
use super::public::PublicDocuments;
use crate::clock::Clock;

/// A client has this long to send its request's header, or the next one on an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A client has this long for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests under way at shutdown have this long to finish.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Larger request headers are refused with 431.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// After an accept fails, as when file descriptors run out, the loop waits this long.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// What a listener serves.
#[derive(Debug, Clone)]
pub struct Served {
    /// Answered first and without the router: every verifier fetches these, often all at once.
    pub documents: PublicDocuments,
    /// Everything else.
    pub router: Router,
}

/// Serves `served` on `listener` until `shutdown` completes, then lets requests under way finish.
///
/// HTTP/1.1 only.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    served: Served,
    clock: Arc<dyn Clock>,
    shutdown: impl Future<Output = ()>,
) {
    let served = Arc::new(served);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            // Reaps connections that are over, so that the set does not grow.
            Some(ended) = connections.join_next() => {
                if let Ok(Err(error)) = ended {
                    tracing::debug!(%error, "connection ended early");
                }
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (tls, served, watcher) = (tls.clone(), Arc::clone(&served), graceful.watcher());
                connections.spawn(connection(stream, tls, served, watcher));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                clock.sleep_until(clock.monotonic() + ACCEPT_BACKOFF).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were cut off: they did not finish within {DRAIN_TIMEOUT:?}");
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    served: Arc<Served>,
    watcher: hyper_util::server::graceful::Watcher,
) -> io::Result<()> {
    // Answers are written whole; waiting to fill a packet only delays them.
    stream.set_nodelay(true)?;
    match tls {
        Some(tls) => {
            let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await??;
            requests(stream, served, watcher).await
        }
        None => requests(stream, served, watcher).await,
    }
    .map_err(io::Error::other)
}

async fn requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    served: Arc<Served>,
    watcher: hyper_util::server::graceful::Watcher,
) -> hyper::Result<()> {
    let connection = http1::Builder::new()
        .timer(HeaderTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        // Answers are small: copying them behind their header is cheaper than a gathering write.
        .writev(false)
        .serve_connection(TokioIo::new(stream), Requests(served));
    watcher.watch(connection).await
}

/// The requests of one connection.
struct Requests(Arc<Served>);

/// An answer under way. A type of its own, so that documents need neither the router nor the heap.
enum Answer {
    /// A document's; `None` once it is taken.
    Now(Option<Response<Full<Bytes>>>),
    /// The router's.
    Later(Pin<Box<RouteFuture<Infallible>>>),
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response<Either<Full<Bytes>, Body>>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        let Self(served) = self;
        match served.documents.answer(request.method(), request.uri().path(), request.headers()) {
            Some(response) => Answer::Now(Some(response)),
            None => Answer::Later(Box::pin(served.router.clone().call(request.map(Body::new)))),
        }
    }
}

impl Future for Answer {
    type Output = Result<Response<Either<Full<Bytes>, Body>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            // As of every future, nobody asks twice for what was ready.
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
