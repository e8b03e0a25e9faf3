//! Amazon ECR Public: one registry for the whole world, operated from one region of one partition.

use thiserror::Error;

use super::Feed;
use super::aws::{AssumedRole, ENDPOINT_NAMES, FIELDS};
use super::declaration::{KnownRegistry, TypeDeclaration};
use super::ecr_host::Partition;
use super::endpoints::{Endpoints, EndpointsError};
use super::registry_host::RegistryHost;
use super::scope::ScopeError;
use crate::jose::Algorithm;

/// The registry's own name.
pub const REGISTRY: &str = "public.ecr.aws";

/// All names of the registry.
const HOSTS: [&str; 2] = [REGISTRY, "ecr-public.aws.com"];

/// The only region whose API issues logins.
pub(crate) const REGION: &str = "us-east-1";

/// The host of AWS STS in that region.
pub(crate) const STS_HOST: &str = "sts.us-east-1.amazonaws.com";

/// The host of the registry's API.
pub(crate) const API_HOST: &str = "api.ecr-public.us-east-1.amazonaws.com";

/// The type `aws-ecr-public`.
pub const DECLARATION: TypeDeclaration = TypeDeclaration {
    about: "Amazon ECR Public",
    registry: KnownRegistry::Only(REGISTRY),
    fields: FIELDS,
    endpoints: ENDPOINT_NAMES,
    algorithm: Algorithm::Es256,
    subject_limit: None,
    check_scope: |_| Err(ScopeError::EcrPublic),
};

/// The rules of the type `aws-ecr-public`.
pub type RuleError = EcrPublicError;

pub(super) fn check_feed(role: &AssumedRole, feed: &Feed) -> Result<(), RuleError> {
    check(role, &feed.registry, &feed.endpoints)
}

/// The settings of an `aws-ecr-public` feed contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EcrPublicError {
    /// An AWS feed does not have this endpoint.
    #[error(transparent)]
    Endpoints(#[from] EndpointsError),
    /// The registry's region is in the partition `aws`, and a role cannot be assumed across partitions.
    #[error("role_arn: Amazon ECR Public accepts roles of partition aws, not of {0}")]
    Partition(Partition),
    /// The registry's name does not reveal the API hosts, and an override is missing.
    #[error(
        "registry: {registry} is not Amazon ECR Public, which is {}; of any other registry the endpoint {missing} \
         must be given too",
        HOSTS.join(" or ")
    )]
    Endpoint {
        /// The registry.
        registry: RegistryHost,
        /// The first endpoint that is not overridden.
        missing: &'static str,
    },
}

/// Returns whether the host is ECR Public: exactly one of its names, without a port.
#[must_use]
pub fn is_ecr_public(registry: &RegistryHost) -> bool {
    HOSTS.contains(&registry.as_str())
}

/// Checks the role, the registry and the overrides against each other. Returns the first rule that is broken.
pub fn check(
    role: &AssumedRole,
    registry: &RegistryHost,
    endpoints: &Endpoints,
) -> Result<(), EcrPublicError> {
    endpoints.allow_only(ENDPOINT_NAMES)?;
    match role.role_arn.partition() {
        Partition::Aws => {}
        other => return Err(EcrPublicError::Partition(other)),
    }
    if is_ecr_public(registry) {
        return Ok(());
    }
    match ENDPOINT_NAMES.iter().find(|name| endpoints.get(name).is_none()) {
        Some(missing) => Err(EcrPublicError::Endpoint { registry: registry.clone(), missing }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(registry: &str, role: &str, endpoints: &[&str]) -> Option<String> {
        let role = AssumedRole::new(role.parse().unwrap());
        let endpoints = Endpoints::from_pairs(ENDPOINT_NAMES, endpoints.iter().copied()).unwrap();
        check(&role, &registry.parse().unwrap(), &endpoints).err().map(|error| error.to_string())
    }

    const ROLE: &str = "arn:aws:iam::123456789012:role/r";

    #[test]
    fn only_the_registrys_own_names_need_no_endpoints() {
        for good in ["public.ecr.aws", "PUBLIC.ECR.AWS", "ecr-public.aws.com"] {
            assert_eq!(outcome(good, ROLE, &[]), None, "{good}");
        }
        for hostile in [
            "public.ecr.aws.evil.example",
            "evil.example",
            "xpublic.ecr.aws",
            "a.public.ecr.aws",
            "public.ecr.aws:443",
            "public-ecr.aws",
            "ecr-public.aws.com.evil.example",
            "ecr-public.us-east-1.amazonaws.com",
            "123456789012.dkr.ecr.us-east-1.amazonaws.com",
            "localhost:5000",
        ] {
            let refused = outcome(hostile, ROLE, &[]).unwrap_or_else(|| panic!("{hostile}"));
            assert!(
                refused.starts_with(&format!("registry: {hostile} is not Amazon ECR Public")),
                "{refused}"
            );
            assert!(refused.contains("the endpoint sts must"), "{refused}");
            let sts = ["sts=http://localhost:1"];
            assert!(outcome(hostile, ROLE, &sts).unwrap().contains("the endpoint ecr must"), "{hostile}");
            assert_eq!(outcome(hostile, ROLE, &[sts[0], "ecr=http://localhost:2"]), None, "{hostile}");
        }
    }

    #[test]
    fn roles_of_other_partitions_are_refused_by_name() {
        for role in ["arn:aws-cn:iam::123456789012:role/r", "arn:aws-us-gov:iam::123456789012:role/r"] {
            let partition = role.split(':').nth(1).unwrap();
            assert_eq!(
                outcome(REGISTRY, role, &[]),
                Some(format!(
                    "role_arn: Amazon ECR Public accepts roles of partition aws, not of {partition}"
                ))
            );
        }
    }
}
