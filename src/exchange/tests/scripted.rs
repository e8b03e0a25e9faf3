//! A scripted provider.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Mutex;

use bytes::Bytes;
use http::{Request, Response};

use crate::exchange::asked;
use crate::exchange::transport::{HttpTransport, SendFuture, TransportError, TransportErrorKind};
use crate::feed::Feed;

/// A transport that returns the scripted responses in order and records the requests. A body `ECHO` becomes
/// the request's headers and body.
#[derive(Debug, Default)]
pub(in crate::exchange) struct Scripted {
    responses: Mutex<VecDeque<Result<Response<Bytes>, TransportErrorKind>>>,
    requests: Mutex<Vec<Request<Bytes>>>,
}

impl Scripted {
    pub(in crate::exchange) fn new(
        responses: impl IntoIterator<Item = Result<Response<Bytes>, TransportErrorKind>>,
    ) -> Self {
        Self { responses: Mutex::new(responses.into_iter().collect()), requests: Mutex::default() }
    }

    /// Asserts that the requests went only to the hosts that the audit log names for the feed, and to all of
    /// them.
    #[track_caller]
    pub(in crate::exchange) fn assert_sent_where_the_log_says(&self, feed: &Feed) {
        let requests = self.requests.lock().unwrap();
        let sent: BTreeSet<_> =
            requests.iter().map(|request| request.uri().authority().unwrap().to_string()).collect();
        let text = asked(feed);
        let listed = text.strip_prefix("asked ").and_then(|rest| rest.strip_suffix(": ")).unwrap();
        let named = listed.split(", ").map(|item| item.split_once(" at ").unwrap().1.to_owned());
        assert_eq!(named.collect::<BTreeSet<_>>(), sent);
    }

    pub(in crate::exchange) fn request(&self, index: usize) -> (http::request::Parts, String) {
        let requests = self.requests.lock().unwrap();
        let (parts, body) = requests[index].clone().into_parts();
        (parts, String::from_utf8(body.to_vec()).unwrap())
    }
}

impl HttpTransport for Scripted {
    fn send(&self, request: Request<Bytes>) -> SendFuture<'_> {
        let mut response = self.responses.lock().unwrap().pop_front().expect("no answer left");
        if let Ok(response) = &mut response
            && response.body() == "ECHO"
        {
            let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
            let headers = request.headers().iter().map(|(name, value)| format!("{name}: {}\n", text(value)));
            let echo = headers.chain([String::from_utf8(request.body().to_vec()).unwrap()]);
            *response.body_mut() = echo.collect::<String>().into();
        }
        self.requests.lock().unwrap().push(request);
        Box::pin(async move { response.map_err(|kind| TransportError::new(kind, None)) })
    }
}
