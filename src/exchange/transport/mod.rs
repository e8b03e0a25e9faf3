//! How requests reach a cloud.
//!
//! Owns the HTTP client's limits: no redirects, no proxy but an explicit one, bounded time, bounded answers.
//! Requests carry tokens, so that neither a request's body nor a URL may get into an error or a
//! log; `http::Request`'s `Debug` shows both and must not be used.

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

mod proxied;

/// Sends one request and reads the whole answer.
///
/// An implementation answers with whatever status came back, also a redirect, and must never log
/// or keep the request: its body and headers hold tokens.
pub trait HttpTransport: fmt::Debug + Send + Sync {
    /// Sends `request` to the absolute URL in it.
    fn send(&self, request: Request<Bytes>) -> SendFuture<'_>;
}

/// In a request's extensions: only so many bytes of the answer's body are wanted, and reading stops there.
#[derive(Debug, Clone, Copy)]
pub struct FirstBytes(pub usize);

/// What [`HttpTransport::send`] returns.
pub type SendFuture<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, TransportError>> + Send + 'a>>;

/// No answer could be had.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct TransportError {
    kind: TransportErrorKind,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What went wrong on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportErrorKind {
    /// The name was not found or the host took no connection.
    Connect,
    /// Connecting or the whole request took too long.
    Timeout,
    /// The TLS handshake failed: most often a certificate that is not trusted here.
    Tls,
    /// The TLS handshake failed: the certificate is one for another name.
    TlsName,
    /// The name leads to an address that is never connected to, see [`vet`](super::address::vet).
    Address,
    /// The answer was longer than the limit.
    TooLarge,
    /// The proxy failed: the request never came to the host that it was for.
    Proxy(ProxyFailure),
    /// Anything else: a connection that broke, an answer that is not HTTP.
    Other,
}

impl fmt::Display for TransportErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Proxy(failure) => return failure.fmt(f),
            Self::Connect => "could not connect",
            Self::Timeout => "no answer in time",
            Self::Tls | Self::TlsName => "the TLS handshake failed",
            Self::Address => "the address is not one to connect to",
            Self::TooLarge => "the answer is too long",
            Self::Other => "the connection failed",
        })
    }
}

impl TransportError {
    /// An error of this kind.
    #[must_use]
    pub fn new(kind: TransportErrorKind, source: Option<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, source }
    }

    /// What went wrong on the way.
    #[must_use]
    pub fn kind(&self) -> TransportErrorKind {
        self.kind
    }

    /// What went wrong, with the innermost cause in its own words: which certificate, which refusal.
    #[must_use]
    pub fn told(&self) -> String {
        // `source` of an I/O error passes over the error that it wraps, which says the same.
        let mut cause = self.source.as_deref().map(|source| source as &(dyn Error + 'static));
        while let Some(below) = cause.and_then(Error::source) {
            cause = Some(below);
        }
        match cause {
            Some(cause) => Redactor::new([]).text(&format!("{}: {cause}", self.kind)),
            None => self.kind.to_string(),
        }
    }

    /// Whether the same request may well succeed a moment later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self.kind {
            TransportErrorKind::Connect | TransportErrorKind::Timeout => true,
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
                Some(cause @ ConnectCause::Tls(_)) if cause.is_other_name() => TransportErrorKind::TlsName,
                Some(ConnectCause::Tls(_)) => TransportErrorKind::Tls,
                Some(ConnectCause::Address) => TransportErrorKind::Address,
                None => TransportErrorKind::Connect,
            }
        } else {
            TransportErrorKind::Other
        };
        Self::new(kind, Some(Box::new(error.without_url())))
    }
}

/// Why a connection failed, other than on the network.
enum ConnectCause {
    /// In the words of rustls, whose errors are no part of reqwest's interface.
    Tls(String),
    Address,
}

impl ConnectCause {
    /// Returns true if the certificate is one for another name.
    fn is_other_name(&self) -> bool {
        matches!(self, Self::Tls(why) if why.contains("not valid for name"))
    }
}

