//! Renders the setup at Azure as a script and as Terraform.

use askama::Template;

use super::AzureSetup;
use crate::feed::acr_host::AzureCloud;
use crate::setup::quoting::{Hcl, Word};
use crate::setup::{Identity, SetupError, Trusted};

#[derive(Template)]
#[template(path = "setup/azure.sh", escape = "none")]
struct Script<'a> {
    trusted: &'a Trusted,
    managed: bool,
    cloud: Word,
    tenant_id: Word,
    client_id: Word,
    identity_name: Word,
    /// A JMESPath expression that finds the identity by its client id.
    by_client_id: Word,
    feed: Word,
    credential_name: Word,
    credential: Word,
    issuer: Word,
    subject: Word,
    audience: Word,
    registry: Word,
    role: Word,
    repository_role: Word,
    condition: Option<Word>,
}

#[derive(Template)]
#[template(path = "setup/azure.tf", escape = "none")]
struct Terraform<'a> {
    trusted: &'a Trusted,
    managed: bool,
    azuread_environment: Hcl,
    azurerm_environment: Hcl,
    tenant_id: Hcl,
    client_id: Hcl,
    identity_name: Hcl,
    credential_name: Hcl,
    description: Hcl,
    issuer: Hcl,
    subject: Hcl,
    audiences: Hcl,
    registry: Hcl,
    role: Hcl,
    repository_role: Hcl,
    condition: Option<Hcl>,
}

impl AzureSetup {
    pub(in crate::setup) fn cli(&self, trusted: &Trusted) -> Result<String, SetupError> {
        let credential = &self.credential;
        let managed = self.identity == Identity::Managed;
        if managed && credential.audience.starts_with('@') {
            let why = "the Azure CLI reads text after “@” as the name of a file; use another format";
            return Err(SetupError::Audience { audience: credential.audience.clone(), why });
        }
        let script = Script {
            trusted,
            managed,
            cloud: Word::new(self.cloud_name()),
            tenant_id: Word::new(&self.tenant_id),
            client_id: Word::new(&self.client_id),
            identity_name: Word::new(&self.identity_name),
            by_client_id: Word::new(format!("[?clientId=='{}'].id", self.client_id)),
            feed: Word::new(trusted.feed.to_string()),
            credential_name: Word::new(&credential.name),
            credential: Word::json(&self.credential_input())?,
            issuer: Word::new(&credential.issuer),
            subject: Word::new(&credential.subject),
            audience: Word::new(&credential.audience),
            registry: Word::new(&self.registry),
            role: Word::new(self.role),
            repository_role: Word::new(self.repository_role),
            condition: self.condition.as_ref().map(Word::new),
        };
        Ok(script.render()?)
    }

    pub(in crate::setup) fn terraform(&self, trusted: &Trusted) -> Result<String, SetupError> {
        let (azuread, azurerm) = match self.cloud {
            AzureCloud::Public => ("global", "public"),
            AzureCloud::UsGovernment => ("usgovernmentl4", "usgovernment"),
            AzureCloud::China => ("china", "china"),
        };
        let credential = &self.credential;
        let configuration = Terraform {
            trusted,
            managed: self.identity == Identity::Managed,
            azuread_environment: Hcl::new(azuread),
            azurerm_environment: Hcl::new(azurerm),
            tenant_id: Hcl::new(&self.tenant_id),
            client_id: Hcl::new(&self.client_id),
            identity_name: Hcl::new(&self.identity_name),
            credential_name: Hcl::new(&credential.name),
            description: Hcl::new(&credential.description),
            issuer: Hcl::new(&credential.issuer),
            subject: Hcl::new(&credential.subject),
            audiences: Hcl::list([&credential.audience]),
            registry: Hcl::new(&self.registry),
            role: Hcl::new(self.role),
            repository_role: Hcl::new(self.repository_role),
            condition: self.condition.as_ref().map(Hcl::new),
        };
        Ok(configuration.render()?)
    }
}
