//! A client of the API, for the `carnet` binary and for other Rust programs.
//!
//! The client sends a grant's token. It therefore connects only over `https`, over plain `http` to this
//! machine, or over a Unix socket; it follows no redirect and ignores proxy variables. Text from the server
//! is bounded, and cleared of control characters and of the token, before a caller sees it. The request and
//! response types are those of [`crate::api_types`].
//!
//! ```no_run
//! use carnet::{ApiClient, ClientError, CredentialRequest, SecretString};
//!
//! async fn pull_credential() -> Result<(), Box<dyn std::error::Error>> {
//!     let token = SecretString::new(std::env::var("CARNET_TOKEN")?);
//!     let carnet = ApiClient::new("https://carnet.example".parse()?, &token, None)?;
//!     match carnet.credential(&"default/prod".parse()?, &CredentialRequest::default()).await {
//!         Ok(credential) => println!("{} until {}", credential.registry, credential.expires_at),
//!         Err(ClientError::Refused(problem)) => eprintln!("{:?}: {}", problem.known_type(), problem.title),
//!         Err(error) => eprintln!("{error}"),
//!     }
//!     Ok(())
//! }
//! ```

mod error;
mod sender;
mod server_url;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

pub use self::error::ClientError;
use self::sender::{Again, Call, Sender, ServerResponse};
pub use self::server_url::ServerUrl;
use crate::api_types::audit::AuditPage;
use crate::api_types::check::{CheckRequest, CheckResponse};
use crate::api_types::credentials::{CredentialRequest, CredentialResponse};
use crate::api_types::feeds::{FeedPatch, FeedResponse, NewFeed};
use crate::api_types::grants::{GrantResponse, NewGrant, NewGrantResponse};
use crate::api_types::setup::SetupResponse;
use crate::api_types::signing_keys::{RotationRequest, RotationResponse, SigningKeyResponse};
use crate::feed::FeedPath;
use crate::feed::registry_host::RegistryHost;
use crate::jose::jwk::Kid;
use crate::values::clock::{Clock, SystemClock};
use crate::values::secret::SecretString;
use crate::values::slug::Slug;

/// The timeout of a request that only reads.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout of a change. The server may wait for the database, and a rotation for new keys.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);
/// The timeout of a request for a credential. A server may need 15 s for an exchange, and may queue the
/// request for as long again.
const CREDENTIAL_TIMEOUT: Duration = Duration::from_secs(35);

/// A client of one server with one grant. Clones share their connections.
#[derive(Clone)]
pub struct ApiClient {
    sender: Sender,
}

impl fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiClient").field("server", &self.sender.server).finish_non_exhaustive()
    }
}

impl ApiClient {
    /// Creates a client that presents `token` to `server`. It trusts the certificates in `extra_ca_pem` in
    /// addition to the operating system's.
    ///
    /// # Errors
    ///
    /// [`ClientError::Token`], [`ClientError::CaBundle`] or [`ClientError::Setup`].
    pub fn new(
        server: ServerUrl,
        token: &SecretString,
        extra_ca_pem: Option<&[u8]>,
    ) -> Result<Self, ClientError> {
        Self::with_clock(server, token, extra_ca_pem, Arc::new(SystemClock::new()))
    }

