//! The exchange of a `google-artifact-registry` feed against the sandbox, which performs Google's checks and
//! refuses with Google's own codes.

use std::sync::Arc;
use std::time::Duration;

use crate::exchange::address::Loopback;
use crate::exchange::transport::{HttpTransport as _, ReqwestTransport, TransportConfig};
use crate::exchange::{Credential, ExchangeError, ExchangeFailure, ExchangeRequest, exchange};
use crate::feed::endpoints::Endpoints;
use crate::feed::google::ENDPOINT_NAMES;
use crate::feed::scope::Scope;
use crate::feed::{Feed, FeedDraft};
use crate::jose::Algorithm;
use crate::oidc::token::{Presented, SignedToken};
use crate::sandbox::{GoogleEndpoints, Sandbox, SandboxEndpoints};
use crate::tests::aws_support::{Issuer, at, encode};
use crate::values::clock::SimulatedClock;
use crate::values::random::SecureRandom;
use crate::values::secret::SecretString;
use http::Request;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

const NAME: &str = "projects/123456789012/locations/global/workloadIdentityPools/carnet/providers/issuer";
const FULL_NAME: &str = "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/carnet/providers/issuer";
const ACCOUNT: &str = "pull@my-project.iam.gserviceaccount.com";

const TRUST: &str = r#"
    [google]
    access_token = "hunter2"
    credential_lifetime = 1800
    [[google.providers]]
    name = "projects/123456789012/locations/global/workloadIdentityPools/carnet/providers/issuer"
    subjects = ["space:default:feed:a", "space:default:feed:b"]
    [[google.providers]]
    name = "projects/123456789012/locations/global/workloadIdentityPools/carnet/providers/disabled"
    disabled = true
    [[google.providers]]
    name = "projects/123456789012/locations/global/workloadIdentityPools/carnet/providers/custom"
    audiences = ["custom"]
    [[google.service_accounts]]
    email = "pull@my-project.iam.gserviceaccount.com"
    subjects = ["space:default:feed:a"]
"#;

struct World {
    issuer: Issuer,
    clock: SimulatedClock,
    endpoints: GoogleEndpoints,
}

impl World {
    async fn start(config: &str) -> Self {
        let issuer = Issuer::start().await;
        let clock = SimulatedClock::at(at(0));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoints = SandboxEndpoints::at(listener.local_addr().unwrap()).endpoints.google;
        let (url, random) = (issuer.url.parse().unwrap(), Arc::new(SecureRandom::default()));
        let sandbox =
            Sandbox::new(url, config.parse().unwrap(), None, Arc::new(clock.clone()), random).unwrap();
        tokio::spawn(sandbox.serve(listener, std::future::pending()));
        Self { issuer, clock, endpoints }
    }

    /// Claims that the provider trusts.
    fn claims(&self) -> Value {
        let (now, exp) = (at(0).as_second(), at(600).as_second());
        json!({
            "iss": self.issuer.url, "sub": "space:default:feed:a", "aud": FULL_NAME,
            "iat": now - 5, "nbf": now - 5, "exp": exp, "jti": Uuid::nil(),
        })
    }

    fn feed(&self, own: &Value) -> Feed {
        let mut google = json!({ "type": "google-artifact-registry", "workload_identity_provider": NAME });
        google.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        let endpoints = [
            format!("sts={}", self.endpoints.sts),
            format!("iamcredentials={}", self.endpoints.iamcredentials),
        ];
        let draft = FeedDraft {
            endpoints: Endpoints::from_pairs(ENDPOINT_NAMES, endpoints.iter().map(String::as_str)).unwrap(),
            ..FeedDraft::new(
                "default/a".parse().unwrap(),
                "localhost:5000".parse().unwrap(),
                serde_json::from_value(google).unwrap(),
            )
        };
        Feed::new(draft, Uuid::nil(), Duration::from_secs(3600), at(0)).unwrap()
    }

    async fn exchange(&self, own: &Value, token: &str) -> Result<Credential, ExchangeError> {
        let (feed, token, scope) = (self.feed(own), signed(token), Scope::everything());
        let request = ExchangeRequest { feed: &feed, token: &token, scope: &scope };
        exchange(&transport(), request, &self.clock).await
    }

