//! The HTTP client for requests to the clouds.
//!
//! It enforces the client's limits: no redirects, no proxy except a configured one, bounded time, bounded
//! responses. Requests carry tokens, so neither a request's body nor a URL may appear in an error or a log.
//! The `Debug` output of `http::Request` shows both and must not be used.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use reqwest::redirect::Policy;

use super::address::{AddressError, Loopback, VettingResolver, vet_host};
use super::proxy::{ProxyFailure, ProxyUrl};
use super::upstream::Redactor;
use crate::values::tls_failure::{TlsFailure, chain};

mod proxied;

/// Sends one request and reads the whole response.
///
/// An implementation returns the response whatever its status is, including redirects. It must never log or
/// keep the request, because its body and headers contain tokens.
pub trait HttpTransport: fmt::Debug + Send + Sync {
    /// Sends `request` to the absolute URL in it.
    fn send(&self, request: Request<Bytes>) -> SendFuture<'_>;
}

/// A request extension: the maximum number of bytes to read of the response's body. The rest is dropped.
#[derive(Debug, Clone, Copy)]
pub struct FirstBytes(pub usize);

/// The future that [`HttpTransport::send`] returns.
pub type SendFuture<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, TransportError>> + Send + 'a>>;

/// A request that got no response.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct TransportError {
    kind: TransportErrorKind,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The reasons why a request got no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportErrorKind {
    /// The name was not found, or the host refused the connection.
    Connect,
    /// Connecting or the whole request timed out.
    Timeout,
    /// The TLS handshake failed.
    Tls(TlsFailure),
    /// The name resolves to an address to which connections are not allowed, see
    /// [`vet`](super::address::vet).
    Address,
    /// The response exceeded the maximum size.
    TooLarge,
    /// The proxy failed: the request never reached its host.
    Proxy(ProxyFailure),
    /// Any other failure: a broken connection, or a response that is not HTTP.
    Other,
}

impl fmt::Display for TransportErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Proxy(failure) => return failure.fmt(f),
            Self::Connect => "could not connect",
            Self::Timeout => "no response in time",
            Self::Tls(_) => "the TLS handshake failed",
            Self::Address => "connecting to this address is not allowed",
            Self::TooLarge => "the response is too long",
            Self::Other => "the connection failed",
        })
    }
}

impl TransportError {
    /// Creates an error of this kind.
    #[must_use]
    pub fn new(kind: TransportErrorKind, source: Option<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, source }
    }

    /// Returns the kind of failure.
    #[must_use]
    pub fn kind(&self) -> TransportErrorKind {
        self.kind
    }

    /// Describes the failure together with its innermost cause: which certificate, which refusal.
    #[must_use]
    pub fn description(&self) -> String {
        // `source` of an I/O error skips the wrapped error, but that one has the same text.
        let mut cause = self.source.as_deref().map(|source| source as &(dyn Error + 'static));
        while let Some(below) = cause.and_then(Error::source) {
            cause = Some(below);
        }
        match cause {
            Some(cause) => Redactor::new([]).text(&format!("{}: {cause}", self.kind)),
            None => self.kind.to_string(),
        }
    }

    /// Returns whether the same request may succeed a moment later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self.kind {
            TransportErrorKind::Connect | TransportErrorKind::Timeout => true,
            TransportErrorKind::Tls(failure) => failure.is_transient(),
            TransportErrorKind::Proxy(failure) => failure.is_transient(),
            _ => false,
        }
    }
}

impl From<reqwest::Error> for TransportError {
    fn from(error: reqwest::Error) -> Self {
        let kind = if error.is_timeout() {
            TransportErrorKind::Timeout
        } else if error.is_connect() {
            match cause(&error) {
                Some(ConnectCause::Tls(failure)) => TransportErrorKind::Tls(failure),
                Some(ConnectCause::Address) => TransportErrorKind::Address,
                None => TransportErrorKind::Connect,
            }
        } else {
            TransportErrorKind::Other
        };
        Self::new(kind, Some(Box::new(error.without_url())))
    }
}

/// The cause of a failed connection, if it is not the network.
enum ConnectCause {
    Tls(TlsFailure),
    Address,
}

fn cause(error: &reqwest::Error) -> Option<ConnectCause> {
    if chain(error).any(|error| error.is::<AddressError>()) {
        return Some(ConnectCause::Address);
    }
    TlsFailure::of_connecting(error).map(ConnectCause::Tls)
}

/// The limits and trusted certificates of a [`ReqwestTransport`].
#[derive(Debug, Clone)]
pub struct TransportConfig {
    /// The timeout for connecting, including the TLS handshake.
    pub connect_timeout: Duration,
    /// The timeout for the whole request, including reading the response.
    pub timeout: Duration,
    /// The maximum size of a response, in bytes.
    pub max_response: usize,
    /// CA certificates in PEM that are trusted in addition to the operating system's.
    pub extra_ca_pem: Option<Vec<u8>>,
    /// The permission to connect to this machine itself.
    pub loopback: Loopback,
    /// The proxy for every request. The proxy resolves host names, so the rule about addresses is its
    /// responsibility for them. Addresses written in URLs are still vetted here.
    pub proxy: Option<ProxyUrl>,
}

