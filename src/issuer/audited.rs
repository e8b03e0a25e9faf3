//! Recorded minting: no token is returned before its row in the audit log is durable.

use std::sync::Arc;

use crate::audit::{Event, EventKind, Outcome};
use crate::audit_log::{AuditError, AuditLog};
use crate::feed::Feed;
use crate::issuer::{Issuer, MintError};
use crate::oidc::subject::Context;
use crate::oidc::token::SignedToken;

/// An issuer that records its mints. It signs with `Issuer::mint`, which records nothing.
#[derive(Debug, Clone)]
pub struct AuditedIssuer {
    issuer: Arc<Issuer>,
    log: AuditLog,
}

/// The reason why no token was returned.
#[derive(Debug, thiserror::Error)]
pub enum AuditedMintError {
    /// No token was minted.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// A token was minted and discarded, because the mint could not be recorded.
    #[error("the token was discarded, because it could not be recorded")]
    Audit(#[from] AuditError),
}

impl AuditedIssuer {
    /// Makes an issuer that mints with `issuer` and records in `log`.
    #[must_use]
    pub fn new(issuer: Arc<Issuer>, log: AuditLog) -> Self {
        Self { issuer, log }
    }

    /// The issuer that signs.
    #[must_use]
    pub fn issuer(&self) -> &Arc<Issuer> {
        &self.issuer
    }

    /// The log that records the mints.
    #[must_use]
    pub fn log(&self) -> &AuditLog {
        &self.log
    }

    /// Mints a token for `feed` in `context`, and records the mint or its refusal. The record also has the
    /// actor, the client and the other members of `asked`.
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
                // No token depends on this record, so it is not awaited.
                self.log.note(Event { outcome, ..asked.detail(&error.to_string()) });
                Err(error.into())
            }
        }
    }
}
