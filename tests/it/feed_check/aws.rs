//! AWS: STS, Amazon ECR, and ECR Public.

use crate::feed_check::cases::{CASE, Case, Fix, INTERNET, UNHEARD_OF, drive};
use crate::feed_check::clouds::AWS_PUBLIC;
use crate::feed_check::gate::{Act, OTHER_JWKS, second};

const STS: &str = "sts:AssumeRoleWithWebIdentity";
const ECR: &str = "ecr:GetAuthorizationToken";
const PUBLIC: &str = "ecr-public:GetAuthorizationToken";

/// One role, which trusts the feed.
const TRUST: &str = "[[aws.roles]]\narn = 'arn:aws:iam::123456789012:role/pull'\naudiences = ['sts.amazonaws.com']\n\
                     subjects = ['{sub}']";
const OTHER_SUBJECT: &str = "[[aws.roles]]\narn = 'arn:aws:iam::123456789012:role/pull'\n\
                             audiences = ['sts.amazonaws.com']\nsubjects = ['space:default:feed:other']";
const OTHER_AUDIENCE: &str = "[[aws.roles]]\narn = 'arn:aws:iam::123456789012:role/pull'\naudiences = ['other']\n\
                              subjects = ['{sub}']";
const STS_URL: &str = "{url}/aws/sts";
const ECR_URL: &str = "{url}/aws/ecr";

/// Returns a case of an STS error code.
const fn sts(name: &'static str, status: u16, code: &'static str, cause: &'static str) -> Case {
    Case { name, step: STS, status: Some(status), code: Some(code), cause, ..CASE }
}

/// Returns a case of an ECR error code.
const fn ecr(name: &'static str, status: u16, code: &'static str, cause: &'static str) -> Case {
    Case { step: ECR, ..sts(name, status, code, cause) }
}

/// Returns a case of an ECR Public error code.
const fn public(name: &'static str, status: u16, code: &'static str, cause: &'static str) -> Case {
    Case { cloud: &AWS_PUBLIC, step: PUBLIC, ..sts(name, status, code, cause) }
}

