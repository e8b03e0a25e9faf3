//! Renders the setup at Google as a script and as Terraform.

use std::borrow::Cow;

use askama::Template;

use super::{ATTRIBUTE, GoogleSetup, IMPERSONATION_ROLE, On};
use crate::setup::quoting::{Hcl, Word};
use crate::setup::{SetupError, Trusted};
use crate::values::shell::gcloud_list;

#[derive(Template)]
#[template(path = "setup/google.sh", escape = "none")]
struct Script<'a> {
    trusted: &'a Trusted,
    project_number: Word,
    pool: Word,
    provider: Word,
    issuer: Word,
    mapping: Word,
    condition: Word,
    /// The issuer and condition by which the script recognizes a provider of its own.
    found: Word,
    audiences: Option<Word>,
    jwks: Option<Word>,
    description: Word,
    account: Option<AccountWords>,
    principal: Word,
    member: Word,
    impersonation_role: Word,
    role: Word,
    repositories: Vec<RepositoryWords>,
}

struct AccountWords {
    email: Word,
    parts: Option<(Word, Word)>,
}

struct RepositoryWords {
    project: Option<Word>,
    location: Word,
    name: Word,
}

#[derive(Template)]
#[template(path = "setup/google.tf", escape = "none")]
struct Terraform<'a> {
    trusted: &'a Trusted,
    project: Hcl,
    pool: Hcl,
    provider: Hcl,
    issuer: Hcl,
    attribute: Hcl,
    assertion: Hcl,
    condition: Hcl,
    audiences: Option<Hcl>,
    jwks: Option<Hcl>,
    description: Hcl,
    account: Option<AccountStrings>,
    principal: Hcl,
    member: Hcl,
    impersonation_role: Hcl,
    role: Hcl,
    repositories: Vec<RepositoryStrings>,
}

struct AccountStrings {
    id: Hcl,
    parts: Option<(Hcl, Hcl)>,
}

struct RepositoryStrings {
    project: Hcl,
    location: Hcl,
    name: Hcl,
}

impl GoogleSetup {
    pub(in crate::setup) fn cli(&self, trusted: &Trusted) -> Result<String, SetupError> {
        let repositories = match &self.on {
            On::Project => Vec::new(),
            On::Repositories { location, repositories } => repositories
                .iter()
                .map(|repository| RepositoryWords {
                    project: repository.project.as_ref().map(Word::new),
                    location: Word::new(location),
                    name: Word::new(&repository.name),
                })
                .collect(),
        };
        let account = self.account.as_ref().map(|account| AccountWords {
            email: Word::new(account.as_str()),
            parts: account.name_and_project().map(|(name, project)| (Word::new(name), Word::new(project))),
        });
        let audiences = self.audience.as_deref().map(one_of_a_list).transpose()?;
        let (attribute, assertion) = ATTRIBUTE;
        let script = Script {
            trusted,
            project_number: Word::new(self.provider.project_number()),
            pool: Word::new(self.provider.pool_id()),
            provider: Word::new(self.provider.provider_id()),
            issuer: Word::new(&self.issuer),
            mapping: Word::new(format!("{attribute}={assertion}")),
            condition: Word::new(&self.condition),
            found: Word::new(format!("{}|{}", self.issuer, self.condition)),
            audiences: audiences.map(Word::new),
            jwks: self.jwks.as_ref().map(Word::new),
            description: Word::new(&self.description),
            account,
            principal: Word::new(&self.principal),
            member: Word::new(&self.member),
            impersonation_role: Word::new(IMPERSONATION_ROLE),
            role: Word::new(self.role),
            repositories,
        };
        Ok(script.render()?)
    }

    pub(in crate::setup) fn terraform(&self, trusted: &Trusted) -> Result<String, SetupError> {
        let project = self.provider.project_number();
        let repositories = match &self.on {
            On::Project => Vec::new(),
            On::Repositories { location, repositories } => repositories
                .iter()
                .map(|repository| RepositoryStrings {
                    project: Hcl::new(repository.project.as_deref().unwrap_or(project)),
                    location: Hcl::new(location),
                    name: Hcl::new(&repository.name),
                })
                .collect(),
        };
        let account = self.account.as_ref().map(|account| AccountStrings {
            id: Hcl::new(format!("projects/-/serviceAccounts/{account}")),
            parts: account.name_and_project().map(|(name, project)| (Hcl::new(name), Hcl::new(project))),
        });
        let configuration = Terraform {
            trusted,
            project: Hcl::new(project),
            pool: Hcl::new(self.provider.pool_id()),
            provider: Hcl::new(self.provider.provider_id()),
            issuer: Hcl::new(&self.issuer),
            attribute: Hcl::new(ATTRIBUTE.0),
            assertion: Hcl::new(ATTRIBUTE.1),
            condition: Hcl::new(&self.condition),
            audiences: self.audience.as_ref().map(|audience| Hcl::list([audience])),
            jwks: self.jwks.as_ref().map(Hcl::new),
            description: Hcl::new(&self.description),
            account,
            principal: Hcl::new(&self.principal),
            member: Hcl::new(&self.member),
            impersonation_role: Hcl::new(IMPERSONATION_ROLE),
            role: Hcl::new(self.role),
            repositories,
        };
        Ok(configuration.render()?)
    }
}

/// Returns `audience` as the only element of a list.
fn one_of_a_list(audience: &str) -> Result<Cow<'_, str>, SetupError> {
    gcloud_list(audience).ok_or_else(|| {
        let why = "gcloud has no unused separator for it; use another format";
        SetupError::Audience { audience: audience.to_owned(), why }
    })
}
