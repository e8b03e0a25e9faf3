//! Minting that is recorded: no token leaves before its row in the audit log is durable.

use std::sync::Arc;

use crate::audit::{Event, EventKind, Outcome};
use crate::audit_log::{AuditError, AuditLog};
use crate::feed::Feed;
use crate::issuer::{Issuer, MintError};
use crate::oidc::subject::Context;
use crate::oidc::token::SignedToken;

/// An issuer that records what it signs. [`Issuer::mint`] is the signer below it, which records nothing.
#[derive(Debug, Clone)]
pub struct AuditedIssuer {
    issuer: Arc<Issuer>,
    log: AuditLog,
}

/// No token was given out.
#[derive(Debug, thiserror::Error)]
pub enum AuditedMintError {
    /// None was minted.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// One was minted, but that could not be recorded: it was thrown away.
    #[error("the token was thrown away, because it could not be recorded")]
    Audit(#[from] AuditError),
}

impl AuditedIssuer {
    /// Mints with `issuer` and records in `log`.
    #[must_use]
    pub fn new(issuer: Arc<Issuer>, log: AuditLog) -> Self {
        Self { issuer, log }
    }

    /// The signer.
    #[must_use]
    pub fn issuer(&self) -> &Arc<Issuer> {
        &self.issuer
    }

    /// Where it is recorded.
    #[must_use]
    pub fn log(&self) -> &AuditLog {
        &self.log
    }

    /// Mints a token for `feed` in `context`. What `asked` says of who asks, from where and what for is
    /// recorded with it.
    ///
    /// # Errors
    ///
    /// [`AuditedMintError`]; a refusal is recorded, too.
    pub async fn mint(
        &self,
        feed: &Feed,
        context: &Context,
        asked: Event,
    ) -> Result<SignedToken, AuditedMintError> {
        let asked = Event { kind: EventKind::TokenMint, ..asked.about_feed(feed) };
        self.issuer.confirm().await;
        match self.issuer.mint(feed, context) {
            Ok(token) => {
                let event = Event { outcome: Outcome::Done, ..asked.with_token(&token.presented, token.jti) };
                self.log.record(event).await?;
                Ok(token)
            }
            Err(error) => {
                let outcome = match &error {
                    MintError::Subject(_) | MintError::OwnAudience(_) | MintError::Lifetime { .. } => {
                        Outcome::Refused
                    }
                    _ => Outcome::Failed,
                };
                // Nothing depends on it: there is no token.
                self.log.note(Event { outcome, ..asked.detail(&error.to_string()) });
                Err(error.into())
            }
        }
    }
}
