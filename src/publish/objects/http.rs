//! The HTTP client below the object stores: our rules in the place of theirs.
//!
//! No redirect, no proxy of the environment, bounded time, bounded answers. Addresses are not vetted: the operator
//! has named the target, and the machine's own credentials come from its metadata service, on a link-local address.
//! What an answer of failure says is reduced to its code and message before anybody above sees it.

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

const CONNECTS_WITHIN: Duration = Duration::from_secs(3);
const ANSWERS_WITHIN: Duration = Duration::from_secs(8);

/// Google's metadata service; those of the others are named by address.
const METADATA_HOST: &str = "metadata.google.internal";

/// Makes the clients of an object store and of its credentials.
#[derive(Clone)]
pub(super) struct Connector {
    direct: reqwest::Client,
    proxied: Option<reqwest::Client>,
}

/// The client's own `Debug` is not known to keep a proxy's password to itself.
impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl Connector {
    /// Reads the machine's certificates.
    pub(super) fn new(options: &TargetOptions) -> Result<Self, TransportConfigError> {
        let client = |proxy| client(options.extra_ca_pem.as_deref(), proxy);
        let proxied = options.proxy.as_ref().map(|proxy| client(Some(proxy))).transpose()?;
        Ok(Self { direct: client(None)?, proxied })
    }
}

fn client(
    extra_ca_pem: Option<&[u8]>,
    proxy: Option<&ProxyUrl>,
) -> Result<reqwest::Client, TransportConfigError> {
    // The object store repeats what may be repeated.
    let mut builder = strict_client(extra_ca_pem)?.connect_timeout(CONNECTS_WITHIN).timeout(ANSWERS_WITHIN);
    if let Some(proxy) = proxy {
        let proxy = reqwest::Proxy::all(proxy.reveal());
        builder = builder.proxy(proxy.map_err(|error| TransportConfigError::Proxy(error.without_url()))?);
    }
    builder.build().map_err(TransportConfigError::Client)
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        // Said by the environment, and by the object store itself for metadata services.
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
        let url: Url = request.uri().to_string().parse().map_err(|_| refused("that is no URL"))?;
        if url.scheme() != "https" && !self.allow_http {
            return Err(refused(
                "the endpoint is not https; AWS_ALLOW_HTTP=true or AZURE_ALLOW_HTTP=true allows plain HTTP",
            ));
        }
        let client = match &self.connector.proxied {
            Some(client) if !is_of_this_machine(&url) => client,
            _ => &self.connector.direct,
        };
        let secrets = words::secrets(&request, &url);
        let answer = client.call(request).await.map_err(|error| explained(&error))?;
        let (head, body) = answer.into_parts();
        let body = first_bytes(body).await?;
        if head.status.is_success() || head.status.is_redirection() {
            return Ok(HttpResponse::from_parts(head, body.into()));
        }
        let said = words::of_answer(&body, &secrets);
        Ok(HttpResponse::from_parts(head, said.into()))
    }
}

/// What never goes through a proxy: the machine itself, and the service that tells it who it is.
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
            // The second is AWS's range of such services.
            address.is_loopback()
                || address.is_unicast_link_local()
                || address.segments()[..2] == [0xfd00, 0x0ec2]
        }
    }
}

/// The beginning of a body: one byte more than a document has at most, so that a longer one is known.
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
    HttpError::new(HttpErrorKind::Unknown, Words(why.to_owned()))
}

/// The same, with every cause in its text.
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
    HttpError::new(error.kind(), Words(text))
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Words(String);
