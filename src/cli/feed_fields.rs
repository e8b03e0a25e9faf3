//! The flags for a feed's fields. Each has the field's name, with dashes.

use std::time::Duration;

use clap::Args;

use super::failure::Failure;
use crate::feed::aws::{AssumedRole, RoleArn, SessionDuration};
use crate::feed::azure::{AzureAcr, EntraId};
use crate::feed::display_name::DisplayName;
use crate::feed::endpoints::{EndpointUrl, Endpoints};
use crate::feed::google::{
    AccessTokenLifetime, GoogleArtifactRegistry, JwksSource, ServiceAccount, WorkloadIdentityProvider,
};
use crate::feed::provider_fields::ProviderFields;
use crate::feed::registry_host::RegistryHost;
use crate::feed::scope::{Action, RepositoryName, Scope};
use crate::feed::{Feed, FeedChanges, FeedDraft, FeedType, Provider, ecr_public};
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

/// The fields of a new feed of any type.
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

/// The fields of a new `aws-ecr` feed.
#[derive(Debug, Args)]
pub(super) struct NewAwsEcr {
    /// The registry's host, such as 123456789012.dkr.ecr.eu-central-1.amazonaws.com
    #[arg(long, value_name = "HOST")]
    registry: RegistryHost,
    #[command(flatten)]
    role: NewRole,
    #[command(flatten)]
    pub(super) new: NewFeed,
}

/// The fields of a new `aws-ecr-public` feed.
#[derive(Debug, Args)]
pub(super) struct NewAwsEcrPublic {
    /// The registry's host
    #[arg(long, value_name = "HOST", default_value = ecr_public::REGISTRY)]
    registry: RegistryHost,
    #[command(flatten)]
    role: NewRole,
    #[command(flatten)]
    pub(super) new: NewFeed,
}

/// The role that a new AWS feed assumes.
#[derive(Debug, Args)]
struct NewRole {
    /// The IAM role that trusts this issuer
    #[arg(long, value_name = "ARN")]
    role_arn: RoleArn,
    /// The duration of the role's session, 900–43200 seconds
    #[arg(long, value_name = "DURATION", default_value_t)]
    session_duration: SessionDuration,
}

/// The fields of a new `azure-acr` feed.
#[derive(Debug, Args)]
pub(super) struct NewAzureAcr {
    /// The registry's host, such as images.azurecr.io
    #[arg(long, value_name = "HOST")]
    registry: RegistryHost,
    /// The tenant of the application or managed identity
    #[arg(long, value_name = "UUID")]
    tenant_id: EntraId,
    /// The client ID of the application or managed identity that trusts this issuer
    #[arg(long, value_name = "UUID")]
    client_id: EntraId,
    #[command(flatten)]
    pub(super) new: NewFeed,
}

/// The fields of a new `google-artifact-registry` feed.
#[derive(Debug, Args)]
pub(super) struct NewGoogleArtifactRegistry {
    /// The registry's host, such as europe-west1-docker.pkg.dev
    #[arg(long, value_name = "HOST")]
    registry: RegistryHost,
    /// The provider that trusts this issuer, projects/…/providers/…, with or without its host in front
    #[arg(long, value_name = "NAME")]
    workload_identity_provider: WorkloadIdentityProvider,
    /// The service account to impersonate [default: none; the subject itself has access]
    #[arg(long, value_name = "EMAIL")]
    service_account: Option<ServiceAccount>,
    /// The lifetime of the service account's token, up to 1h, or 12h if an organisation policy allows it
    #[arg(long, value_name = "DURATION", default_value_t)]
    lifetime: AccessTokenLifetime,
    /// The source of the issuer's keys: fetched by Google or uploaded; with an uploaded JWKS, scheduled
    /// rotation waits for `feed confirm-jwks`
    #[arg(long, value_name = "fetched|uploaded", default_value_t)]
    jwks: JwksSource,
    #[command(flatten)]
    pub(super) new: NewFeed,
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
    own: OwnChanges,
    #[command(flatten)]
    pub(super) sharing: SharingFlags,
}

