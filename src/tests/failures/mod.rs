//! One table for each provider: every failure of an exchange, driven through the real client against the
//! sandbox. Each row has the output: the step, the status, the provider's code and a helpful hint.

mod aws;
mod azure;
mod google;

use std::sync::Arc;
use std::time::Duration;

use crate::exchange::address::Loopback;
use crate::exchange::transport::{ReqwestTransport, TransportConfig};
use crate::exchange::{Credential, ExchangeError, ExchangeRequest, exchange};
use crate::feed::endpoints::Endpoints;
use crate::feed::scope::Scope;
use crate::feed::{Feed, FeedDraft};
use crate::jose::Algorithm;
use crate::oidc::token::{Presented, SignedToken};
use crate::sandbox::{ProviderEndpoints, Sandbox, SandboxEndpoints};
use crate::tests::aws_support::{Issuer, at};
use crate::values::clock::SimulatedClock;
use crate::values::random::SecureRandom;
use crate::values::secret::SecretString;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

/// A provider, and its trust in `space:default:feed:a` with the audience.
struct Cloud {
    settings: Value,
    registry: &'static str,
    audience: &'static str,
    alg: &'static str,
    /// The sandbox's configuration.
    trust: &'static str,
    endpoint_names: &'static [&'static str],
    /// In the order of the names.
    endpoints: fn(&ProviderEndpoints) -> [&str; 2],
}

