//! The time limit for request headers, for the price of one timer per connection.
//!
//! hyper asks for a new deadline before every request and drops it when the request's header is
//! there. A timer of the runtime for each would be allocated, put under a lock into the runtime's
//! wheel and taken out again, many thousand times a second, only to ring once in a blue moon.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt;
use tokio::time::{Instant, Sleep, sleep_until};

/// The deadlines of one connection. They share one alarm, which is moved only when it rings.
///
/// Invariant: whoever waits has a deadline that is not before the alarm's, because every deadline
/// is made later than the one before it and lies equally far ahead. So nobody is woken too late.
pub(super) struct HeaderTimer {
    alarm: Arc<Mutex<Pin<Box<Sleep>>>>,
}

/// Completes at its deadline.
struct Deadline {
    at: Instant,
    alarm: Arc<Mutex<Pin<Box<Sleep>>>>,
}

impl HeaderTimer {
    /// A timer for one connection, in the runtime that it is called in.
    pub(super) fn new() -> Self {
        // Rings at the first look at it, which moves it to the first deadline.
        Self { alarm: Arc::new(Mutex::new(Box::pin(sleep_until(Instant::now())))) }
    }
}

impl rt::Timer for HeaderTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(Deadline { at: deadline.into(), alarm: Arc::clone(&self.alarm) })
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into()
    }
}

impl rt::Sleep for Deadline {}

impl Future for Deadline {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut alarm = self.alarm.lock().unwrap_or_else(PoisonError::into_inner);
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
        let timer = HeaderTimer::new();
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
            // Ends when the server closes the connection.
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).unwrap_or_default();
        });
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(|_: Request<Incoming>| async {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"answer"))))
        });
        let ended = http1::Builder::new()
            .timer(HeaderTimer::new())
            .header_read_timeout(Duration::from_millis(50))
            .serve_connection(TokioIo::new(stream), service)
            .await;
        assert!(ended.unwrap_err().is_timeout());
        client.await.unwrap();
    }
}