    /// Creates a client as [`ApiClient::new`] does. The client waits by `clock` before a retry.
    pub fn with_clock(
        server: ServerUrl,
        token: &SecretString,
        extra_ca_pem: Option<&[u8]>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ClientError> {
        Sender::new(server, token, extra_ca_pem, clock).map(|sender| Self { sender })
    }

    /// Requests a credential for `feed`'s registry. Never returns one that has expired by the client's clock.
    pub async fn credential(
        &self,
        feed: &FeedPath,
        request: &CredentialRequest,
    ) -> Result<CredentialResponse, ClientError> {
        self.credential_from(&format!("{}/credentials", feed_route(feed)), request).await
    }

    /// Requests a credential for a registry. The grant must reach exactly one feed of it.
    pub async fn registry_credential(
        &self,
        registry: &RegistryHost,
        request: &CredentialRequest,
    ) -> Result<CredentialResponse, ClientError> {
        self.credential_from(&format!("/registries/{registry}/credentials"), request).await
    }

    /// Lists the feeds of `space` that the grant reaches.
    pub async fn feeds(&self, space: &Slug) -> Result<Vec<FeedResponse>, ClientError> {
        self.get(&format!("/spaces/{space}/feeds")).await
    }

    /// Returns a feed.
    pub async fn feed(&self, feed: &FeedPath) -> Result<FeedResponse, ClientError> {
        self.get(&feed_route(feed)).await
    }

    /// Adds a feed.
    pub async fn create_feed(&self, space: &Slug, feed: &NewFeed) -> Result<FeedResponse, ClientError> {
        self.change(Method::POST, &format!("/spaces/{space}/feeds"), Some(feed)).await
    }

    /// Changes a feed.
    pub async fn update_feed(&self, feed: &FeedPath, patch: &FeedPatch) -> Result<FeedResponse, ClientError> {
        self.change(Method::PATCH, &feed_route(feed), Some(patch)).await
    }

    /// Removes a feed.
    pub async fn remove_feed(&self, feed: &FeedPath) -> Result<(), ClientError> {
        self.delete(&feed_route(feed)).await
    }

    /// Returns the cloud resources to create for a feed whose subject needs no context.
    pub async fn setup(&self, feed: &FeedPath) -> Result<SetupResponse, ClientError> {
        self.get(&format!("{}/setup", feed_route(feed))).await
    }

    /// Checks every step of a feed's chain and returns the result of each. A failed step is not an error.
    pub async fn check(&self, feed: &FeedPath, request: &CheckRequest) -> Result<CheckResponse, ClientError> {
        let route = format!("{}/check", feed_route(feed));
        self.json(Method::POST, &route, Some(request), CREDENTIAL_TIMEOUT, Again::Never).await
    }

    /// Lists the signing keys.
    pub async fn signing_keys(&self) -> Result<Vec<SigningKeyResponse>, ClientError> {
        self.get("/signing-keys").await
    }

    /// Rotates the signing keys.
    pub async fn rotate_signing_keys(
        &self,
        request: &RotationRequest,
    ) -> Result<RotationResponse, ClientError> {
        self.change(Method::POST, "/signing-keys/rotate", Some(request)).await
    }

    /// Revokes a signing key.
    pub async fn revoke_signing_key(&self, kid: &Kid) -> Result<RotationResponse, ClientError> {
        self.change(Method::POST, &format!("/signing-keys/{kid}/revoke"), None::<&()>).await
    }

    /// Lists the grants that are no wider than this client's own.
    pub async fn grants(&self) -> Result<Vec<GrantResponse>, ClientError> {
        self.get("/grants").await
    }

    /// Creates a grant.
    pub async fn create_grant(&self, grant: &NewGrant) -> Result<NewGrantResponse, ClientError> {
        self.change(Method::POST, "/grants", Some(grant)).await
    }

    /// Revokes a grant.
    pub async fn revoke_grant(&self, id: Uuid) -> Result<(), ClientError> {
        self.delete(&format!("/grants/{id}")).await
    }

    /// Returns the newest rows of the audit log, or those older than the row `before`.
    pub async fn audit(&self, before: Option<i64>) -> Result<AuditPage, ClientError> {
        self.get(&before.map_or_else(|| "/audit".to_owned(), |before| format!("/audit?before={before}")))
            .await
    }

    async fn get<T: DeserializeOwned>(&self, route: &str) -> Result<T, ClientError> {
        self.json(Method::GET, route, None::<&()>, READ_TIMEOUT, Again::IfBroken).await
    }

    async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        route: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        self.json(method, route, body, CHANGE_TIMEOUT, Again::Never).await
    }

    async fn credential_from(
        &self,
        route: &str,
        request: &CredentialRequest,
    ) -> Result<CredentialResponse, ClientError> {
        let again = Again::IfBrokenOrPutOff;
        let response: CredentialResponse =
            self.json(Method::POST, route, Some(request), CREDENTIAL_TIMEOUT, again).await?;
        // A server that has the caller's token must not spread it to registries and clients' files.
        if !is_usable(&response) || self.sender.is_own_token(&response) {
            return Err(self.sender.not_carnet(StatusCode::OK));
        }
        let expired_at = response.expires_at;
        if expired_at <= self.sender.now() {
            return Err(ClientError::Expired { server: self.sender.server.clone(), expired_at });
        }
        Ok(response)
    }

