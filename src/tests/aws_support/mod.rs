//! An issuer made without carnet's signing code, and a sandbox that trusts it.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::exchange::address::Loopback;
use crate::exchange::transport::{HttpTransport, ReqwestTransport, SendFuture, TransportConfig};
use crate::exchange::{Credential, ExchangeError, ExchangeRequest};
use crate::feed::aws::ENDPOINT_NAMES;
use crate::feed::endpoints::Endpoints;
use crate::feed::scope::Scope;
use crate::feed::{Feed, FeedDraft};
use crate::jose::Algorithm;
use crate::oidc::token::{Presented, SignedToken};
use crate::sandbox::{Sandbox, SandboxEndpoints};
use crate::values::clock::{Clock, SimulatedClock};
use crate::values::random::SecureRandom;
use crate::values::secret::SecretString;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256};
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

const NOW: &str = "2026-03-01T12:00:00Z";

/// Returns the time this many seconds after the start.
pub(crate) fn at(seconds: i64) -> Timestamp {
    NOW.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Status and body of discovery and JWKS.
#[derive(Clone, Default)]
pub(crate) struct Documents {
    pub(crate) discovery: (u16, String),
    pub(crate) jwks: (u16, String),
}

pub(crate) struct Issuer {
    pub(crate) url: String,
    documents: Arc<Mutex<Documents>>,
    ec: EcdsaKeyPair,
    rsa: rsa::KeyPair,
}

impl Issuer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/issuer", listener.local_addr().unwrap());
        let documents = Arc::new(Mutex::new(Documents::default()));
        let response = |(status, body): (u16, String)| (StatusCode::from_u16(status).unwrap(), body);
        let router = Router::new()
            .route(
                "/issuer/.well-known/openid-configuration",
                get(move |State(served): State<Arc<Mutex<Documents>>>| async move {
                    response(served.lock().unwrap().discovery.clone())
                }),
            )
            .route(
                "/issuer/keys",
                get(move |State(served): State<Arc<Mutex<Documents>>>| async move {
                    response(served.lock().unwrap().jwks.clone())
                }),
            )
            .with_state(Arc::clone(&documents));
        tokio::spawn(async move { axum::serve(listener, router).await });

        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let rsa = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
        let issuer = Self { url, documents, ec, rsa };
        issuer.publish((200, issuer.discovery()), (200, issuer.jwks()));
        issuer
    }

    fn discovery(&self) -> String {
        json!({
            "issuer": self.url, "jwks_uri": format!("{}/keys", self.url),
            "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
        })
        .to_string()
    }

    fn jwks(&self) -> String {
        let point = self.ec.public_key().as_ref();
        let public = self.rsa.public_key();
        json!({ "keys": [
            { "kty": "EC", "use": "sig", "alg": "ES256", "kid": "ES256", "crv": "P-256",
              "x": encode(&point[1..33]), "y": encode(&point[33..]) },
            { "kty": "RSA", "use": "sig", "alg": "RS256", "kid": "RS256",
              "n": encode(public.modulus().big_endian_without_leading_zero()),
              "e": encode(public.exponent().big_endian_without_leading_zero()) },
        ]})
        .to_string()
    }

    pub(crate) fn documents(&self) -> Documents {
        self.documents.lock().unwrap().clone()
    }

    pub(crate) fn publish(&self, discovery: (u16, String), jwks: (u16, String)) {
        *self.documents.lock().unwrap() = Documents { discovery, jwks };
    }

    /// Returns a token with these claims; the `kid` is the algorithm's name.
    pub(crate) fn token(&self, alg: &str, claims: &Value) -> String {
        self.signed(alg, json!({ "alg": alg, "kid": alg, "typ": "JWT" }), claims)
    }

    /// Returns a token with any header, signed with the key of `alg`.
    pub(crate) fn signed(&self, alg: &str, header: Value, claims: &Value) -> String {
        let message =
            format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
        let random = SystemRandom::new();
        let signature = if alg == "ES256" {
            self.ec.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec()
        } else {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).unwrap();
            signature
        };
        format!("{message}.{}", encode(&signature))
    }
}

pub(crate) struct World {
    pub(crate) issuer: Issuer,
    /// The sandbox's time.
    clock: SimulatedClock,
    config: String,
    sts: String,
    feed: Feed,
}

impl World {
    pub(crate) async fn start(config: &str) -> Self {
        Self::of_type("aws-ecr", config).await
    }

    pub(crate) async fn of_type(feed_type: &str, config: &str) -> Self {
        let issuer = Issuer::start().await;
        let clock = SimulatedClock::at(at(0));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoints = SandboxEndpoints::at(listener.local_addr().unwrap()).endpoints.aws;
        let feed = feed(feed_type, &endpoints.sts, &endpoints.ecr);
        let world = Self { issuer, clock, config: config.to_owned(), sts: endpoints.sts, feed };
        tokio::spawn(world.sandbox().serve(listener, std::future::pending()));
        world
    }

