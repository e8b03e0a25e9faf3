//! Fetches a public document as a cloud does.
//!
//! Trusts the built-in public web roots and never the operating system's store, which may hold an authority
//! that no cloud trusts and so hide a problem. Follows no redirect and uses no proxy. A name is resolved
//! once, and the connector gets only the vetted addresses.

use std::error::Error;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use jiff::Timestamp;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client};
use url::{Host, Url};

use super::address::{OutOfReach, Reach, within};
use super::causes;
use crate::values::clock::Clock;
use crate::values::tls_failure::{CertificateProblem, TlsFailure};
use crate::values::x509;

/// The timeout of a fetch, and of the name resolution before it: twice as long as AWS waits.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// The maximum length of a document. No document of an issuer is longer.
const MAX_LENGTH: usize = 1 << 20;

/// The certificate authorities to trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The web's public authorities, built in from Mozilla's list.
    PublicWebRoots,
    /// The certificates in this file and no others.
    Only {
        /// The path, for messages.
        file: PathBuf,
        /// The file's content.
        pem: Vec<u8>,
    },
}

/// The result of one GET.
#[derive(Debug)]
pub struct Fetched {
    /// The requested URL.
    pub url: String,
    /// The wall clock when the connection began.
    pub began_at: Timestamp,
    /// The wall clock when the response's head arrived, or when the request failed.
    pub answered_at: Timestamp,
    /// The time from the beginning of the connection to the end of the response, without name resolution.
    pub took: Duration,
    /// The response, or the reason why there is none.
    pub outcome: Result<FetchedResponse, FetchFailure>,
}

/// A response with any status.
#[derive(Debug, Clone)]
pub struct FetchedResponse {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The expiry of the server's certificate. `None` without TLS.
    pub certificate_expires_at: Option<Timestamp>,
}

