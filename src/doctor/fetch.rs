//! Fetching a public document as a cloud does, and what came of it.
//!
//! Trusts the public web roots that are built in, never the operating system's store: that may hold an
//! authority which no cloud trusts, and hide what is wrong. Follows no redirect and no proxy. A name is resolved
//! once, and the connector gets only the addresses that were vetted.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use jiff::Timestamp;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client};
use tokio_rustls::rustls;
use tokio_rustls::rustls::CertificateError;
use url::{Host, Url};

use super::address::{OutOfReach, Reach, within};
use super::causes;
use crate::values::clock::Clock;
use crate::values::x509;

/// After this long nothing is waited for any more: twice what AWS waits.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// No document of an issuer is longer.
const MAX_LENGTH: usize = 1 << 20;

/// Whose certificates are trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The web's public authorities, as Mozilla lists them, built in.
    PublicWebRoots,
    /// Those in this file and no others.
    Only {
        /// The file, to be named.
        file: PathBuf,
        /// Its content.
        pem: Vec<u8>,
    },
}

/// What came of one GET.
#[derive(Debug)]
pub struct Fetched {
    /// What was asked for.
    pub url: String,
    /// The wall clock when the connection was begun.
    pub began_at: Timestamp,
    /// The wall clock when the head of the answer was there, or when it failed.
    pub answered_at: Timestamp,
    /// From the beginning of the connection to the end of the answer; the resolver's time does not count.
    pub took: Duration,
    /// The answer, or why there is none.
    pub outcome: Result<Answer, FetchFailure>,
}

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Until when the server's certificate is valid; nothing without TLS.
    pub certificate_expires_at: Option<Timestamp>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchFailure {
    /// The URL cannot be fetched at all.
    #[error("{0} cannot be fetched")]
    Url(String),
    /// The name leads nowhere.
    #[error("the name {host} cannot be resolved: {problem}")]
    Name {
        /// The name.
        host: String,
        /// What the resolver said.
        problem: String,
    },
    /// The name leads, with one or all of its addresses, where no cloud reaches.
    #[error("{0}")]
    Address(OutOfReach),
    /// The certificate is not trusted.
    #[error("the certificate is not trusted: {}", .0.as_str())]
    Certificate(CertificateProblem),
    /// Nothing listens there, or something is in between.
    #[error("no connection: {0}")]
    Connect(String),
    /// No whole answer within [`GIVE_UP_AFTER`].
    #[error("no answer within {} s", GIVE_UP_AFTER.as_secs())]
    Timeout,
    /// The answer is longer than any document of an issuer.
    #[error("the answer is longer than {MAX_LENGTH} bytes")]
    TooLong,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// What is wrong with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateProblem {
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// It is another host's.
    OtherName,
    /// The chain does not lead to a trusted authority.
    UnknownIssuer,
    /// Anything else.
    Other,
}

impl CertificateProblem {
    /// In words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "it has expired",
            Self::NotYetValid => "it is not valid yet",
            Self::OtherName => "it is for another host",
            Self::UnknownIssuer => "its chain does not lead to a trusted authority",
            Self::Other => "its chain cannot be verified",
        }
    }
}

/// Fetches documents.
#[derive(Debug)]
pub struct Fetcher<'a> {
    trusted: Vec<Certificate>,
    reach: Reach,
    clock: &'a dyn Clock,
}

/// The file of `--ca` holds no certificate.
#[derive(Debug, thiserror::Error)]
#[error("{} holds no certificate in PEM", .0.display())]
pub struct NoCertificate(pub PathBuf);

impl<'a> Fetcher<'a> {
    /// What trusts `trust` and reaches as far as `reach`.
    ///
    /// # Errors
    ///
    /// [`NoCertificate`] when there is none in the file.
    pub fn new(trust: &Trust, reach: Reach, clock: &'a dyn Clock) -> Result<Self, NoCertificate> {
        let trusted = match trust {
            Trust::PublicWebRoots => webpki_root_certs::TLS_SERVER_ROOT_CERTS
                .iter()
                .filter_map(|root| Certificate::from_der(root).ok())
                .collect(),
            Trust::Only { file, pem } => Certificate::from_pem_bundle(pem)
                .ok()
                .filter(|certificates| !certificates.is_empty())
                .ok_or_else(|| NoCertificate(file.clone()))?,
        };
        Ok(Self { trusted, reach, clock })
    }

