//! The flags of a feed's fields: one flag a field, of the same name with dashes.

use std::time::Duration;

use clap::Args;

use super::failure::Failure;
use crate::duration;
use crate::feed::aws::{AwsEcr, RoleArn, SessionDuration};
use crate::feed::display_name::DisplayName;
use crate::feed::endpoints::{EndpointUrl, Endpoints};
use crate::feed::registry_host::RegistryHost;
use crate::feed::scope::{Action, RepositoryName, Scope};
use crate::feed::{Feed, FeedChanges, FeedDraft, Provider};
use crate::jose::Algorithm;
use crate::oidc::audience::Audience;
use crate::oidc::subject::{Context, ContextKey, SubjectKeys};
use crate::slug::Slug;

/// The fields that every feed has, each optional.
#[derive(Debug, Args)]
pub(super) struct CommonFields {
    /// The name that people read [default when added: the slug]
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
    /// How long tokens live, up to the key policy's max-token-lifetime [default when added: 10m]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    token_lifetime: Option<Duration>,
    /// Another host for one of the cloud's APIs; repeatable
    #[arg(long, value_name = "NAME=URL", value_parser = Endpoints::parse_pair)]
    endpoint: Vec<(String, EndpointUrl)>,
}

/// The fields of a new `aws-ecr` feed.
#[derive(Debug, Args)]
pub(super) struct NewAwsEcr {
    /// The space that the feed lives in; made if it is new
    #[arg(long)]
    space: Slug,
    /// The feed's name in subjects; never changes
    #[arg(long)]
    slug: Slug,
    /// The registry's host, such as 123456789012.dkr.ecr.eu-central-1.amazonaws.com
    #[arg(long, value_name = "HOST")]
    registry: RegistryHost,
    /// The IAM role that trusts this issuer
    #[arg(long, value_name = "ARN")]
    role_arn: RoleArn,
    /// How long the role's session lasts, 900–43200 seconds
    #[arg(long, value_name = "DURATION", default_value_t)]
    session_duration: SessionDuration,
    #[command(flatten)]
    common: CommonFields,
    /// Take the name of a removed feed, and with it the trust that clouds may still have in it
    #[arg(long)]
    pub(super) reuse_slug: bool,
}

/// The fields that an update changes; those of another type than the feed's are refused.
#[derive(Debug, Args)]
pub(super) struct Changes {
    /// The registry's host
    #[arg(long, value_name = "HOST")]
    registry: Option<RegistryHost>,
    #[command(flatten)]
    common: CommonFields,
    /// Drop all endpoint overrides
    #[arg(long, conflicts_with = "endpoint")]
    no_endpoints: bool,
    /// aws-ecr: the IAM role that trusts this issuer
    #[arg(long, value_name = "ARN")]
    role_arn: Option<RoleArn>,
    /// aws-ecr: how long the role's session lasts, 900–43200 seconds
    #[arg(long, value_name = "DURATION")]
    session_duration: Option<SessionDuration>,
    /// Take the subject of a removed feed of this name, and with it the trust that clouds may still have in it
    #[arg(long)]
    pub(super) reuse_slug: bool,
}

impl NewAwsEcr {
    pub(super) fn draft(self) -> Result<FeedDraft, Failure> {
        let Self { space, slug, registry, role_arn, session_duration, common, .. } = self;
        Ok(FeedDraft {
            space,
            slug,
            name: common.name,
            registry,
            provider: Provider::AwsEcr(AwsEcr { role_arn, session_duration }),
            audience: common.audience,
            subject_keys: common.subject_keys,
            alg: common.alg,
            token_lifetime: common.token_lifetime,
            endpoints: endpoints(common.endpoint)?,
        })
    }
}

impl Changes {
    /// The change of one feed, whose own fields fill in for those that are not given.
    pub(super) fn of(self) -> Result<impl FnOnce(&Feed) -> FeedChanges, Failure> {
        let Self { registry, common, no_endpoints, role_arn, session_duration, .. } = self;
        let endpoints = match (no_endpoints, common.endpoint.is_empty()) {
            (true, _) => Some(Endpoints::default()),
            (false, true) => None,
            (false, false) => Some(endpoints(common.endpoint)?),
        };
        Ok(move |feed: &Feed| {
            let Provider::AwsEcr(aws) = feed.provider.clone();
            let aws = AwsEcr {
                role_arn: role_arn.unwrap_or(aws.role_arn),
                session_duration: session_duration.unwrap_or(aws.session_duration),
            };
            FeedChanges {
                name: common.name,
                registry,
                provider: Some(Provider::AwsEcr(aws)),
                audience: common.audience,
                subject_keys: common.subject_keys,
                alg: common.alg,
                token_lifetime: common.token_lifetime,
                endpoints,
            }
        })
    }
}

fn endpoints(pairs: Vec<(String, EndpointUrl)>) -> Result<Endpoints, Failure> {
    let mut endpoints = Endpoints::default();
    for (name, url) in pairs {
        endpoints.insert(name, url).map_err(|error| Failure::usage(format!("--endpoint: {error}")))?;
    }
    Ok(endpoints)
}

/// The context of a deployment.
#[derive(Debug, Args)]
pub(super) struct ContextArguments {
    /// What the deployment is: project, environment, tenant, runbook or type; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = Context::parse_pair)]
    context: Vec<(ContextKey, Slug)>,
}

impl ContextArguments {
    pub(super) fn context(self) -> Result<Context, Failure> {
        let mut context = Context::empty();
        for (key, value) in self.context {
            context.try_insert(key, value).map_err(|error| Failure::usage(format!("--context: {error}")))?;
        }
        Ok(context)
    }
}

/// What a credential is limited to.
#[derive(Debug, Args)]
pub(super) struct ScopeArguments {
    /// Only for this repository; repeatable [default: all that the feed may]
    #[arg(long, value_name = "NAME")]
    repository: Vec<RepositoryName>,
    /// Only for this action, pull or push; repeatable [default: all that the feed may]
    #[arg(long)]
    action: Vec<Action>,
}

impl ScopeArguments {
    pub(super) fn scope(self) -> Result<Scope, Failure> {
        let Self { repository, action } = self;
        Scope::new(
            Some(repository).filter(|names| !names.is_empty()),
            Some(action).filter(|actions| !actions.is_empty()),
        )
        .map_err(|error| Failure::usage(error.to_string()))
    }
}
