//! The interface through which the broker runs one attempt, and the attempt's errors.

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
use crate::exchange::{Credential, ExchangeError, ExchangeFailure, ExchangeRequest, exchange};
use crate::feed::Feed;
use crate::feed::scope::Scope;
use crate::issuer::MintError;
use crate::issuer::audited::{AuditedIssuer, AuditedMintError};
use crate::metrics::ExchangeOutcome;
use crate::oidc::subject::Context;
use crate::values::actor::Actor;
use crate::values::clock::Clock;
use crate::values::issuer_url::IssuerUrl;

/// The maximum size of a secret with its user name, in bytes. Google's access tokens, the longest ones, have
/// at most 12 KiB. The limit keeps a feed whose endpoint sends more from filling the memory.
pub(super) const MAX_SECRET: usize = 16 * 1024;

/// A request for a credential.
#[derive(Debug, Clone)]
pub struct Request {
    /// The feed.
    pub feed: Feed,
    /// The deployment.
    pub context: Context,
    /// The limits of the credential.
    pub scope: Scope,
}

/// A credential, and the token that was exchanged for it.
#[derive(Debug)]
pub struct Exchanged {
    /// The credential.
    pub credential: Credential,
    /// The token's identifier.
    pub jti: Uuid,
}

/// The future that [`Exchanger::exchange`] returns.
pub type ExchangeFuture<'a> = Pin<Box<dyn Future<Output = Result<Exchanged, AttemptError>> + Send + 'a>>;

/// Obtains a credential in one attempt.
pub trait Exchanger: fmt::Debug + Send + Sync {
    /// The issuer of the tokens. A credential obtained with one issuer's token is never served for another
    /// issuer.
    fn issuer(&self) -> &IssuerUrl;

    /// Mints a token and exchanges it once. The future may be dropped at any time.
    fn exchange<'a>(&'a self, request: &'a Request) -> ExchangeFuture<'a>;

    /// Returns the provider's name, by default the feed's type. The requests of one provider share a bounded
    /// number of attempts.
    fn provider(&self, request: &Request) -> &'static str {
        request.feed.provider.feed_type().as_str()
    }
}

/// The reasons why an attempt gave no credential.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// No token could be minted.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// The token could not be recorded and was therefore not sent.
    #[error("the token was not exchanged, because the exchange could not be recorded")]
    Audit(#[from] AuditError),
    /// The exchange failed.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The credential had expired when it arrived; it was discarded.
    #[error("the credential had already expired at {0} when it arrived")]
    ArrivedExpired(Timestamp),
    /// The credential was too long to cache; it was discarded.
    #[error("the credential has {0} bytes, more than the maximum of {MAX_SECRET}")]
    TooLong(usize),
    /// The provider did not respond in time.
    #[error("the provider did not respond within {0:?}")]
    NoAnswer(Duration),
    /// The attempt got no turn, because other attempts used all permits of this provider or feed.
    #[error("the exchange could not begin within {0:?}, because too many others were in progress")]
    NoTurn(Duration),
}

impl AttemptError {
    /// Returns whether the same attempt may succeed a moment later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Exchange(error) => error.is_transient(),
            Self::NoAnswer(_) | Self::NoTurn(_) => true,
            // The audit log has its own timeout, which is long enough.
            Self::Mint(_) | Self::Audit(_) | Self::ArrivedExpired(_) | Self::TooLong(_) => false,
        }
    }

    /// Returns whether one more attempt may succeed although the failure is not transient.
    pub(super) fn is_worth_one_more(&self) -> bool {
        matches!(self, Self::Exchange(error) if error.retry() == Retry::Once)
    }

    /// Returns whether the provider was contacted. Only such a failure is cached, because the cache is there
    /// to spare the provider.
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

/// The production exchanger: mints a token with the issuer and exchanges it at the feed's provider.
///
/// The audit log records the minted token durably before the token is sent to the provider, and a failed
/// exchange after it ends. A success is recorded by the caller that hands the credential out.
#[derive(Debug)]
pub struct MintingExchanger {
    issuer: AuditedIssuer,
    /// The actor of the minted tokens in the audit log: one exchange serves many callers.
    actor: Actor,
    transport: Arc<dyn HttpTransport>,
    clock: Arc<dyn Clock>,
}

impl MintingExchanger {
    /// Creates an exchanger that mints with `issuer`, records as `actor`, and sends requests through
    /// `transport`.
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
                // The key was revoked while the token was in transit: the refusal says nothing about the
                // feed.
                Err(AttemptError::Exchange(error)) if self.is_of_another_key(request, &error) => {
                    self.once(request).await
                }
                exchanged => exchanged,
            }
        })
    }
}

impl MintingExchanger {
    /// Returns whether the provider refused a token whose key no longer signs.
    fn is_of_another_key(&self, request: &Request, error: &ExchangeError) -> bool {
        let key_set = self.issuer.issuer().key_set();
        let signs = key_set.signer(request.feed.alg).map(|signer| signer.kid().as_str());
        matches!(error.failure(), ExchangeFailure::Refused(_))
            && signs != Some(error.presented().kid.as_str())
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

/// A token in transit. A failed exchange is recorded even if its future is dropped.
struct Departed<'a> {
    log: &'a AuditLog,
    event: Option<Event>,
    feed: &'a Feed,
}

impl Departed<'_> {
    fn arrived(&mut self, failed: Option<&ExchangeError>) {
        let (Some(event), Some(error)) = (self.event.take(), failed) else { return };
        // No credential depends on this record, so nothing waits for it.
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
            self.log.note(event.detail(&format!("{asked}cancelled before the provider responded")));
        }
    }
}
