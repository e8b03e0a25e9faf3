//! What a broker calls for one attempt, and how an attempt fails.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::audit::{Event, EventKind, Outcome};
use crate::audit_log::{AuditError, AuditLog};
use crate::diagnosis::Retry;
use crate::exchange::transport::HttpTransport;
use crate::exchange::{Credential, ExchangeError, ExchangeRequest, Failure, exchange};
use crate::feed::Feed;
use crate::feed::scope::Scope;
use crate::issuer::MintError;
use crate::issuer::audited::{AuditedIssuer, AuditedMintError};
use crate::metrics::ExchangeOutcome;
use crate::oidc::subject::Context;
use crate::values::actor::Actor;
use crate::values::clock::Clock;
use crate::values::issuer_url::IssuerUrl;

/// The longest password or token that is taken, with its user name. Google's access tokens, the longest of
/// all, have at most 12 KiB; a feed whose endpoint answers with more must not fill the memory.
pub(super) const MAX_SECRET: usize = 16 * 1024;

/// What a credential is wanted for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The feed.
    pub feed: Feed,
    /// The deployment.
    pub context: Context,
    /// What the credential is limited to.
    pub scope: Scope,
}

/// A credential, and the token that was traded for it.
#[derive(Debug)]
pub struct Exchanged {
    /// The credential.
    pub credential: Credential,
    /// The token's identifier.
    pub jti: Uuid,
}

/// What [`Exchanger::exchange`] returns.
pub type ExchangeFuture<'a> = Pin<Box<dyn Future<Output = Result<Exchanged, AttemptError>> + Send + 'a>>;

/// Gets a credential, in one attempt.
pub trait Exchanger: fmt::Debug + Send + Sync {
    /// Who issues the tokens: a credential is never served for another issuer's.
    fn issuer(&self) -> &IssuerUrl;

    /// Mints and exchanges once. May be dropped half-way.
    fn exchange<'a>(&'a self, request: &'a Request) -> ExchangeFuture<'a>;

    /// Requests of one provider share a bounded number of attempts; the feed's type by default.
    fn provider(&self, request: &Request) -> &'static str {
        request.feed.provider.feed_type().as_str()
    }
}

/// An attempt gave no credential.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// There was no token to trade.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// There was one, but it could not be recorded, and so it was not traded.
    #[error("the token was not traded, because it could not be recorded")]
    Audit(#[from] AuditError),
    /// The exchange failed.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The credential had expired when it arrived; it was thrown away.
    #[error("the credential had already expired at {0} when it arrived")]
    ArrivedExpired(Timestamp),
    /// The credential was too long to keep; it was thrown away.
    #[error("the credential has {0} bytes, and at most {MAX_SECRET} are taken")]
    TooLong(usize),
    /// No attempt came to an end.
    #[error("the provider gave no answer within {0:?}")]
    NoAnswer(Duration),
    /// Others were busy with this provider or feed all the time.
    #[error("too many exchanges were under way to begin this one within {0:?}")]
    NoTurn(Duration),
}

impl AttemptError {
    /// Whether the same attempt may well succeed a moment later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Exchange(error) => error.is_transient(),
            Self::NoAnswer(_) | Self::NoTurn(_) => true,
            // The log is waited for long enough already.
            Self::Mint(_) | Self::Audit(_) | Self::ArrivedExpired(_) | Self::TooLong(_) => false,
        }
    }

    /// Returns true if the same attempt may succeed once more, though the failure is not transient.
    pub(super) fn is_worth_one_more(&self) -> bool {
        matches!(self, Self::Exchange(error) if error.retry() == Retry::Once)
    }

    /// Whether a provider was asked: only then is there somebody to spare.
    pub(super) fn is_the_providers(&self) -> bool {
        match self {
            Self::Exchange(_) | Self::ArrivedExpired(_) | Self::TooLong(_) | Self::NoAnswer(_) => true,
            Self::Mint(_) | Self::Audit(_) | Self::NoTurn(_) => false,
        }
    }
}

