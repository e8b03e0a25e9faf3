//! Feeds: the registries that deployments pull from, and the trust that carnet has there.
//!
//! A [`Feed`] satisfies every rule that can be checked without contacting another service, because only
//! [`Feed::new`] and [`Feed::changed`] create one. This module is pure; storage and exchange are elsewhere.

pub mod acr_host;
pub mod aws;
pub mod aws_scope;
pub mod azure;
pub mod declaration;
pub mod display_name;
pub mod ecr_host;
pub mod ecr_public;
pub mod endpoints;
mod feed_type;
pub mod google;
mod provider;
pub mod provider_fields;
pub mod registry_host;
pub mod scope;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use self::display_name::DisplayName;
use self::endpoints::Endpoints;
pub use self::feed_type::{FeedType, Provider, RuleError};
use self::registry_host::RegistryHost;
use crate::jose::Algorithm;
use crate::oidc::audience::Audience;
use crate::oidc::subject::{FeedIdentity, SubjectKey, SubjectKeys};
use crate::values::pasted::member_with_secret;
use crate::values::slug::Slug;

/// The default lifetime of tokens.
pub const DEFAULT_TOKEN_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// The minimum remaining life of a credential that is handed out, unless the request requires more.
pub const MIN_REMAINING: Duration = Duration::from_secs(5 * 60);

/// One registry that deployments pull from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Feed {
    /// The id, which is never reused.
    pub id: Uuid,
    /// The version, which grows with every change.
    pub version: i64,
    /// The feed's space.
    pub space: Slug,
    /// The feed's name in subjects and on the command line. It never changes.
    pub slug: Slug,
    /// The display name, which may change.
    pub name: DisplayName,
    /// The settings for the cloud behind the registry.
    #[serde(flatten)]
    pub provider: Provider,
    /// The registry from which images are pulled.
    pub registry: RegistryHost,
    /// The `aud` of the feed's tokens.
    pub audience: Audience,
    /// The parts of the `sub` of the feed's tokens.
    pub subject_keys: SubjectKeys,
    /// The signature algorithm of the feed's tokens.
    pub alg: Algorithm,
    /// The lifetime of the feed's tokens.
    #[serde(serialize_with = "as_seconds")]
    pub token_lifetime: Duration,
    /// Endpoint overrides.
    pub endpoints: Endpoints,
    /// The time of the feed's creation.
    pub created_at: Timestamp,
    /// The time of the feed's last change.
    pub updated_at: Timestamp,
}

/// A feed to be added. Absent values get their default.
#[derive(Debug, Clone)]
pub struct FeedDraft {
    /// Its space.
    pub space: Slug,
    /// Its slug.
    pub slug: Slug,
    /// Its display name; by default the slug.
    pub name: Option<DisplayName>,
    /// The registry from which images are pulled.
    pub registry: RegistryHost,
    /// The cloud behind the registry.
    pub provider: Provider,
    /// The `aud`; by default the provider's own.
    pub audience: Option<Audience>,
    /// The parts of the `sub`; by default space and feed.
    pub subject_keys: Option<SubjectKeys>,
    /// The signature algorithm; by default the provider's own.
    pub alg: Option<Algorithm>,
    /// The lifetime of tokens. By default [`DEFAULT_TOKEN_LIFETIME`] or the policy's maximum, whichever is
    /// shorter. If the credential ends with the token, the default is the longest that the policy and the
    /// provider allow.
    pub token_lifetime: Option<Duration>,
    /// Endpoint overrides.
    pub endpoints: Endpoints,
}

impl FeedDraft {
    /// Returns a draft of the feed at `path`, with the defaults of its provider everywhere else.
    #[must_use]
    pub fn new(path: FeedPath, registry: RegistryHost, provider: Provider) -> Self {
        Self {
            space: path.space,
            slug: path.slug,
            name: None,
            registry,
            provider,
            audience: None,
            subject_keys: None,
            alg: None,
            token_lifetime: None,
            endpoints: Endpoints::default(),
        }
    }

    /// Checks everything that does not depend on the key policy, with the errors of [`Feed::new`].
    pub fn check(&self) -> Result<(), FeedError> {
        Feed::new(self.clone(), Uuid::nil(), Duration::MAX, Timestamp::UNIX_EPOCH).map(drop)
    }
}

/// A change of a feed. Absent values stay as they are.
#[derive(Debug, Clone, Default)]
pub struct FeedChanges {
    /// The new display name.
    pub name: Option<DisplayName>,
    /// The new registry.
    pub registry: Option<RegistryHost>,
    /// The new settings, of the same type.
    pub provider: Option<Provider>,
    /// The new audience.
    pub audience: Option<Audience>,
    /// The new subject.
    pub subject_keys: Option<SubjectKeys>,
    /// The new algorithm.
    pub alg: Option<Algorithm>,
    /// The new lifetime of tokens.
    pub token_lifetime: Option<Duration>,
    /// The new overrides, which replace all existing ones.
    pub endpoints: Option<Endpoints>,
}