/// A failure and its expected output.
struct Case {
    name: &'static str,
    claims: Vec<(&'static str, Value)>,
    kid: Option<&'static str>,
    settings: Value,
    scope: Value,
    faults: String,
    documents: Option<(u16, &'static str)>,
    timeout: Duration,
    step: &'static str,
    status: Option<u16>,
    code: Option<&'static str>,
    /// A part of the hint.
    hint: &'static str,
    transient: bool,
}

/// Returns a case that is refused at `step` with this status and code.
fn refused(
    name: &'static str,
    step: &'static str,
    status: u16,
    code: &'static str,
    hint: &'static str,
) -> Case {
    Case { status: Some(status), code: Some(code), ..failed(name, step, hint) }
}

/// Returns a case that ends at `step` without a refusal.
fn failed(name: &'static str, step: &'static str, hint: &'static str) -> Case {
    Case {
        name,
        claims: Vec::new(),
        kid: None,
        settings: json!({}),
        scope: json!({}),
        faults: String::new(),
        documents: None,
        timeout: Duration::from_secs(10),
        step,
        status: None,
        code: None,
        hint,
        transient: false,
    }
}

impl Case {
    /// Replaces a claim of the token.
    fn claim(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.claims.push((name, value.into()));
        self
    }

    /// Replaces the feed's settings.
    fn feed(self, settings: Value) -> Self {
        Self { settings, ..self }
    }

    /// Makes the sandbox show this fault at the step.
    fn fault(self, fault: &str) -> Self {
        let faults = format!("[[faults]]\nstep = \"{}\"\nfault = \"{fault}\"\n", self.step);
        Self { faults, ..self }
    }

    /// Makes the sandbox refuse with the expected status and code.
    fn documented(self) -> Self {
        let (status, code) = (self.status.unwrap(), self.code.unwrap());
        let faults = format!("status = {status}\ncode = \"{code}\"\n");
        let documented = self.fault("refused");
        Self { faults: documented.faults.clone() + &faults, ..documented }
    }

    fn transient(self) -> Self {
        Self { transient: true, ..self }
    }
}

impl Cloud {
    async fn drive(&self, cases: Vec<Case>) {
        let issuer = Issuer::start().await;
        self.exchange(&issuer, &failed("nothing", "", "")).await.unwrap();
        for case in cases {
            let name = case.name;
            let error =
                self.exchange(&issuer, &case).await.err().unwrap_or_else(|| panic!("{name} is no failure"));
            let upstream = error.upstream();
            assert_eq!(error.step().name, case.step, "{name}: {error:?}");
            assert_eq!(upstream.and_then(|upstream| upstream.status), case.status, "{name}: {error:?}");
            assert_eq!(
                upstream.and_then(|upstream| upstream.code.as_deref()),
                case.code,
                "{name}: {error:?}"
            );
            let hint = error.hint().unwrap_or_default();
            assert!(!hint.is_empty() && hint.contains(case.hint), "{name}: {hint:?}");
            assert_eq!(error.is_transient(), case.transient, "{name}: {error:?}");
            assert_eq!(error.presented().kid, self.alg);
        }
    }

    async fn exchange(&self, issuer: &Issuer, case: &Case) -> Result<Credential, ExchangeError> {
        let good = issuer.documents();
        if let Some((status, body)) = case.documents {
            issuer.publish(good.discovery.clone(), (status, body.to_owned()));
        }
        let clock = SimulatedClock::at(at(0));
        let config = format!("{}\n{}", case.faults, self.trust).parse().unwrap();
        let random = Arc::new(SecureRandom::default());
        let url = issuer.url.parse().unwrap();
        let sandbox = Sandbox::new(url, config, None, Arc::new(clock.clone()), random).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let feed = self.feed(case, &SandboxEndpoints::at(listener.local_addr().unwrap()).endpoints);
        let serving = tokio::spawn(sandbox.serve(listener, std::future::pending()));
        let transport = ReqwestTransport::new(TransportConfig {
            loopback: Loopback::Allow,
            timeout: case.timeout,
            ..TransportConfig::default()
        })
        .unwrap();
        let token = self.token(issuer, case);
        let scope: Scope = serde_json::from_value(case.scope.clone()).unwrap();
        let request = ExchangeRequest { feed: &feed, token: &token, scope: &scope };
        let outcome = exchange(&transport, request, &clock).await;
        serving.abort();
        issuer.publish(good.discovery, good.jwks);
        outcome
    }

    fn feed(&self, case: &Case, endpoints: &ProviderEndpoints) -> Feed {
        let mut settings = self.settings.clone();
        settings.as_object_mut().unwrap().extend(case.settings.as_object().unwrap().clone());
        let urls = (self.endpoints)(endpoints);
        let overrides: Vec<String> =
            self.endpoint_names.iter().zip(urls).map(|(name, url)| format!("{name}={url}")).collect();
        let draft = FeedDraft {
            endpoints: Endpoints::from_pairs(self.endpoint_names, overrides.iter().map(String::as_str))
                .unwrap(),
            ..FeedDraft::new(
                "default/a".parse().unwrap(),
                self.registry.parse().unwrap(),
                serde_json::from_value(settings).unwrap(),
            )
        };
        Feed::new(draft, Uuid::nil(), Duration::from_secs(3600), at(0)).unwrap()
    }

    fn token(&self, issuer: &Issuer, case: &Case) -> SignedToken {
        let now = at(0).as_second();
        let mut claims = json!({
            "iss": issuer.url, "sub": "space:default:feed:a", "aud": self.audience,
            "iat": now - 5, "nbf": now - 5, "exp": now + 600, "jti": Uuid::nil(),
        });
        for (name, value) in &case.claims {
            claims[*name] = value.clone();
        }
        let header = json!({ "alg": self.alg, "kid": case.kid.unwrap_or(self.alg), "typ": "JWT" });
        let text = |name: &str| claims[name].as_str().unwrap_or_default().to_owned();
        SignedToken {
            compact: SecretString::new(issuer.signed(self.alg, header, &claims)),
            jti: Uuid::nil(),
            issued_at: at(0),
            expires_at: at(600),
            presented: Presented {
                iss: text("iss"),
                sub: text("sub"),
                aud: text("aud"),
                kid: self.alg.to_owned(),
                alg: if self.alg == "RS256" { Algorithm::Rs256 } else { Algorithm::Es256 },
            },
        }
    }
}

/// Returns the failures without a refusal that any step of any provider may have.
fn broken(step: &'static str) -> [Case; 2] {
    [
        Case { status: Some(200), ..failed("malformed", step, "not a response of the provider's API") }
            .fault("malformed"),
        failed("oversized", step, "not the provider's API").fault("oversized"),
    ]
}

/// Returns the case of a provider that accepts the request and never responds.
fn slow(step: &'static str) -> Case {
    let quick = Duration::from_millis(300);
    Case { timeout: quick, ..failed("slow", step, "the endpoint is slow").fault("slow").transient() }
}
