//! Renders the setup at AWS as a script and as Terraform.

use askama::Template;
use serde_json::json;

use super::policy::Statement;
use super::{AwsSetup, POLICY_NAME, TAG};
use crate::setup::quoting::{Hcl, Word};
use crate::setup::{SetupError, Trusted};

#[derive(Template)]
#[template(path = "setup/aws.sh", escape = "none")]
struct Script<'a> {
    trusted: &'a Trusted,
    account: Word,
    region: Word,
    provider_arn: Word,
    provider: Word,
    audience: Word,
    client_id: Word,
    role_name: Word,
    role_arn: Word,
    role: Word,
    role_update: Word,
    /// A JMESPath expression for the tag that marks the role as the script's own.
    owner: Word,
    tag: Word,
    adopt: Word,
    trust: Word,
    policy_name: Word,
    access: Word,
}

#[derive(Template)]
#[template(path = "setup/aws.tf", escape = "none")]
struct Terraform<'a> {
    trusted: &'a Trusted,
    region: Hcl,
    accounts: Hcl,
    url: Hcl,
    client_ids: Hcl,
    provider_arns: Hcl,
    conditions: Vec<(Hcl, Hcl)>,
    access: Vec<Access>,
    name: Hcl,
    path: Hcl,
    description: Hcl,
    max_session: u32,
    tag_key: Hcl,
    tag: Hcl,
    policy_name: Hcl,
}

struct Access {
    actions: Hcl,
    resources: Vec<Hcl>,
}

impl AwsSetup {
    pub(in crate::setup) fn cli(&self, trusted: &Trusted) -> Result<String, SetupError> {
        let Self { provider, role, .. } = self;
        let client_id = json!({
            "OpenIDConnectProviderArn": provider.arn,
            "ClientID": provider.client_id,
        });
        let role_update = json!({
            "RoleName": role.name,
            "Description": role.description,
            "MaxSessionDuration": role.max_session,
        });
        let adopt = format!("aws iam tag-role --role-name {} --tags Key={TAG},Value={}", role.name, role.tag);
        let script = Script {
            trusted,
            account: Word::new(&self.account),
            region: Word::new(&self.region),
            provider_arn: Word::new(&provider.arn),
            // All values are JSON. The AWS CLI reads a plain value that begins with `file://` as the location
            // of the value; its version 1 does so with `https://` too.
            provider: Word::json(&self.provider_input())?,
            audience: Word::new(&provider.client_id),
            client_id: Word::json(&client_id)?,
            role_name: Word::new(&role.name),
            role_arn: Word::new(&role.arn),
            role: Word::json(&self.role_input())?,
            role_update: Word::json(&role_update)?,
            owner: Word::new(format!("Role.Tags[?Key=='{TAG}'].Value | [0]")),
            tag: Word::new(&role.tag),
            adopt: Word::new(adopt),
            trust: Word::json(&self.trust)?,
            policy_name: Word::new(POLICY_NAME),
            access: Word::json(&self.access)?,
        };
        Ok(script.render()?)
    }

    pub(in crate::setup) fn terraform(&self, trusted: &Trusted) -> Result<String, SetupError> {
        let Self { provider, role, .. } = self;
        let conditions = self.trust.statement.iter().flat_map(Statement::condition);
        let access = self.access.statement.iter().map(|statement| Access {
            actions: Hcl::list(&statement.actions),
            resources: statement.resources.iter().map(Hcl::new).collect(),
        });
        let configuration = Terraform {
            trusted,
            region: Hcl::new(&self.region),
            accounts: Hcl::list([&self.account]),
            url: Hcl::new(&provider.url),
            client_ids: Hcl::list([&provider.client_id]),
            provider_arns: Hcl::list([&provider.arn]),
            conditions: conditions.map(|(key, value)| (Hcl::new(key), Hcl::list([value]))).collect(),
            access: access.collect(),
            name: Hcl::new(&role.name),
            path: Hcl::new(&role.path),
            description: Hcl::new(&role.description),
            max_session: role.max_session,
            tag_key: Hcl::new(TAG),
            tag: Hcl::new(&role.tag),
            policy_name: Hcl::new(POLICY_NAME),
        };
        Ok(configuration.render()?)
    }
}
