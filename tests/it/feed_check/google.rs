//! Google: the Security Token Service, and the credentials of service accounts.

use crate::feed_check::cases::{CASE, Case, Fix, INTERNET, UNHEARD_OF, drive};
use crate::feed_check::clouds::GOOGLE;
use crate::feed_check::gate::{Act, OTHER_JWKS, second};

const STS: &str = "sts:token";
const ACCOUNT: &str = "iamcredentials:generateAccessToken";

/// The provider, which trusts the feed.
const TRUST: &str = "[[google.providers]]\nname = 'projects/1/locations/global/workloadIdentityPools/pool/providers/carnet'\n\
                     subjects = ['{sub}']";
const OTHER_SUBJECT: &str = "[[google.providers]]\n\
     name = 'projects/1/locations/global/workloadIdentityPools/pool/providers/carnet'\n\
     subjects = ['Space:default:feed:a']";
const OTHER_AUDIENCE: &str = "[[google.providers]]\n\
     name = 'projects/1/locations/global/workloadIdentityPools/pool/providers/carnet'\n\
     audiences = ['other']\nsubjects = ['{sub}']";
const OTHER_PROVIDER: &str = "[[google.providers]]\n\
     name = 'projects/1/locations/global/workloadIdentityPools/pool/providers/other'\n\
     subjects = ['{sub}']";
const OTHER_FRIEND: &str = "[[google.service_accounts]]\nemail = 'pull@my-project.iam.gserviceaccount.com'\n\
                            subjects = ['space:default:feed:other']";

const STS_URL: &str = "{url}/google/sts";
const ACCOUNT_URL: &str = "{url}/google/iamcredentials";

/// Returns a case of an error code of the Security Token Service.
const fn sts(name: &'static str, status: u16, code: &'static str, cause: &'static str) -> Case {
    Case { name, cloud: &GOOGLE, step: STS, status: Some(status), code: Some(code), cause, ..CASE }
}

/// Returns a case of an error code of the Service Account Credentials API.
const fn account(name: &'static str, status: u16, code: &'static str, cause: &'static str) -> Case {
    Case { step: ACCOUNT, ..sts(name, status, code, cause) }
}

pub(crate) const AT_STS: &[Case] = &[
    Case {
        fault: "fault = 'throttled'",
        fix: Fix::Wait,
        ..sts("google-sts-throttled", 429, "RESOURCE_EXHAUSTED", "limits the rate")
    },
    Case {
        fault: "fault = 'unavailable'",
        fix: Fix::Wait,
        ..sts("google-sts-unavailable", 503, "UNAVAILABLE", "often temporary")
    },
    Case {
        fault: "fault = 'issuer-unreachable'",
        fix: INTERNET,
        ..sts("google-sts-issuer-unreachable", 400, "invalid_grant", "must be able to fetch")
    },
    Case {
        rules: &[second("/.well-known/openid-configuration", Act::Answer("503 Service Unavailable", "", ""))],
        fix: INTERNET,
        ..sts("google-sts-discovery-unreachable", 400, "invalid_grant", "must be able to fetch")
    },
    Case {
        rules: &[second("/.well-known/jwks", Act::Answer("200 OK", "", "<html>"))],
        fix: INTERNET,
        ..sts("google-sts-jwks-unreadable", 400, "invalid_grant", "must be able to fetch")
    },
    Case {
        rules: &[second("/.well-known/jwks", OTHER_JWKS)],
        fix: INTERNET,
        ..sts("google-sts-unknown-key", 400, "invalid_grant", "must be able to fetch")
    },
    Case {
        fault: "fault = 'propagating'",
        fix: Fix::Lifts("gcloud iam workload-identity-pools providers create-oidc carnet"),
        ..sts("google-sts-propagating", 400, "invalid_target", "disabled or deleted")
    },
    Case {
        trust: OTHER_PROVIDER,
        ..sts("google-sts-provider-absent", 400, "invalid_target", "does not exist")
    },
    Case {
        trust: TRUST,
        trusts: Some("https://keys.example"),
        ..sts("google-sts-other-issuer", 400, "invalid_grant", "must have exactly the issuer")
    },
    Case {
        trust: OTHER_AUDIENCE,
        ..sts(
            "google-sts-other-audience",
            400,
            "invalid_grant",
            "must allow the audience //iam.googleapis.com/",
        )
    },
    Case {
        trust: OTHER_SUBJECT,
        ..sts(
            "google-sts-other-subject",
            400,
            "unauthorized_client",
            "must accept exactly the subject space:default:feed:a",
        )
    },
    Case { clock: Some("-2h"), ..sts("google-sts-expired", 400, "invalid_grant", "this machine's clock") },
    Case {
        // carnet itself refuses such a subject before it sends a request: see mint-subject-too-long.
        feed: &["--subject-keys=space,feed"],
        fault: "fault = 'refused'\nstatus = 400\ncode = 'invalid_request'",
        fix: Fix::Ends(&[]),
        ..sts("google-sts-subject-too-long", 400, "invalid_request", "at most 127 bytes")
    },
    Case {
        fault: "fault = 'refused'\nstatus = 403\ncode = 'PERMISSION_DENIED'",
        fix: Fix::Lifts("gcloud services enable sts.googleapis.com"),
        ..sts("google-sts-api-off", 403, "PERMISSION_DENIED", "must be enabled")
    },
    Case {
        feed: &["--endpoint=sts={url}/faulty/google/sts"],
        fault: "fault = 'refused'\nstatus = 400\ncode = 'unsupported_grant_type'",
        fix: Fix::Run(&[("URL", STS_URL)]),
        ..sts("google-sts-not-sts", 400, "unsupported_grant_type", "is not Google's Security Token Service")
    },
    Case {
        fault: "fault = 'refused'\nstatus = 400\ncode = 'new_code'",
        fix: Fix::Not(UNHEARD_OF),
        ..sts("google-sts-new-code", 400, "new_code", "look up new_code")
    },
    Case {
        feed: &["--endpoint=sts={url}/faulty/google/sts"],
        fault: "fault = 'malformed'",
        code: None,
        fix: Fix::Run(&[("URL", STS_URL)]),
        ..sts("google-sts-malformed", 200, "", "not a response of the provider's API")
    },
    Case {
        feed: &["--endpoint=sts={url}/faulty/google/sts"],
        fault: "fault = 'oversized'",
        status: None,
        code: None,
        fix: Fix::Run(&[("URL", STS_URL)]),
        ..sts("google-sts-oversized", 200, "", "this is not the provider's API")
    },
];