    async fn delete(&self, route: &str) -> Result<(), ClientError> {
        let response =
            self.response(Method::DELETE, route, None::<&()>, CHANGE_TIMEOUT, Again::Never).await?;
        // A 2xx from something other than carnet is not success.
        if response.status == StatusCode::NO_CONTENT {
            Ok(())
        } else {
            Err(self.sender.not_carnet(response.status))
        }
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        route: &str,
        body: Option<&impl Serialize>,
        timeout: Duration,
        again: Again,
    ) -> Result<T, ClientError> {
        let response = self.response(method, route, body, timeout, again).await?;
        serde_json::from_slice(&response.body).map_err(|_| self.sender.not_carnet(response.status))
    }

    async fn response(
        &self,
        method: Method,
        route: &str,
        body: Option<&impl Serialize>,
        timeout: Duration,
        again: Again,
    ) -> Result<ServerResponse, ClientError> {
        let body = body.map(serde_json::to_vec).transpose().map_err(ClientError::Request)?;
        self.sender.send(&Call { method, route: route.to_owned(), body, timeout, again }).await
    }
}

fn feed_route(feed: &FeedPath) -> String {
    format!("/spaces/{}/feeds/{}", feed.space, feed.slug)
}

/// Returns true if a credential is safe to write to files and scripts: either a login or a token, a valid
/// feed and registry, and every value on one line.
fn is_usable(response: &CredentialResponse) -> bool {
    let is_line = |text: &str| !text.is_empty() && !text.contains(char::is_control);
    let is_secret = |secret: &SecretString| is_line(secret.reveal());
    let has_secret = match (&response.username, &response.password, &response.registry_token) {
        (Some(username), Some(password), None) => {
            is_line(username) && !username.contains(':') && is_secret(password)
        }
        (None, None, Some(token)) => is_secret(token),
        _ => false,
    };
    has_secret
        && response.feed.parse::<FeedPath>().is_ok()
        && response.registry.parse::<RegistryHost>().is_ok()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn the_token_is_not_in_debug_and_an_invalid_one_is_not_sent() {
        let token = SecretString::new("carnet_hunter2".to_owned());
        let client = ApiClient::new("https://a".parse().unwrap(), &token, None).unwrap();
        assert!(!format!("{client:?}").contains("hunter2"));
        for token in ["", "a b", "a\n", "a\r\nHost: b", "ü"] {
            let token = SecretString::new(token.to_owned());
            let error = ApiClient::new("https://a".parse().unwrap(), &token, None).unwrap_err();
            assert!(matches!(error, ClientError::Token), "{error:?}");
        }
    }

    #[test]
    fn a_bundle_without_a_certificate_is_refused() {
        let token = SecretString::new("carnet_x".to_owned());
        for pem in ["", "not PEM", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
            let made = ApiClient::new("https://a".parse().unwrap(), &token, Some(pem.as_bytes()));
            assert!(made.is_err(), "{pem:?}");
        }
    }

    #[test]
    fn a_credential_is_a_login_or_a_token_in_one_line_each() {
        let secret = |text: &str| Some(SecretString::new(text.to_owned()));
        let good = CredentialResponse {
            feed: "default/prod".to_owned(),
            registry: "registry.example:5000".to_owned(),
            username: Some("AWS".to_owned()),
            password: secret("hunter2"),
            registry_token: None,
            issued_at: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::UNIX_EPOCH,
            expiries: Vec::new(),
            source: "cache".to_owned(),
            jti: Uuid::nil(),
        };
        assert!(is_usable(&good));
        let token = CredentialResponse {
            username: None,
            password: None,
            registry_token: secret("t"),
            ..good.clone()
        };
        assert!(is_usable(&token));
        for bad in [
            CredentialResponse { registry: "https://evil.example/".to_owned(), ..good.clone() },
            CredentialResponse { feed: "\u{1b}[2J".to_owned(), ..good.clone() },
            CredentialResponse { password: secret("a\nb"), ..good.clone() },
            CredentialResponse { password: secret(""), ..good.clone() },
            CredentialResponse { password: None, ..good.clone() },
            CredentialResponse { username: Some("a:b".to_owned()), ..good.clone() },
            CredentialResponse { registry_token: secret("t"), ..good.clone() },
        ] {
            assert!(!is_usable(&bad), "{bad:?}");
        }
    }
}
