//! Decides which assertions an application trusts. The decision is pure.

use jiff::SignedDuration;

use super::config::AzureApplication;
use super::entra_error::EntraError;
use crate::feed::azure::{EntraId, MAX_TOKEN_LIFETIME};
use crate::sandbox::identity::Identity;

/// Checks that the tenant has the application. Without any configured credential, every application exists.
pub(super) fn knows(applications: &[AzureApplication], client_id: EntraId) -> Result<(), EntraError> {
    if applications.is_empty() || applications.iter().any(|known| known.client_id == client_id) {
        return Ok(());
    }
    Err(EntraError::new(
        400,
        "unauthorized_client",
        700_016,
        format!("Application with identifier '{client_id}' was not found in the directory."),
    ))
}

/// Checks that a credential matches the assertion. Compares the audience and then the subject, as Entra does,
/// both exactly. Without any configured credential, every subject and audience matches.
pub(super) fn decide(
    applications: &[AzureApplication],
    client_id: EntraId,
    identity: &Identity,
) -> Result<(), EntraError> {
    let lifetime = identity.exp.duration_since(identity.iat);
    if lifetime > SignedDuration::try_from(MAX_TOKEN_LIFETIME).unwrap_or(SignedDuration::ZERO) {
        let message = "The assertion's lifetime is longer than is allowed.";
        return Err(EntraError::new(400, "invalid_request", 70_023, message));
    }
    if applications.is_empty() {
        return Ok(());
    }
    let unmatched = |number, what: &str, value: &str| {
        let message =
            format!("No matching federated identity record found for presented assertion {what} '{value}'.");
        Err(EntraError::new(401, "invalid_client", number, message))
    };
    let Identity { sub, aud, .. } = identity;
    let of_audience: Vec<_> = applications
        .iter()
        .filter(|credential| credential.client_id == client_id && credential.audience == *aud)
        .collect();
    if of_audience.is_empty() {
        return unmatched(700_212, "audience", aud);
    }
    if of_audience.iter().any(|credential| credential.subject == *sub) {
        return Ok(());
    }
    if of_audience.iter().any(|credential| credential.subject.to_lowercase() == sub.to_lowercase()) {
        return unmatched(7_002_138, "subject, which matches one but for upper and lower case:", sub);
    }
    unmatched(700_213, "subject", sub)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    const ONE: &str = "0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e";
    const TWO: &str = "8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c";

    fn credential(client_id: &str, subject: &str, audience: &str) -> AzureApplication {
        AzureApplication {
            client_id: client_id.parse().unwrap(),
            subject: subject.into(),
            audience: audience.into(),
        }
    }

    #[test]
    fn an_assertion_must_match_one_credential_exactly() {
        let known = [
            credential(ONE, "feed:a", "aud"),
            credential(ONE, "feed:b", "Other"),
            credential(TWO, "feed:c", "aud"),
        ];
        for (known, client, sub, aud, hours, code) in [
            (&known[..], ONE, "feed:a", "aud", 25, None),
            (&known, ONE, "feed:b", "Other", 1, None),
            (&known, ONE, "feed:a", "aud", 26, Some(70_023)),
            (&known, ONE, "feed:a", "other", 1, Some(700_212)),
            (&known, ONE, "feed:b", "aud", 1, Some(700_213)),
            (&known, ONE, "feed:c", "aud", 1, Some(700_213)),
            (&known, ONE, "Feed:A", "aud", 1, Some(7_002_138)),
            (&known, ONE, "feed:*", "aud", 1, Some(700_213)),
            (&[], ONE, "anything", "anything", 1, None),
        ] {
            let identity = Identity {
                sub: sub.into(),
                aud: aud.into(),
                kid: String::new(),
                iat: Timestamp::UNIX_EPOCH,
                exp: Timestamp::from_second(hours * 3600).unwrap(),
            };
            let outcome = decide(known, client.parse().unwrap(), &identity);
            assert_eq!(outcome.err().map(|error| error.number), code, "{client} {sub} {aud} {hours}");
        }
        assert!(knows(&known, TWO.parse().unwrap()).is_ok() && knows(&[], ONE.parse().unwrap()).is_ok());
        let unknown = knows(&known[..2], TWO.parse().unwrap());
        assert_eq!(unknown.unwrap_err().number, 700_016);
    }
}
