//! Checks the chain of a feed: tries each step in order, and for the first one that fails reports the
//! presented claims, the response and the likely fix.
//!
//! The check bypasses the broker and its cache. Minted tokens and exchanges are recorded as a check. The
//! credential is used only for the check and handed to no one.

mod challenge;
mod documents;
mod image;
mod recorder;
mod registry;

use std::sync::Arc;
use std::time::Duration;

use self::documents::Documents;
pub use self::image::ImageReference;
pub use self::recorder::OnProgress;
use self::recorder::Recorder;
use self::registry::Registry;
use crate::api_types::check::{CheckResponse, CheckStep};
use crate::api_types::problem::UpstreamResponse;
use crate::audit::{Event, EventKind, Outcome};
use crate::carnet::Carnet;
use crate::diagnosis::{Asked, Cause, issuer as causes};
use crate::exchange::transport::{HttpTransport, TransportConfigError};
use crate::exchange::{Credential, ExchangeRequest, exchange_in_steps};
use crate::feed::Feed;
use crate::feed::google::JwksSource;
use crate::feed::scope::Scope;
use crate::issuer::audited::{AuditedIssuer, AuditedMintError};
use crate::issuer::{Issuer, MintError};
use crate::jose::jwk::{Kid, PublicKey};
use crate::metrics::ExchangeOutcome;
use crate::oidc::subject::{Context, SubjectError};
use crate::oidc::token::{Presented, SignedToken};
use crate::signing_keys::clock_guard::ClockDoubt;
use crate::values::clock::Clock;

/// The duration of fetching the documents that causes a warning. AWS gives up after about five seconds.
const SLOW: Duration = Duration::from_secs(1);

/// The input of a check.
#[derive(Debug, Clone)]
pub struct Check<'a> {
    /// The feed.
    pub feed: &'a Feed,
    /// The deployment.
    pub context: &'a Context,
    /// The limits of the credential.
    pub scope: &'a Scope,
    /// The image of which a small part is pulled.
    pub image: Option<&'a ImageReference>,
    /// The network options of the command line, repeated in printed commands that check again.
    pub network: &'a [String],
    /// The audit event of the request; its kind and outcome are set here.
    pub asked: Event,
}

