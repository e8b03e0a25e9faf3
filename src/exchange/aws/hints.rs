//! What an AWS error code most often means, said in terms of what was presented.
//!
//! Codes only: the texts beside them change and are never branched on.

use super::ecr::Ecr;
use super::sts;
use crate::exchange::error::throttled;
use crate::exchange::upstream::Upstream;
use crate::feed::aws::RoleArn;
use crate::oidc::token::Presented;

/// Codes after which the same request may well succeed a moment later, whatever their status.
pub(super) fn is_transient(code: &str) -> bool {
    code == "IDPCommunicationError" || is_throttling(code)
}

/// AWS answers throttling with 400 as often as with 429.
fn is_throttling(code: &str) -> bool {
    matches!(
        code,
        "Throttling"
            | "ThrottlingException"
            | "RequestLimitExceeded"
            | "TooManyRequestsException"
            | "SlowDown"
    )
}

/// What to look at first.
pub(super) fn hint(upstream: &Upstream, presented: &Presented, role: Option<&RoleArn>) -> Option<String> {
    let Presented { iss, sub, aud, kid, .. } = presented;
    let code = upstream.code.as_deref()?;
    if is_throttling(code) {
        return Some(throttled(upstream.provider));
    }
    if upstream.step == sts::STEP.name {
        let role = role?;
        let account = role.account_id();
        // IAM names condition keys after the provider's URL without its scheme.
        let provider = iss.split_once("://").map_or(iss.as_str(), |(_, rest)| rest);
        return Some(match code {
            "AccessDenied" | "AccessDeniedException" => format!(
                "the trust policy of {role} must allow sts:AssumeRoleWithWebIdentity to the OIDC provider {provider} \
                 with exactly {provider}:aud = {aud} and {provider}:sub = {sub}; \
                 AWS answers the same when the role does not exist, and for some seconds after a change"
            ),
            "InvalidIdentityToken" => format!(
                "account {account} needs an IAM OIDC provider with exactly the URL {iss} and the client id {aud}, \
                 and AWS must be able to fetch {iss}/.well-known/openid-configuration and find key {kid} in its JWKS"
            ),
            "ExpiredTokenException" => {
                "AWS holds the token for expired or not yet valid: check this machine's clock".to_owned()
            }
            "IDPRejectedClaim" => format!(
                "AWS refused a claim: the provider in account {account} must list the audience {aud}, \
                 and the role's conditions must fit the subject {sub}"
            ),
            "IDPCommunicationError" => format!(
                "AWS could not fetch {iss}/.well-known/openid-configuration or the JWKS that it names: \
                 both must be public and answer quickly"
            ),
            "ValidationError" => {
                format!(
                    "check that session_duration is not above the maximum session duration of {role}, and the role's ARN"
                )
            }
            "MalformedPolicyDocument" => "AWS could not read the session policy".to_owned(),
            "PackedPolicyTooLarge" => {
                "the session policy is too large: ask for fewer repositories".to_owned()
            }
            "RegionDisabledException" => {
                format!(
                    "activate STS for the registry's region in account {account}, or override the sts endpoint"
                )
            }
            "InvalidAction" | "UnknownOperationException" => "the endpoint sts is not an AWS STS".to_owned(),
            _ => return None,
        });
    }
    let is_public = upstream.step == Ecr::Public.step().name;
    if is_public || upstream.step == Ecr::Private.step().name {
        return Some(match code {
            "AccessDenied" | "AccessDeniedException" => {
                let actions = if is_public {
                    "ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken"
                } else {
                    "ecr:GetAuthorizationToken"
                };
                format!(
                    "the role{} needs a policy that allows {actions} on resource *",
                    role.map(|role| format!(" {role}")).unwrap_or_default()
                )
            }
            "UnrecognizedClientException" | "InvalidClientTokenId" => {
                "ECR does not know the session that STS issued: the endpoints sts and ecr must belong together, \
                 and the registry's region must be enabled in the account"
                    .to_owned()
            }
            "InvalidSignatureException" | "SignatureDoesNotMatch" | "RequestExpired" => {
                "ECR refused the request's signature: check this machine's clock, the registry's region, \
                 and that no proxy changes the request"
                    .to_owned()
            }
            "ExpiredTokenException" | "ExpiredToken" => {
                "ECR holds the role session for expired: check this machine's clock".to_owned()
            }
            "UnknownOperationException" => "the endpoint ecr is not an Amazon ECR API".to_owned(),
            _ => return None,
        });
    }
    None
}
