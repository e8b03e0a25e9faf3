//! The likely causes of Google's error codes, in terms of the presented token.
//!
//! Google reports every fault of a token as `invalid_grant`; the message then decides the order of the
//! causes.

use super::{Cause, Fix, Retry};
use crate::feed::google::{GoogleArtifactRegistry, JwksSource, MAX_SUBJECT, WorkloadIdentityProvider};
use crate::oidc::token::Presented;
use crate::values::shell::{gcloud_list, quoted};

/// The parts of a refusal that decide its causes.
pub(crate) struct GoogleRefusal<'a> {
    /// The OAuth error code, or the name of a `google.rpc.Code`.
    pub(crate) code: &'a str,
    /// The message, including the details.
    pub(crate) message: &'a str,
    /// The reason in Google's `ErrorInfo`, which is more specific than the code.
    pub(crate) reason: Option<&'a str>,
}

/// Returns whether the same request may succeed a moment later, regardless of its status.
pub(crate) fn retry(code: &str, message: &str, presented: &Presented) -> Retry {
    let passes = matches!(
        code,
        "temporarily_unavailable"
            | "server_error"
            | "internal_failure"
            | "UNAVAILABLE"
            | "RESOURCE_EXHAUSTED"
            | "INTERNAL"
            | "DEADLINE_EXCEEDED"
            | "ABORTED"
            | "CANCELLED"
    );
    // Google sends this when it could not reach the issuer at that moment.
    if passes || (code == "invalid_grant" && said(message, presented).contains("connecting")) {
        Retry::Passing
    } else {
        Retry::Never
    }
}

/// Returns the message in lower case without the issuer's URL, which may contain any of the words searched
/// for.
fn said(message: &str, presented: &Presented) -> String {
    message.replace(&presented.iss, "").to_ascii_lowercase()
}

/// Returns the causes in the project's policies and state; changing the feed fixes none of them.
pub(super) fn of_organization(refused: &GoogleRefusal<'_>, project: &str) -> Option<Vec<Cause>> {
    let message = refused.message.to_ascii_lowercase();
    let is = |reason: &str| refused.reason == Some(reason);
    let (why, what) = if is("SECURITY_POLICY_VIOLATED")
        || message.contains("vpcservicecontrols")
        || message.contains("vpc_service_controls")
        || message.contains("prohibited by organization's policy")
    {
        (
            format!("a VPC Service Controls perimeter around {project} refuses requests from this machine"),
            "ask the perimeter's administrators to find the identifier in the message and to allow this \
             identity or this machine's address with an ingress rule or an access level",
        )
    } else if is("ORG_POLICY_VIOLATED") || message.contains("orgpolicy:") || message.contains("constraints/")
    {
        (
            format!(
                "an organization policy on {project} refuses the request: the message names the constraint"
            ),
            "ask the organization's administrators to allow it",
        )
    } else if is("BILLING_DISABLED") {
        (format!("billing is disabled for {project}"), "ask the project's owners to link a billing account")
    } else if is("CONSUMER_SUSPENDED") || is("CONSUMER_INVALID") {
        (
            format!("{project} is suspended or deleted"),
            "ask the project's owners to check it in the Google Cloud console",
        )
    } else {
        return None;
    };
    Some(vec![Cause::act(why, what)])
}

