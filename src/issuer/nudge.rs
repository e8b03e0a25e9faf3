//! Tokens of nudges, the only tokens that a key signs before it is active.
//!
//! After a revocation, carnet sends verifiers a token signed by a key that they cannot know, so that they
//! fetch the JWKS. Such a key must not sign anything else. Therefore [`NudgeSigner`] builds the claims
//! itself, with a lifetime of 60 s, and no other code gets its key.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::{Issuer, KeyStateError, MintError, STALE_AFTER};
use crate::feed::Feed;
use crate::jose::jwk::Kid;
use crate::jose::jws::Signer;
use crate::oidc::audience::Audience;
use crate::oidc::claims::BACKDATE;
use crate::oidc::subject::{Context, NUDGE_SUBJECT};
use crate::oidc::token::{Presented, SignedToken};
use crate::signing_keys::Stage;
use crate::values::issuer_url::IssuerUrl;
use crate::values::secret::SecretString;

/// The lifetime of a nudge, `exp − iat`.
pub(crate) const NUDGE_LIFETIME: Duration = Duration::from_secs(60);

/// The claims of a nudge. They have no space, feed or context, so that no rule on those accepts the token.
#[derive(Debug, Serialize)]
struct NudgeClaims<'a> {
    iss: &'a IssuerUrl,
    sub: &'a str,
    aud: &'a Audience,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: Uuid,
}

/// The choice of the `sub` of a nudge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NudgeSubject {
    /// `carnet:nudge`, which no feed's token has.
    Nobody,
    /// The feed's own subject if it needs no context, for a verifier that checks the subject before it looks
    /// up the key.
    Feed,
}

/// Signs nudges with a key that no verifier can have seen yet.
#[derive(Debug)]
pub(crate) struct NudgeSigner {
    issuer: Arc<Issuer>,
    signer: Signer,
}

impl Issuer {
    /// Returns a signer of nudges with the key `kid`; `None` if the key is no longer prepared.
    pub(crate) async fn nudge_signer(
        self: &Arc<Self>,
        kid: &Kid,
    ) -> Result<Option<NudgeSigner>, KeyStateError> {
        let stored = self.vault.keys().await?;
        let prepared =
            stored.keys.iter().find(|stored| stored.key.stage == Stage::Prepared && stored.key.kid() == *kid);
        let Some(prepared) = prepared else { return Ok(None) };
        let signer = self.vault.signer(prepared, &stored.keyring)?;
        Ok(signer.map(|signer| NudgeSigner { issuer: Arc::clone(self), signer }))
    }
}

impl NudgeSigner {
    /// Makes a signer with a key that is never published. A verifier that looks up the key fetches the JWKS
    /// and refuses the token.
    pub(crate) fn unpublished(issuer: &Arc<Issuer>, signer: Signer) -> Self {
        Self { issuer: Arc::clone(issuer), signer }
    }

    /// The signing key.
    pub(crate) fn kid(&self) -> &Kid {
        self.signer.kid()
    }

    /// Signs a nudge for the verifier of `feed`. The key state and the clock must be as for any mint.
    pub(crate) fn token(&self, feed: &Feed, subject: NudgeSubject) -> Result<SignedToken, MintError> {
        let issuer = &self.issuer;
        let unconfirmed = issuer.unconfirmed_for();
        if unconfirmed > STALE_AFTER.min(issuer.key_set().settings.policy.leeway()) {
            return Err(MintError::Unconfirmed(unconfirmed));
        }
        issuer.vault.store().believed()?;
        let reading = issuer.clock_reading();
        reading.check_for_minting().map_err(MintError::Clock)?;
        let now = reading.now;
        let own = match subject {
            NudgeSubject::Nobody => None,
            NudgeSubject::Feed => feed.subject_keys.subject(&feed.identity(), &Context::default()).ok(),
        };
        let sub = own.as_ref().map_or(NUDGE_SUBJECT, |own| own.as_str());
        let issued = now.as_second().saturating_sub_unsigned(BACKDATE.as_secs());
        let expires = issued.saturating_add_unsigned(NUDGE_LIFETIME.as_secs());
        let jti = issuer.token_identifiers.next()?;
        let claims = NudgeClaims {
            iss: issuer.url(),
            sub,
            aud: &feed.audience,
            iat: issued,
            nbf: issued,
            exp: expires,
            jti,
        };
        let compact = self.signer.sign_compact(&serde_json::to_vec(&claims)?)?;
        Ok(SignedToken {
            compact: SecretString::new(compact),
            jti,
            issued_at: now,
            expires_at: Timestamp::from_second(expires).unwrap_or(Timestamp::MAX),
            presented: Presented {
                iss: issuer.url().as_str().to_owned(),
                sub: sub.to_owned(),
                aud: feed.audience.as_str().to_owned(),
                kid: self.signer.kid().as_str().to_owned(),
                alg: self.signer.algorithm(),
            },
        })
    }
}
