//! The claims of a token for one feed in one context.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::audience::Audience;
use super::subject::{Context, ContextKey, FeedIdentity, Subject};
use crate::values::issuer_url::IssuerUrl;
use crate::values::slug::Slug;

/// The time by which `iat` and `nbf` are earlier than the minting. Google requires `iat` to be in the past by
/// its own clock, which may be behind ours.
pub const BACKDATE: Duration = Duration::from_secs(5);

/// The claims of a token (RFC 7519 section 4.1), with the feed's claims as flat members.
///
/// Times are JSON integers: AWS refuses fractions.
#[derive(Debug, Serialize)]
pub struct Claims<'a> {
    iss: &'a IssuerUrl,
    sub: &'a Subject,
    aud: &'a Audience,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: Uuid,
    space: &'a Slug,
    feed: &'a Slug,
    feed_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<&'a Slug>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runbook: Option<&'a Slug>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a Slug>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<&'a Slug>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    deployment_type: Option<&'a Slug>,
}

/// The names of the claims that a token may carry, for the provider metadata.
pub const CLAIM_NAMES: [&str; 15] = [
    "iss",
    "sub",
    "aud",
    "iat",
    "nbf",
    "exp",
    "jti",
    "space",
    "feed",
    "feed_id",
    "project",
    "runbook",
    "tenant",
    "environment",
    "type",
];

/// The parties of a token, and the feed and deployment that it is about.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The `iss` claim.
    pub issuer: &'a IssuerUrl,
    /// The `sub` claim.
    pub subject: &'a Subject,
    /// The `aud` claim.
    pub audience: &'a Audience,
    /// The feed whose space, slug and id become claims.
    pub feed: &'a FeedIdentity,
    /// The deployment's context, whose parts become claims.
    pub context: &'a Context,
}

impl<'a> Claims<'a> {
    /// The claims of a token minted at `now` that lives for `lifetime`.
    ///
    /// `iat` is [`BACKDATE`] earlier than `now`, so that no verifier's clock sees a token from the future. If
    /// half the lifetime is shorter than that, `iat` is only half the lifetime earlier; otherwise the token
    /// would already be expired. `exp` is counted from `iat`, because verifiers limit `exp − iat`.
    #[must_use]
    pub fn new(about: About<'a>, jti: Uuid, now: Timestamp, lifetime: Duration) -> Self {
        let About { issuer, subject, audience, feed, context } = about;
        let backdate = BACKDATE.min(lifetime / 2);
        let issued = now.as_second().saturating_sub_unsigned(backdate.as_secs());
        Self {
            iss: issuer,
            sub: subject,
            aud: audience,
            iat: issued,
            nbf: issued,
            exp: issued.saturating_add_unsigned(lifetime.as_secs()),
            jti,
            space: &feed.space,
            feed: &feed.feed,
            feed_id: feed.feed_id,
            project: context.get(ContextKey::Project),
            runbook: context.get(ContextKey::Runbook),
            tenant: context.get(ContextKey::Tenant),
            environment: context.get(ContextKey::Environment),
            deployment_type: context.get(ContextKey::Type),
        }
    }

    /// The `exp` claim, in seconds since the Unix epoch.
    #[must_use]
    pub fn expires_at(&self) -> i64 {
        self.exp
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oidc::subject::SubjectKeys;

    #[test]
    fn claims_are_flat_integers_and_name_only_the_given_context() {
        let feed = FeedIdentity {
            space: "default".parse().unwrap(),
            feed: "prod".parse().unwrap(),
            feed_id: Uuid::from_u128(1),
        };
        let mut context = Context::empty();
        context.insert(ContextKey::Tenant, "acme".parse().unwrap());
        let subject = SubjectKeys::default().subject(&feed, &context).unwrap();
        let issuer = "https://issuer.example".parse().unwrap();
        let audience = "sts.amazonaws.com".parse().unwrap();
        let about =
            About { issuer: &issuer, subject: &subject, audience: &audience, feed: &feed, context: &context };
        let now = Timestamp::from_millisecond(1_700_000_000_900).unwrap();
        let claims = Claims::new(about, Uuid::from_u128(2), now, Duration::from_secs(600));
        assert_eq!(
            serde_json::to_string(&claims).unwrap(),
            r#"{"iss":"https://issuer.example","sub":"space:default:feed:prod","aud":"sts.amazonaws.com","iat":1699999995,"nbf":1699999995,"exp":1700000595,"jti":"00000000-0000-0000-0000-000000000002","space":"default","feed":"prod","feed_id":"00000000-0000-0000-0000-000000000001","tenant":"acme"}"#
        );
    }

    #[test]
    fn every_claim_is_announced() {
        let feed =
            FeedIdentity { space: "a".parse().unwrap(), feed: "b".parse().unwrap(), feed_id: Uuid::nil() };
        let mut context = Context::empty();
        for key in ["project", "runbook", "tenant", "environment", "type"] {
            context.insert(key.parse().unwrap(), "x".parse().unwrap());
        }
        let subject = SubjectKeys::default().subject(&feed, &context).unwrap();
        let (issuer, audience) = ("https://a.example".parse().unwrap(), "b".parse().unwrap());
        let about =
            About { issuer: &issuer, subject: &subject, audience: &audience, feed: &feed, context: &context };
        let claims =
            serde_json::to_value(Claims::new(about, Uuid::nil(), Timestamp::UNIX_EPOCH, BACKDATE)).unwrap();
        let mut names: Vec<_> = claims.as_object().unwrap().keys().map(String::as_str).collect();
        let mut announced = CLAIM_NAMES.to_vec();
        names.sort_unstable();
        announced.sort_unstable();
        assert_eq!(names, announced);
    }

    #[test]
    fn a_token_lives_from_iat_to_exp_for_exactly_its_lifetime_and_is_never_born_expired() {
        let feed = FeedIdentity {
            space: "default".parse().unwrap(),
            feed: "prod".parse().unwrap(),
            feed_id: Uuid::from_u128(1),
        };
        let context = Context::default();
        let subject = "space,feed".parse::<SubjectKeys>().unwrap().subject(&feed, &context).unwrap();
        let (issuer, audience) =
            ("https://issuer.example".parse().unwrap(), "sts.amazonaws.com".parse().unwrap());
        for (lifetime, backdate) in [(1, 0), (3, 1), (10, 5), (60, 5), (600, 5), (900, 5), (3600, 5)] {
            let about = About {
                issuer: &issuer,
                subject: &subject,
                audience: &audience,
                feed: &feed,
                context: &context,
            };
            let now = Timestamp::from_second(1_700_000_000).unwrap();
            let claims = Claims::new(about, Uuid::nil(), now, Duration::from_secs(lifetime));
            assert_eq!(claims.exp - claims.iat, i64::try_from(lifetime).unwrap());
            assert_eq!((claims.iat, claims.nbf), (now.as_second() - backdate, claims.iat));
            assert!(claims.exp > now.as_second());
        }
    }
}
