//! Scopes at Amazon ECR: an inline session policy that leaves a role session only the actions and
//! repositories of the scope.
//!
//! A session may do what the role's policies *and* this policy allow, so the policy can only narrow. AWS does
//! not document if the docker login that ECR gives to such a session stays within it, and no test of this
//! project has tried it at AWS.

use serde_json::json;

use super::aws::RoleArn;
use super::ecr_host::EcrHost;
use super::registry_host::RegistryHost;
use super::scope::{Action, Scope, ScopeError};

/// The maximum length of an inline session policy in STS, in characters.
pub const MAX_SESSION_POLICY: usize = 2048;

/// The API calls with which a docker client reads an image, by AWS's user guide.
const PULL: [&str; 3] =
    ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];

/// The API calls with which a docker client writes an image, by AWS's user guide.
const PUSH: [&str; 6] = [
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:CompleteLayerUpload",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
];

/// Returns the session policy that limits a session of `role` to `scope` in `registry`; `None` if the scope
/// limits nothing.
///
/// Repositories belong to the registry's account and region. For a registry under another name, both are
/// taken from the role, as for its endpoints. If they are wrong, the session can do nothing.
pub fn session_policy(
    registry: &RegistryHost,
    role: &RoleArn,
    scope: &Scope,
) -> Result<Option<String>, ScopeError> {
    if scope.is_everything() {
        return Ok(None);
    }
    let resources = repository_arns(registry, role, scope);
    let actions = actions(scope);
    let of_repositories = json!({ "Effect": "Allow", "Action": actions, "Resource": resources });
    // This action concerns no repository: AWS supports it only for the resource `*`.
    let login = json!({ "Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*" });
    let policy = json!({ "Version": "2012-10-17", "Statement": [of_repositories, login] }).to_string();
    if policy.len() > MAX_SESSION_POLICY {
        return Err(ScopeError::SessionPolicyTooLong { length: policy.len(), limit: MAX_SESSION_POLICY });
    }
    Ok(Some(policy))
}

/// Returns the ARNs of the repositories in `scope`, or one wildcard ARN for all of them.
pub(crate) fn repository_arns(registry: &RegistryHost, role: &RoleArn, scope: &Scope) -> Vec<String> {
    let host = EcrHost::try_from(registry).ok();
    let (region, account) = match &host {
        Some(host) => (host.region(), host.account_id()),
        None => (role.home_region(), role.account_id()),
    };
    let prefix = format!("arn:{}:ecr:{region}:{account}:repository/", role.partition());
    match scope.repositories() {
        Some(names) => names.iter().map(|name| format!("{prefix}{name}")).collect(),
        None => vec![format!("{prefix}*")],
    }
}

/// Returns the names of ECR's API calls for the actions of `scope`, sorted.
pub(crate) fn actions(scope: &Scope) -> Vec<&'static str> {
    let mut actions: Vec<_> = [(Action::Pull, &PULL[..]), (Action::Push, &PUSH)]
        .into_iter()
        .filter(|(action, _)| scope.allows(*action))
        .flat_map(|(_, calls)| calls.iter().copied())
        .collect();
    actions.sort_unstable();
    actions.dedup();
    actions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::scope::RepositoryName;

    const ECR: &str = "210987654321.dkr.ecr.eu-west-1.amazonaws.com";
    const ROLE: &str = "arn:aws:iam::123456789012:role/pull";

    fn policy(registry: &str, role: &str, scope: &str) -> Result<Option<String>, ScopeError> {
        let scope: Scope = serde_json::from_str(scope).unwrap();
        session_policy(&registry.parse().unwrap(), &role.parse().unwrap(), &scope)
    }

    #[test]
    fn a_pull_of_two_repositories_is_three_actions_on_two_arns_of_the_registrys_account() {
        let policy = policy(ECR, ROLE, r#"{"repositories":["app/one","b"],"actions":["pull"]}"#);
        let policy: serde_json::Value = serde_json::from_str(&policy.unwrap().unwrap()).unwrap();
        let expected = json!({
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Action": ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                    "Resource": [
                        "arn:aws:ecr:eu-west-1:210987654321:repository/app/one",
                        "arn:aws:ecr:eu-west-1:210987654321:repository/b",
                    ],
                },
                { "Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*" },
            ],
        });
        assert_eq!(policy, expected);
    }

    #[test]
    fn partition_region_and_account_are_the_registrys_and_elsewhere_the_roles() {
        for (registry, role, arn) in [
            (ECR, ROLE, "arn:aws:ecr:eu-west-1:210987654321:repository/a"),
            (
                "210987654321.dkr.ecr.cn-north-1.amazonaws.com.cn",
                "arn:aws-cn:iam::123456789012:role/pull",
                "arn:aws-cn:ecr:cn-north-1:210987654321:repository/a",
            ),
            ("localhost:5000", ROLE, "arn:aws:ecr:us-east-1:123456789012:repository/a"),
        ] {
            let policy = policy(registry, role, r#"{"repositories":["a"]}"#).unwrap().unwrap();
            assert!(policy.contains(&format!("\"Resource\":[\"{arn}\"]")), "{policy}");
        }
    }

    #[test]
    fn actions_alone_limit_every_repository_and_nothing_limits_nothing() {
        assert_eq!(policy(ECR, ROLE, "{}"), Ok(None));
        let pull = policy(ECR, ROLE, r#"{"actions":["pull"]}"#).unwrap().unwrap();
        assert!(pull.contains(":repository/*\"") && !pull.contains("PutImage"), "{pull}");
        let push = policy(ECR, ROLE, r#"{"actions":["push"]}"#).unwrap().unwrap();
        assert!(push.contains("ecr:PutImage") && !push.contains("GetDownloadUrlForLayer"), "{push}");
    }

    #[test]
    fn a_policy_too_long_for_sts_is_refused_with_its_length() {
        let names = |length: usize| {
            let names = (0..16).map(|n| format!("{n:0length$}").parse::<RepositoryName>().unwrap());
            let scope = Scope::new(Some(names), Some([Action::Pull])).unwrap();
            session_policy(&ECR.parse().unwrap(), &ROLE.parse().unwrap(), &scope)
        };
        assert!(names(16).unwrap().unwrap().len() <= MAX_SESSION_POLICY);
        match names(128) {
            Err(ScopeError::SessionPolicyTooLong { length, limit: 2048 }) => assert!(length > 2048),
            other => panic!("{other:?}"),
        }
    }
}