    /// Sends a request and returns the response's status and JSON.
    async fn call(&self, request: Request<bytes::Bytes>) -> (u16, Value) {
        let response = transport().send(request).await.unwrap();
        (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap_or_default())
    }
}

fn transport() -> ReqwestTransport {
    ReqwestTransport::new(TransportConfig { loopback: Loopback::Allow, ..TransportConfig::default() })
        .unwrap()
}

fn signed(token: &str) -> SignedToken {
    SignedToken {
        compact: SecretString::new(token.to_owned()),
        jti: Uuid::nil(),
        issued_at: at(0),
        expires_at: at(600),
        presented: Presented {
            iss: "http://127.0.0.1".into(),
            sub: "space:default:feed:a".into(),
            aud: FULL_NAME.into(),
            kid: "ES256".into(),
            alg: Algorithm::Es256,
        },
    }
}

/// Returns step, status, code and hint of a refusal.
fn refusal(error: &ExchangeError) -> (&'static str, u16, String, String) {
    let upstream = error.upstream().unwrap();
    let (status, code) = (upstream.status.unwrap(), upstream.code.clone().unwrap());
    (upstream.step, status, code, error.hint().unwrap_or_default())
}

#[tokio::test]
async fn a_trusted_token_becomes_a_login_with_either_algorithm_directly_or_as_a_service_account() {
    for alg in ["ES256", "RS256"] {
        let world = World::start(TRUST).await;
        let token = world.issuer.token(alg, &world.claims());
        for (own, of, expires_at) in [
            // The sandbox would allow 1800 s, but the token has 600 s left.
            (json!({}), "sts", at(600)),
            (json!({ "service_account": ACCOUNT }), "iamcredentials", at(3600)),
            (json!({ "service_account": ACCOUNT, "lifetime": 400 }), "iamcredentials", at(400)),
        ] {
            let credential = world.exchange(&own, &token).await.unwrap();
            assert_eq!(
                (credential.username().unwrap(), credential.password().unwrap().reveal()),
                ("oauth2accesstoken", "hunter2")
            );
            assert_eq!(credential.expires_at, expires_at);
            let stated: Vec<_> = credential.expiries.iter().map(|stated| (stated.of, stated.at)).collect();
            assert_eq!(stated, [(of, expires_at)]);
        }
    }
}

#[tokio::test]
async fn without_settings_everything_of_the_issuer_is_trusted_and_every_token_is_new() {
    let world = World::start("").await;
    let mut claims = world.claims();
    claims["sub"] = "anything".into();
    claims["aud"] = "anyone".into();
    let token = world.issuer.token("ES256", &claims);
    let own = json!({ "service_account": ACCOUNT, "lifetime": 43_200 });
    let (first, second) =
        (world.exchange(&own, &token).await.unwrap(), world.exchange(&own, &token).await.unwrap());
    assert_ne!(first.password(), second.password());
    assert_eq!(first.expires_at, at(43_200));
}

#[tokio::test]
async fn the_providers_full_name_is_the_audience_in_both_spellings_unless_it_has_its_own() {
    let world = World::start(TRUST).await;
    let custom = json!({ "workload_identity_provider": NAME.replace("/issuer", "/custom") });
    for (own, audience, accepted) in [
        (json!({}), FULL_NAME.to_owned(), true),
        (json!({}), format!("https:{FULL_NAME}"), true),
        (json!({}), NAME.to_owned(), false),
        (json!({}), format!("http:{FULL_NAME}"), false),
        (json!({}), format!("{FULL_NAME}/"), false),
        (json!({}), "custom".to_owned(), false),
        (custom.clone(), "custom".to_owned(), true),
        (custom.clone(), FULL_NAME.replace("/issuer", "/custom"), false),
        (custom, "Custom".to_owned(), false),
    ] {
        let mut claims = world.claims();
        claims["aud"] = audience.clone().into();
        let outcome = world.exchange(&own, &world.issuer.token("ES256", &claims)).await;
        assert_eq!(outcome.is_ok(), accepted, "{audience}");
        if let Err(error) = outcome {
            let (step, status, code, hint) = refusal(&error);
            assert_eq!((step, status, code.as_str()), ("sts:token", 400, "invalid_grant"));
            assert!(hint.contains("must allow the audience"), "{hint}");
        }
    }
}