/// The reason why there is no response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchFailure {
    /// The URL is not one that a cloud can fetch.
    #[error("{0} cannot be fetched")]
    Url(String),
    /// The name does not resolve.
    #[error("the name {host} cannot be resolved: {problem}")]
    Name {
        /// The name.
        host: String,
        /// The resolver's error.
        problem: String,
    },
    /// One of the name's addresses is one that no cloud can reach.
    #[error("{0}")]
    Address(OutOfReach),
    /// The certificate is not trusted.
    #[error("the certificate is not trusted: {0}")]
    Certificate(CertificateProblem),
    /// The TLS handshake failed for another reason.
    #[error("the TLS handshake failed: {said}")]
    Tls {
        /// The reason.
        failure: TlsFailure,
        /// The text of the innermost error.
        said: String,
    },
    /// Nothing listens there, or something is in between.
    #[error("no connection: {0}")]
    Connect(String),
    /// The response was not complete within [`GIVE_UP_AFTER`].
    #[error("no response within {} s", GIVE_UP_AFTER.as_secs())]
    Timeout,
    /// The response is longer than any document of an issuer.
    #[error("the response is longer than {MAX_LENGTH} bytes")]
    TooLong,
    /// Any other failure.
    #[error("{0}")]
    Other(String),
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
    /// Creates a fetcher that trusts `trust` and connects only to addresses within `reach`.
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

    /// Fetches `url`, which must be `https`, or `http` on this machine.
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

    /// Resolves the host of `url`. Refuses the URL if any of its addresses is out of reach, because a cloud
    /// may connect to that one.
    async fn resolve(&self, url: &str) -> Result<(Url, Vec<SocketAddr>), FetchFailure> {
        let unusable = || FetchFailure::Url(url.to_owned());
        let parsed = Url::parse(url).map_err(|_| unusable())?;
        let port = parsed.port_or_known_default().ok_or_else(unusable)?;
        let addresses: Vec<SocketAddr> = match parsed.host().ok_or_else(unusable)? {
            Host::Ipv4(address) => vec![(address, port).into()],
            Host::Ipv6(address) => vec![(address, port).into()],
            Host::Domain(name) => {
                let failed = |problem: String| FetchFailure::Name { host: name.to_owned(), problem };
                let lookup = self.in_time(tokio::net::lookup_host((name, port))).await;
                let found: Vec<_> = lookup
                    .ok_or_else(|| {
                        failed(format!("the resolver does not answer within {} s", GIVE_UP_AFTER.as_secs()))
                    })?
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

    /// Awaits `lookup`; `None` if that takes longer than [`GIVE_UP_AFTER`].
    async fn in_time<T>(&self, lookup: impl Future<Output = T>) -> Option<T> {
        let timeout = self.clock.sleep_until(self.clock.monotonic() + GIVE_UP_AFTER);
        tokio::select! {
            found = lookup => Some(found),
            () = timeout => None,
        }
    }

    async fn ask(
        &self,
        url: Url,
        addresses: &[SocketAddr],
        answered_at: &mut Timestamp,
    ) -> Result<FetchedResponse, FetchFailure> {
        let client = self.client(&url, addresses).map_err(|error| FetchFailure::Other(causes(&error)))?;
        let response = client.get(url).send().await;
        *answered_at = self.clock.now();
        let mut response = response.map_err(failure)?;
        let certificate_expires_at = response
            .extensions()
            .get::<reqwest::tls::TlsInfo>()
            .and_then(|tls| tls.peer_certificate())
            .and_then(x509::not_after);
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(failure)? {
            if chunk.len() > MAX_LENGTH - body.len() {
                return Err(FetchFailure::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(FetchedResponse {
            status: response.status().as_u16(),
            headers: std::mem::take(response.headers_mut()),
            body: body.freeze(),
            certificate_expires_at,
        })
    }

    /// Creates a client for one document. No connection is reused, so each fetch takes as long as a cloud's
    /// own.
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
    if !error.is_connect() {
        return FetchFailure::Other(causes(&error));
    }
    match TlsFailure::of_connecting(&error) {
        Some(TlsFailure::Certificate(problem)) => FetchFailure::Certificate(problem),
        Some(failure) => FetchFailure::Tls { failure, said: root_cause(&error) },
        None => FetchFailure::Connect(root_cause(&error)),
    }
}

fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::doctor::Status;
    use crate::doctor::public::check_discovery;
    use crate::values::clock::{SimulatedClock, SystemClock};

    #[tokio::test]
    async fn a_failed_handshake_is_told_by_its_type_with_its_own_hint() {
        let clock = SystemClock::default();
        let fetcher = Fetcher::new(&Trust::PublicWebRoots, Reach::AllowPrivate, &clock).unwrap();
        for (response, expected, hint) in [
            (&b"HTTP/1.1 400 x\r\n\r\n"[..], TlsFailure::NotTls, "does not speak TLS"),
            // An alert: protocol_version.
            (&[0x15, 3, 3, 0, 2, 2, 70], TlsFailure::NothingInCommon, "have TLS 1.2 or 1.3 enabled"),
            (b"", TlsFailure::Closed, "a server must accept public connections there"),
        ] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("https://{}/", listener.local_addr().unwrap());
            let serve = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(response).await;
            };
            let (fetched, ()) = tokio::join!(fetcher.get(&url), serve);
            let Err(FetchFailure::Tls { failure, .. }) = fetched.outcome else { panic!("{fetched:?}") };
            assert_eq!(failure, expected);
            let findings = check_discovery(&"https://issuer.example".parse().unwrap(), &fetched);
            let [finding] = &findings[..] else { panic!("{findings:?}") };
            assert_eq!(finding.status, Status::Failed);
            assert!(finding.summary.contains("the TLS handshake failed: "), "{}", finding.summary);
            assert!(finding.hint.as_ref().unwrap().contains(hint), "{finding:?}");
        }
    }

    #[tokio::test]
    async fn a_resolver_that_hangs_is_given_up_after_ten_seconds() {
        let clock = SimulatedClock::at(Timestamp::UNIX_EPOCH);
        let fetcher = Fetcher { trusted: Vec::new(), reach: Reach::PublicOnly, clock: &clock };
        assert_eq!(fetcher.in_time(std::future::ready(7)).await, Some(7));
        let passes = async {
            tokio::task::yield_now().await;
            clock.advance(GIVE_UP_AFTER);
        };
        let (given_up, ()) = tokio::join!(fetcher.in_time(std::future::pending::<()>()), passes);
        assert_eq!(given_up, None);
    }
}
