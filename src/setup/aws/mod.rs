//! Trust at AWS: an OpenID Connect provider in IAM, and a role that one subject may assume.

mod policy;
mod render;

use serde_json::{Value, json};

use self::policy::{Policy, Principal, Statement};
use super::{SetupError, Trusted};
use crate::feed::aws::AssumedRole;
use crate::feed::aws_scope;
use crate::feed::ecr_host::EcrHost;
use crate::feed::ecr_public;
use crate::feed::scope::{Action, Scope};
use crate::feed::{Feed, FeedType};
use crate::values::issuer_url::IssuerUrl;

/// The maximum total length of a role's inline policies, in characters without white space.
const MAX_ROLE_POLICY: usize = 10_240;

/// The name of the role's inline policy.
const POLICY_NAME: &str = "carnet-registry";

/// The tag by which a script recognizes its own role.
const TAG: &str = "carnet:trust";

/// IAM's minimum and default for a role's maximum session duration, in seconds.
const DEFAULT_MAX_SESSION: u32 = 3600;

/// The actions that a docker client needs to push to ECR Public, from AWS's user guide.
const PUBLIC_PUSH: [&str; 5] = [
    "ecr-public:BatchCheckLayerAvailability",
    "ecr-public:CompleteLayerUpload",
    "ecr-public:InitiateLayerUpload",
    "ecr-public:PutImage",
    "ecr-public:UploadLayerPart",
];

/// The setup at AWS.
#[derive(Debug)]
pub(super) struct AwsSetup {
    /// The account of the role and the provider.
    account: String,
    /// The region whose API is called. IAM is the same in all regions of a partition.
    region: String,
    provider: Provider,
    role: Role,
    trust: Policy,
    access: Policy,
    /// The policy that the registry's repositories need, if the registry belongs to another account.
    repository: Option<Policy>,
}

#[derive(Debug)]
struct Provider {
    arn: String,
    url: String,
    client_id: String,
}

#[derive(Debug)]
struct Role {
    arn: String,
    /// The path, with a slash at both ends.
    path: String,
    name: String,
    description: String,
    max_session: u32,
    tag: String,
}

impl AwsSetup {
    pub(super) fn new(
        feed: &Feed,
        assumed: &AssumedRole,
        issuer: &IssuerUrl,
        trusted: &Trusted,
        scope: &Scope,
        notes: &mut Vec<String>,
    ) -> Result<Self, SetupError> {
        let arn = &assumed.role_arn;
        if ["${", "&{"].iter().any(|variable| trusted.audience.contains(variable)) {
            let why = "AWS reads “${” in a policy, and Terraform “&{”, as the beginning of a variable";
            return Err(SetupError::Audience { audience: trusted.audience.clone(), why });
        }
        if let Some(port) = issuer.explicit_port() {
            notes.insert(0, format!("AWS accepts no issuer with a port, and {issuer} has port {port}."));
        } else if !issuer.as_str().starts_with("https://") {
            notes.insert(0, "AWS accepts only issuers with https.".to_owned());
        }
        // AWS's name for an issuer is its URL without the scheme.
        let (_, name) = issuer.as_str().split_once("://").unwrap_or_default();
        let provider = Provider {
            arn: format!("arn:{}:iam::{}:oidc-provider/{name}", arn.partition(), arn.account_id()),
            url: trusted.issuer.clone(),
            client_id: trusted.audience.clone(),
        };
        let conditions = vec![
            (format!("{name}:aud"), trusted.audience.clone()),
            (format!("{name}:sub"), trusted.subject.as_str().to_owned()),
        ];
        let trust = Policy::of(vec![
            Statement::allow(["sts:AssumeRoleWithWebIdentity"], [])
                .to(Principal::Federated(provider.arn.clone()))
                .when(conditions),
        ]);
        let (region, access) = if trusted.feed_type == FeedType::AwsEcrPublic {
            (ecr_public::REGION.to_owned(), public_access(assumed, scope)?)
        } else {
            let host = EcrHost::try_from(&feed.registry).ok();
            if host.is_none() {
                notes.push(format!(
                    "{} is not a host name of ECR: its repositories are assumed to be in account {} and \
                     region {}.",
                    feed.registry,
                    arn.account_id(),
                    arn.home_region()
                ));
            }
            let region = host.as_ref().map_or(arn.home_region(), EcrHost::region);
            (region.to_owned(), private_access(feed, assumed, scope, notes))
        };
        let length = access.length_without_space()?;
        if length > MAX_ROLE_POLICY {
            return Err(SetupError::PolicyTooLong { length, limit: MAX_ROLE_POLICY });
        }
        let owner = EcrHost::try_from(&feed.registry).ok();
        let repository = owner.filter(|host| host.account_id() != arn.account_id()).map(|host| {
            notes.push(format!(
                "The registry belongs to account {}: its repositories' own policies must allow {arn}, too. \
                 --format json shows that policy as repository_policy.",
                host.account_id()
            ));
            Policy::of(vec![
                Statement::allow(aws_scope::actions(scope), []).to(Principal::Role(arn.as_str().to_owned())),
            ])
        });
        Ok(Self {
            account: arn.account_id().to_owned(),
            region,
            provider,
            role: role(feed, assumed, trusted),
            trust,
            access,
            repository,
        })
    }

