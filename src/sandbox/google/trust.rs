//! Decides which identities a workload identity provider admits, and which may act as a service account. Both
//! decisions are pure.

use std::path::Path;

use jiff::SignedDuration;

use super::config::{GoogleProvider, GoogleServiceAccount};
use super::oauth_error::OAuthError;
use crate::feed::google::{
    AccessTokenLifetime, MAX_SUBJECT, MAX_TOKEN_LIFETIME, ServiceAccount, WorkloadIdentityProvider,
};
use crate::sandbox::identity::Identity;

/// The requirements of an existing provider on a verified token. Without a configured provider there are none
/// besides Google's own limits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trust<'a>(Option<&'a GoogleProvider>);

/// Finds the provider of this name. Without any configured provider, every provider exists.
pub(super) fn provider<'a>(
    providers: &'a [GoogleProvider],
    name: &WorkloadIdentityProvider,
) -> Result<Trust<'a>, OAuthError> {
    if providers.is_empty() {
        return Ok(Trust(None));
    }
    let found = providers.iter().find(|provider| provider.name == *name && !provider.disabled);
    // As with Google, the response is the same for a provider that does not exist and for one that is
    // disabled.
    found.map(|provider| Trust(Some(provider))).ok_or_else(|| {
        OAuthError::new(
            "invalid_target",
            "The target service indicated by the \"audience\" parameters is invalid: the pool or provider is disabled, \
             deleted or does not exist.",
        )
    })
}

impl<'a> Trust<'a> {
    /// Returns the file of the provider's uploaded JWKS, if it has one.
    pub(super) fn uploaded_jwks(self) -> Option<&'a Path> {
        self.0.and_then(|provider| provider.uploaded_jwks.as_deref())
    }

    /// Decides in Google's order: the token's lifetime, the audience, the mapping's limit, the condition.
    pub(super) fn admit(
        self,
        name: &WorkloadIdentityProvider,
        identity: &Identity,
    ) -> Result<(), OAuthError> {
        let lifetime = identity.exp.duration_since(identity.iat);
        if lifetime > SignedDuration::try_from(MAX_TOKEN_LIFETIME).unwrap_or(SignedDuration::MAX) {
            return Err(OAuthError::new("invalid_grant", "The ID Token lives for more than 24 hours."));
        }
        let (sub, aud) = (&identity.sub, &identity.aud);
        let audience_fits = match self.0 {
            None => true,
            Some(provider) if provider.audiences.is_empty() => name.is_default_audience(aud),
            Some(provider) => provider.audiences.contains(aud),
        };
        if !audience_fits {
            return Err(OAuthError::new(
                "invalid_grant",
                format!("The audience in ID Token [{aud}] does not match the expected audience."),
            ));
        }
        if sub.len() > MAX_SUBJECT {
            return Err(OAuthError::new(
                "invalid_request",
                format!("The size of mapped attribute google.subject exceeds the {MAX_SUBJECT} bytes limit."),
            ));
        }
        let condition = self.0.and_then(|provider| provider.subjects.as_ref());
        if condition.is_some_and(|subjects| !subjects.contains(sub)) {
            return Err(OAuthError::new(
                "unauthorized_client",
                "The given credential is rejected by the attribute condition.",
            ));
        }
        Ok(())
    }
}

/// Returns the maximum lifetime, in seconds, of a token of `account` for `sub`. Returns `None` if `sub` may
/// not act as the account.
///
/// Without any configured service account, every account exists and any identity may act as it.
pub(super) fn longest_token(
    accounts: &[GoogleServiceAccount],
    account: &ServiceAccount,
    sub: &str,
) -> Option<u32> {
    if accounts.is_empty() {
        return Some(43_200);
    }
    let found = accounts.iter().find(|known| known.email == *account)?;
    let allowed =
        found.subjects.as_ref().is_none_or(|subjects| subjects.iter().any(|subject| subject == sub));
    allowed.then(|| AccessTokenLifetime::as_secs(found.max_lifetime))
}