/// A feed breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// The lifetime is outside the policy's range.
    #[error(
        "token_lifetime: {given} s is not between 1 s and the key policy's max-token-lifetime, {longest} s"
    )]
    TokenLifetime {
        /// The given lifetime, in seconds.
        given: u64,
        /// The policy's maximum, in seconds.
        longest: u64,
    },
    /// Every subject of these keys would be too long for the provider.
    #[error(
        "subject_keys: the shortest subject has {shortest} bytes and the provider accepts at most {limit}"
    )]
    Subject {
        /// The length of the shortest possible subject.
        shortest: usize,
        /// The provider's limit.
        limit: usize,
    },
    /// The type of a feed never changes.
    #[error("type: a feed of type {from} cannot become one of type {to}; remove it and add another")]
    Type {
        /// The feed's type.
        from: FeedType,
        /// The requested type.
        to: FeedType,
    },
    /// A member holds a grant's token or a master key.
    #[error(
        "{member}: it holds a grant's token or a master key, which lists, the audit log and tokens would show"
    )]
    Secret {
        /// The member, such as `audience` or `endpoints.sts`.
        member: String,
    },
    /// A rule of the feed's type.
    #[error(transparent)]
    Rule(#[from] RuleError),
}

impl Feed {
    /// Creates a feed from `draft`.
    ///
    /// # Errors
    ///
    /// [`FeedError`] names the field and the rule.
    pub fn new(
        draft: FeedDraft,
        id: Uuid,
        max_token_lifetime: Duration,
        now: Timestamp,
    ) -> Result<Self, FeedError> {
        let default_audience = draft.provider.default_audience(&draft.registry, &draft.endpoints);
        let feed = Self {
            id,
            version: 1,
            name: draft.name.unwrap_or_else(|| DisplayName::from(&draft.slug)),
            space: draft.space,
            slug: draft.slug,
            registry: draft.registry,
            audience: draft.audience.unwrap_or(default_audience),
            subject_keys: draft.subject_keys.unwrap_or_default(),
            alg: draft.alg.unwrap_or_else(|| draft.provider.default_algorithm()),
            token_lifetime: draft
                .token_lifetime
                .unwrap_or_else(|| draft.provider.default_token_lifetime(max_token_lifetime)),
            provider: draft.provider,
            endpoints: draft.endpoints,
            created_at: now,
            updated_at: now,
        };
        feed.checked(max_token_lifetime)
    }

    /// Returns the feed with `changes`, as its next version.
    ///
    /// # Errors
    ///
    /// [`FeedError`] names the field and the rule.
    pub fn changed(
        &self,
        changes: FeedChanges,
        max_token_lifetime: Duration,
        now: Timestamp,
    ) -> Result<Self, FeedError> {
        let provider = changes.provider.unwrap_or_else(|| self.provider.clone());
        let (from, to) = (self.provider.feed_type(), provider.feed_type());
        if from != to {
            return Err(FeedError::Type { from, to });
        }
        let registry = changes.registry.unwrap_or_else(|| self.registry.clone());
        let endpoints = changes.endpoints.unwrap_or_else(|| self.endpoints.clone());
        // A default changes with its inputs.
        let was_default = self.audience == self.provider.default_audience(&self.registry, &self.endpoints);
        let audience = match changes.audience {
            Some(audience) => audience,
            None if was_default => provider.default_audience(&registry, &endpoints),
            None => self.audience.clone(),
        };
        // A lifetime counts as default if it equals today's. Under which policy it was chosen is not stored: one
        // that was the default under another maximum stays as it is.
        let had_default_lifetime =
            self.token_lifetime == self.provider.default_token_lifetime(max_token_lifetime);
        let token_lifetime = match changes.token_lifetime {
            Some(lifetime) => lifetime,
            None if had_default_lifetime => provider.default_token_lifetime(max_token_lifetime),
            None => self.token_lifetime,
        };
        let feed = Self {
            id: self.id,
            version: self.version + 1,
            space: self.space.clone(),
            slug: self.slug.clone(),
            name: changes.name.unwrap_or_else(|| self.name.clone()),
            audience,
            provider,
            registry,
            subject_keys: changes.subject_keys.unwrap_or_else(|| self.subject_keys.clone()),
            alg: changes.alg.unwrap_or(self.alg),
            token_lifetime,
            endpoints,
            created_at: self.created_at,
            updated_at: now,
        };
        feed.checked(max_token_lifetime)
    }

