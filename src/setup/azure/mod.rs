//! Trust at Azure: a federated credential of an identity in Entra, and the identity's role on the registry.

mod render;

use serde_json::{Value, json};

use super::{Identity, SetupError, SetupOptions, Trusted};
use crate::feed::Feed;
use crate::feed::acr_host::{AcrHost, AzureCloud};
use crate::feed::azure::AzureAcr;
use crate::feed::scope::{Action, Scope};

/// The setup at Azure.
#[derive(Debug)]
pub(super) struct AzureSetup {
    cloud: AzureCloud,
    identity: Identity,
    tenant_id: String,
    client_id: String,
    /// The name for the identity, if it must be created.
    identity_name: String,
    credential: Credential,
    /// The registry's resource name.
    registry: String,
    /// The role for a registry whose roles apply to all of it.
    role: &'static str,
    /// The role for a registry whose roles apply to repositories.
    repository_role: &'static str,
    /// The condition that limits the assignment of the repository role.
    condition: Option<String>,
}

/// A federated identity credential.
#[derive(Debug)]
struct Credential {
    name: String,
    issuer: String,
    subject: String,
    audience: String,
    description: String,
}

impl AzureSetup {
    pub(super) fn new(
        feed: &Feed,
        azure: &AzureAcr,
        trusted: &Trusted,
        options: &SetupOptions,
        notes: &mut Vec<String>,
    ) -> Result<Self, SetupError> {
        let cloud = AcrHost::try_from(&feed.registry)?.cloud();
        // `NAME.azurecr.io`, or `NAME-HASH.azurecr.io`. Names contain no hyphen.
        let registry = feed.registry.host().split(['.', '-']).next().unwrap_or_default();
        let push = options.scope.allows(Action::Push);
        let (role, repository_role) = match push {
            true => ("AcrPush", "Container Registry Repository Writer"),
            false => ("AcrPull", "Container Registry Repository Reader"),
        };
        let condition = condition(&options.scope, push);
        notes.push(match condition {
            Some(_) => format!(
                "Roles about repositories need a registry in the mode “RBAC Registry + ABAC Repository \
                 Permissions”; there, assignments of {role} no longer have an effect."
            ),
            None => "The set-up gives access to every repository of the registry. --repository limits it to \
                     some, if the registry's role assignments can name repositories."
                .to_owned(),
        });
        notes.push(
            "An identity can have at most 20 federated credentials, each for one subject, and a new one \
             takes some minutes to take effect (AADSTS70021 until then)."
                .to_owned(),
        );
        Ok(Self {
            cloud,
            identity: options.identity,
            tenant_id: azure.tenant_id.to_string(),
            client_id: azure.client_id.to_string(),
            identity_name: format!("carnet-{}-{}", feed.space, feed.slug),
            credential: Credential {
                // 3 to 120 letters, digits, “-” and “_”: at most 74 here.
                name: format!("carnet-{}-{}", feed.slug, trusted.fingerprint()),
                issuer: trusted.issuer.clone(),
                subject: trusted.subject.as_str().to_owned(),
                audience: trusted.audience.clone(),
                description: trusted.description(feed),
            },
            registry: registry.to_owned(),
            role,
            repository_role,
            condition,
        })
    }

    /// Returns the documents, named as in Microsoft's APIs.
    pub(super) fn documents(&self) -> Value {
        let mut assignment = json!({
            "registry": self.registry,
            "principalType": "ServicePrincipal",
            "roleDefinitionName": self.repository_role,
        });
        match &self.condition {
            Some(condition) => {
                assignment["condition"] = condition.as_str().into();
                assignment["conditionVersion"] = "2.0".into();
            }
            None => {
                assignment["roleDefinitionName"] = self.role.into();
                assignment["roleDefinitionNameForRepositoryPermissions"] = self.repository_role.into();
            }
        }
        json!({
            "cloud": self.cloud_name(),
            "identity": {
                "kind": self.identity,
                "tenantId": self.tenant_id,
                "clientId": self.client_id,
            },
            "federated_credential": self.credential_input(),
            "role_assignment": assignment,
        })
    }

    /// Returns the body of a request that creates the credential of an application.
    fn credential_input(&self) -> Value {
        json!({
            "name": self.credential.name,
            "issuer": self.credential.issuer,
            "subject": self.credential.subject,
            "audiences": [self.credential.audience],
            "description": self.credential.description,
        })
    }

    /// Returns the cloud's name in the Azure CLI.
    fn cloud_name(&self) -> &'static str {
        match self.cloud {
            AzureCloud::Public => "AzureCloud",
            AzureCloud::UsGovernment => "AzureUSGovernment",
            AzureCloud::China => "AzureChinaCloud",
        }
    }
}

/// Returns a condition (version 2.0) that limits a repository role to these repositories.
///
/// Azure's conditions permit every action that they do not name. That is safe here, because the roles used
/// have data actions on repositories only.
fn condition(scope: &Scope, push: bool) -> Option<String> {
    const READ: [&str; 2] = ["content/read", "metadata/read"];
    const WRITE: [&str; 2] = ["content/write", "metadata/write"];
    const TYPE: &str = "Microsoft.ContainerRegistry/registries/repositories";

    let names = scope.repositories()?;
    let actions = READ.iter().chain(if push { &WRITE[..] } else { &[] });
    let others: Vec<_> = actions.map(|action| format!("!(ActionMatches{{'{TYPE}/{action}'}})")).collect();
    // A repository name cannot contain a quote.
    let these: Vec<_> =
        names.iter().map(|name| format!("@Request[{TYPE}:name] StringEqualsIgnoreCase '{name}'")).collect();
    Some(format!("(({}) OR ({}))", others.join(" AND "), these.join(" OR ")))
}