/// The fields that only some feed types have.
#[derive(Debug, Args)]
struct OwnChanges {
    /// aws-ecr, aws-ecr-public: the IAM role that trusts this issuer
    #[arg(long, value_name = "ARN")]
    role_arn: Option<RoleArn>,
    /// aws-ecr, aws-ecr-public: the duration of the role's session, 900–43200 seconds
    #[arg(long, value_name = "DURATION")]
    session_duration: Option<SessionDuration>,
    /// azure-acr: the tenant of the application or managed identity
    #[arg(long, value_name = "UUID")]
    tenant_id: Option<EntraId>,
    /// azure-acr: the client ID of the application or managed identity that trusts this issuer
    #[arg(long, value_name = "UUID")]
    client_id: Option<EntraId>,
    /// google-artifact-registry: the provider that trusts this issuer
    #[arg(long, value_name = "NAME")]
    workload_identity_provider: Option<WorkloadIdentityProvider>,
    /// google-artifact-registry: the service account to impersonate
    #[arg(long, value_name = "EMAIL")]
    service_account: Option<ServiceAccount>,
    /// google-artifact-registry: impersonate no service account
    #[arg(long, conflicts_with = "service_account")]
    no_service_account: bool,
    /// google-artifact-registry: the lifetime of the service account's token
    #[arg(long, value_name = "DURATION")]
    lifetime: Option<AccessTokenLifetime>,
    /// google-artifact-registry: the source of the issuer's keys: fetched by Google or uploaded
    #[arg(long, value_name = "fetched|uploaded")]
    jwks: Option<JwksSource>,
}

impl NewAwsEcr {
    pub(super) fn draft(self) -> Result<FeedDraft, Failure> {
        self.new.draft(self.registry, Provider::AwsEcr(self.role.into()))
    }
}

impl NewAwsEcrPublic {
    pub(super) fn draft(self) -> Result<FeedDraft, Failure> {
        self.new.draft(self.registry, Provider::AwsEcrPublic(self.role.into()))
    }
}

impl NewAzureAcr {
    pub(super) fn draft(self) -> Result<FeedDraft, Failure> {
        let Self { registry, tenant_id, client_id, new } = self;
        new.draft(registry, Provider::AzureAcr(AzureAcr { tenant_id, client_id }))
    }
}

impl NewGoogleArtifactRegistry {
    pub(super) fn draft(self) -> Result<FeedDraft, Failure> {
        let Self { registry, workload_identity_provider, service_account, lifetime, jwks, new } = self;
        let google = GoogleArtifactRegistry { workload_identity_provider, service_account, lifetime, jwks };
        new.draft(registry, Provider::GoogleArtifactRegistry(google))
    }
}

impl From<NewRole> for AssumedRole {
    fn from(NewRole { role_arn, session_duration }: NewRole) -> Self {
        Self { role_arn, session_duration }
    }
}

impl NewFeed {
    fn draft(self, registry: RegistryHost, provider: Provider) -> Result<FeedDraft, Failure> {
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
    pub(super) fn of(self, feed_type: FeedType) -> Result<impl FnOnce(&Feed) -> FeedChanges, Failure> {
        let Self { registry, common, no_endpoints, own, .. } = self;
        let own = own.fields(feed_type)?;
        let changes_endpoints = no_endpoints || !common.endpoint.is_empty();
        let endpoints = endpoints(common.endpoint)?;
        Ok(move |feed: &Feed| FeedChanges {
            name: common.name,
            registry,
            // Does not fail, because `fields` has refused the fields of other types.
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

impl OwnChanges {
    /// Returns the given fields. Fails if one belongs to another feed type.
    fn fields(self, feed_type: FeedType) -> Result<ProviderFields, Failure> {
        let flag = |field: &str| format!("--{}", field.replace('_', "-"));
        // Both service-account flags set one field, so `check` could not name the flag that was given.
        if self.no_service_account && feed_type != FeedType::GoogleArtifactRegistry {
            let error = format!("--no-service-account: a feed of type {feed_type} has no such field");
            return Err(Failure::usage(error));
        }
        let fields = ProviderFields {
            role_arn: self.role_arn,
            session_duration: self.session_duration,
            tenant_id: self.tenant_id,
            client_id: self.client_id,
            workload_identity_provider: self.workload_identity_provider,
            service_account: if self.no_service_account {
                Some(None)
            } else {
                self.service_account.map(Some)
            },
            lifetime: self.lifetime,
            jwks: self.jwks,
        };
        match fields.check(feed_type) {
            Ok(()) => Ok(fields),
            Err(error) => {
                Err(Failure::usage(error.to_string().replacen(error.field(), &flag(error.field()), 1)))
            }
        }
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
#[derive(Debug, Clone, Args)]
pub(super) struct ContextArguments {
    /// The deployment's project, environment, tenant, runbook or type; repeatable
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

    pub(super) fn scope(self) -> Result<Scope, Failure> {
        let (repositories, actions) = self.lists();
        Scope::new(repositories, actions).map_err(|error| Failure::usage(error.to_string()))
    }
}
