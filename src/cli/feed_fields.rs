//! The flags for the fields that every feed has. Each has the field's name, with dashes. `own_flags` has the
//! others.

use std::time::Duration;

use clap::Args;

use super::failure::CommandFailure;
use super::own_flags::OwnFlags;
use crate::feed::display_name::DisplayName;
use crate::feed::endpoints::{EndpointUrl, Endpoints};
use crate::feed::registry_host::RegistryHost;
use crate::feed::scope::{Action, RepositoryName, Scope};
use crate::feed::{Feed, FeedChanges, FeedDraft, FeedType, Provider};
use crate::feeds::Sharing;
use crate::jose::Algorithm;
use crate::oidc::audience::Audience;
use crate::oidc::subject::{Context, ContextKey, SubjectKeys};
use crate::values::duration;
use crate::values::slug::Slug;

/// The fields that every feed has, each optional.
#[derive(Debug, Args)]
pub(super) struct CommonFields {
    /// The display name [default when added: the slug]
    #[arg(long)]
    name: Option<DisplayName>,
    /// The `aud` of the feed's tokens [default when added: by type]
    #[arg(long)]
    audience: Option<Audience>,
    /// The parts of the `sub`, joined by commas; one with `?` may be absent [default when added: space,feed]
    #[arg(long, value_name = "KEYS")]
    subject_keys: Option<SubjectKeys>,
    /// The signature algorithm, RS256 or ES256 [default when added: by type]
    #[arg(long)]
    alg: Option<Algorithm>,
    /// The lifetime of tokens, up to the key policy's max-token-lifetime [default when added: 10m]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    token_lifetime: Option<Duration>,
    /// Another host for one of the cloud's APIs; repeatable
    #[arg(long, value_name = "NAME=URL", value_parser = Endpoints::parse_pair)]
    endpoint: Vec<(String, EndpointUrl)>,
}

/// The fields that every new feed has, other than its registry.
#[derive(Debug, Args)]
pub(super) struct NewFeed {
    /// The space of the feed; created if it does not exist
    #[arg(long)]
    space: Slug,
    /// The feed's name in subjects; never changes
    #[arg(long)]
    slug: Slug,
    #[command(flatten)]
    common: CommonFields,
    #[command(flatten)]
    pub(super) sharing: SharingFlags,
}

/// The permissions to share the trust of other feeds.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct SharingFlags {
    /// Permit a subject that a removed feed had, and inherit the trust that clouds may still have in it
    #[arg(long)]
    reuse_slug: bool,
    /// Permit a subject that another feed of the space can have, and share the trust that clouds have in it
    #[arg(long)]
    share_subject: bool,
}

impl SharingFlags {
    pub(super) fn of(self) -> Sharing {
        Sharing { share_subject: self.share_subject, reuse_slug: self.reuse_slug }
    }
}

/// The fields that an update changes. Fields of another feed type are refused.
#[derive(Debug, Args)]
pub(super) struct Changes {
    /// The registry's host
    #[arg(long, value_name = "HOST")]
    registry: Option<RegistryHost>,
    #[command(flatten)]
    common: CommonFields,
    /// Remove all endpoint overrides except those given with --endpoint; without this flag, the others are
    /// kept
    #[arg(long)]
    no_endpoints: bool,
    #[command(flatten)]
    own: OwnFlags,
    #[command(flatten)]
    pub(super) sharing: SharingFlags,
}

impl NewFeed {
    pub(super) fn draft(
        self,
        registry: RegistryHost,
        provider: Provider,
    ) -> Result<FeedDraft, CommandFailure> {
        let Self { space, slug, common, .. } = self;
        Ok(FeedDraft {
            space,
            slug,
            name: common.name,
            registry,
            provider,
            audience: common.audience,
            subject_keys: common.subject_keys,
            alg: common.alg,
            token_lifetime: common.token_lifetime,
            endpoints: endpoints(common.endpoint)?,
        })
    }
}

impl Changes {
    /// Returns the change for a feed of this type. The feed's own fields apply if no flag is given for them.
    pub(super) fn of(self, feed_type: FeedType) -> Result<impl FnOnce(&Feed) -> FeedChanges, CommandFailure> {
        let Self { registry, common, no_endpoints, own, .. } = self;
        let own = own.of(feed_type)?;
        let changes_endpoints = no_endpoints || !common.endpoint.is_empty();
        let endpoints = endpoints(common.endpoint)?;
        Ok(move |feed: &Feed| FeedChanges {
            name: common.name,
            registry,
            // Does not fail, because `of` has refused the fields of other types.
            provider: own.applied_to(feed.provider.clone()).ok(),
            audience: common.audience,
            subject_keys: common.subject_keys,
            alg: common.alg,
            token_lifetime: common.token_lifetime,
            endpoints: changes_endpoints.then(|| match no_endpoints {
                true => endpoints,
                // Overlays, because a suggested fix names only the endpoint that is wrong.
                false => feed.endpoints.overlaid_by(&endpoints),
            }),
        })
    }
}

fn endpoints(pairs: Vec<(String, EndpointUrl)>) -> Result<Endpoints, CommandFailure> {
    let mut endpoints = Endpoints::default();
    for (name, url) in pairs {
        endpoints.insert(name, url).map_err(|error| CommandFailure::usage(format!("--endpoint: {error}")))?;
    }
    Ok(endpoints)
}

/// The context of a deployment.
#[derive(Debug, Clone, Args)]
pub(super) struct ContextArguments {
    /// The deployment's project, environment, tenant, runbook or type; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = Context::parse_pair)]
    context: Vec<(ContextKey, Slug)>,
}

impl ContextArguments {
    pub(super) fn context(self) -> Result<Context, CommandFailure> {
        let mut context = Context::empty();
        for (key, value) in self.context {
            context
                .try_insert(key, value)
                .map_err(|error| CommandFailure::usage(format!("--context: {error}")))?;
        }
        Ok(context)
    }
}

/// The limits of a credential.
#[derive(Debug, Args)]
pub(super) struct ScopeArguments {
    /// Only for this repository; repeatable [default: everything that the feed permits]
    #[arg(long, value_name = "NAME")]
    repository: Vec<RepositoryName>,
    /// Only for this action, pull or push; repeatable [default: everything that the feed permits]
    #[arg(long)]
    action: Vec<Action>,
}

impl ScopeArguments {
    /// Returns the named repositories and actions in the API's form.
    pub(super) fn lists(self) -> (Option<Vec<RepositoryName>>, Option<Vec<Action>>) {
        let Self { repository, action } = self;
        (
            Some(repository).filter(|names| !names.is_empty()),
            Some(action).filter(|actions| !actions.is_empty()),
        )
    }

    pub(super) fn scope(self) -> Result<Scope, CommandFailure> {
        let (repositories, actions) = self.lists();
        Scope::new(repositories, actions).map_err(|error| CommandFailure::usage(error.to_string()))
    }
}