#[tokio::test]
async fn tokens_that_google_refuses_are_refused_with_its_code_and_a_hint() {
    type Fault = fn(&mut Value, &World);
    let grant = "invalid_grant";
    let faults: [(&str, Fault, &str, &str); 15] = [
        ("another issuer", |c, _| c["iss"] = "http://localhost:1".into(), grant, "exactly the issuer"),
        (
            "issuer with a slash",
            |c, w| c["iss"] = format!("{}/", w.issuer.url).into(),
            grant,
            "exactly the issuer",
        ),
        ("another audience", |c, _| c["aud"] = "other".into(), grant, "must allow the audience"),
        (
            "another subject",
            |c, _| c["sub"] = "space:default:feed:c".into(),
            "unauthorized_client",
            "condition",
        ),
        (
            "subject in other case",
            |c, _| c["sub"] = "Space:default:feed:a".into(),
            "unauthorized_client",
            "must accept exactly",
        ),
        ("subject of 128 bytes", |c, _| c["sub"] = "s".repeat(128).into(), "invalid_request", "127 bytes"),
        ("expired", |c, _| c["exp"] = at(0).as_second().into(), grant, "clock"),
        ("issued in the future", |c, _| c["iat"] = at(1).as_second().into(), grant, "clock"),
        ("more than 24 hours", |c, _| c["exp"] = (at(86_400).as_second() - 4).into(), grant, ""),
        ("iat with a fraction", |c, _| c["iat"] = 1.5.into(), grant, ""),
        ("exp as text", |c, _| c["exp"] = "9999999999".into(), grant, ""),
        ("no subject", |c, _| drop(c.as_object_mut().unwrap().remove("sub")), grant, ""),
        ("no audience", |c, _| drop(c.as_object_mut().unwrap().remove("aud")), grant, ""),
        ("no iat", |c, _| drop(c.as_object_mut().unwrap().remove("iat")), grant, ""),
        ("no exp", |c, _| drop(c.as_object_mut().unwrap().remove("exp")), grant, ""),
    ];
    let world = World::start(TRUST).await;
    for (name, fault, code, hint) in faults {
        let mut claims = world.claims();
        fault(&mut claims, &world);
        let error = world.exchange(&json!({}), &world.issuer.token("ES256", &claims)).await.unwrap_err();
        let (step, status, refused, shown) = refusal(&error);
        assert_eq!((step, status, refused.as_str()), ("sts:token", 400, code), "{name}");
        assert!(shown.contains(hint) && !shown.is_empty(), "{name}: {shown}");
        assert!(!error.is_transient(), "{name}");
    }
    let mut claims = world.claims();
    claims["exp"] = (at(86_400).as_second() - 5).into();
    assert!(world.exchange(&json!({}), &world.issuer.token("ES256", &claims)).await.is_ok(), "24 h exactly");
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let world = World::start(TRUST).await;
    let stranger = Issuer::start().await;
    let genuine = world.issuer.token("ES256", &world.claims());
    let (signed, signature) = genuine.rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    let other = encode(world.claims().to_string().replace("feed:a", "feed:b").as_bytes());
    let header_of = |header: Value| world.issuer.signed("ES256", header, &world.claims());
    for (name, token) in [
        ("another issuer's key under the same kid", stranger.token("ES256", &world.claims())),
        ("claims changed after signing", format!("{header}.{other}.{signature}")),
        ("no signature", format!("{signed}.")),
        ("algorithm none", header_of(json!({ "alg": "none", "kid": "ES256" }))),
        ("HMAC with a public key", header_of(json!({ "alg": "HS256", "kid": "ES256" }))),
        ("an algorithm that Google does not take", header_of(json!({ "alg": "ES384", "kid": "ES256" }))),
        ("unknown kid", header_of(json!({ "alg": "ES256", "kid": "other" }))),
        ("no kid", header_of(json!({ "alg": "ES256" }))),
        ("no JWS at all", "token".to_owned()),
    ] {
        let error = world.exchange(&json!({}), &token).await.unwrap_err();
        assert_eq!(refusal(&error).2, "invalid_grant", "{name}");
    }
    assert!(world.exchange(&json!({}), &genuine).await.is_ok());
}