impl Default for TransportConfig {
    /// Returns 5 s to connect, 10 s in total, 1 MiB, the operating system's certificates, no loopback, no
    /// proxy.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(10),
            max_response: 1 << 20,
            extra_ca_pem: None,
            loopback: Loopback::Refuse,
            proxy: None,
        }
    }
}

/// The reasons why the HTTP client could not be created.
#[derive(Debug, thiserror::Error)]
pub enum TransportConfigError {
    /// The extra certificates are not PEM, or there are none.
    #[error("the extra CA bundle holds no certificate in PEM")]
    CaBundle(#[source] Option<reqwest::Error>),
    /// The client rejects the proxy's URL.
    #[error("the proxy cannot be used")]
    Proxy(#[source] reqwest::Error),
    /// TLS could not be set up.
    #[error("the HTTP client could not be made")]
    Client(#[source] reqwest::Error),
}

/// Returns the builder shared by all clients for clouds: HTTP/1.1, no redirect, no proxy from the
/// environment, no retries. It trusts the operating system's certificates and those in `extra_ca_pem`.
pub(crate) fn strict_client(
    extra_ca_pem: Option<&[u8]>,
) -> Result<reqwest::ClientBuilder, TransportConfigError> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("carnet/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .referer(false)
        // Ignores the proxies of the environment.
        .no_proxy()
        .retry(reqwest::retry::never())
        // Other features enabled in this build would negotiate HTTP/2.
        .http1_only();
    let Some(pem) = extra_ca_pem else { return Ok(builder) };
    let certificates = reqwest::Certificate::from_pem_bundle(pem)
        .map_err(|error| TransportConfigError::CaBundle(Some(error)))?;
    if certificates.is_empty() {
        return Err(TransportConfigError::CaBundle(None));
    }
    Ok(builder.tls_certs_merge(certificates))
}

/// An HTTP/1.1 transport based on reqwest, with rustls and aws-lc.
///
/// It trusts the operating system's certificates; on Unix, OpenSSL's `SSL_CERT_FILE` and `SSL_CERT_DIR`
/// override their location. It ignores the proxy variables of the environment. Without a proxy it connects
/// only to addresses that [`vet`](super::address::vet) permits.
#[derive(Clone)]
pub struct ReqwestTransport {
    client: reqwest::Client,
    max_response: usize,
    loopback: Loopback,
    proxy: Option<ProxyUrl>,
}

impl ReqwestTransport {
    /// Creates a transport with these limits.
    pub fn new(config: TransportConfig) -> Result<Self, TransportConfigError> {
        let mut builder = strict_client(config.extra_ca_pem.as_deref())?
            .connect_timeout(config.connect_timeout)
            .timeout(config.timeout);
        builder = match &config.proxy {
            None => builder.dns_resolver(VettingResolver(config.loopback)),
            // Only the proxy's own name is resolved here, and the operator who configures it is responsible
            // for it.
            Some(proxy) => builder.proxy(
                reqwest::Proxy::all(proxy.reveal())
                    .map_err(|error| TransportConfigError::Proxy(error.without_url()))?,
            ),
        };
        let client = builder.build().map_err(TransportConfigError::Client)?;
        let TransportConfig { max_response, loopback, proxy, .. } = config;
        Ok(Self { client, max_response, loopback, proxy })
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        let wanted = request.extensions().get().map(|FirstBytes(wanted)| *wanted);
        let request: reqwest::Request = request.try_into()?;
        vet_host(request.url(), self.loopback)
            .map_err(|error| TransportError::new(TransportErrorKind::Address, Some(Box::new(error))))?;
        let target = request.url().clone();
        let received = self.client.execute(request).await;
        let mut received = match &self.proxy {
            None => received?,
            Some(proxy) => proxied::response(&self.client, proxy, &target, received).await?,
        };
        let mut body = BytesMut::new();
        while let Some(mut chunk) = received.chunk().await? {
            if let Some(wanted) = wanted
                && chunk.len() >= wanted - body.len()
            {
                body.extend_from_slice(&chunk.split_to(wanted - body.len()));
                break;
            }
            if chunk.len() > self.max_response - body.len() {
                return Err(TransportError::new(TransportErrorKind::TooLarge, None));
            }
            body.extend_from_slice(&chunk);
        }
        let mut response = Response::new(body.freeze());
        *response.status_mut() = received.status();
        *response.headers_mut() = std::mem::take(received.headers_mut());
        Ok(response)
    }
}

/// Written by hand because the client's own `Debug` might print a proxy's password.
impl fmt::Debug for ReqwestTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { max_response, loopback, proxy, .. } = self;
        f.debug_struct("ReqwestTransport")
            .field("max_response", max_response)
            .field("loopback", loopback)
            .field("proxy", proxy)
            .finish_non_exhaustive()
    }
}

impl HttpTransport for ReqwestTransport {
    fn send(&self, request: Request<Bytes>) -> SendFuture<'_> {
        Box::pin(self.exchange(request))
    }
}

#[cfg(test)]
#[cfg(feature = "server")]
mod tests;
#[cfg(test)]
#[cfg(feature = "server")]
mod tls_tests;
