//! The HTTP client for object stores, with carnet's rules instead of the defaults of `object_store`.
//!
//! It follows no redirect, uses no proxy from the environment, and bounds the time and size of every
//! response. It does not restrict addresses: the operator has chosen the target, and the machine's own
//! credentials come from its metadata service on a link-local address. A failed response is reduced to its
//! code and message before the layers above see it.

use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use object_store::{ClientConfigKey, ClientOptions};
use url::{Host, Url};

use super::words;
use crate::exchange::proxy::ProxyUrl;
use crate::exchange::transport::{TransportConfigError, strict_client};
use crate::publish::target::LONGEST_DOCUMENT;
use crate::publish::target_options::TargetOptions;
use crate::values::tls_failure::{TlsFailure, chain};

const CONNECTS_WITHIN: Duration = Duration::from_secs(3);
const ANSWERS_WITHIN: Duration = Duration::from_secs(8);

/// The host of Google's metadata service. The other vendors' services are addressed by IP.
const METADATA_HOST: &str = "metadata.google.internal";

/// Creates the clients for an object store and for its credentials.
#[derive(Clone)]
pub(super) struct Connector {
    direct: reqwest::Client,
    proxied: Option<(reqwest::Client, ProxyUrl)>,
}

/// Written by hand because the client's own `Debug` might print a proxy's password.
impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl Connector {
    /// Creates the clients and reads the machine's CA certificates.
    pub(super) fn new(options: &TargetOptions) -> Result<Self, TransportConfigError> {
        let client = |proxy| client(options.extra_ca_pem.as_deref(), proxy);
        let proxied = match &options.proxy {
            Some(proxy) => Some((client(Some(proxy))?, proxy.clone())),
            None => None,
        };
        Ok(Self { direct: client(None)?, proxied })
    }
}

fn client(
    extra_ca_pem: Option<&[u8]>,
    proxy: Option<&ProxyUrl>,
) -> Result<reqwest::Client, TransportConfigError> {
    // Without retries: `object_store` retries the requests that are safe to repeat.
    let mut builder = strict_client(extra_ca_pem)?.connect_timeout(CONNECTS_WITHIN).timeout(ANSWERS_WITHIN);
    if let Some(proxy) = proxy {
        let proxy = reqwest::Proxy::all(proxy.reveal());
        builder = builder.proxy(proxy.map_err(|error| TransportConfigError::Proxy(error.without_url()))?);
    }
    builder.build().map_err(TransportConfigError::Client)
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        // Set by the environment, and by `object_store` itself for metadata services.
        let allow_http = options.get_config_value(&ClientConfigKey::AllowHttp).is_some_and(|value| {
            matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "on" | "yes" | "y")
        });
        Ok(HttpClient::new(Service { connector: self.clone(), allow_http }))
    }
}

#[derive(Debug)]
struct Service {
    connector: Connector,
    allow_http: bool,
}

impl HttpService for Service {
    fn call<'life0, 'async_trait>(
        &'life0 self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.send(request))
    }
}

impl Service {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let url: Url = request.uri().to_string().parse().map_err(|_| refused("that is not a URL"))?;
        if url.scheme() != "https" && !self.allow_http {
            return Err(refused(
                "the endpoint is not https; AWS_ALLOW_HTTP=true or AZURE_ALLOW_HTTP=true allows plain HTTP",
            ));
        }
        let redactor = words::redactor(&request, &url);
        let (client, redactor) = match &self.connector.proxied {
            // A proxy that forwards plain HTTP answers in the store's place.
            Some((client, proxy)) if !is_of_this_machine(&url) => (client, redactor.and(proxy.redactor())),
            _ => (&self.connector.direct, redactor),
        };
        let response = client.call(request).await.map_err(|error| explained(&error))?;
        let (head, body) = response.into_parts();
        let body = first_bytes(body).await?;
        if head.status.is_success() || head.status.is_redirection() {
            return Ok(HttpResponse::from_parts(head, body.into()));
        }
        let said = words::of_answer(&body, &redactor);
        Ok(HttpResponse::from_parts(head, said.into()))
    }
}

/// Returns whether the URL is on this machine or is its metadata service: such requests never use a proxy.
fn is_of_this_machine(url: &Url) -> bool {
    let address = match url.host() {
        Some(Host::Domain(name)) => return name == "localhost" || name == METADATA_HOST,
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        None => return false,
    };
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => {
            // The last is AWS's range for such services.
            address.is_loopback()
                || address.is_unicast_link_local()
                || address.segments()[..2] == [0xfd00, 0x0ec2]
        }
    }
}

/// Reads up to one byte more than the maximum document size, so that a longer document is detected.
async fn first_bytes(body: HttpResponseBody) -> Result<Bytes, HttpError> {
    let mut chunks = body.bytes_stream();
    let mut read = BytesMut::new();
    while let Some(chunk) = poll_fn(|context| chunks.as_mut().poll_next(context)).await {
        let chunk = chunk.map_err(|error| explained(&error))?;
        let room = LONGEST_DOCUMENT + 1 - read.len();
        read.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if read.len() > LONGEST_DOCUMENT {
            break;
        }
    }
    Ok(read.freeze())
}

fn refused(why: &'static str) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, Words { text: why.to_owned(), tls: None })
}

/// Returns the error with the text of all its causes, and with the failure of a TLS handshake.
fn explained(error: &HttpError) -> HttpError {
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text = if text.is_empty() { said } else { format!("{text}: {said}") };
        }
        cause = next.source();
    }
    let is_connecting = error.kind() == HttpErrorKind::Connect;
    let tls = is_connecting.then(|| TlsFailure::of_connecting(error)).flatten();
    HttpError::new(error.kind(), Words { text, tls })
}

/// Returns the failure of the TLS handshake that caused an error of a store.
pub(super) fn tls_failure(error: &object_store::Error) -> Option<TlsFailure> {
    chain(error).find_map(|error| error.downcast_ref::<Words>())?.tls
}

/// The text of an error, in place of the error itself, which could name a URL with a signature.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Words {
    text: String,
    tls: Option<TlsFailure>,
}