/// The progress of a check.
#[derive(Debug)]
pub enum Progress<'a> {
    /// A step has begun.
    Began(&'a str),
    /// It has ended.
    Ended(&'a CheckStep),
}

/// The failure of a step.
struct Failed {
    /// A description of the failure.
    detail: String,
    /// The response. Boxed to keep results small.
    upstream: Option<Box<UpstreamResponse>>,
    causes: Vec<Cause>,
}

impl Failed {
    fn new(detail: impl Into<String>, causes: Vec<Cause>) -> Self {
        Self { detail: detail.into(), upstream: None, causes }
    }

    fn answered(self, upstream: UpstreamResponse) -> Self {
        Self { upstream: Some(Box::new(upstream)), ..self }
    }
}

/// A step and its failure.
type Broken = (&'static str, Failed);

/// Checks the chain of a feed. Every request ends within 10 s.
///
/// # Errors
///
/// Returns [`TransportConfigError`] if the HTTP client cannot be created. A failed step is not an error: it
/// is part of the result.
pub async fn check(
    carnet: &Carnet,
    check: Check<'_>,
    progress: OnProgress<'_>,
) -> Result<CheckResponse, TransportConfigError> {
    let transport = carnet.http()?;
    let chain = Chain {
        issuer: carnet.audited_issuer(),
        transport: transport.as_ref(),
        clock: carnet.clock().as_ref(),
        check,
    };
    Ok(chain.run(progress).await)
}

/// A chain with everything that trying it needs.
struct Chain<'a> {
    issuer: AuditedIssuer,
    transport: &'a dyn HttpTransport,
    clock: &'a dyn Clock,
    check: Check<'a>,
}

impl Chain<'_> {
    async fn run(&self, progress: OnProgress<'_>) -> CheckResponse {
        let recorder = Recorder::new(self.clock, progress);
        let Check { feed, context, scope, image, network, .. } = &self.check;
        let mut presented = self.expected();
        for warning in warnings(self.signer()) {
            recorder.warn(warning);
        }
        match self.steps(&recorder, &mut presented).await {
            Ok(()) => recorder.end(),
            Err((step, failed)) => {
                let (feed, image) = (&feed.path(), image.map(ToString::to_string));
                let feed_type = self.check.feed.provider.feed_type();
                let asked = Asked { feed, context, scope, image: image.as_deref(), feed_type, network };
                recorder.fail(step, failed, presented.as_ref(), &asked);
            }
        }
        let (steps, warnings) = recorder.into_parts();
        CheckResponse {
            feed: feed.path().to_string(),
            registry: feed.registry.to_string(),
            ok: steps.iter().all(|step| step.ok),
            warnings,
            steps,
        }
    }

    /// Runs the whole chain.
    async fn steps(&self, recorder: &Recorder<'_>, presented: &mut Option<Presented>) -> Result<(), Broken> {
        let of = |step: &'static str| move |failed: Failed| (step, failed);
        let kid = presented.as_ref().map(|presented| presented.kid.as_str());
        match (self.documents(recorder, kid).await, self.check.feed.provider.jwks()) {
            (Ok(()), _) => {}
            (Err(broken), JwksSource::Fetched) => return Err(broken),
            (Err((_, failed)), JwksSource::Uploaded) => {
                recorder.detail("not needed: the JWKS is uploaded to Google".to_owned());
                recorder.warn(format!(
                    "{}; this does not affect the feed, because its JWKS is uploaded to Google",
                    failed.detail
                ));
            }
        }

        recorder.begin("mint");
        let token = self.mint().await.map_err(of("mint"))?;
        recorder.detail(format!("token {}", token.jti));
        *presented = Some(token.presented.clone());

        let credential = self.exchange(recorder, &token).await?;

        recorder.begin(registry::STEP);
        let opened = Registry::log_in(self.transport, self.check.feed, &credential.secret).await;
        let (mut registry, warnings) = opened.map_err(of(registry::STEP))?;
        warnings.into_iter().for_each(|warning| recorder.warn(warning));

        if let Some(image) = self.check.image {
            recorder.begin(registry::PULL);
            let pulled = image::pull(&mut registry, image).await.map_err(of(registry::PULL))?;
            recorder.detail(pulled);
        }
        Ok(())
    }

    /// Fetches the documents that clouds fetch before they verify a token.
    async fn documents(&self, recorder: &Recorder<'_>, kid: Option<&str>) -> Result<(), Broken> {
        let of = |step: &'static str| move |failed: Failed| (step, failed);
        let documents = Documents { transport: self.transport, issuer: self.signer().url() };

        recorder.begin(documents::DISCOVERY);
        let began = self.clock.monotonic();
        let jwks_uri = documents.discovery().await.map_err(of(documents::DISCOVERY))?;

        recorder.begin(documents::JWKS);
        let published = self.signer().key_set().published(self.clock.now());
        let published: Vec<Kid> = published.iter().map(PublicKey::thumbprint).collect();
        let found = documents.jwks(&jwks_uri, kid, &published).await.map_err(of(documents::JWKS))?;
        recorder.detail(found);
        let took = self.clock.monotonic().saturating_sub(began);
        if took > SLOW {
            let seconds = took.as_secs_f32();
            recorder.warn(format!(
                "the issuer's two documents took {seconds:.1} s; AWS stops waiting after about 5 s"
            ));
        }
        Ok(())
    }

    fn signer(&self) -> &Arc<Issuer> {
        self.issuer.issuer()
    }

    /// Returns the claims that a token would have, before it is minted.
    fn expected(&self) -> Option<Presented> {
        let Check { feed, context, .. } = &self.check;
        let subject = feed.subject_keys.subject(&feed.identity(), context).ok()?;
        Some(Presented {
            iss: self.signer().url().as_str().to_owned(),
            sub: subject.as_str().to_owned(),
            aud: feed.audience.as_str().to_owned(),
            kid: self.signer().key_set().signer(feed.alg)?.kid().to_string(),
            alg: feed.alg,
        })
    }

    async fn mint(&self) -> Result<SignedToken, Failed> {
        let Check { feed, context, asked, .. } = &self.check;
        let asked = asked.clone().for_check();
        self.issuer.mint(feed, context, asked).await.map_err(|error| {
            let causes = match &error {
                AuditedMintError::Mint(error) => mint_causes(error),
                AuditedMintError::Audit(_) => causes::storage(),
            };
            Failed::new(error.to_string(), causes)
        })
    }

    async fn exchange(&self, recorder: &Recorder<'_>, token: &SignedToken) -> Result<Credential, Broken> {
        let Check { feed, scope, asked, .. } = &self.check;
        let attempt = self.signer().metrics().issuance.attempt(feed.provider.feed_type(), self.clock);
        let request = ExchangeRequest { feed, token, scope };
        let on_step = |step: crate::exchange::Step| recorder.begin(step.name);
        let exchanged = exchange_in_steps(self.transport, request, self.clock, &on_step).await;
        attempt.end(exchanged.as_ref().map_or_else(|error| error.outcome(), |_| ExchangeOutcome::Ok));
        let event = Event { kind: EventKind::Exchange, outcome: Outcome::Done, ..asked.clone() };
        let event = event.for_check().about_feed(feed).with_token(&token.presented, token.jti);
        let log = self.issuer.log();
        match exchanged {
            Ok(credential) => {
                let asked = crate::exchange::asked(feed);
                log.note(event.detail(&format!("{asked}checked; the credential was discarded")));
                Ok(credential)
            }
            Err(error) => {
                log.note(error.recorded(event, feed));
                let failed = Failed::new(error.failure().to_string(), error.causes().to_vec());
                Err((
                    error.step().name,
                    match error.upstream() {
                        Some(upstream) => failed.answered(upstream.into()),
                        None => failed,
                    },
                ))
            }
        }
    }
}