    /// Returns the documents, named as in IAM's API.
    pub(super) fn documents(&self) -> Result<Value, SetupError> {
        let mut role = self.role_input();
        role["AssumeRolePolicyDocument"] = serde_json::to_value(&self.trust)?;
        let mut documents = json!({
            "open_id_connect_provider": self.provider_input(),
            "open_id_connect_provider_arn": self.provider.arn,
            "role": role,
            "role_arn": self.role.arn,
            "role_policy": {
                "RoleName": self.role.name,
                "PolicyName": POLICY_NAME,
                "PolicyDocument": self.access,
            },
        });
        if let Some(policy) = &self.repository {
            documents["repository_policy"] = serde_json::to_value(policy)?;
        }
        Ok(documents)
    }

    /// Returns the input of `CreateOpenIDConnectProvider`.
    fn provider_input(&self) -> Value {
        json!({ "Url": self.provider.url, "ClientIDList": [self.provider.client_id] })
    }

    /// Returns the input of `CreateRole`, except the trust policy.
    fn role_input(&self) -> Value {
        json!({
            "Path": self.role.path,
            "RoleName": self.role.name,
            "Description": self.role.description,
            "MaxSessionDuration": self.role.max_session,
            "Tags": [{ "Key": TAG, "Value": self.role.tag }],
        })
    }
}

fn role(feed: &Feed, assumed: &AssumedRole, trusted: &Trusted) -> Role {
    let arn = &assumed.role_arn;
    // `role/path/name`. A role's ARN has at least the first and the last part.
    let (_, resource) = arn.as_str().split_once(":role/").unwrap_or_default();
    let (path, name) = match resource.rsplit_once('/') {
        Some((path, name)) => (format!("/{path}/"), name),
        None => ("/".to_owned(), resource),
    };
    // IAM permits only characters up to Latin-1 in descriptions.
    let description = trusted.description(feed).chars().map(|c| if c > 'ÿ' { '?' } else { c }).collect();
    Role {
        arn: arn.as_str().to_owned(),
        path,
        name: name.to_owned(),
        description,
        max_session: assumed.session_duration.as_secs().max(DEFAULT_MAX_SESSION),
        tag: trusted.fingerprint(),
    }
}

fn private_access(feed: &Feed, assumed: &AssumedRole, scope: &Scope, notes: &mut Vec<String>) -> Policy {
    if scope.repositories().is_none() {
        notes.push(
            "The set-up gives access to every repository of the registry. --repository limits it to some."
                .to_owned(),
        );
    }
    let repositories = aws_scope::repository_arns(&feed.registry, &assumed.role_arn, scope);
    Policy::of(vec![
        // Not specific to a repository: AWS accepts only `*` for it.
        Statement::allow(["ecr:GetAuthorizationToken"], ["*".to_owned()]),
        Statement::allow(aws_scope::actions(scope), repositories),
    ])
}

fn public_access(assumed: &AssumedRole, scope: &Scope) -> Result<Policy, SetupError> {
    let login = ["ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken"];
    let mut statements = vec![Statement::allow(login, ["*".to_owned()])];
    if scope.allows(Action::Push) {
        let prefix = format!("arn:aws:ecr-public::{}:repository/", assumed.role_arn.account_id());
        let repositories: Vec<_> = match scope.repositories() {
            Some(names) => names.iter().map(|name| format!("{prefix}{name}")).collect(),
            None => vec![format!("{prefix}*")],
        };
        statements.push(Statement::allow(PUBLIC_PUSH, repositories));
    } else if scope.repositories().is_some() {
        return Err(SetupError::Repositories(
            "anyone can pull from ECR Public, so naming repositories limits nothing".to_owned(),
        ));
    }
    Ok(Policy::of(statements))
}