pub(crate) const AT_STS: &[Case] = &[
    Case {
        fault: "fault = 'throttled'",
        fix: Fix::Wait,
        ..sts("aws-sts-throttled", 400, "Throttling", "limits the rate")
    },
    Case {
        fault: "fault = 'unavailable'",
        fix: Fix::Wait,
        ..sts("aws-sts-unavailable", 503, "ServiceUnavailable", "often temporary")
    },
    Case {
        fault: "fault = 'propagating'",
        fix: Fix::Lifts("aws iam create-role"),
        ..sts("aws-sts-propagating", 403, "AccessDenied", "the trust policy of")
    },
    Case {
        fault: "fault = 'issuer-unreachable'",
        fix: INTERNET,
        ..sts("aws-sts-issuer-unreachable", 400, "IDPCommunicationError", "could not fetch")
    },
    // The cloud's view differs from this machine's: the cloud's requests for the documents are the second
    // ones.
    Case {
        rules: &[second("/.well-known/openid-configuration", Act::Answer("503 Service Unavailable", "", ""))],
        fix: INTERNET,
        ..sts("aws-sts-discovery-unreachable", 400, "IDPCommunicationError", "could not fetch")
    },
    Case {
        rules: &[second("/.well-known/jwks", Act::Answer("200 OK", "", "<html>"))],
        fix: INTERNET,
        ..sts("aws-sts-jwks-unreadable", 400, "InvalidIdentityToken", "must be able to fetch")
    },
    Case {
        rules: &[second("/.well-known/jwks", OTHER_JWKS)],
        fix: INTERNET,
        ..sts("aws-sts-unknown-key", 400, "InvalidIdentityToken", "must be able to fetch")
    },
    Case {
        trust: OTHER_SUBJECT,
        ..sts("aws-sts-other-subject", 403, "AccessDenied", ":sub = space:default:feed:a")
    },
    Case {
        feed: &["--role-arn=arn:aws:iam::123456789012:role/absent"],
        trust: OTHER_SUBJECT,
        ..sts("aws-sts-role-absent", 403, "AccessDenied", "the trust policy of")
    },
    Case {
        trust: OTHER_AUDIENCE,
        ..sts("aws-sts-other-audience", 400, "InvalidIdentityToken", "the client id sts.amazonaws.com")
    },
    Case {
        trust: TRUST,
        trusts: Some("https://other.example"),
        ..sts("aws-sts-other-issuer", 400, "InvalidIdentityToken", "needs an IAM OIDC provider")
    },
    Case {
        clock: Some("-2h"),
        ..sts("aws-sts-expired", 400, "ExpiredTokenException", "this machine's clock")
    },
    Case {
        feed: &["--session-duration=2h"],
        trust: TRUST,
        ..sts("aws-sts-session-too-long", 400, "ValidationError", "session_duration, which is 7200 s")
    },
    Case {
        fault: "fault = 'refused'\nstatus = 403\ncode = 'IDPRejectedClaim'",
        fix: Fix::Lifts("aws iam create-role"),
        ..sts("aws-sts-claim-refused", 403, "IDPRejectedClaim", "refused a claim")
    },
    Case {
        fault: "fault = 'refused'\nstatus = 400\ncode = 'MalformedPolicyDocument'",
        check: &["--repository=app/one"],
        fix: Fix::Not("a fault of carnet's own, which is to be reported"),
        ..sts("aws-sts-policy-malformed", 400, "MalformedPolicyDocument", "session policy")
    },
    Case {
        fault: "fault = 'refused'\nstatus = 400\ncode = 'PackedPolicyTooLarge'",
        check: &["--repository=app/one", "--repository=app/two"],
        fix: Fix::Not("which repositories to leave off is the caller's choice"),
        ..sts("aws-sts-policy-too-large", 400, "PackedPolicyTooLarge", "fewer repositories")
    },
    Case {
        feed: &["--endpoint=sts={url}/faulty/aws/sts"],
        fault: "fault = 'refused'\nstatus = 403\ncode = 'RegionDisabledException'",
        fix: Fix::Run(&[("https://sts.REGION.amazonaws.com", STS_URL)]),
        ..sts("aws-sts-region-disabled", 403, "RegionDisabledException", "activate STS")
    },
    Case {
        feed: &["--endpoint=sts={url}/faulty/aws/sts"],
        fault: "fault = 'refused'\nstatus = 400\ncode = 'InvalidAction'",
        fix: Fix::Run(&[("URL", STS_URL)]),
        ..sts("aws-sts-not-sts", 400, "InvalidAction", "is not an AWS STS")
    },
    Case {
        fault: "fault = 'refused'\nstatus = 400\ncode = 'NewException'",
        fix: Fix::Not(UNHEARD_OF),
        ..sts("aws-sts-new-code", 400, "NewException", "look up NewException")
    },
    Case {
        feed: &["--endpoint=sts={url}/faulty/aws/sts"],
        fault: "fault = 'malformed'",
        code: None,
        fix: Fix::Run(&[("URL", STS_URL)]),
        ..sts("aws-sts-malformed", 200, "", "not a response of the provider's API")
    },
    Case {
        feed: &["--endpoint=sts={url}/faulty/aws/sts"],
        fault: "fault = 'oversized'",
        status: None,
        code: None,
        fix: Fix::Run(&[("URL", STS_URL)]),
        ..sts("aws-sts-oversized", 200, "", "this is not the provider's API")
    },
];

