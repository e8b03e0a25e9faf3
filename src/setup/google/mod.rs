//! Trust at Google: a workload identity pool with a provider for one subject, and roles for the principal to
//! which the pool maps that subject.

mod render;
mod uploading;

use serde_json::{Value, json};

use super::{SetupError, SetupOptions, Trusted};
use crate::feed::Feed;
use crate::feed::google::{GoogleArtifactRegistry, ServiceAccount, WorkloadIdentityProvider};
use crate::feed::registry_host::RegistryHost;
use crate::feed::scope::{Action, RepositoryName, Scope};

pub use uploading::KeysToUpload;

/// The attribute mapping of the provider: it maps the subject of a token, and nothing else.
const ATTRIBUTE: (&str, &str) = ("google.subject", "assertion.sub");

/// The role that permits acting as a service account.
const IMPERSONATION_ROLE: &str = "roles/iam.workloadIdentityUser";

/// The setup at Google.
#[derive(Debug)]
pub(super) struct GoogleSetup {
    provider: WorkloadIdentityProvider,
    issuer: String,
    /// The attribute condition, an expression in CEL.
    condition: String,
    /// The audience; `None` for the provider's own name, which it accepts without a list.
    audience: Option<String>,
    jwks: Option<String>,
    description: String,
    /// The token's subject as a principal, as policies name it.
    principal: String,
    account: Option<ServiceAccount>,
    /// The member that gets the role: the subject itself, or the service account.
    member: String,
    role: &'static str,
    on: On,
}

/// The resource to which the role applies.
#[derive(Debug)]
enum On {
    /// The pool's project.
    Project,
    /// Repositories at a location.
    Repositories { location: String, repositories: Vec<Repository> },
}

#[derive(Debug)]
struct Repository {
    /// The project; `None` for the pool's project.
    project: Option<String>,
    name: String,
}

impl GoogleSetup {
    pub(super) fn new(
        feed: &Feed,
        google: &GoogleArtifactRegistry,
        trusted: &Trusted,
        options: &SetupOptions,
        notes: &mut Vec<String>,
    ) -> Result<Self, SetupError> {
        let provider = google.workload_identity_provider.clone();
        let principal =
            format!("principal://iam.googleapis.com/{}/subject/{}", provider.pool(), trusted.subject);
        let account = google.service_account.clone();
        let member = match &account {
            Some(account) => format!("serviceAccount:{account}"),
            None => principal.clone(),
        };
        let on = on(&feed.registry, &options.scope)?;
        if matches!(on, On::Project) {
            notes.push(
                "The set-up gives access to every repository of the pool's project. --repository NAME limits \
                 it to one, --repository PROJECT/NAME to one of another project."
                    .to_owned(),
            );
        }
        notes.push(
            "The provider accepts only this subject: give every feed a provider of its own.".to_owned(),
        );
        notes.push(
            "Roles are granted to the subject within the pool, through any of its providers: put no \
             providers of other issuers into it."
                .to_owned(),
        );
        let uploaded = options.uploaded_jwks.as_ref();
        let jwks = uploaded.map(KeysToUpload::jwks).transpose()?;
        notes.splice(0..0, uploaded.into_iter().flat_map(|uploaded| uploaded.notes(feed)));
        let own = provider.is_default_audience(&trusted.audience);
        Ok(Self {
            issuer: trusted.issuer.clone(),
            // A subject cannot contain a quote.
            condition: format!("{} == '{}'", ATTRIBUTE.1, trusted.subject),
            audience: (!own).then(|| trusted.audience.clone()),
            jwks,
            // Google permits 256 characters.
            description: trusted.description(feed).chars().take(256).collect(),
            principal,
            account,
            member,
            role: match options.scope.allows(Action::Push) {
                true => "roles/artifactregistry.writer",
                false => "roles/artifactregistry.reader",
            },
            on,
            provider,
        })
    }

    /// Returns the documents, named as in Google's APIs.
    pub(super) fn documents(&self) -> Value {
        let mut oidc = json!({ "issuerUri": self.issuer });
        if let Some(audience) = &self.audience {
            oidc["allowedAudiences"] = json!([audience]);
        }
        if let Some(jwks) = &self.jwks {
            oidc["jwksJson"] = jwks.as_str().into();
        }
        let project = self.provider.project_number();
        let mut bindings = match &self.on {
            On::Project => vec![self.binding(format!("projects/{project}"))],
            On::Repositories { location, repositories } => repositories
                .iter()
                .map(|Repository { project: other, name }| {
                    let project = other.as_deref().unwrap_or(project);
                    self.binding(format!("projects/{project}/locations/{location}/repositories/{name}"))
                })
                .collect(),
        };
        if let Some(account) = &self.account {
            bindings.insert(
                0,
                json!({
                    "resource": format!("projects/-/serviceAccounts/{account}"),
                    "role": IMPERSONATION_ROLE,
                    "members": [self.principal],
                }),
            );
        }
        json!({
            "workload_identity_pool": { "name": self.provider.pool() },
            "workload_identity_pool_provider": {
                "name": self.provider.as_str(),
                "description": self.description,
                "attributeMapping": { ATTRIBUTE.0: ATTRIBUTE.1 },
                "attributeCondition": self.condition,
                "oidc": oidc,
            },
            "bindings": bindings,
        })
    }

    fn binding(&self, resource: String) -> Value {
        json!({ "resource": resource, "role": self.role, "members": [self.member] })
    }
}

/// Returns the resource of the role. `REPOSITORY` is in the pool's project, `PROJECT/REPOSITORY` in the named
/// one.
fn on(registry: &RegistryHost, scope: &Scope) -> Result<On, SetupError> {
    let Some(names) = scope.repositories() else { return Ok(On::Project) };
    let location = location(registry).ok_or_else(|| {
        SetupError::Repositories(format!(
            "the host name {registry} does not contain the location of its repositories"
        ))
    })?;
    let repository = |name: &RepositoryName| match name.as_str().split('/').collect::<Vec<_>>()[..] {
        [name] => Ok(Repository { project: None, name: name.to_owned() }),
        [project, name] => Ok(Repository { project: Some(project.to_owned()), name: name.to_owned() }),
        _ => Err(SetupError::Repositories(format!(
            "write NAME or PROJECT/NAME, not {name}: Google grants access to whole repositories, not to images in them"
        ))),
    };
    let repositories = names.iter().map(repository).collect::<Result<_, _>>()?;
    Ok(On::Repositories { location, repositories })
}

/// Returns the location of a registry's repositories, by its host name.
fn location(registry: &RegistryHost) -> Option<String> {
    match registry.host() {
        "gcr.io" | "us.gcr.io" => Some("us".to_owned()),
        "eu.gcr.io" => Some("europe".to_owned()),
        "asia.gcr.io" => Some("asia".to_owned()),
        host => host
            .strip_suffix("-docker.pkg.dev")
            .or_else(|| host.strip_prefix("docker.")?.strip_suffix(".rep.pkg.dev"))
            .map(str::to_owned),
    }
}
