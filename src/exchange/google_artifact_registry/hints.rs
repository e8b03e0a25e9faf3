//! What an error code of Google's most often means, said in terms of what was presented.
//!
//! Codes decide. Only for `invalid_grant`, under which Google puts everything that is wrong with a
//! token, does the message choose between hints; nothing else ever follows from it.

use super::{iam_credentials, sts};
use crate::exchange::upstream::Upstream;
use crate::feed::google::{GoogleArtifactRegistry, MAX_SUBJECT};
use crate::oidc::token::Presented;

/// Codes after which the same request may well succeed a moment later, whatever their status.
pub(super) fn is_transient(code: &str) -> bool {
    matches!(
        code,
        "temporarily_unavailable"
            | "server_error"
            | "UNAVAILABLE"
            | "RESOURCE_EXHAUSTED"
            | "INTERNAL"
            | "DEADLINE_EXCEEDED"
            | "ABORTED"
    )
}

/// What to look at first.
pub(super) fn hint(
    upstream: &Upstream,
    reason: Option<&str>,
    presented: &Presented,
    google: &GoogleArtifactRegistry,
) -> Option<String> {
    let code = upstream.code.as_deref()?;
    if upstream.step == sts::STEP.name {
        return of_sts(code, upstream.message.as_deref().unwrap_or_default(), presented, google);
    }
    if upstream.step == iam_credentials::STEP.name {
        return of_iam_credentials(code, reason, presented, google);
    }
    None
}

fn of_sts(
    code: &str,
    message: &str,
    presented: &Presented,
    google: &GoogleArtifactRegistry,
) -> Option<String> {
    let Presented { sub, aud, .. } = presented;
    let provider = &google.workload_identity_provider;
    Some(match code {
        "invalid_grant" => of_token(message, presented, google),
        "invalid_target" => format!(
            "the provider {provider} does not exist, or it or its pool is disabled or deleted; \
             a new one takes a few minutes to be known everywhere"
        ),
        "unauthorized_client" => format!(
            "the attribute condition or mapping of {provider} must accept the subject {sub}, letter by letter, and map \
             google.subject to assertion.sub; a change takes a few minutes"
        ),
        "invalid_request" => format!(
            "Google could not use the request: google.subject may have at most {MAX_SUBJECT} bytes (the subject {sub} \
             has {}), and the provider is named by its project's number",
            sub.len()
        ),
        "unsupported_grant_type" | "NOT_FOUND" | "UNIMPLEMENTED" => {
            format!(
                "the endpoint sts is not Google's Security Token Service, which expects the audience {aud}"
            )
        }
        "PERMISSION_DENIED" => format!(
            "the Security Token Service API must be enabled in the project of {provider}, and no VPC service perimeter \
             or organisation policy may stand in the way"
        ),
        _ => return None,
    })
}

/// `invalid_grant` stands for an issuer that Google could not reach and for every fault of the token.
fn of_token(message: &str, presented: &Presented, google: &GoogleArtifactRegistry) -> String {
    let Presented { iss, aud, kid, alg, .. } = presented;
    let provider = &google.workload_identity_provider;
    let documents = format!(
        "Google must be able to fetch {iss}/.well-known/openid-configuration and find key {kid} in its JWKS, over https \
         with a certificate that the public trusts; a JWKS uploaded to the provider is not fetched anew and must hold \
         that key"
    );
    let audience = format!(
        "the provider {provider} must allow the audience {aud}: with no audiences of its own it accepts \
         {} only, with or without https: before it",
        provider.full_name()
    );
    let message = message.to_ascii_lowercase();
    if message.contains("audience") {
        audience
    } else if message.contains("expired") || message.contains("stale") || message.contains("issued at") {
        "Google holds the token for expired or not yet valid: check this machine's clock".to_owned()
    } else if message.contains("connecting") || message.contains("signature") || message.contains("key") {
        documents
    } else {
        format!(
            "the provider {provider} must have exactly the issuer {iss}, and the token must be signed with {alg} and in \
             its time (check this machine's clock); {audience}; {documents}"
        )
    }
}

fn of_iam_credentials(
    code: &str,
    reason: Option<&str>,
    presented: &Presented,
    google: &GoogleArtifactRegistry,
) -> Option<String> {
    let account = google.service_account.as_ref()?;
    if reason == Some("SERVICE_DISABLED") {
        return Some(format!(
            "enable the IAM Service Account Credentials API, iamcredentials.googleapis.com, in the project of {account}"
        ));
    }
    Some(match code {
        "PERMISSION_DENIED" | "NOT_FOUND" => format!(
            "principal://iam.googleapis.com/{}/subject/{} needs the permission iam.serviceAccounts.getAccessToken on \
             {account}: grant it roles/iam.workloadIdentityUser there; Google answers the same when the account does \
             not exist, and a grant takes a few minutes",
            google.workload_identity_provider.pool(),
            presented.sub,
        ),
        "INVALID_ARGUMENT" => format!(
            "check lifetime, which is {}: above 3600s the organisation policy \
             constraints/iam.allowServiceAccountCredentialLifetimeExtension must name {account}",
            google.lifetime
        ),
        "UNAUTHENTICATED" => {
            "Google does not know the token that its Security Token Service issued: the endpoints sts \
                              and iamcredentials must belong together"
                .to_owned()
        }
        "FAILED_PRECONDITION" => format!("the service account {account} may be disabled"),
        _ => return None,
    })
}
