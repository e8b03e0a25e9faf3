//! Timeouts for clients that are deliberately slow to receive a response or to send a body.
//!
//! Timers are created only when a client has to be waited for, so fast clients cost nothing.

use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::header_timer::ReadActivity;
use super::line_ends::LineEnds;

/// A connection that fails if the client does not receive the written data within `patience`. It also tells
/// the header's timer when data arrives, and invalidates heads with bare line feeds.
pub(super) struct Watched<S> {
    stream: S,
    activity: ReadActivity,
    line_ends: LineEnds,
    patience: Duration,
    /// Set while written data has not been received.
    is_stuck: bool,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: ReadActivity, patience: Duration) -> Self {
        Self { stream, activity, line_ends: LineEnds::default(), patience, is_stuck: false, alarm: None }
    }

    /// Returns `Pending` until the deadline, then an error. Receiving a byte now and then does not extend the
    /// deadline; only a successful flush ends the wait.
    fn stuck<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if !self.is_stuck {
            self.is_stuck = true;
            let deadline = Instant::now() + self.patience;
            match &mut self.alarm {
                Some(alarm) => alarm.as_mut().reset(deadline),
                None => self.alarm = Some(Box::pin(sleep_until(deadline))),
            }
        }
        match &mut self.alarm {
            Some(alarm) => ready!(alarm.as_mut().poll(context)),
            None => return Poll::Pending,
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its response")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.activity.hear();
            if let Some(arrived) = buffer.filled_mut().get_mut(before..) {
                self.line_ends.scan(arrived);
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Pending => self.stuck(context),
            written => written,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Pending => self.stuck(context),
            flushed => {
                self.is_stuck = false;
                flushed
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_shutdown(context) {
            Poll::Pending => self.stuck(context),
            shut => shut,
        }
    }
}

/// A request's body did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The body did not arrive in time.
    #[error("the request's body did not arrive in time")]
    TooSlow,
    /// The connection ended, or the data is not a valid body.
    #[error(transparent)]
    Connection(#[from] hyper::Error),
}

impl BodyError {
    /// Returns whether `error`, or one of its sources, is [`BodyError::TooSlow`]: 408, not 400.
    #[must_use]
    pub fn is_too_slow(error: &(dyn Error + 'static)) -> bool {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if matches!(error.downcast_ref(), Some(Self::TooSlow)) {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

/// A request's body with a deadline.
pub(super) struct TimedBody {
    body: Incoming,
    alarm: Pin<Box<Sleep>>,
}

impl TimedBody {
    /// Wraps `body`, which must arrive as a whole within `limit` from now.
    pub(super) fn new(body: Incoming, limit: Duration) -> Self {
        Self { body, alarm: Box::pin(sleep_until(Instant::now() + limit)) }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            // Sending a byte now and then does not extend the deadline.
            Poll::Pending => {
                ready!(self.alarm.as_mut().poll(context));
                Poll::Ready(Some(Err(BodyError::TooSlow)))
            }
            arrived => arrived.map_err(BodyError::from),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