/// Returns the causes for a refusal by the Security Token Service.
pub(crate) fn of_sts(
    refused: &GoogleRefusal<'_>,
    presented: &Presented,
    google: &GoogleArtifactRegistry,
) -> Vec<Cause> {
    let Presented { sub, aud, .. } = presented;
    let provider = &google.workload_identity_provider;
    let project = format!("the project of {provider}");
    if let Some(causes) = of_organization(refused, &project) {
        return causes;
    }
    match refused.code {
        "invalid_grant" => of_token(refused.message, presented, google),
        "invalid_target" => vec![
            Cause::trust(format!(
                "the provider {provider} does not exist, or it or its pool is disabled or deleted"
            )),
            update(google, "the provider may be disabled", "--no-disabled"),
            Cause::early("a new one takes a few minutes to take effect"),
        ],
        "unauthorized_client" => vec![
            // The script of `feed setup` does not change a provider that trusts another issuer or subject.
            update(
                google,
                format!(
                    "the attribute condition or mapping of {provider} must accept exactly the subject {sub} \
                     and map google.subject to assertion.sub"
                ),
                &format!(
                    "--attribute-mapping=google.subject=assertion.sub --attribute-condition=\"assertion.sub == '{sub}'\""
                ),
            ),
            Cause::early("a change takes a few minutes to take effect"),
        ],
        "invalid_request" => vec![
            Cause::new(
                format!(
                    "Google could not use the request: google.subject may have at most {MAX_SUBJECT} bytes (the \
                     subject {sub} has {})",
                    sub.len()
                ),
                Fix::Feed("--subject-keys feed_id".to_owned()),
            ),
            Cause::new(
                "check that the provider's name has its project's number, not the project's id",
                Fix::Feed("--workload-identity-provider projects/NUMBER/…".to_owned()),
            ),
        ],
        "unsupported_grant_type" | "NOT_FOUND" | "UNIMPLEMENTED" => vec![Cause::new(
            format!(
                "the endpoint sts is not Google's Security Token Service, which expects the audience {aud}"
            ),
            Fix::Endpoints(&["sts"]),
        )],
        "PERMISSION_DENIED" | "access_denied" => vec![
            Cause::new(
                format!("the Security Token Service API must be enabled in the project of {provider}"),
                enable("sts.googleapis.com", provider.project_number()),
            ),
            Cause::act(
                "a VPC Service Controls perimeter or an organization policy may refuse the request",
                "ask the organization's administrators",
            ),
        ],
        _ => Vec::new(),
    }
}

/// Returns a cause whose fix changes the feed's provider. gcloud accepts the provider's full name.
fn update(google: &GoogleArtifactRegistry, why: impl Into<String>, flags: &str) -> Cause {
    let provider = &google.workload_identity_provider;
    let what = "change the provider with this, if no other feed depends on its present settings".to_owned();
    let command = format!("gcloud iam workload-identity-pools providers update-oidc {provider} {flags}");
    Cause::new(why, Fix::Change { what, command })
}

fn enable(api: &str, project: &str) -> Fix {
    let command = format!("gcloud services enable {api} --project={project}");
    Fix::Change { what: "enable it with this".to_owned(), command }
}

/// Returns the causes for `invalid_grant`, the code for every fault of the token and for an unreachable
/// issuer.
fn of_token(message: &str, presented: &Presented, google: &GoogleArtifactRegistry) -> Vec<Cause> {
    let Presented { iss, aud, kid, alg, .. } = presented;
    let provider = &google.workload_identity_provider;
    let documents = match google.jwks {
        JwksSource::Fetched => Cause::act(
            format!(
                "Google must be able to fetch {iss}/.well-known/openid-configuration and find key {kid} in \
                 its JWKS, over https with a publicly trusted certificate; if a JWKS was uploaded to the \
                 provider, Google does not fetch it, and the uploaded one must have that key"
            ),
            format!(
                "make {iss} reachable from the internet, or upload the JWKS again (carnet feed setup --jwks \
                 uploaded)"
            ),
        ),
        JwksSource::Uploaded => Cause::new(
            format!(
                "the JWKS that was uploaded to {provider} must have the key {kid}: Google does not fetch one \
                 from {iss}, and checks an uploaded one only when it receives a token"
            ),
            Fix::Upload { upload: upload_to(provider), kid: kid.clone() },
        ),
    };
    let why = format!(
        "the provider {provider} must allow the audience {aud}: without configured audiences it accepts only {}, with or \
         without https: before it",
        provider.full_name()
    );
    let audience = match gcloud_list(aud) {
        Some(list) => update(google, why, &format!("--allowed-audiences={}", quoted(&list))),
        None => Cause::act(why, "allow it in the Google Cloud console: gcloud has no separator left for it"),
    };
    let issuer = update(
        google,
        format!("the provider {provider} must have exactly the issuer {iss}"),
        &format!("--issuer-uri={}", quoted(iss)),
    );
    let message = said(message, presented);
    if message.contains("connecting") {
        // Google fetches the issuer of the provider, not the one in the token.
        vec![documents, issuer, Cause::early("this failure is often temporary")]
    } else if message.contains("audience") {
        vec![audience]
    } else if message.starts_with("the issuer") && message.contains("match") {
        vec![issuer]
    } else if message.contains("expired") || message.contains("stale") || message.contains("issued at") {
        vec![Cause::clock("Google considers the token expired or not yet valid: check this machine's clock")]
    } else if message.contains("signature") || message.contains("key") {
        vec![documents]
    } else {
        let others = vec![
            issuer,
            Cause::clock(format!(
                "the token must be signed with {alg} and be valid now (check this machine's clock)"
            )),
            audience,
        ];
        match google.jwks {
            JwksSource::Fetched => others.into_iter().chain([documents]).collect(),
            // A forgotten upload is the most likely cause.
            JwksSource::Uploaded => [documents].into_iter().chain(others).collect(),
        }
    }
}