pub(crate) const AT_ECR: &[Case] = &[
    Case {
        fault: "fault = 'throttled'",
        fix: Fix::Wait,
        ..ecr("aws-ecr-throttled", 400, "ThrottlingException", "limits the rate")
    },
    Case {
        fault: "fault = 'unavailable'",
        fix: Fix::Wait,
        ..ecr("aws-ecr-unavailable", 500, "ServerException", "often temporary")
    },
    Case {
        trust: TRUST,
        fault: "fault = 'propagating'",
        fix: Fix::Lifts("the role may ecr:GetAuthorizationToken on [\"*\"]"),
        ..ecr(
            "aws-ecr-no-permission",
            400,
            "AccessDeniedException",
            "ecr:GetAuthorizationToken on resource *",
        )
    },
    Case {
        // Another sandbox, which has issued no session.
        feed: &["--endpoint=ecr={url}/faulty/aws/ecr"],
        fix: Fix::Run(&[("sts=URL", "sts={url}/aws/sts"), ("ecr=URL", "ecr={url}/aws/ecr")]),
        ..ecr("aws-ecr-other-session", 400, "UnrecognizedClientException", "must belong together")
    },
    Case {
        trust: "[aws]\nregion = 'eu-central-1'",
        fix: Fix::Hand("in the same region", "the stand-in is put into the region that was signed for"),
        ..ecr("aws-ecr-other-region", 400, "InvalidSignatureException", "refused the request's signature")
    },
    Case {
        fault: "fault = 'refused'\nstatus = 400\ncode = 'ExpiredTokenException'",
        fix: Fix::Ends(&[]),
        ..ecr("aws-ecr-session-expired", 400, "ExpiredTokenException", "this machine's clock")
    },
    Case {
        feed: &["--endpoint=ecr={url}/faulty/aws/ecr"],
        fault: "fault = 'refused'\nstatus = 400\ncode = 'UnknownOperationException'",
        fix: Fix::Run(&[("URL", ECR_URL)]),
        ..ecr("aws-ecr-not-ecr", 400, "UnknownOperationException", "is not an Amazon ECR API")
    },
    Case {
        fault: "fault = 'refused'\nstatus = 400\ncode = 'NewException'",
        fix: Fix::Not(UNHEARD_OF),
        ..ecr("aws-ecr-new-code", 400, "NewException", "look up NewException")
    },
    Case {
        trust: "[aws]\ncredential_lifetime = 0",
        status: None,
        code: None,
        fix: Fix::Hand(
            "compare this machine's clock with the provider's",
            "the stand-in's time is set right",
        ),
        ..ecr("aws-ecr-arrived-expired", 0, "", "compare this machine's clock")
    },
    Case {
        feed: &["--endpoint=ecr={url}/faulty/aws/ecr"],
        fault: "fault = 'malformed'",
        code: None,
        fix: Fix::Run(&[("URL", ECR_URL)]),
        ..ecr("aws-ecr-malformed", 200, "", "not a response of the provider's API")
    },
    Case {
        feed: &["--endpoint=ecr={url}/faulty/aws/ecr"],
        fault: "fault = 'oversized'",
        status: None,
        code: None,
        fix: Fix::Run(&[("URL", ECR_URL)]),
        ..ecr("aws-ecr-oversized", 200, "", "this is not the provider's API")
    },
];

pub(crate) const AT_ECR_PUBLIC: &[Case] = &[
    Case {
        fault: "fault = 'throttled'",
        fix: Fix::Wait,
        ..public("aws-ecr-public-throttled", 400, "ThrottlingException", "limits the rate")
    },
    Case {
        fault: "fault = 'unavailable'",
        fix: Fix::Wait,
        ..public("aws-ecr-public-unavailable", 500, "ServerException", "often temporary")
    },
    Case {
        trust: TRUST,
        fault: "fault = 'propagating'",
        fix: Fix::Lifts("the role may sts:GetServiceBearerToken on [\"*\"]"),
        ..public("aws-ecr-public-no-permission", 400, "AccessDeniedException", "sts:GetServiceBearerToken")
    },
    Case {
        feed: &["--endpoint=ecr={url}/faulty/aws/ecr"],
        fault: "fault = 'malformed'",
        code: None,
        fix: Fix::Run(&[("URL", ECR_URL)]),
        ..public("aws-ecr-public-malformed", 200, "", "not a response of the provider's API")
    },
    Case {
        cloud: &AWS_PUBLIC,
        trust: OTHER_SUBJECT,
        ..sts("aws-ecr-public-other-subject", 403, "AccessDenied", ":sub = space:default:feed:a")
    },
];

#[test]
fn every_failure_of_sts_is_explained_and_fixed() {
    drive(AT_STS);
}

#[test]
fn every_failure_of_ecr_is_explained_and_fixed() {
    drive(AT_ECR);
}

#[test]
fn every_failure_of_ecr_public_is_explained_and_fixed() {
    drive(AT_ECR_PUBLIC);
}
