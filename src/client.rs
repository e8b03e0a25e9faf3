//! A client of the API: what `carnet` itself uses to reach a server, and what programs in Rust may.
//!
//! It sends a grant's token, so it speaks only `https`, plain `http` to this machine, and a Unix socket;
//! it follows no redirect and obeys no proxy variable. Shapes are those of [`crate::api`].

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::{Host, Url};
use uuid::Uuid;

use crate::api::PREFIX;
use crate::api::audit::AuditPage;
use crate::api::credentials::{CredentialAnswer, CredentialRequest};
use crate::api::feeds::{FeedAnswer, FeedPatch, NewFeed};
use crate::api::grants::{GrantAnswer, NewGrant, NewGrantAnswer};
use crate::api::problem::Problem;
use crate::api::signing_keys::{RotationAnswer, RotationRequest, SigningKeyAnswer};
use crate::excerpt::excerpt;
use crate::feed::FeedPath;
use crate::feed::registry_host::RegistryHost;
use crate::jose::jwk::Kid;
use crate::secret::SecretString;
use crate::slug::Slug;

/// Longest answer that is read.
const MAX_ANSWER: usize = 4 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A server may take 15 s for an exchange.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Where a server is: `https://…`, `http://` on loopback, or `unix:/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerUrl {
    /// Over TCP; without a path's trailing slash.
    Http(Url),
    /// Over a Unix socket.
    Unix(PathBuf),
}

/// The text is not where a server is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerUrlError {
    /// Not a URL.
    #[error("{0} is not a URL: write https://HOST or unix:/PATH")]
    NotAUrl(String),
    /// A grant's token would travel in clear.
    #[error("{0}: the grant's token would travel in clear; use https, or http to this machine alone")]
    Clear(String),
    /// User info, query or fragment.
    #[error("a server's URL has no user info, query or fragment")]
    Parts,
}

impl FromStr for ServerUrl {
    type Err = ServerUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.starts_with('/') {
                true => Ok(Self::Unix(path.into())),
                false => Err(ServerUrlError::NotAUrl(excerpt(text))),
            };
        }
        let url: Url = text.parse().map_err(|_| ServerUrlError::NotAUrl(excerpt_of_url(text)))?;
        let has_parts = url.query().is_some() || url.fragment().is_some();
        if has_parts || !url.username().is_empty() || url.password().is_some() {
            return Err(ServerUrlError::Parts);
        }
        let is_loopback = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        match url.scheme() {
            "https" => Ok(Self::Http(url)),
            "http" if is_loopback => Ok(Self::Http(url)),
            "http" => Err(ServerUrlError::Clear(excerpt(url.as_str()))),
            _ => Err(ServerUrlError::NotAUrl(excerpt_of_url(text))),
        }
    }
}

/// What does not parse may hold a password anywhere before an `@`.
fn excerpt_of_url(text: &str) -> String {
    excerpt(text.rsplit_once('@').map_or(text, |(_, rest)| rest))
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => f.write_str(url.as_str().trim_end_matches('/')),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The server gave no wanted answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It refused.
    #[error("{}", refusal(.0))]
    Refused(Box<Problem>),
    /// What answers is no carnet.
    #[error("{server} answered with HTTP {status} and nothing that carnet says")]
    NotCarnet {
        /// Where it was asked.
        server: ServerUrl,
        /// The HTTP status.
        status: StatusCode,
    },
    /// There was no answer.
    #[error("{server} could not be asked")]
    Unreachable {
        /// Where it was asked.
        server: ServerUrl,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The client could not be made.
    #[error("the client could not be made")]
    Setup(#[source] reqwest::Error),
    /// The token is not text that a header can hold.
    #[error("the grant's token holds characters that no token has")]
    Token,
}

fn refusal(problem: &Problem) -> String {
    match &problem.detail {
        Some(detail) => format!("{}: {detail}", problem.title),
        None => problem.title.to_string(),
    }
}

/// Asks one server with one grant.
#[derive(Clone)]
pub struct ApiClient {
    server: ServerUrl,
    base: String,
    authorization: HeaderValue,
    http: reqwest::Client,
}

impl fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiClient").field("server", &self.server).finish_non_exhaustive()
    }
}

impl ApiClient {
    /// A client of `server` that presents `token`, and trusts the certificates in `extra_ca_pem` beside
    /// the operating system's.
    ///
    /// # Errors
    ///
    /// [`ClientError::Token`] and [`ClientError::Setup`].
    pub fn new(
        server: ServerUrl,
        token: &SecretString,
        extra_ca_pem: Option<&[u8]>,
    ) -> Result<Self, ClientError> {
        let bearer = zeroize::Zeroizing::new(format!("Bearer {}", token.reveal()));
        let mut authorization = HeaderValue::from_str(&bearer).map_err(|_| ClientError::Token)?;
        authorization.set_sensitive(true);
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("carnet/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT);
        if let Some(pem) = extra_ca_pem {
            let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(ClientError::Setup)?;
            builder = builder.tls_certs_merge(certificates);
        }
        let base = match &server {
            ServerUrl::Http(url) => url.as_str().trim_end_matches('/').to_owned(),
            ServerUrl::Unix(path) => {
                builder = builder.unix_socket(path.clone());
                "http://localhost".to_owned()
            }
        };
        let http = builder.build().map_err(ClientError::Setup)?;
        Ok(Self { server, base: base + PREFIX, authorization, http })
    }

    /// A credential of `feed`'s registry.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn credential(
        &self,
        feed: &FeedPath,
        request: &CredentialRequest,
    ) -> Result<CredentialAnswer, ClientError> {
        self.post(&format!("{}/credentials", feed_route(feed)), request).await
    }

    /// A credential for a registry of which the grant has one feed.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn registry_credential(
        &self,
        registry: &RegistryHost,
        request: &CredentialRequest,
    ) -> Result<CredentialAnswer, ClientError> {
        self.post(&format!("/registries/{registry}/credentials"), request).await
    }

    /// The feeds of `space` that the grant sees.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn feeds(&self, space: &Slug) -> Result<Vec<FeedAnswer>, ClientError> {
        self.get(&format!("/spaces/{space}/feeds")).await
    }

    /// A feed.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn feed(&self, feed: &FeedPath) -> Result<FeedAnswer, ClientError> {
        self.get(&feed_route(feed)).await
    }

    /// Adds a feed.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn create_feed(&self, space: &Slug, feed: &NewFeed) -> Result<FeedAnswer, ClientError> {
        self.post(&format!("/spaces/{space}/feeds"), feed).await
    }

    /// Changes a feed.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn update_feed(&self, feed: &FeedPath, patch: &FeedPatch) -> Result<FeedAnswer, ClientError> {
        self.send(Method::PATCH, &feed_route(feed), Some(patch)).await
    }

    /// Removes a feed.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn remove_feed(&self, feed: &FeedPath) -> Result<(), ClientError> {
        self.delete(&feed_route(feed)).await
    }

    /// The signing keys.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn signing_keys(&self) -> Result<Vec<SigningKeyAnswer>, ClientError> {
        self.get("/signing-keys").await
    }

    /// Rotates the signing keys.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn rotate_signing_keys(
        &self,
        request: &RotationRequest,
    ) -> Result<RotationAnswer, ClientError> {
        self.post("/signing-keys/rotate", request).await
    }

    /// Revokes a signing key.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn revoke_signing_key(&self, kid: &Kid) -> Result<RotationAnswer, ClientError> {
        self.send(Method::POST, &format!("/signing-keys/{kid}/revoke"), None::<&()>).await
    }

    /// The grants that are no wider than this client's own.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn grants(&self) -> Result<Vec<GrantAnswer>, ClientError> {
        self.get("/grants").await
    }

    /// Makes a grant.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn create_grant(&self, grant: &NewGrant) -> Result<NewGrantAnswer, ClientError> {
        self.post("/grants", grant).await
    }

    /// Revokes a grant.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn revoke_grant(&self, id: Uuid) -> Result<(), ClientError> {
        self.delete(&format!("/grants/{id}")).await
    }

    /// The newest rows of the audit log, or those older than the row `before`.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn audit(&self, before: Option<i64>) -> Result<AuditPage, ClientError> {
        self.get(&before.map_or_else(|| "/audit".to_owned(), |before| format!("/audit?before={before}")))
            .await
    }

    async fn get<T: DeserializeOwned>(&self, route: &str) -> Result<T, ClientError> {
        self.send(Method::GET, route, None::<&()>).await
    }

    async fn post<T: DeserializeOwned>(&self, route: &str, body: &impl Serialize) -> Result<T, ClientError> {
        self.send(Method::POST, route, Some(body)).await
    }

    async fn delete(&self, route: &str) -> Result<(), ClientError> {
        self.answer(Method::DELETE, route, None::<&()>).await.map(drop)
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        route: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let (status, answer) = self.answer(method, route, body).await?;
        serde_json::from_slice(&answer).map_err(|_| self.not_carnet(status))
    }

    /// Status and body of a success.
    async fn answer(
        &self,
        method: Method,
        route: &str,
        body: Option<&impl Serialize>,
    ) -> Result<(StatusCode, zeroize::Zeroizing<Vec<u8>>), ClientError> {
        let unreachable = |error: reqwest::Error| ClientError::Unreachable {
            server: self.server.clone(),
            source: error.without_url(),
        };
        let mut request = self
            .http
            .request(method, format!("{}{route}", self.base))
            .header(http::header::AUTHORIZATION, self.authorization.clone());
        if let Some(body) = body {
            request = request.json(body);
        }
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut content = zeroize::Zeroizing::new(Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if content.len() + chunk.len() > MAX_ANSWER {
                return Err(self.not_carnet(status));
            }
            content.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok((status, content));
        }
        match serde_json::from_slice::<Problem>(&content) {
            Ok(problem) => Err(ClientError::Refused(Box::new(problem))),
            Err(_) => Err(self.not_carnet(status)),
        }
    }

    fn not_carnet(&self, status: StatusCode) -> ClientError {
        ClientError::NotCarnet { server: self.server.clone(), status }
    }
}

fn feed_route(feed: &FeedPath) -> String {
    format!("/spaces/{}/feeds/{}", feed.space, feed.slug)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_travels_by_tls_or_not_beyond_this_machine() {
        for (text, shown) in [
            ("https://carnet.example", "https://carnet.example"),
            ("https://carnet.example:8443/base/", "https://carnet.example:8443/base"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]:8080/", "http://[::1]:8080"),
            ("http://localhost:1", "http://localhost:1"),
            ("unix:/run/carnet.sock", "unix:/run/carnet.sock"),
        ] {
            assert_eq!(text.parse::<ServerUrl>().unwrap().to_string(), shown);
        }
        for text in [
            "http://carnet.example",
            "http://localhost.evil.example",
            "ftp://a",
            "unix:run",
            "a",
            "https://a?b",
            "https://a#b",
        ] {
            assert!(text.parse::<ServerUrl>().is_err(), "{text}");
        }
        for text in ["https://user:hunter2@a", "htp://user:hunter2@a", "http://user:hunter2@a:x"] {
            let error = text.parse::<ServerUrl>().unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_token_is_not_in_debug() {
        let token = SecretString::new("carnet_hunter2".to_owned());
        let client = ApiClient::new("https://a".parse().unwrap(), &token, None).unwrap();
        assert!(!format!("{client:?}").contains("hunter2"));
    }
}
