//! Sends one request and reads its response: where the token may go, the timeouts, and the retries.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::error::{ClientError, cleared};
use super::server_url::ServerUrl;
use crate::api_types::PREFIX;
use crate::api_types::credentials::CredentialResponse;
use crate::api_types::problem::Problem;
use crate::exchange::Redactor;
use crate::exchange::transport::TransportErrorKind;
use crate::values::clock::Clock;
use crate::values::secret::SecretString;

/// The maximum length of a response, in bytes. The largest page of the audit log is well below it.
const MAX_ANSWER: usize = 4 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time, from the first attempt, after which a `Retry-After` may still lead to a retry.
const PATIENCE: Duration = Duration::from_secs(15);

/// A request.
pub(super) struct Call {
    pub(super) method: Method,
    /// The path below the API's prefix.
    pub(super) route: String,
    pub(super) body: Option<Vec<u8>>,
    /// The timeout of one attempt, from connecting to the end of the response.
    pub(super) timeout: Duration,
    pub(super) again: Again,
}

/// The cases in which a request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// Never. If the response to a change is lost, the client cannot know whether the change was made.
    Never,
    /// Once, if the connection broke before the response was complete. Reading changes nothing.
    IfBroken,
    /// As for [`Again::IfBroken`], because the broker answers a second request for a credential from its
    /// cache. Also after the delay of a `Retry-After`, by which the server says that it has done nothing.
    IfBrokenOrPutOff,
}

/// A successful response.
pub(super) struct ServerResponse {
    pub(super) status: StatusCode,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// Sends requests to one server, with one token.
#[derive(Clone)]
pub(super) struct Sender {
    pub(super) server: ServerUrl,
    base: String,
    authorization: HeaderValue,
    /// The token, to remove it from responses.
    token: SecretString,
    http: reqwest::Client,
    clock: Arc<dyn Clock>,
}

impl Sender {
    pub(super) fn new(
        server: ServerUrl,
        token: &SecretString,
        extra_ca_pem: Option<&[u8]>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ClientError> {
        if token.reveal().is_empty() || !token.reveal().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ClientError::Token);
        }
        let bearer = Zeroizing::new(format!("Bearer {}", token.reveal()));
        let mut authorization = HeaderValue::from_str(&bearer).map_err(|_| ClientError::Token)?;
        authorization.set_sensitive(true);
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("carnet/", env!("CARGO_PKG_VERSION")))
            // A redirect would send the token to its target.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            // Ignore the proxy variables of the environment.
            .no_proxy()
            .retry(reqwest::retry::never())
            // Other features of this build would otherwise negotiate HTTP/2.
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT);
        if let Some(pem) = extra_ca_pem {
            let certificates = reqwest::Certificate::from_pem_bundle(pem)
                .map_err(|error| ClientError::CaBundle(Some(error)))?;
            if certificates.is_empty() {
                return Err(ClientError::CaBundle(None));
            }
            builder = builder.tls_certs_merge(certificates);
        }
        let base = match &server {
            ServerUrl::Http(url) => {
                let this_machine: [SocketAddr; 2] =
                    [(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()];
                builder = match url.scheme() {
                    "https" => builder.https_only(true),
                    // Keeps unencrypted requests on this machine, whatever a resolver says.
                    _ => builder.resolve_to_addrs("localhost", &this_machine),
                };
                server.to_string()
            }
            ServerUrl::Unix(path) => {
                builder = builder.unix_socket(path.clone());
                "http://localhost".to_owned()
            }
        };
        let http = builder.build().map_err(ClientError::Setup)?;
        Ok(Self { server, base: base + PREFIX, authorization, token: token.clone(), http, clock })
    }

    /// Sends `call` and returns the response. Retries as `call.again` permits.
    pub(super) async fn send(&self, call: &Call) -> Result<ServerResponse, ClientError> {
        let end_of_patience = self.clock.monotonic() + PATIENCE;
        let mut may_break = call.again != Again::Never;
        loop {
            let (response, put_off) = match self.once(call).await {
                Ok(received) => (self.judged(received.0, received.1), received.2),
                Err(error) => (Err(error), None),
            };
            match (&response, put_off) {
                (Err(ClientError::Unreachable { source, .. }), _)
                    if may_break && source.kind() == TransportErrorKind::Other =>
                {
                    may_break = false;
                }
                (Err(_), Some(wait)) if call.again == Again::IfBrokenOrPutOff => {
                    let until = self.clock.monotonic().saturating_add(wait);
                    if until > end_of_patience {
                        return response;
                    }
                    self.clock.sleep_until(until).await;
                }
                _ => return response,
            }
        }
    }

    /// Sends `call` once. Returns the status, the body and the delay that the server requests before a retry.
    async fn once(
        &self,
        call: &Call,
    ) -> Result<(StatusCode, Zeroizing<Vec<u8>>, Option<Duration>), ClientError> {
        let unreachable = |error: reqwest::Error| ClientError::Unreachable {
            server: self.server.clone(),
            source: error.into(),
        };
        let mut request = self
            .http
            .request(call.method.clone(), format!("{}{}", self.base, call.route))
            .header(AUTHORIZATION, self.authorization.clone())
            .timeout(call.timeout);
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let put_off = put_off(status, response.headers());
        // Allocated at full length if that is known: a buffer that grows leaves copies of a secret behind.
        let expected = response.content_length().and_then(|length| usize::try_from(length).ok());
        let mut content = Zeroizing::new(Vec::with_capacity(
            expected.filter(|length| *length <= MAX_ANSWER).unwrap_or(4096),
        ));
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if chunk.len() > MAX_ANSWER - content.len() {
                return Err(self.not_carnet(status));
            }
            content.extend_from_slice(&chunk);
        }
        Ok((status, content, put_off))
    }

    /// Returns a successful response, or the server's refusal as an error.
    fn judged(&self, status: StatusCode, body: Zeroizing<Vec<u8>>) -> Result<ServerResponse, ClientError> {
        if status.is_success() {
            return Ok(ServerResponse { status, body });
        }
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) if problem.status == status.as_u16() => {
                let redactor = Redactor::new([self.token.reveal()]);
                Err(ClientError::Refused(Box::new(cleared(problem, &redactor))))
            }
            _ => Err(self.not_carnet(status)),
        }
    }

    /// Returns true if a credential repeats the client's own token.
    pub(super) fn is_own_token(&self, response: &CredentialResponse) -> bool {
        let own = self.token.reveal();
        let secrets = [&response.password, &response.registry_token].into_iter().flatten();
        response.username.as_deref().is_some_and(|name| name.contains(own))
            || secrets.into_iter().any(|secret| secret.reveal().contains(own))
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn not_carnet(&self, status: StatusCode) -> ClientError {
        ClientError::NotCarnet { server: self.server.clone(), status }
    }
}

/// Returns the delay that a busy or rate-limiting server requests in `Retry-After`. Only seconds are
/// understood, which is the form that carnet sends.
fn put_off(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    // A minimum of one second, so that a server in trouble does not get requests in a loop.
    Some(Duration::from_secs(seconds).max(Duration::from_secs(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_retried_when_the_server_says_so_and_never_at_once() {
        for (status, value, wait) in [
            (429, Some("3"), Some(3)),
            (503, Some("0"), Some(1)),
            (503, None, None),
            (503, Some("-1"), None),
            (503, Some("Wed, 21 Oct 2026 07:28:00 GMT"), None),
            (502, Some("1"), None),
            (200, Some("1"), None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            }
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(put_off(status, &headers), wait.map(Duration::from_secs), "{status} {value:?}");
        }
    }
}