fn cause(error: &reqwest::Error) -> Option<ConnectCause> {
    let mut next = error.source();
    while let Some(error) = next {
        if error.is::<AddressError>() {
            return Some(ConnectCause::Address);
        }
        next = match error.downcast_ref::<std::io::Error>() {
            // rustls reports through I/O errors of this kind.
            Some(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Some(ConnectCause::Tls(error.to_string()));
            }
            // `source` of an I/O error passes over the error that it wraps.
            Some(error) => error.get_ref().map(|wrapped| wrapped as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// Limits and trust of a [`ReqwestTransport`].
#[derive(Debug, Clone)]
pub struct TransportConfig {
    /// How long connecting may take, the TLS handshake included.
    pub connect_timeout: Duration,
    /// How long the whole request may take, reading the answer included.
    pub timeout: Duration,
    /// Longest answer, in bytes.
    pub max_response: usize,
    /// Certificates in PEM that are trusted beside the operating system's.
    pub extra_ca_pem: Option<Vec<u8>>,
    /// Whether requests may go to this machine itself.
    pub loopback: Loopback,
    /// The proxy that every request goes through. It resolves the names, so that it owns the rule about
    /// addresses for them; addresses that are written in URLs are vetted here all the same.
    pub proxy: Option<ProxyUrl>,
}

impl Default for TransportConfig {
    /// 5 s to connect, 10 s in all, 1 MiB, the operating system's certificates, never to loopback, no
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

/// The HTTP client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TransportConfigError {
    /// The extra certificates are not PEM, or there are none.
    #[error("the extra CA bundle holds no certificate in PEM")]
    CaBundle(#[source] Option<reqwest::Error>),
    /// The proxy's URL is of no use to the client.
    #[error("the proxy cannot be used")]
    Proxy(#[source] reqwest::Error),
    /// TLS could not be set up.
    #[error("the HTTP client could not be made")]
    Client(#[source] reqwest::Error),
}

/// What clients of clouds begin with: HTTP/1.1, no redirect, no proxy of the environment, nothing tried again; the
/// operating system's certificates, and beside them those in `extra_ca_pem`.
pub(crate) fn strict_client(
    extra_ca_pem: Option<&[u8]>,
) -> Result<reqwest::ClientBuilder, TransportConfigError> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("carnet/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .referer(false)
        // Those of the environment.
        .no_proxy()
        .retry(reqwest::retry::never())
        // Whatever else in this build would have HTTP/2 negotiated.
        .http1_only();
    let Some(pem) = extra_ca_pem else { return Ok(builder) };
    let certificates = reqwest::Certificate::from_pem_bundle(pem)
        .map_err(|error| TransportConfigError::CaBundle(Some(error)))?;
    if certificates.is_empty() {
        return Err(TransportConfigError::CaBundle(None));
    }
    Ok(builder.tls_certs_merge(certificates))
}

/// HTTP/1.1 by reqwest, with rustls and aws-lc.
///
/// Trusts the operating system's certificates; on Unix, OpenSSL's `SSL_CERT_FILE` and
/// `SSL_CERT_DIR` say where those are. Proxy variables of the environment are not obeyed. Without a
/// proxy it connects only to addresses that [`vet`](super::address::vet) lets through.
#[derive(Clone)]
pub struct ReqwestTransport {
    client: reqwest::Client,
    max_response: usize,
    loopback: Loopback,
    proxy: Option<ProxyUrl>,
}

impl ReqwestTransport {
    /// A client with these limits.
    ///
    /// # Errors
    ///
    /// See [`TransportConfigError`].
    pub fn new(config: TransportConfig) -> Result<Self, TransportConfigError> {
        let mut builder = strict_client(config.extra_ca_pem.as_deref())?
            .connect_timeout(config.connect_timeout)
            .timeout(config.timeout);
        builder = match &config.proxy {
            None => builder.dns_resolver(VettingResolver(config.loopback)),
            // The only name that is resolved here is the proxy's own, and whoever sets it answers for it.
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
        let answer = self.client.execute(request).await;
        let mut answer = match &self.proxy {
            None => answer?,
            Some(proxy) => proxied::answer(&self.client, proxy, &target, answer).await?,
        };
        let mut body = BytesMut::new();
        while let Some(mut chunk) = answer.chunk().await? {
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
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}

/// The client's own `Debug` is not known to keep a proxy's password to itself.
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