    pub(crate) fn sandbox(&self) -> Sandbox {
        Sandbox::new(
            self.issuer.url.parse().unwrap(),
            self.config.parse().unwrap(),
            None,
            Arc::new(self.clock.clone()),
            Arc::new(SecureRandom::default()),
        )
        .unwrap()
    }

    /// Claims that every role trusts.
    pub(crate) fn claims(&self) -> Value {
        let (now, exp) = (at(0).as_second(), at(600).as_second());
        json!({
            "iss": self.issuer.url, "sub": "space:default:feed:a", "aud": "sts.amazonaws.com",
            "iat": now - 5, "nbf": now - 5, "exp": exp, "jti": Uuid::nil(),
        })
    }

    pub(crate) async fn exchange(&self, token: &str) -> Result<Credential, ExchangeError> {
        self.exchange_tampered(token, |_| ()).await
    }

    /// Exchanges with the request to ECR changed on its way.
    pub(crate) async fn exchange_tampered(
        &self,
        token: &str,
        tamper: impl Fn(&mut Request<Bytes>) + Send + Sync + 'static,
    ) -> Result<Credential, ExchangeError> {
        let transport = Tampering { inner: transport(), tamper: Box::new(tamper) };
        self.exchange_through(&transport, token, &self.clock).await
    }

    /// Exchanges with separate times for the request to ECR and for the client's clock.
    pub(crate) async fn exchange_at(
        &self,
        token: &str,
        client: Timestamp,
        sandbox: Timestamp,
    ) -> Result<Credential, ExchangeError> {
        self.clock.step_wall_to(at(0));
        let clock = self.clock.clone();
        let transport =
            Tampering { inner: transport(), tamper: Box::new(move |_| clock.step_wall_to(sandbox)) };
        self.exchange_through(&transport, token, &SimulatedClock::at(client)).await
    }

    async fn exchange_through(
        &self,
        transport: &Tampering,
        token: &str,
        clock: &dyn Clock,
    ) -> Result<Credential, ExchangeError> {
        let (token, scope) = (signed(token), Scope::everything());
        let request = ExchangeRequest { feed: &self.feed, token: &token, scope: &scope };
        crate::exchange::exchange(transport, request, clock).await
    }

    /// Calls STS with a valid form in which some fields are replaced, or all given twice.
    pub(crate) async fn call_sts(
        &self,
        token: &str,
        replaced: &[(&str, &str)],
        twice: bool,
    ) -> (u16, String) {
        let mut fields = vec![
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", "arn:aws:iam::123456789012:role/pull"),
            ("RoleSessionName", "default@a"),
            ("WebIdentityToken", token),
        ];
        fields.retain(|(name, _)| !replaced.iter().any(|(replaced, _)| replaced == name));
        fields.extend(replaced);
        if twice {
            fields.extend(fields.clone());
        }
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = Request::post(&self.sts)
            .header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
            .body(form.into())
            .unwrap();
        let response: Response<Bytes> = transport().send(request).await.unwrap();
        (response.status().as_u16(), String::from_utf8(response.body().to_vec()).unwrap())
    }
}

fn transport() -> ReqwestTransport {
    ReqwestTransport::new(TransportConfig { loopback: Loopback::Allow, ..TransportConfig::default() })
        .unwrap()
}

fn feed(feed_type: &str, sts: &str, ecr: &str) -> Feed {
    let aws = json!({ "type": feed_type, "role_arn": "arn:aws:iam::123456789012:role/pull" });
    let (sts, ecr) = (format!("sts={sts}"), format!("ecr={ecr}"));
    let draft = FeedDraft {
        endpoints: Endpoints::from_pairs(ENDPOINT_NAMES, [sts.as_str(), ecr.as_str()]).unwrap(),
        ..FeedDraft::new(
            "default/a".parse().unwrap(),
            "localhost:5000".parse().unwrap(),
            serde_json::from_value(aws).unwrap(),
        )
    };
    Feed::new(draft, Uuid::nil(), Duration::from_secs(3600), at(0)).unwrap()
}

/// Wraps a token as the issuer would; the sandbox ignores the presented claims.
fn signed(token: &str) -> SignedToken {
    SignedToken {
        compact: SecretString::new(token.to_owned()),
        jti: Uuid::nil(),
        issued_at: at(0),
        expires_at: at(600),
        presented: Presented {
            iss: "http://127.0.0.1".into(),
            sub: "space:default:feed:a".into(),
            aud: "sts.amazonaws.com".into(),
            kid: "ES256".into(),
            alg: Algorithm::Es256,
        },
    }
}

type Tamper = Box<dyn Fn(&mut Request<Bytes>) + Send + Sync>;

/// A transport that changes the requests to ECR just before they leave.
struct Tampering {
    inner: ReqwestTransport,
    tamper: Tamper,
}

impl fmt::Debug for Tampering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tampering")
    }
}

impl HttpTransport for Tampering {
    fn send(&self, mut request: Request<Bytes>) -> SendFuture<'_> {
        if request.uri().path() == "/aws/ecr" {
            (self.tamper)(&mut request);
        }
        self.inner.send(request)
    }
}
