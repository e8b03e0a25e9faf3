//! The likely causes of AWS's error codes, in terms of the presented token. `AccessDenied` is the code for
//! every policy that can deny; only the message names the policy.

use super::general::{throttled, troubled};
use super::{Cause, Fix, Retry};
use crate::feed::aws::AssumedRole;
use crate::oidc::token::Presented;

/// Returns whether the same request may succeed a moment later, regardless of its status.
pub(crate) fn retry(code: &str, message: &str) -> Retry {
    let passes = code == "IDPCommunicationError"
        || is_throttling(code)
        || is_outage(code)
        // AWS also sends this when it could not reach the issuer at that moment.
        || (code == "InvalidIdentityToken" && is_about_keys(message));
    if passes { Retry::Passing } else { Retry::Never }
}

/// Returns whether the code means throttling. AWS sends it with status 400 as often as with 429.
fn is_throttling(code: &str) -> bool {
    matches!(
        code,
        "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "RequestLimitExceeded"
            | "TooManyRequestsException"
            | "SlowDown"
    )
}

/// Returns whether the code means an outage. Some of these codes have a status that is not transient.
fn is_outage(code: &str) -> bool {
    matches!(
        code,
        "InternalFailure"
            | "InternalError"
            | "InternalServerError"
            | "InternalServerException"
            | "RequestAbortedException"
            | "RequestTimeout"
            | "RequestTimeoutException"
            | "ServerException"
            | "ServiceUnavailable"
            | "ServiceUnavailableException"
    )
}

fn is_denial(code: &str) -> bool {
    matches!(code, "AccessDenied" | "AccessDeniedException" | "NotAuthorized" | "UnauthorizedOperation")
}

/// Returns the causes that both APIs share; changing the feed fixes none of them.
fn of_either(code: &str, account: &str) -> Vec<Cause> {
    match code {
        code if is_throttling(code) => vec![throttled("aws")],
        code if is_outage(code) => vec![troubled("aws")],
        "OptInRequired" | "SubscriptionRequiredException" => vec![Cause::act(
            format!("account {account} has not activated this AWS service, or not in this region"),
            "ask the account's administrators to activate the service and the region",
        )],
        "IncompleteSignature"
        | "IncompleteSignatureException"
        | "InvalidParameterCombination"
        | "InvalidParameterException"
        | "InvalidParameterValue"
        | "InvalidQueryParameter"
        | "MalformedHttpRequestException"
        | "MalformedQueryString"
        | "MissingAction"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "MissingParameter"
        | "RequestEntityTooLargeException" => vec![Cause::act(
            "AWS cannot read the request, which has the same form for every feed: something in between \
             changes it, or AWS's API has changed",
            "check that no proxy changes requests; if none does, report it as a bug in carnet",
        )],
        _ => Vec::new(),
    }
}

/// The policies that AWS names in a message, each with its owner. `feed setup` creates none of them.
const POLICIES: [(&str, &str, &str); 5] = [
    (
        "service control policy",
        "a service control policy of the organization",
        "the AWS organization's administrators",
    ),
    (
        "resource control policy",
        "a resource control policy of the organization",
        "the AWS organization's administrators",
    ),
    (
        "permissions boundary",
        "the permissions boundary of the role",
        "the administrators who set the role's permissions boundary",
    ),
    (
        "vpc endpoint policy",
        "the policy of the VPC endpoint that the request went through",
        "the operators of the VPC endpoint",
    ),
    (
        "session policy",
        "the session policy, which carnet made from the requested repositories and actions,",
        "",
    ),
];

/// The registry's action; ECR names its own actions in the message.
pub(super) const PULL: &str = "the pull";

