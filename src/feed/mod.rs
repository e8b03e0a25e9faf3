//! Feeds: the registries that deployments pull from, and how carnet is trusted there.
//!
//! A [`Feed`] that exists satisfies every rule that can be checked without asking anyone; it can
//! only be made by [`Feed::new`] and [`Feed::changed`]. Pure: storage and exchange are elsewhere.

pub mod acr_host;
pub mod aws;
pub mod aws_scope;
pub mod azure;
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
pub use self::feed_type::FeedType;
pub use self::provider::Provider;
use self::registry_host::RegistryHost;
use crate::jose::Algorithm;
use crate::oidc::audience::Audience;
use crate::oidc::subject::{FeedIdentity, SubjectKey, SubjectKeys};
use crate::values::slug::Slug;

/// Tokens live this long unless the feed says otherwise.
pub const DEFAULT_TOKEN_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// The minimum remaining life of a credential that is handed out, unless the request asks for more.
pub const MIN_REMAINING: Duration = Duration::from_secs(5 * 60);

/// One registry that deployments pull from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Feed {
    /// Never given to another feed.
    pub id: Uuid,
    /// Grows with every change.
    pub version: i64,
    /// The space that the feed lives in.
    pub space: Slug,
    /// The feed's name in subjects and on the command line; never changes.
    pub slug: Slug,
    /// The name that people read; may change.
    pub name: DisplayName,
    /// What the cloud behind the registry needs.
    #[serde(flatten)]
    pub provider: Provider,
    /// Where images are pulled from.
    pub registry: RegistryHost,
    /// The `aud` of the feed's tokens.
    pub audience: Audience,
    /// What the `sub` of the feed's tokens is made of.
    pub subject_keys: SubjectKeys,
    /// What the feed's tokens are signed with.
    pub alg: Algorithm,
    /// How long the feed's tokens live.
    #[serde(serialize_with = "as_seconds")]
    pub token_lifetime: Duration,
    /// Endpoint overrides.
    pub endpoints: Endpoints,
    /// When the feed was made.
    pub created_at: Timestamp,
    /// When the feed last changed.
    pub updated_at: Timestamp,
}

/// A feed as somebody wants it; what is absent gets its default.
#[derive(Debug, Clone)]
pub struct FeedDraft {
    /// The space that it is to live in.
    pub space: Slug,
    /// Its slug.
    pub slug: Slug,
    /// Its display name; the slug if absent.
    pub name: Option<DisplayName>,
    /// Where images are pulled from.
    pub registry: RegistryHost,
    /// The cloud behind it.
    pub provider: Provider,
    /// The `aud`; the provider's own if absent.
    pub audience: Option<Audience>,
    /// The parts of the `sub`; space and feed if absent.
    pub subject_keys: Option<SubjectKeys>,
    /// The signature algorithm; the provider's own if absent.
    pub alg: Option<Algorithm>,
    /// The lifetime of tokens. By default [`DEFAULT_TOKEN_LIFETIME`], or the policy's longest if that is shorter; where the
    /// credential ends with the token, the policy's longest.
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

    /// Checks everything that does not rest on the key policy.
    ///
    /// # Errors
    ///
    /// As [`Feed::new`].
    pub fn check(&self) -> Result<(), FeedError> {
        Feed::new(self.clone(), Uuid::nil(), Duration::MAX, Timestamp::UNIX_EPOCH).map(drop)
    }
}

/// A change of a feed; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct FeedChanges {
    /// Another display name.
    pub name: Option<DisplayName>,
    /// Another registry.
    pub registry: Option<RegistryHost>,
    /// Other fields of the same type.
    pub provider: Option<Provider>,
    /// Another audience.
    pub audience: Option<Audience>,
    /// Another subject.
    pub subject_keys: Option<SubjectKeys>,
    /// Another algorithm.
    pub alg: Option<Algorithm>,
    /// Another lifetime of tokens.
    pub token_lifetime: Option<Duration>,
    /// Other overrides, in place of all that there were.
    pub endpoints: Option<Endpoints>,
}

/// A feed breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// A lifetime outside the policy.
    #[error(
        "token_lifetime: {given} s is not between 1 s and the key policy's max-token-lifetime, {longest} s"
    )]
    TokenLifetime {
        /// As given.
        given: u64,
        /// The policy's limit.
        longest: u64,
    },
    /// The provider would refuse every subject of these keys.
    #[error("subject_keys: the shortest subject has {shortest} bytes and the provider takes at most {limit}")]
    Subject {
        /// The shortest possible subject.
        shortest: usize,
        /// The provider's limit.
        limit: usize,
    },
    /// The type of a feed never changes.
    #[error("type: a feed of type {from} cannot become one of type {to}; remove it and add another")]
    Type {
        /// The feed's type.
        from: FeedType,
        /// The type wanted.
        to: FeedType,
    },
    /// A rule of the type `aws-ecr`.
    #[error(transparent)]
    AwsEcr(aws::AwsEcrError),
    /// A rule of the type `aws-ecr-public`.
    #[error(transparent)]
    AwsEcrPublic(ecr_public::EcrPublicError),
    /// A rule of the type `azure-acr`.
    #[error(transparent)]
    AzureAcr(azure::AzureAcrError),
    /// A rule of the type `google-artifact-registry`.
    #[error(transparent)]
    GoogleArtifactRegistry(google::GoogleError),
}

impl Feed {
    /// Makes a feed of `draft`.
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

    /// The feed with `changes`, as its next version.
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
        // A default follows what it is made of.
        let was_default = self.audience == self.provider.default_audience(&self.registry, &self.endpoints);
        let audience = match changes.audience {
            Some(audience) => audience,
            None if was_default => provider.default_audience(&registry, &endpoints),
            None => self.audience.clone(),
        };
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

    /// The minimum remaining life of a credential that is handed out: `standard`, or half of the token's life if the
    /// credential ends with the token and that is less.
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
        self.provider.check(&self)?;
        Ok(self)
    }

    /// The feed's part of a subject.
    #[must_use]
    pub fn identity(&self) -> FeedIdentity {
        FeedIdentity { space: self.space.clone(), feed: self.slug.clone(), feed_id: self.id }
    }

    /// The feed's full name, as on the command line.
    #[must_use]
    pub fn path(&self) -> FeedPath {
        FeedPath { space: self.space.clone(), slug: self.slug.clone() }
    }

    /// Whether another feed of the same name would be trusted in this one's place.
    #[must_use]
    pub fn trust_follows_the_slug(&self) -> bool {
        !self.subject_keys.contains(SubjectKey::FeedId)
    }
}

/// `SPACE/FEED`, how a feed is named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedPath {
    /// The space.
    pub space: Slug,
    /// The feed.
    pub slug: Slug,
}

/// The text is not a feed's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedPathError {
    /// There is not exactly one `/`.
    #[error("a feed is named SPACE/FEED, such as default/prod")]
    NotAPath,
    /// One of the two is not a slug.
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