    /// Fetches `url`, which is `https`, or `http` of this machine itself.
    pub async fn get(&self, url: &str) -> Fetched {
        let resolved = self.resolve(url).await;
        let (began_at, began) = (self.clock.now(), self.clock.monotonic());
        let mut answered_at = began_at;
        let outcome = match resolved {
            Ok((parsed, addresses)) => self.ask(parsed, &addresses, &mut answered_at).await,
            Err(failure) => Err(failure),
        };
        let took = self.clock.monotonic().saturating_sub(began);
        Fetched { url: url.to_owned(), began_at, answered_at, took, outcome }
    }

    /// Where `url` leads. One address that is out of reach is enough to refuse: a cloud may be given that one.
    async fn resolve(&self, url: &str) -> Result<(Url, Vec<SocketAddr>), FetchFailure> {
        let unusable = || FetchFailure::Url(url.to_owned());
        let parsed = Url::parse(url).map_err(|_| unusable())?;
        let port = parsed.port_or_known_default().ok_or_else(unusable)?;
        let addresses: Vec<SocketAddr> = match parsed.host().ok_or_else(unusable)? {
            Host::Ipv4(address) => vec![(address, port).into()],
            Host::Ipv6(address) => vec![(address, port).into()],
            Host::Domain(name) => {
                let failed = |problem: String| FetchFailure::Name { host: name.to_owned(), problem };
                let found: Vec<_> = tokio::net::lookup_host((name, port))
                    .await
                    .map_err(|error| failed(error.to_string()))?
                    .collect();
                if found.is_empty() {
                    return Err(failed("it has no address".to_owned()));
                }
                found
            }
        };
        for address in &addresses {
            within(address.ip(), self.reach).map_err(FetchFailure::Address)?;
        }
        let on_this_machine = addresses.iter().all(|address| is_loopback(address.ip()));
        match parsed.scheme() {
            "https" => Ok((parsed, addresses)),
            "http" if on_this_machine => Ok((parsed, addresses)),
            _ => Err(unusable()),
        }
    }

    async fn ask(
        &self,
        url: Url,
        addresses: &[SocketAddr],
        answered_at: &mut Timestamp,
    ) -> Result<Answer, FetchFailure> {
        let client = self.client(&url, addresses).map_err(|error| FetchFailure::Other(causes(&error)))?;
        let answer = client.get(url).send().await;
        *answered_at = self.clock.now();
        let mut answer = answer.map_err(failure)?;
        let certificate_expires_at = answer
            .extensions()
            .get::<reqwest::tls::TlsInfo>()
            .and_then(|tls| tls.peer_certificate())
            .and_then(x509::not_after);
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(failure)? {
            if chunk.len() > MAX_LENGTH - body.len() {
                return Err(FetchFailure::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status: answer.status().as_u16(),
            headers: std::mem::take(answer.headers_mut()),
            body: body.freeze(),
            certificate_expires_at,
        })
    }

    /// A client of its own for each document: none reuses a connection, so each measures all of what a cloud waits for.
    fn client(&self, url: &Url, addresses: &[SocketAddr]) -> reqwest::Result<Client> {
        Client::builder()
            .user_agent(concat!("carnet-doctor/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .no_proxy()
            .retry(reqwest::retry::never())
            .http1_only()
            .timeout(GIVE_UP_AFTER)
            .tls_certs_only(self.trusted.iter().cloned())
            .tls_info(true)
            .resolve_to_addrs(url.host_str().unwrap_or_default(), addresses)
            .build()
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn failure(error: reqwest::Error) -> FetchFailure {
    let error = error.without_url();
    if error.is_timeout() {
        return FetchFailure::Timeout;
    }
    match certificate_problem(&error) {
        Some(problem) => FetchFailure::Certificate(problem),
        None if error.is_connect() => FetchFailure::Connect(root_cause(&error)),
        None => FetchFailure::Other(causes(&error)),
    }
}

fn certificate_problem(error: &(dyn Error + 'static)) -> Option<CertificateProblem> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(problem)) = error.downcast_ref() {
            return Some(match problem {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    CertificateProblem::Expired
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    CertificateProblem::NotYetValid
                }
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    CertificateProblem::OtherName
                }
                CertificateError::UnknownIssuer => CertificateProblem::UnknownIssuer,
                _ => CertificateProblem::Other,
            });
        }
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            // `source` of an I/O error passes over the error that it wraps.
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}