pub(crate) const AT_ACCOUNT: &[Case] = &[
    Case {
        fault: "fault = 'throttled'",
        fix: Fix::Wait,
        ..account("google-account-throttled", 429, "RESOURCE_EXHAUSTED", "limits the rate")
    },
    Case {
        fault: "fault = 'unavailable'",
        fix: Fix::Wait,
        ..account("google-account-unavailable", 503, "UNAVAILABLE", "often temporary")
    },
    Case {
        fault: "fault = 'propagating'",
        fix: Fix::Lifts(
            "gcloud iam service-accounts add-iam-policy-binding pull@my-project.iam.gserviceaccount.com",
        ),
        ..account(
            "google-account-propagating",
            403,
            "PERMISSION_DENIED",
            "iam.serviceAccounts.getAccessToken",
        )
    },
    Case {
        trust: OTHER_FRIEND,
        ..account("google-account-other-subject", 403, "PERMISSION_DENIED", "roles/iam.workloadIdentityUser")
    },
    Case {
        feed: &["--service-account=absent@my-project.iam.gserviceaccount.com"],
        trust: OTHER_FRIEND,
        ..account("google-account-absent", 403, "PERMISSION_DENIED", "roles/iam.workloadIdentityUser")
    },
    Case {
        feed: &["--lifetime=2h"],
        trust: "[[google.service_accounts]]\nemail = 'pull@my-project.iam.gserviceaccount.com'",
        ..account("google-account-lifetime", 400, "INVALID_ARGUMENT", "check lifetime, which is 7200s")
    },
    Case {
        // Another sandbox, whose own Security Token Service has issued nothing.
        feed: &["--endpoint=iamcredentials={url}/faulty/google/iamcredentials"],
        fix: Fix::Run(&[
            ("sts=URL", "sts={url}/google/sts"),
            ("iamcredentials=URL", "iamcredentials={url}/google/iamcredentials"),
        ]),
        ..account("google-account-other-token", 401, "UNAUTHENTICATED", "must belong together")
    },
    Case {
        fault: "fault = 'refused'\nstatus = 400\ncode = 'FAILED_PRECONDITION'",
        fix: Fix::Lifts("gcloud iam service-accounts enable pull@my-project.iam.gserviceaccount.com"),
        ..account("google-account-disabled", 400, "FAILED_PRECONDITION", "may be disabled")
    },
    Case {
        fault: "fault = 'refused'\nstatus = 400\ncode = 'NEW_CODE'",
        fix: Fix::Not(UNHEARD_OF),
        ..account("google-account-new-code", 400, "NEW_CODE", "look up NEW_CODE")
    },
    Case {
        rules: &[crate::feed_check::gate::rule(
            "/google/iamcredentials",
            Act::Answer("403 Forbidden", "Content-Type: application/json\r\n", SERVICE_DISABLED),
        )],
        fix: Fix::Lifts("gcloud services enable iamcredentials.googleapis.com"),
        ..account(
            "google-account-api-off",
            403,
            "PERMISSION_DENIED",
            "enable the IAM Service Account Credentials API",
        )
    },
    Case {
        step: STS,
        trust: "[google]\ncredential_lifetime = 0",
        status: None,
        code: None,
        fix: Fix::Hand(
            "compare this machine's clock with the provider's",
            "the stand-in's time is set right",
        ),
        ..account("google-sts-arrived-expired", 0, "", "compare this machine's clock")
    },
    Case {
        feed: &["--endpoint=iamcredentials={url}/faulty/google/iamcredentials"],
        fault: "fault = 'malformed'",
        code: None,
        fix: Fix::Run(&[("URL", ACCOUNT_URL)]),
        ..account("google-account-malformed", 200, "", "not a response of the provider's API")
    },
    Case {
        feed: &["--endpoint=iamcredentials={url}/faulty/google/iamcredentials"],
        fault: "fault = 'oversized'",
        status: None,
        code: None,
        fix: Fix::Run(&[("URL", ACCOUNT_URL)]),
        ..account("google-account-oversized", 200, "", "this is not the provider's API")
    },
];

/// From Google's documentation of `ErrorInfo`.
const SERVICE_DISABLED: &str = r#"{"error":{"code":403,"message":"IAM Service Account Credentials API has not been used in project 1 before or it is disabled.","status":"PERMISSION_DENIED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"SERVICE_DISABLED","domain":"googleapis.com"}]}}"#;

#[test]
fn every_failure_of_googles_sts_is_explained_and_fixed() {
    drive(AT_STS);
}

#[test]
fn every_failure_of_a_service_account_is_explained_and_fixed() {
    drive(AT_ACCOUNT);
}
