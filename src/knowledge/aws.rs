//! What an error code of AWS's most often means, said in terms of what was presented.

use super::general::throttled;
use super::{Cause, Mend};
use crate::feed::aws::AssumedRole;
use crate::oidc::token::Presented;

/// Codes after which the same request may well succeed a moment later, whatever their status.
pub(crate) fn is_transient(code: &str) -> bool {
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

/// Refusals of `AssumeRoleWithWebIdentity`.
pub(crate) fn of_sts(code: &str, message: &str, presented: &Presented, assumed: &AssumedRole) -> Vec<Cause> {
    let Presented { iss, sub, aud, .. } = presented;
    let role = &assumed.role_arn;
    let account = role.account_id();
    // IAM names condition keys after the provider's URL without its scheme.
    let provider = iss.split_once("://").map_or(iss.as_str(), |(_, rest)| rest);
    match code {
        code if is_throttling(code) => vec![throttled("aws")],
        "AccessDenied" | "AccessDeniedException" => vec![
            Cause::trust(format!(
                "the trust policy of {role} must allow sts:AssumeRoleWithWebIdentity to the OIDC provider {provider} \
                 with exactly {provider}:aud = {aud} and {provider}:sub = {sub}"
            )),
            Cause::new(
                "AWS answers the same when the role does not exist",
                Mend::Feed("--role-arn ARN".to_owned()),
            ),
            Cause::early("and for some seconds after a change"),
        ],
        "InvalidIdentityToken" => invalid_token(message, presented, account),
        "ExpiredTokenException" => {
            vec![Cause::clock("AWS holds the token for expired or not yet valid: check this machine's clock")]
        }
        "IDPRejectedClaim" => vec![Cause::trust(format!(
            "AWS refused a claim: the provider in account {account} must list the audience {aud}, and the role's \
             conditions must fit the subject {sub}"
        ))],
        "IDPCommunicationError" => vec![
            unreachable(
                format!(
                    "AWS could not fetch {iss}/.well-known/openid-configuration or the JWKS that it names: both must be \
                     public and answer quickly"
                ),
                iss,
            ),
            Cause::early("and it often passes"),
        ],
        "ValidationError" => vec![
            Cause::new(
                format!(
                    "check that session_duration, which is {} s, is not above the maximum session duration of {role}",
                    assumed.session_duration.as_secs()
                ),
                Mend::Feed("--session-duration 1h".to_owned()),
            ),
            Cause::new("and the role's ARN", Mend::Feed("--role-arn ARN".to_owned())),
        ],
        "MalformedPolicyDocument" => vec![Cause::act(
            "AWS could not read the session policy",
            "ask without repositories and actions; if that works, report the policy as a fault of carnet",
        )],
        "PackedPolicyTooLarge" => vec![Cause::act(
            "the session policy is too large: ask for fewer repositories",
            "name fewer repositories in the request or in the grant",
        )],
        "RegionDisabledException" => vec![Cause::new(
            format!(
                "activate STS for the registry's region in account {account}, or override the sts endpoint"
            ),
            Mend::Feed("--endpoint sts=https://sts.REGION.amazonaws.com".to_owned()),
        )],
        "InvalidAction" | "UnknownOperationException" => vec![Cause::new(
            "the endpoint sts is not an AWS STS",
            Mend::Feed("--endpoint sts=URL".to_owned()),
        )],
        _ => Vec::new(),
    }
}

/// `InvalidIdentityToken` stands for all that can be wrong with a token; which comes first is the
/// message's to say.
fn invalid_token(message: &str, presented: &Presented, account: &str) -> Vec<Cause> {
    let Presented { iss, aud, kid, .. } = presented;
    let provider = Cause::trust(format!(
        "account {account} needs an IAM OIDC provider with exactly the URL {iss} and the client id {aud}"
    ));
    let keys = unreachable(
        format!(
            "AWS must be able to fetch {iss}/.well-known/openid-configuration and find key {kid} in its JWKS"
        ),
        iss,
    );
    if message.to_ascii_lowercase().contains("verification key") {
        vec![keys, provider]
    } else {
        vec![provider, keys]
    }
}

fn unreachable(why: String, iss: &str) -> Cause {
    Cause::act(why, format!("have {iss} answer from the internet, within 5 s and without a redirect"))
}

/// Refusals of `GetAuthorizationToken`, of ECR or of ECR Public.
pub(crate) fn of_ecr(code: &str, is_public: bool, assumed: &AssumedRole) -> Vec<Cause> {
    match code {
        code if is_throttling(code) => vec![throttled("aws")],
        "AccessDenied" | "AccessDeniedException" => {
            let actions = if is_public {
                "ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken"
            } else {
                "ecr:GetAuthorizationToken"
            };
            vec![
                Cause::trust(format!(
                    "the role {} needs a policy that allows {actions} on resource *",
                    assumed.role_arn
                )),
                Cause::early("a new policy takes some seconds until it works"),
            ]
        }
        "UnrecognizedClientException" | "InvalidClientTokenId" => vec![Cause::new(
            "ECR does not know the session that STS issued: the endpoints sts and ecr must belong together, and the \
             registry's region must be enabled in the account",
            Mend::Feed("--endpoint sts=URL --endpoint ecr=URL".to_owned()),
        )],
        "InvalidSignatureException" | "SignatureDoesNotMatch" | "RequestExpired" => vec![Cause::clock(
            "ECR refused the request's signature: check this machine's clock, the registry's region, and that no \
             proxy changes the request",
        )],
        "ExpiredTokenException" | "ExpiredToken" => {
            vec![Cause::clock("ECR holds the role session for expired: check this machine's clock")]
        }
        "UnknownOperationException" => vec![Cause::new(
            "the endpoint ecr is not an Amazon ECR API",
            Mend::Feed("--endpoint ecr=URL".to_owned()),
        )],
        _ => Vec::new(),
    }
}
