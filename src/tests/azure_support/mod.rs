//! The sandbox's Azure, with an issuer made without carnet's signing code.

use std::sync::Arc;
use std::time::Duration;

use crate::exchange::address::Loopback;
use crate::exchange::transport::{HttpTransport, ReqwestTransport, TransportConfig};
use crate::exchange::{Credential, ExchangeError, ExchangeRequest, exchange};
use crate::feed::azure::ENDPOINT_NAMES;
use crate::feed::endpoints::Endpoints;
use crate::feed::scope::Scope;
use crate::feed::{Feed, FeedDraft};
use crate::jose::Algorithm;
use crate::oidc::token::{Presented, SignedToken};
use crate::sandbox::{AzureEndpoints, Sandbox, SandboxEndpoints};
pub(crate) use crate::tests::aws_support::{Issuer, at};
use crate::values::clock::SimulatedClock;
use crate::values::random::SecureRandom;
use crate::values::secret::SecretString;
use bytes::Bytes;
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

pub(crate) const TENANT: &str = "8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c";
pub(crate) const CLIENT: &str = "0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e";
pub(crate) const OTHER: &str = "11111111-2222-4333-8444-555555555555";
pub(crate) const APPLICATION: &str = r#"
    [azure]
    tenant = "8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c"
    credential_lifetime = 1800
    [[azure.applications]]
    client_id = "0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e"
    subject = "space:default:feed:a"
"#;

pub(crate) struct World {
    pub(crate) issuer: Issuer,
    pub(crate) clock: SimulatedClock,
    endpoints: AzureEndpoints,
    transport: ReqwestTransport,
}

impl World {
    pub(crate) async fn start(config: &str) -> Self {
        let issuer = Issuer::start().await;
        let clock = SimulatedClock::at(at(0));
        let random = Arc::new(SecureRandom::default());
        let config = config.parse().unwrap();
        let sandbox =
            Sandbox::new(issuer.url.parse().unwrap(), config, None, Arc::new(clock.clone()), random).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoints = SandboxEndpoints::at(listener.local_addr().unwrap()).endpoints.azure;
        tokio::spawn(sandbox.serve(listener, std::future::pending()));
        let transport = ReqwestTransport::new(TransportConfig {
            loopback: Loopback::Allow,
            ..TransportConfig::default()
        })
        .unwrap();
        Self { issuer, clock, endpoints, transport }
    }

    /// Claims that [`APPLICATION`] trusts.
    pub(crate) fn claims(&self) -> Value {
        let now = at(0).as_second();
        json!({
            "iss": self.issuer.url, "sub": "space:default:feed:a", "aud": "api://AzureADTokenExchange",
            "iat": now - 5, "nbf": now - 5, "exp": now + 600, "jti": Uuid::nil(),
        })
    }

    fn feed(&self, tenant: &str, client: &str) -> Feed {
        let overrides = [
            format!("authority={}", self.endpoints.authority),
            format!("registry={}", self.endpoints.registry),
        ];
        let azure = json!({ "type": "azure-acr", "tenant_id": tenant, "client_id": client });
        let draft = FeedDraft {
            endpoints: Endpoints::from_pairs(ENDPOINT_NAMES, overrides.iter().map(String::as_str)).unwrap(),
            ..FeedDraft::new(
                "default/a".parse().unwrap(),
                "images.azurecr.io".parse().unwrap(),
                serde_json::from_value(azure).unwrap(),
            )
        };
        Feed::new(draft, Uuid::nil(), Duration::from_secs(3600), at(0)).unwrap()
    }

    pub(crate) async fn exchange_as(
        &self,
        tenant: &str,
        client: &str,
        token: &str,
    ) -> Result<Credential, ExchangeError> {
        self.ask(&self.feed(tenant, client), token, &Scope::everything()).await
    }

    pub(crate) async fn exchange_scoped(
        &self,
        token: &str,
        scope: &Scope,
    ) -> Result<Credential, ExchangeError> {
        self.ask(&self.feed(TENANT, CLIENT), token, scope).await
    }

    async fn ask(&self, feed: &Feed, token: &str, scope: &Scope) -> Result<Credential, ExchangeError> {
        let token = signed(token);
        exchange(&self.transport, ExchangeRequest { feed, token: &token, scope }, &self.clock).await
    }

    pub(crate) async fn exchange(&self, token: &str) -> Result<Credential, ExchangeError> {
        self.exchange_as(TENANT, CLIENT, token).await
    }

    async fn post(&self, url: &str, fields: &[(&str, &str)]) -> (u16, Value) {
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = Request::post(url).body(Bytes::from(form)).unwrap();
        let response = self.transport.send(request).await.unwrap();
        (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap())
    }

    /// Calls Entra with a valid form in which some fields are replaced.
    pub(crate) async fn ask_entra(
        &self,
        tenant: &str,
        token: &str,
        replaced: &[(&str, &str)],
    ) -> (u16, Value) {
        let mut fields = vec![
            ("client_id", CLIENT),
            ("grant_type", "client_credentials"),
            ("scope", "https://containerregistry.azure.net/.default"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", token),
        ];
        fields.retain(|(name, _)| !replaced.iter().any(|(replaced, _)| replaced == name));
        fields.extend(replaced);
        self.post(&format!("{}/{tenant}/oauth2/v2.0/token", self.endpoints.authority), &fields).await
    }

    /// Calls the registry itself, below `/v2/`.
    pub(crate) async fn ask_registry(
        &self,
        method: &str,
        path: &str,
        authorization: &str,
    ) -> Response<Bytes> {
        let url = format!("{}/v2/{path}", self.endpoints.registry);
        let request = Request::builder().method(method).uri(url).header("authorization", authorization);
        self.transport.send(request.body(Bytes::new()).unwrap()).await.unwrap()
    }

    pub(crate) async fn ask_acr(&self, path: &str, fields: &[(&str, &str)]) -> (u16, Value) {
        self.post(&format!("{}/oauth2/{path}", self.endpoints.registry), fields).await
    }
}

/// Wraps a token as the issuer would.
fn signed(token: &str) -> SignedToken {
    SignedToken {
        compact: SecretString::new(token.to_owned()),
        jti: Uuid::from_u128(7),
        issued_at: at(0),
        expires_at: at(600),
        presented: Presented {
            iss: "http://127.0.0.1".into(),
            sub: "space:default:feed:a".into(),
            aud: "api://AzureADTokenExchange".into(),
            kid: "RS256".into(),
            alg: Algorithm::Rs256,
        },
    }
}
