//! What a broker calls for one attempt, and how an attempt fails.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::clock::Clock;
use crate::exchange::transport::HttpTransport;
use crate::exchange::{Credential, ExchangeError, ExchangeRequest, exchange};
use crate::feed::Feed;
use crate::feed::scope::Scope;
use crate::issuer::{Issuer, MintError};
use crate::issuer_url::IssuerUrl;
use crate::metrics::ExchangeOutcome;
use crate::oidc::subject::Context;

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
    /// The exchange failed.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The credential had expired when it arrived; it was thrown away.
    #[error("the credential had already expired at {0} when it arrived")]
    ArrivedExpired(Timestamp),
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
            Self::Mint(_) | Self::ArrivedExpired(_) => false,
        }
    }

    /// Whether a provider was asked: only then is there somebody to spare.
    pub(super) fn is_the_providers(&self) -> bool {
        match self {
            Self::Exchange(_) | Self::ArrivedExpired(_) | Self::NoAnswer(_) => true,
            Self::Mint(_) | Self::NoTurn(_) => false,
        }
    }
}

/// The real thing: mints with the issuer, and trades the token at the feed's provider.
#[derive(Debug)]
pub struct MintingExchanger {
    issuer: Arc<Issuer>,
    transport: Arc<dyn HttpTransport>,
    clock: Arc<dyn Clock>,
}

impl MintingExchanger {
    /// Mints with `issuer` and talks through `transport`.
    #[must_use]
    pub fn new(issuer: Arc<Issuer>, transport: Arc<dyn HttpTransport>, clock: Arc<dyn Clock>) -> Self {
        Self { issuer, transport, clock }
    }
}

impl Exchanger for MintingExchanger {
    fn issuer(&self) -> &IssuerUrl {
        self.issuer.url()
    }

    fn exchange<'a>(&'a self, request: &'a Request) -> ExchangeFuture<'a> {
        Box::pin(async move {
            let Request { feed, context, scope } = request;
            let token = self.issuer.mint(feed, context)?;
            let asked = ExchangeRequest { feed, token: &token, scope };
            let provider = feed.provider.feed_type();
            let attempt = self.issuer.metrics().issuance.attempt(provider, self.clock.as_ref());
            let span = tracing::info_span!("exchange", feed = %feed.path(), provider = provider.as_str(), jti = %token.jti);
            let exchanged =
                exchange(self.transport.as_ref(), asked, self.clock.as_ref()).instrument(span).await;
            attempt.end(exchanged.as_ref().map_or_else(ExchangeError::outcome, |_| ExchangeOutcome::Ok));
            let credential = exchanged?;
            Ok(Exchanged { credential, jti: token.jti })
        })
    }
}