/// Returns the command that uploads `FILE` to a provider. gcloud needs the project's id; the provider's name
/// has its number.
fn upload_to(provider: &WorkloadIdentityProvider) -> String {
    format!(
        "gcloud iam workload-identity-pools providers update-oidc {} --project=\"$(gcloud projects describe {} \
         --format='value(projectId)')\" --location=global --workload-identity-pool={} --jwk-json-path=FILE",
        provider.provider_id(),
        provider.project_number(),
        provider.pool_id()
    )
}

/// Returns the causes for a refusal of `generateAccessToken`.
pub(crate) fn of_iam_credentials(
    refused: &GoogleRefusal<'_>,
    presented: &Presented,
    google: &GoogleArtifactRegistry,
) -> Vec<Cause> {
    let Some(account) = google.service_account.as_ref() else { return Vec::new() };
    if let Some(causes) = of_organization(refused, &format!("the project of {account}")) {
        return causes;
    }
    if refused.reason == Some("SERVICE_DISABLED") {
        return vec![Cause::new(
            format!(
                "enable the IAM Service Account Credentials API, iamcredentials.googleapis.com, in the project of \
                 {account}"
            ),
            enable(
                "iamcredentials.googleapis.com",
                account.name_and_project().map_or("PROJECT", |(_, project)| project),
            ),
        )];
    }
    let absent = |why: String| Cause::new(why, Fix::Feed("--service-account EMAIL".to_owned()));
    match refused.code {
        "NOT_FOUND" => vec![absent(format!("there is no service account {account}, or it was deleted"))],
        "PERMISSION_DENIED" => vec![
            Cause::trust(format!(
                "principal://iam.googleapis.com/{}/subject/{} needs the permission iam.serviceAccounts.getAccessToken \
                 on {account}: grant it roles/iam.workloadIdentityUser there",
                google.workload_identity_provider.pool(),
                presented.sub,
            )),
            absent("the account may be missing: Google then gives the same response".to_owned()),
            Cause::early("a new role binding takes a few minutes to take effect"),
        ],
        "INVALID_ARGUMENT" | "OUT_OF_RANGE" => vec![Cause::new(
            format!(
                "check lifetime, which is {}: above 3600s the organization policy \
                 constraints/iam.allowServiceAccountCredentialLifetimeExtension must name {account}",
                google.lifetime
            ),
            Fix::Feed("--lifetime 1h".to_owned()),
        )],
        "UNAUTHENTICATED" => vec![Cause::new(
            "Google does not know the token that its Security Token Service issued: the endpoints sts and \
             iamcredentials must belong together",
            Fix::Endpoints(&["sts", "iamcredentials"]),
        )],
        "FAILED_PRECONDITION" => vec![Cause::new(
            format!("the service account {account} may be disabled"),
            Fix::Change {
                what: "enable it with this".to_owned(),
                command: format!("gcloud iam service-accounts enable {account}"),
            },
        )],
        _ => Vec::new(),
    }
}