impl From<AuditedMintError> for AttemptError {
    fn from(error: AuditedMintError) -> Self {
        match error {
            AuditedMintError::Mint(error) => error.into(),
            AuditedMintError::Audit(error) => error.into(),
        }
    }
}

/// The real thing: mints with the issuer, and trades the token at the feed's provider.
///
/// That the token was minted is durable in the audit log before it leaves for the provider. How the
/// exchange failed is recorded after it; that it succeeded is for whoever hands the credential out.
#[derive(Debug)]
pub struct MintingExchanger {
    issuer: AuditedIssuer,
    /// On whose behalf tokens are minted: one exchange serves many callers.
    actor: Actor,
    transport: Arc<dyn HttpTransport>,
    clock: Arc<dyn Clock>,
}

impl MintingExchanger {
    /// Mints with `issuer`, recorded as `actor`, and talks through `transport`.
    #[must_use]
    pub fn new(
        issuer: AuditedIssuer,
        actor: Actor,
        transport: Arc<dyn HttpTransport>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { issuer, actor, transport, clock }
    }
}

impl Exchanger for MintingExchanger {
    fn issuer(&self) -> &IssuerUrl {
        self.issuer.issuer().url()
    }

    fn exchange<'a>(&'a self, request: &'a Request) -> ExchangeFuture<'a> {
        Box::pin(async move {
            match self.once(request).await {
                // Its key was revoked while the token was on its way: that says nothing of the feed.
                Err(AttemptError::Exchange(error)) if self.is_of_another_key(request, &error) => {
                    self.once(request).await
                }
                exchanged => exchanged,
            }
        })
    }
}

impl MintingExchanger {
    /// Returns whether a provider refused a token of a key that signs no longer.
    fn is_of_another_key(&self, request: &Request, error: &ExchangeError) -> bool {
        let key_set = self.issuer.issuer().key_set();
        let signs = key_set.signer(request.feed.alg).map(|signer| signer.kid().as_str());
        matches!(error.failure(), Failure::Refused(_)) && signs != Some(error.presented().kid.as_str())
    }

    async fn once(&self, request: &Request) -> Result<Exchanged, AttemptError> {
        let Request { feed, context, scope } = request;
        let minted = Event::new(EventKind::TokenMint, Outcome::Done, &self.actor);
        let token = self.issuer.mint(feed, context, minted).await?;
        let event = Event::new(EventKind::Exchange, Outcome::Failed, &self.actor);
        let event = event.about_feed(feed).with_token(&token.presented, token.jti);
        let mut departed = Departed { log: self.issuer.log(), event: Some(event), feed };
        let asked = ExchangeRequest { feed, token: &token, scope };
        let provider = feed.provider.feed_type();
        let attempt = self.issuer.issuer().metrics().issuance.attempt(provider, self.clock.as_ref());
        let span = tracing::info_span!("exchange", feed = %feed.path(), provider = provider.as_str(), jti = %token.jti);
        let exchanged = exchange(self.transport.as_ref(), asked, self.clock.as_ref()).instrument(span).await;
        attempt.end(exchanged.as_ref().map_or_else(ExchangeError::outcome, |_| ExchangeOutcome::Ok));
        departed.arrived(exchanged.as_ref().err());
        Ok(Exchanged { credential: exchanged?, jti: token.jti })
    }
}

/// A token that is on its way: however its exchange ends, a failure is recorded.
struct Departed<'a> {
    log: &'a AuditLog,
    event: Option<Event>,
    feed: &'a Feed,
}

impl Departed<'_> {
    fn arrived(&mut self, failed: Option<&ExchangeError>) {
        let (Some(event), Some(error)) = (self.event.take(), failed) else { return };
        // No credential depends on it, so nobody waits for it.
        self.log.note(error.recorded(event, self.feed));
    }
}

impl Drop for Departed<'_> {
    fn drop(&mut self) {
        if let Some(event) = self.event.take()
            // Without a runtime, the process is about to end.
            && tokio::runtime::Handle::try_current().is_ok()
        {
            let asked = crate::exchange::asked(self.feed);
            self.log.note(event.detail(&format!("{asked}given up before the provider had answered")));
        }
    }
}
