//! The last act of every exchange: checks the provider's secret and makes the credential.
//!
//! Every provider's credential is made here, so that none hands on a secret that breaks a header or a login,
//! the token that carnet itself signed, or an expiry that the provider cannot have granted.

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};

use super::{Call, Credential, ExchangeError, ExchangeFailure, Secret, StatedExpiry, Step, Upstream};
use crate::feed::Feed;
use crate::values::secret::SecretString;

/// The success of an exchange's last step.
pub(super) struct Success {
    pub(super) step: Step,
    pub(super) status: StatusCode,
    pub(super) secret: Secret,
    /// The time when the exchange began.
    pub(super) issued_at: Timestamp,
    /// Every expiry that the provider stated.
    pub(super) expiries: Vec<StatedExpiry>,
    /// The longest life that the provider documents for such a credential. A later expiry counts as this one.
    pub(super) longest: SignedDuration,
}

impl Call<'_> {
    /// Makes the credential for `feed`'s registry. Its expiry is the earliest that the provider stated.
    pub(super) fn credential(&self, feed: &Feed, success: Success) -> Result<Credential, ExchangeError> {
        let Success { step, status, secret, issued_at, mut expiries, longest } = success;
        if let Err(reason) = check(&secret) {
            return Err(self.unusable(step, status, reason));
        }
        let (Secret::Password { password: received, .. } | Secret::RegistryToken(received)) = &secret;
        self.not_the_own_token(step, status, received)?;
        let latest = self.clock.now().saturating_add(longest).unwrap_or(Timestamp::MAX);
        for expiry in expiries.iter_mut().filter(|expiry| expiry.at > latest) {
            // A provider's clock that is ahead by a second is enough.
            tracing::debug!(
                step = step.name, of = expiry.of, stated = %expiry.at, jti = %self.token.jti,
                "the provider stated a later expiry than it documents; the documented maximum counts"
            );
            expiry.at = latest;
        }
        let expires_at = expiries.iter().map(|expiry| expiry.at).fold(latest, Timestamp::min);
        self.unexpired(step, expires_at)?;
        Ok(Credential { registry: feed.registry.clone(), secret, issued_at, expires_at, expiries })
    }

    /// Fails if a step answered with the token that carnet signed. Its receiver could present it to the
    /// provider itself, without the limits of its grant.
    pub(super) fn not_the_own_token(
        &self,
        step: Step,
        status: StatusCode,
        received: &SecretString,
    ) -> Result<(), ExchangeError> {
        if received.reveal().contains(self.token.compact.reveal()) {
            return Err(self.unusable(step, status, "it repeats the token that was presented"));
        }
        Ok(())
    }

    /// Creates the error for a successful response that cannot be used because of `reason`.
    pub(super) fn unusable(&self, step: Step, status: StatusCode, reason: &'static str) -> ExchangeError {
        let upstream = Upstream::answered(step, status);
        self.fail(step, ExchangeFailure::Unusable { upstream, reason })
    }
}

/// Checks that a login fits into HTTP's Basic scheme, and a token into a header. The error never repeats a
/// value.
fn check(secret: &Secret) -> Result<(), &'static str> {
    let is_graphic = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    match secret {
        Secret::Password { username, .. } if !is_graphic(username) || username.contains(':') => {
            Err("the user name is empty, or holds characters that no user name has")
        }
        Secret::Password { password, .. } if !is_graphic(password.reveal()) => {
            Err("the password is empty, or holds characters that no password has")
        }
        Secret::RegistryToken(token) if !is_graphic(token.reveal()) => {
            Err("the token is empty, or holds characters that no token has")
        }
        Secret::Password { .. } | Secret::RegistryToken(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_only_characters_that_every_client_can_send() {
        let login = |username: &str, password: &str| Secret::Password {
            username: username.to_owned(),
            password: SecretString::new(password.to_owned()),
        };
        let token = |token: &str| Secret::RegistryToken(SecretString::new(token.to_owned()));
        for good in [login("AWS", "p:a+/=s~"), login("00000000-0000", "x"), token("a.b.c")] {
            assert_eq!(check(&good), Ok(()));
        }
        for bad in ["", "a b", "a\nb", "a\u{1b}[2J", "a\0", "ü", "a\u{202e}", "a\t"] {
            for secret in [login(bad, "x"), login("x", bad), token(bad)] {
                let reason = check(&secret).unwrap_err();
                assert!(bad.is_empty() || !reason.contains(bad), "{bad:?}");
            }
        }
        assert!(check(&login("a:b", "x")).is_err());
    }
}