fn mint_causes(error: &MintError) -> Vec<Cause> {
    match error {
        MintError::Subject(SubjectError::Missing(key)) => causes::missing_context(&key.to_string()),
        MintError::Subject(SubjectError::TooLong { .. }) => causes::subject_too_long(),
        MintError::OwnAudience(_) => causes::own_audience(),
        MintError::Lifetime { longest, .. } => causes::lifetime(*longest),
        MintError::Clock(ClockDoubt::Behind { .. }) => causes::clock_behind(),
        MintError::Clock(ClockDoubt::Ahead { .. } | ClockDoubt::Jumped { .. }) => causes::clock_ahead(),
        MintError::NoSigner(_) => causes::no_signer(),
        MintError::Unpublished { location, .. } => causes::unpublished(location),
        MintError::Unconfirmed(_) | MintError::Disbelieved(_) => causes::storage(),
        MintError::Randomness(_) | MintError::Claims(_) | MintError::Signing(_) => Vec::new(),
    }
}

/// Returns warnings about the issuer that need no request.
fn warnings(issuer: &Issuer) -> Vec<String> {
    let url = issuer.url();
    let mut warnings = Vec::new();
    if let Some(port) = url.explicit_port() {
        warnings.push(format!("the issuer URL {url} has port {port}; AWS accepts no issuer with a port"));
    }
    if !url.as_str().starts_with("https://") {
        warnings
            .push(format!("the issuer URL {url} is not https; only the sandbox accepts it, no cloud does"));
    }
    warnings
}