/// Returns the causes for a policy that the message names; `None` if it names none.
pub(super) fn of_policy(message: &str, action: &str, assumed: &AssumedRole) -> Option<Vec<Cause>> {
    let role = &assumed.role_arn;
    let message = message.to_ascii_lowercase();
    let explicit = message.contains("explicit deny");
    let how = if explicit { "denies" } else { "does not allow" };
    if let Some((_, policy, owner)) = POLICIES.iter().find(|(words, ..)| message.contains(words)) {
        let why = format!("{policy} {how} {action} to {role}, whatever the role itself allows");
        let fix = match *owner {
            "" => "request without repositories and actions; if that works, report the policy as a bug in \
                   carnet"
                .to_owned(),
            owner if explicit => {
                format!("ask {owner} to exempt {role} from the statement that denies {action}")
            }
            owner => format!("ask {owner} to allow {action} to {role}"),
        };
        return Some(vec![Cause::act(why, fix)]);
    }
    let own = match () {
        () if message.contains("identity-based policy") => format!("a policy of {role} itself"),
        () if message.contains("resource-based policy") && action == PULL => {
            "the repository's policy".to_owned()
        }
        () if message.contains("resource-based policy") => format!("the trust policy of {role}"),
        () if message.contains("role trust policy") => format!("the trust policy of {role}"),
        () => return None,
    };
    explicit.then(|| {
        let why = format!("{own} denies {action} explicitly, and an explicit deny overrides every allow");
        vec![Cause::act(why, format!("remove the statement that denies {action} from {own}"))]
    })
}

/// Returns the causes for a refusal of `AssumeRoleWithWebIdentity`.
pub(crate) fn of_sts(code: &str, message: &str, presented: &Presented, assumed: &AssumedRole) -> Vec<Cause> {
    let Presented { iss, sub, aud, .. } = presented;
    let role = &assumed.role_arn;
    let account = role.account_id();
    // IAM names condition keys after the provider's URL without its scheme.
    let provider = iss.split_once("://").map_or(iss.as_str(), |(_, rest)| rest);
    match code {
        code if is_denial(code) => of_policy(message, "sts:AssumeRoleWithWebIdentity", assumed).unwrap_or_else(|| vec![
            Cause::trust(format!(
                "the trust policy of {role} must allow sts:AssumeRoleWithWebIdentity to the OIDC provider {provider} \
                 with exactly {provider}:aud = {aud} and {provider}:sub = {sub}"
            )),
            Cause::new(
                "the role may be missing: AWS then gives the same response",
                Fix::Feed("--role-arn ARN".to_owned()),
            ),
            Cause::early("a recent change takes some seconds to take effect"),
        ]),
        "InvalidIdentityToken" => invalid_token(message, presented, account),
        // Sent by other implementations of STS. AWS itself uses the code for values that carnet creates.
        "InvalidParameterValue" if message.to_ascii_lowercase().contains("audience") => {
            invalid_token(message, presented, account)
        }
        "ExpiredTokenException" | "ExpiredToken" => {
            vec![Cause::clock("AWS considers the token expired or not yet valid: check this machine's clock")]
        }
        "IDPRejectedClaim" => vec![Cause::trust(format!(
            "AWS refused a claim: the provider in account {account} must list the audience {aud}, and the \
             role's conditions must match the subject {sub}"
        ))],
        "IDPCommunicationError" => vec![
            unreachable(
                format!(
                    "AWS could not fetch {iss}/.well-known/openid-configuration or the JWKS that it names: \
                     both must be public and respond quickly"
                ),
                iss,
            ),
            Cause::early("this failure is often temporary"),
        ],
        "ValidationError" | "ValidationException" => invalid_value(message, assumed),
        "MalformedPolicyDocument" | "MalformedPolicyDocumentException" => vec![Cause::act(
            "AWS could not read the session policy",
            "request without repositories and actions; if that works, report the policy as a bug in carnet",
        )],
        "PackedPolicyTooLarge" | "PackedPolicyTooLargeException" => vec![Cause::act(
            "the session policy is too large: ask for fewer repositories",
            "name fewer repositories in the request or in the grant",
        )],
        "RegionDisabledException" => vec![Cause::new(
            format!(
                "activate STS for the registry's region in account {account}, or override the sts endpoint"
            ),
            Fix::Feed("--endpoint sts=https://sts.REGION.amazonaws.com".to_owned()),
        )],
        "InvalidAction" | "UnknownOperationException" => vec![Cause::new(
            "the endpoint sts is not an AWS STS",
            Fix::Endpoints(&["sts"]),
        )],
        code => of_either(code, account),
    }
}

