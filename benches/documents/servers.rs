//! The servers in this process, each with one thread that serves.

use std::any::Any;
use std::convert::Infallible;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use carnet::internals::http::public::{Detail, PublicDocuments};
use carnet::internals::http::server::{Served, Settings, serve};
use carnet::internals::issuer::Issuer;
use carnet::internals::oidc::metadata::Document;
use carnet::internals::values::clock::SystemClock;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, ETAG};
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::support::Outcome;

/// A running server; it stops when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// The file in which Linux counts the processor time of the one thread that serves.
    pub(crate) schedule_statistics: PathBuf,
    pub(crate) _stops_when_dropped: Box<dyn Any>,
}

impl Server {
    fn in_process(address: SocketAddr, runtime: Runtime) -> Outcome<Self> {
        // A spawned task runs on the worker.
        let worker = runtime.block_on(runtime.spawn(async { fs::read_link("/proc/thread-self") }))??;
        let schedule_statistics = Path::new("/proc").join(worker).join("schedstat");
        Ok(Self { address, schedule_statistics, _stops_when_dropped: Box::new(runtime) })
    }

    /// Returns the processor time of the thread that serves.
    pub(crate) fn processor_time(&self) -> Outcome<Duration> {
        let statistics = fs::read_to_string(&self.schedule_statistics)?;
        let nanoseconds = statistics.split(' ').next().unwrap_or_default().parse()?;
        Ok(Duration::from_nanos(nanoseconds))
    }
}

/// `serve`, as the command runs it.
pub(crate) fn carnet(issuer: Arc<Issuer>) -> Outcome<Server> {
    let (runtime, listener) = runtime_and_listener()?;
    let address = listener.local_addr()?;
    let documents = PublicDocuments::new(issuer, Detail::Full);
    let (served, settings) = (Served::documents_only(documents), Settings::default());
    runtime.spawn(serve(listener, served, settings, Arc::new(SystemClock::new()), std::future::pending()));
    Server::in_process(address, runtime)
}

/// Nothing but hyper: one answer for every request, no time limits, no routes, no shutdown.
pub(crate) fn bare_hyper(document: Document) -> Outcome<Server> {
    let (runtime, listener) = runtime_and_listener()?;
    let address = listener.local_addr()?;
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let document = document.clone();
            tokio::spawn(async move {
                stream.set_nodelay(true)?;
                let service = service_fn(move |_: Request<Incoming>| {
                    let response = response(&document);
                    async move { Ok::<_, Infallible>(response) }
                });
                http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await
                    .map_err(std::io::Error::other)
            });
        }
    });
    Server::in_process(address, runtime)
}

fn response(document: &Document) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(document.body.clone()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, document.cache_control.clone());
    headers.insert(ETAG, document.etag.clone());
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// The runtime of the command, with one worker.
fn runtime_and_listener() -> Outcome<(Runtime, TcpListener)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    Ok((runtime, listener))
}