#[tokio::test]
async fn an_issuer_that_cannot_be_fetched_is_named_in_the_hint() {
    let world = World::start(TRUST).await;
    let token = world.issuer.token("ES256", &world.claims());
    let good = world.issuer.documents();
    for (discovery, jwks) in [
        ((500, String::new()), good.jwks.clone()),
        ((200, "<html>".to_owned()), good.jwks.clone()),
        (good.discovery.clone(), (503, String::new())),
        (good.discovery.clone(), (200, "{}".to_owned())),
    ] {
        world.issuer.publish(discovery, jwks);
        let error = world.exchange(&json!({}), &token).await.unwrap_err();
        let (_, _, code, hint) = refusal(&error);
        assert_eq!(code, "invalid_grant");
        assert!(hint.contains("/.well-known/openid-configuration"), "{hint}");
        let message = error.upstream().unwrap().message.clone().unwrap();
        assert!(message.contains("Error connecting to the given credential's issuer"), "{message}");
    }
}

#[tokio::test]
async fn missing_and_disabled_providers_look_the_same() {
    let world = World::start(TRUST).await;
    let token = world.issuer.token("ES256", &world.claims());
    for name in [
        NAME.replace("/issuer", "/disabled"),
        NAME.replace("/issuer", "/absent"),
        NAME.replace("carnet", "absent"),
    ] {
        let own = json!({ "workload_identity_provider": name });
        let error = world.exchange(&own, &token).await.unwrap_err();
        let (step, status, code, hint) = refusal(&error);
        assert_eq!((step, status, code.as_str()), ("sts:token", 400, "invalid_target"));
        assert!(hint.contains(&name), "{hint}");
    }
}

#[tokio::test]
async fn acting_as_a_service_account_needs_its_permission_and_keeps_to_its_lifetime() {
    let world = World::start(TRUST).await;
    let token = |sub: &str| {
        let mut claims = world.claims();
        claims["sub"] = sub.into();
        world.issuer.token("ES256", &claims)
    };
    let (trusted, other) = (token("space:default:feed:a"), token("space:default:feed:b"));
    let absent = "absent@my-project.iam.gserviceaccount.com";
    for (token, own, status, code, hint) in [
        (&other, json!({ "service_account": ACCOUNT }), 403, "PERMISSION_DENIED", "workloadIdentityUser"),
        (&trusted, json!({ "service_account": absent }), 403, "PERMISSION_DENIED", absent),
        (
            &trusted,
            json!({ "service_account": ACCOUNT, "lifetime": 3601 }),
            400,
            "INVALID_ARGUMENT",
            "check lifetime, which is 3601s",
        ),
    ] {
        let error = world.exchange(&own, token).await.unwrap_err();
        let (step, refused, named, shown) = refusal(&error);
        assert_eq!((step, refused, named.as_str()), ("iamcredentials:generateAccessToken", status, code));
        assert!(shown.contains(hint), "{shown}");
        let message = error.upstream().unwrap().message.clone().unwrap();
        assert_eq!(message.contains("iam.serviceAccounts.getAccessToken"), status == 403, "{message}");
    }
}

