//! The time limits for request headers, at the cost of one timer per connection.
//!
//! hyper requests a new deadline before every request and drops it when the request's header has arrived. A
//! timer of the runtime for each would be allocated, inserted under a lock into the runtime's timer wheel and
//! removed again, many thousand times a second, and would hardly ever fire.
//!
//! hyper has a single limit, from the end of one request to the end of the next request's header. This module
//! has two: the longer one is hyper's, for an idle connection; the shorter one begins with the header's first
//! byte.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt;
use tokio::time::{Instant, Sleep, sleep_until};

/// The deadlines of one connection. They share one alarm, which is moved later when it fires, and earlier
/// when a header begins.
///
/// Invariant: no pending deadline is before the alarm's. Every deadline is created later than the previous
/// one and is equally far ahead, and a deadline that moves earlier moves the alarm with it. So no deadline
/// fires late.
pub(super) struct HeaderTimer {
    shared: Arc<Shared>,
    /// Set once a deadline has been requested. The first header counts as already begun.
    is_used: AtomicBool,
}

struct Shared {
    alarm: Mutex<Pin<Box<Sleep>>>,
    /// Set if data has arrived since the last deadline was created.
    heard: AtomicBool,
    /// The limit for a header that has begun.
    limit: Duration,
}

/// The handle that tells a connection's timer that data has arrived.
pub(super) struct ReadActivity(Arc<Shared>);

/// A future that completes at its deadline.
struct Deadline {
    at: Instant,
    has_begun: bool,
    shared: Arc<Shared>,
}

impl HeaderTimer {
    /// Creates the timer of one connection, in the current runtime. A header has the time `limit` from its
    /// first byte; the first header has it from now.
    pub(super) fn new(limit: Duration) -> Self {
        // The alarm fires at its first poll, which moves it to the first deadline.
        let alarm = Mutex::new(Box::pin(sleep_until(Instant::now())));
        let shared = Arc::new(Shared { alarm, heard: AtomicBool::new(true), limit });
        Self { shared, is_used: AtomicBool::new(false) }
    }

    pub(super) fn activity(&self) -> ReadActivity {
        ReadActivity(Arc::clone(&self.shared))
    }
}

impl ReadActivity {
    pub(super) fn hear(&self) {
        // A single task reads and polls the deadline, so no other memory depends on the order.
        self.0.heard.store(true, Ordering::Relaxed);
    }
}

impl rt::Timer for HeaderTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn rt::Sleep>> {
        if self.is_used.swap(true, Ordering::Relaxed) {
            self.shared.heard.store(false, Ordering::Relaxed);
        }
        Box::pin(Deadline { at: deadline.into(), has_begun: false, shared: Arc::clone(&self.shared) })
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into()
    }
}

impl rt::Sleep for Deadline {}

impl Future for Deadline {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let begins = !self.has_begun && self.shared.heard.load(Ordering::Relaxed);
        if begins {
            self.has_begun = true;
            self.at = self.at.min(Instant::now() + self.shared.limit);
        }
        let mut alarm = self.shared.alarm.lock().unwrap_or_else(PoisonError::into_inner);
        if begins && alarm.deadline() > self.at {
            alarm.as_mut().reset(self.at);
        }
        loop {
            ready!(alarm.as_mut().poll(context));
            if alarm.deadline() >= self.at {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(self.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io::{Read as _, Write as _};

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use hyper::body::Incoming;
    use hyper::rt::Timer as _;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;

    use super::*;

    #[tokio::test]
    async fn a_deadline_is_kept_after_an_earlier_one_was_dropped() {
        let timer = HeaderTimer::new(Duration::from_secs(60));
        for milliseconds in [5, 20, 10] {
            let mut dropped = timer.sleep(Duration::from_millis(1));
            assert!(
                std::future::poll_fn(|context| Poll::Ready(dropped.as_mut().poll(context)))
                    .await
                    .is_pending()
            );
            drop(dropped);
            let deadline = timer.now() + Duration::from_millis(milliseconds);
            timer.sleep_until(deadline).await;
            assert!(timer.now() >= deadline);
        }
    }

    #[tokio::test]
    async fn a_deadline_comes_closer_when_something_arrives() {
        let timer = HeaderTimer::new(Duration::from_millis(20));
        let (idle, activity) = (Duration::from_secs(3600), timer.activity());
        let started = timer.now();
        timer.sleep(idle).await;
        let first = timer.now() - started;
        assert!(first >= Duration::from_millis(20), "the first header counts as begun: {first:?}");

        let mut second = timer.sleep(idle);
        let waits = std::future::poll_fn(|context| Poll::Ready(second.as_mut().poll(context).is_pending()));
        assert!(waits.await);
        activity.hear();
        let heard = timer.now();
        second.await;
        assert!(timer.now() - heard >= Duration::from_millis(20));
    }

    #[tokio::test]
    async fn a_client_that_stops_within_a_header_is_cut_off() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = tokio::task::spawn_blocking(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            let whole = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
            stream.write_all(whole).unwrap();
            stream.read_exact(&mut [0; 15]).unwrap();
            stream.write_all(whole).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHo").unwrap();
            // Returns when the server closes the connection.
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).unwrap_or_default();
        });
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(|_: Request<Incoming>| async {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"answer"))))
        });
        let ended = http1::Builder::new()
            .timer(HeaderTimer::new(Duration::from_secs(60)))
            .header_read_timeout(Duration::from_millis(50))
            .serve_connection(TokioIo::new(stream), service)
            .await;
        assert!(ended.unwrap_err().is_timeout());
        client.await.unwrap();
    }
}