/// Returns the causes for an invalid value. The message names it; most often it is the duration.
fn invalid_value(message: &str, assumed: &AssumedRole) -> Vec<Cause> {
    let role = &assumed.role_arn;
    let message = message.to_ascii_lowercase();
    let duration = Cause::new(
        format!(
            "check that session_duration, which is {} s, is not above the maximum session duration of {role}",
            assumed.session_duration.as_secs()
        ),
        Fix::Feed("--session-duration 1h".to_owned()),
    );
    let arn = |why: &str| Cause::new(why, Fix::Feed("--role-arn ARN".to_owned()));
    if message.contains("duration") {
        vec![duration]
    } else if message.contains("arn") {
        vec![arn("AWS does not accept the role's ARN")]
    } else if ["rolesessionname", "webidentitytoken", "policy"].iter().any(|field| message.contains(field)) {
        vec![Cause::act(
            "AWS does not accept a value that carnet created",
            "report the message as a bug in carnet, with the output of `carnet feed show`",
        )]
    } else {
        vec![duration, arn("check the role's ARN")]
    }
}

/// Returns the causes for `InvalidIdentityToken`, the code for every fault of a token. The message decides
/// their order.
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
    let message = message.to_ascii_lowercase();
    if is_about_keys(&message) {
        vec![keys, Cause::early("this failure is often temporary")]
    } else if message.contains("no openidconnect provider") || message.contains("audience") {
        vec![provider]
    } else if message.contains("not a valid jwt") {
        vec![Cause::act(
            "AWS received something that is not a token: something in between changes the request",
            "check that no proxy changes requests; if none does, report it as a bug in carnet",
        )]
    } else {
        vec![provider, keys]
    }
}

fn is_about_keys(message: &str) -> bool {
    message.to_ascii_lowercase().contains("verification key")
}

fn unreachable(why: String, iss: &str) -> Cause {
    Cause::act(
        why,
        format!("make {iss} reachable from the internet; it must respond within 5 s and without a redirect"),
    )
}

/// Returns the causes for a refusal of `GetAuthorizationToken`, by ECR or by ECR Public.
pub(crate) fn of_ecr(code: &str, message: &str, is_public: bool, assumed: &AssumedRole) -> Vec<Cause> {
    let account = assumed.role_arn.account_id();
    match code {
        code if is_denial(code) => {
            let actions = if is_public {
                "ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken"
            } else {
                "ecr:GetAuthorizationToken"
            };
            of_policy(message, actions, assumed).unwrap_or_else(|| {
                vec![
                    Cause::trust(format!(
                        "the role {} needs a policy that allows {actions} on resource *",
                        assumed.role_arn
                    )),
                    Cause::early("a new policy takes some seconds to take effect"),
                ]
            })
        }
        "UnrecognizedClientException" | "InvalidClientTokenId" => vec![
            Cause::new(
                "ECR does not know the session that STS issued: the endpoints sts and ecr must belong together",
                Fix::Endpoints(&["sts", "ecr"]),
            ),
            Cause::act(
                format!("the registry's region may be disabled in account {account}"),
                "ask the account's administrators to enable the region",
            ),
        ],
        "InvalidSignatureException" | "SignatureDoesNotMatch" if message.contains("Signature expired") => {
            vec![Cause::clock("ECR considers the request too old: check this machine's clock")]
        }
        "InvalidSignatureException" | "SignatureDoesNotMatch" if message.contains("not yet current") => {
            vec![Cause::clock(
                "ECR considers the request's time to be in the future: check this machine's clock",
            )]
        }
        "InvalidSignatureException" | "SignatureDoesNotMatch" if message.contains("scoped to") => {
            vec![Cause::act(
                "ECR refused the request's signature, because it is for another region or service",
                "check that the registry and the feed's endpoint ecr, if it names one, are in the same \
                 region",
            )]
        }
        "InvalidSignatureException" | "SignatureDoesNotMatch" | "RequestExpired" => vec![Cause::clock(
            "ECR refused the request's signature: check this machine's clock, the registry's region, and that no \
             proxy changes the request",
        )],
        "ExpiredTokenException" | "ExpiredToken" => {
            vec![Cause::clock("ECR considers the role session expired: check this machine's clock")]
        }
        "UnknownOperationException" | "UnsupportedCommandException" | "InvalidAction" => {
            vec![Cause::new("the endpoint ecr is not an Amazon ECR API", Fix::Endpoints(&["ecr"]))]
        }
        code => of_either(code, account),
    }
}