#[tokio::test]
async fn tokens_that_arrive_expired_are_not_handed_out() {
    let world = World::start("[google]\ncredential_lifetime = 0").await;
    let token = world.issuer.token("ES256", &world.claims());
    for own in [json!({}), json!({ "service_account": ACCOUNT })] {
        let error = world.exchange(&own, &token).await.unwrap_err();
        assert!(matches!(error.failure(), ExchangeFailure::ArrivedExpired { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn the_token_service_keeps_to_the_limits_of_its_api() {
    let world = World::start(TRUST).await;
    let token = world.issuer.token("ES256", &world.claims());
    let call = async |url: &str, replaced: &[(&str, &str)], twice: bool| {
        let mut fields = vec![
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("audience", FULL_NAME),
            ("scope", "https://www.googleapis.com/auth/cloud-platform"),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("subject_token", &token),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"),
        ];
        fields.retain(|(name, _)| !replaced.iter().any(|(replaced, _)| replaced == name));
        fields.extend(replaced);
        if twice {
            fields.extend(fields.clone());
        }
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request =
            Request::post(url).header("content-type", "application/x-www-form-urlencoded").body(form.into());
        world.call(request.unwrap()).await
    };
    let url = format!("{}/v1/token", world.endpoints.sts);
    for (name, value, code) in [
        ("grant_type", "client_credentials", "unsupported_grant_type"),
        ("audience", NAME, "invalid_request"),
        ("audience", &format!("https:{FULL_NAME}"), "invalid_request"),
        ("audience", "", "invalid_request"),
        ("scope", "", "invalid_scope"),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:jwt", "invalid_request"),
        ("subject_token", "", "invalid_request"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:saml2", "invalid_request"),
    ] {
        let (status, body) = call(&url, &[(name, value)], false).await;
        assert_eq!((status, body["error"].as_str()), (400, Some(code)), "{name}={value}");
    }
    assert_eq!(call(&url, &[], true).await.1["error"], "invalid_request");
    for url in [&url, &world.endpoints.sts] {
        let (status, body) = call(url, &[], false).await;
        assert_eq!(status, 200, "{body}");
        assert_eq!((&body["expires_in"], &body["token_type"]), (&json!(600), &json!("Bearer")));
    }
}

#[tokio::test]
async fn generate_access_token_accepts_only_live_tokens_that_its_service_issued() {
    let world = World::start("[google]\ncredential_lifetime = 100").await;
    let token = world.issuer.token("ES256", &world.claims());
    let federated = world.exchange(&json!({}), &token).await.unwrap().password().unwrap().clone();
    let good = json!({ "scope": ["x"], "lifetime": "60s", "delegates": null });
    let call = async |operation: &str, bearer: &str, body: &Value| {
        let url = format!("{}/v1/projects/-/serviceAccounts/{operation}", world.endpoints.iamcredentials);
        let request = Request::post(url).header("authorization", bearer);
        world.call(request.body(body.to_string().into()).unwrap()).await
    };
    let operation = format!("{ACCOUNT}:generateAccessToken");
    let bearer = format!("Bearer {}", federated.reveal());
    for (operation, bearer, body, status, code) in [
        (operation.as_str(), "", &good, 401, "UNAUTHENTICATED"),
        (&operation, "Bearer other", &good, 401, "UNAUTHENTICATED"),
        (&operation, &bearer.replace("Bearer", "Basic"), &good, 401, "UNAUTHENTICATED"),
        (&operation, &bearer, &json!({}), 400, "INVALID_ARGUMENT"),
        (&operation, &bearer, &json!({ "scope": [] }), 400, "INVALID_ARGUMENT"),
        (&operation, &bearer, &json!({ "scope": ["x"], "lifetime": "60" }), 400, "INVALID_ARGUMENT"),
        (&operation, &bearer, &json!({ "scope": ["x"], "lifetime": "0s" }), 400, "INVALID_ARGUMENT"),
        (&operation, &bearer, &json!({ "scope": ["x"], "lifetime": "43201s" }), 400, "INVALID_ARGUMENT"),
        (&format!("{ACCOUNT}:signJwt"), &bearer, &good, 404, "NOT_FOUND"),
        ("nobody:generateAccessToken", &bearer, &good, 400, "INVALID_ARGUMENT"),
    ] {
        let (refused, response) = call(operation, bearer, body).await;
        assert_eq!(
            (refused, response["error"]["status"].as_str()),
            (status, Some(code)),
            "{operation} {body}"
        );
        assert_eq!(response["error"]["code"], status);
    }
    let (status, response) = call(&operation, &bearer, &good).await;
    assert_eq!((status, &response["expireTime"]), (200, &json!(at(60).to_string())));
    let (_, response) = call(&operation, &bearer, &json!({ "scope": ["x"] })).await;
    assert_eq!(response["expireTime"], at(3600).to_string(), "an hour unless asked otherwise");
    world.clock.step_wall_to(at(100));
    let (status, _) = call(&operation, &bearer, &good).await;
    assert_eq!(status, 401, "the federated token has ended");
}