    /// Returns the minimum remaining life of a credential that is handed out: `standard`, or half of the
    /// token's life if the credential ends with the token and that is less.
    #[must_use]
    pub fn min_remaining(&self, standard: Duration) -> Duration {
        if self.provider.ends_with_the_token() { standard.min(self.token_lifetime / 2) } else { standard }
    }

    fn checked(self, max_token_lifetime: Duration) -> Result<Self, FeedError> {
        if self.token_lifetime < Duration::from_secs(1) || self.token_lifetime > max_token_lifetime {
            let (given, longest) = (self.token_lifetime.as_secs(), max_token_lifetime.as_secs());
            return Err(FeedError::TokenLifetime { given, longest });
        }
        if let Some(limit) = self.provider.subject_limit() {
            let shortest = self.subject_keys.shortest(&self.identity());
            if shortest > limit {
                return Err(FeedError::Subject { shortest, limit });
            }
        }
        // Every member is searched, so that a new one is, too.
        if let Some(member) = serde_json::to_value(&self).ok().as_ref().and_then(member_with_secret) {
            return Err(FeedError::Secret { member });
        }
        self.provider.check(&self)?;
        Ok(self)
    }

    /// Returns the feed's part of a subject.
    #[must_use]
    pub fn identity(&self) -> FeedIdentity {
        FeedIdentity { space: self.space.clone(), feed: self.slug.clone(), feed_id: self.id }
    }

    /// Returns the feed's full name, as on the command line.
    #[must_use]
    pub fn path(&self) -> FeedPath {
        FeedPath { space: self.space.clone(), slug: self.slug.clone() }
    }

    /// Returns whether clouds would also trust another feed that later has this feed's name.
    #[must_use]
    pub fn trust_follows_the_slug(&self) -> bool {
        !self.subject_keys.contains(SubjectKey::FeedId)
    }
}

/// The name of a feed on the command line: `SPACE/FEED`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedPath {
    /// The space.
    pub space: Slug,
    /// The feed.
    pub slug: Slug,
}

/// A text is not a feed's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedPathError {
    /// The text does not have exactly one `/`.
    #[error("a feed is named SPACE/FEED, such as default/prod")]
    NotAPath,
    /// One of the two parts is not a slug.
    #[error(transparent)]
    Slug(#[from] crate::values::slug::SlugError),
}

impl FromStr for FeedPath {
    type Err = FeedPathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (space, slug) = text.split_once('/').ok_or(FeedPathError::NotAPath)?;
        if slug.contains('/') {
            return Err(FeedPathError::NotAPath);
        }
        Ok(Self { space: space.parse()?, slug: slug.parse()? })
    }
}

impl fmt::Display for FeedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.space, self.slug)
    }
}

fn as_seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(endpoint: &str, role: &str) -> FeedDraft {
        let provider = serde_json::json!({
            "type": "aws-ecr", "role_arn": format!("arn:aws:iam::123456789012:role/{role}"),
        });
        let registry = "123456789012.dkr.ecr.eu-west-1.amazonaws.com".parse().unwrap();
        FeedDraft {
            endpoints: Endpoints::from_pairs(aws::ENDPOINT_NAMES, [endpoint]).unwrap(),
            ..FeedDraft::new(
                "default/a".parse().unwrap(),
                registry,
                serde_json::from_value(provider).unwrap(),
            )
        }
    }

    #[test]
    fn a_feed_is_refused_by_the_member_that_holds_a_token_or_a_master_key() {
        let token = format!("carnet_{}", "0aZ".repeat(14));
        let key = format!("carnet-master-key-1:{}", "0aZ".repeat(14));
        let good = || draft("sts=https://sts.example", "pull");
        assert_eq!(good().check(), Ok(()));
        for (draft, member) in [
            (FeedDraft { audience: Some(token.parse().unwrap()), ..good() }, "audience"),
            (FeedDraft { audience: Some(key.parse().unwrap()), ..good() }, "audience"),
            (FeedDraft { name: Some(DisplayName::stored(&key).unwrap()), ..good() }, "name"),
            (draft(&format!("sts=https://sts.example/{token}"), "pull"), "endpoints.sts"),
            (draft("sts=https://sts.example", &token), "role_arn"),
        ] {
            let refused = draft.check().unwrap_err();
            assert_eq!(refused, FeedError::Secret { member: member.to_owned() });
            assert!(!refused.to_string().contains("0aZ0aZ"), "{refused}");
        }
        let feed = Feed::new(good(), Uuid::nil(), Duration::from_secs(3600), Timestamp::UNIX_EPOCH).unwrap();
        let changes = FeedChanges { audience: Some(token.parse().unwrap()), ..FeedChanges::default() };
        let refused = feed.changed(changes, Duration::from_secs(3600), Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(refused, FeedError::Secret { member: "audience".to_owned() });
    }
}
