use serde_json::json;

use crate::{AWS, AZURE, BASIC, Cloud, GOOGLE, World, names, registry};

/// A step, the fault that it shows, and the status, the code and the first cause that are to be seen of it.
type Case = (&'static str, &'static str, Option<u16>, Option<&'static str>, &'static str);

const STS: &str = "sts:AssumeRoleWithWebIdentity";
const ECR: &str = "ecr:GetAuthorizationToken";
const ENTRA: &str = "entra:token";
const ACR: &str = "acr:exchange";
const TOKEN: &str = "sts:token";
const ACCOUNT: &str = "iamcredentials:generateAccessToken";

/// The sandbox shows one fault after the other, each once; after the last one the chain holds.
fn drive(cloud: &'static Cloud, cases: &[Case]) {
    let mut faults = String::new();
    for (step, fault, status, code, _) in cases {
        let told = match (*fault, status, code) {
            ("refused", Some(status), Some(code)) => format!("status = {status}\ncode = \"{code}\"\n"),
            _ => String::new(),
        };
        faults += &format!("[[faults]]\nstep = \"{step}\"\nfault = \"{fault}\"\ntimes = 1\n{told}");
    }
    let world = World::new(cloud, &faults, &registry::start(cloud.login, BASIC), &[]);
    for (step, fault, status, code, cause) in cases {
        let failed = world.failure(&[]);
        let what = format!("{step} {fault}: {failed:#}");
        assert_eq!(failed["step"], json!(step), "{what}");
        assert_eq!(
            (&failed["upstream"]["status"], &failed["upstream"]["code"]),
            (&json!(status), &json!(code)),
            "{what}"
        );
        assert!(failed["causes"][0]["cause"].as_str().unwrap().contains(cause), "{what}");
        assert!(failed["causes"][0]["mend"].is_string(), "{what}");
        assert_eq!(failed["presented"]["sub"], "space:default:feed:a", "{what}");
        for part in ["iss", "aud", "kid", "alg"] {
            assert!(failed["presented"][part].is_string(), "{what}");
        }
    }
    let answer = world.check(&["--image", "app:v1"]);
    assert_eq!(answer["ok"], true, "{answer:#}");
    let names = names(&answer);
    assert_eq!((names.first(), names.last()), (Some(&"discovery"), Some(&"pull")));
}

#[test]
fn every_fault_at_aws_is_told_with_its_step_code_and_first_cause() {
    drive(
        &AWS,
        &[
            (STS, "throttled", Some(400), Some("Throttling"), "limits how often"),
            (STS, "unavailable", Some(503), Some("ServiceUnavailable"), "often passes"),
            (STS, "issuer-unreachable", Some(400), Some("IDPCommunicationError"), "could not fetch"),
            (STS, "propagating", Some(403), Some("AccessDenied"), "the trust policy of"),
            (STS, "refused", Some(400), Some("InvalidIdentityToken"), "needs an IAM OIDC provider"),
            (STS, "refused", Some(400), Some("ExpiredTokenException"), "this machine's clock"),
            (STS, "refused", Some(403), Some("IDPRejectedClaim"), "refused a claim"),
            (STS, "refused", Some(400), Some("MalformedPolicyDocument"), "session policy"),
            (STS, "refused", Some(400), Some("PackedPolicyTooLarge"), "fewer repositories"),
            (STS, "refused", Some(403), Some("RegionDisabledException"), "activate STS"),
            (STS, "refused", Some(400), Some("NewException"), "look up NewException"),
            (STS, "malformed", Some(200), None, "not what the provider's API answers"),
            (STS, "oversized", None, None, "not the provider's API"),
            (ECR, "throttled", Some(400), Some("ThrottlingException"), "limits how often"),
            (ECR, "unavailable", Some(500), Some("ServerException"), "often passes"),
            (ECR, "propagating", Some(400), Some("AccessDeniedException"), "ecr:GetAuthorizationToken"),
            (ECR, "malformed", Some(200), None, "not what the provider's API answers"),
            (ECR, "oversized", None, None, "not the provider's API"),
        ],
    );
}

#[test]
fn every_fault_at_azure_is_told_with_its_step_number_and_first_cause() {
    let told = |code, cause| (ENTRA, "refused", Some(401), Some(code), cause);
    drive(
        &AZURE,
        &[
            (ENTRA, "throttled", Some(429), Some("AADSTS90055"), "limits how often"),
            (ENTRA, "unavailable", Some(503), Some("AADSTS90033"), "often passes"),
            (ENTRA, "issuer-unreachable", Some(400), Some("AADSTS50166"), "could not fetch"),
            (ENTRA, "propagating", Some(401), Some("AADSTS70021"), "exactly the issuer"),
            told("AADSTS700211", "without a slash at its end"),
            told("AADSTS700212", "exactly the audience"),
            told("AADSTS700213", "exactly the subject space:default:feed:a"),
            told("AADSTS7002138", "upper and lower case"),
            told("AADSTS700024", "this machine's clock"),
            told("AADSTS500133", "this machine's clock"),
            told("AADSTS50013", "the RSA key"),
            told("AADSTS50027", "the RSA key"),
            told("AADSTS90061", "could not fetch"),
            told("AADSTS501661", "could not fetch"),
            told("AADSTS900612", "could not read the JWKS"),
            told("AADSTS700016", "no application or managed identity"),
            told("AADSTS70023", "lower token_lifetime"),
            told("AADSTS4242", "look up AADSTS4242"),
            (ENTRA, "malformed", Some(200), None, "not what the provider's API answers"),
            (ACR, "throttled", Some(429), Some("TOOMANYREQUESTS"), "limits how often"),
            (ACR, "unavailable", Some(503), Some("UNAVAILABLE"), "often passes"),
            (ACR, "propagating", Some(401), Some("UNAUTHORIZED"), "AcrPull"),
            (ACR, "malformed", Some(200), None, "not what the provider's API answers"),
        ],
    );
}

#[test]
fn every_fault_at_google_is_told_with_its_step_code_and_first_cause() {
    drive(
        &GOOGLE,
        &[
            (TOKEN, "throttled", Some(429), Some("RESOURCE_EXHAUSTED"), "limits how often"),
            (TOKEN, "unavailable", Some(503), Some("UNAVAILABLE"), "often passes"),
            (TOKEN, "issuer-unreachable", Some(400), Some("invalid_grant"), "must be able to fetch"),
            (TOKEN, "propagating", Some(400), Some("invalid_target"), "disabled or deleted"),
            (TOKEN, "refused", Some(400), Some("unauthorized_client"), "must accept the subject"),
            (TOKEN, "refused", Some(400), Some("new_code"), "look up new_code"),
            (TOKEN, "malformed", Some(200), None, "not what the provider's API answers"),
            (ACCOUNT, "throttled", Some(429), Some("RESOURCE_EXHAUSTED"), "limits how often"),
            (ACCOUNT, "unavailable", Some(503), Some("UNAVAILABLE"), "often passes"),
            (
                ACCOUNT,
                "propagating",
                Some(403),
                Some("PERMISSION_DENIED"),
                "iam.serviceAccounts.getAccessToken",
            ),
            (ACCOUNT, "refused", Some(400), Some("FAILED_PRECONDITION"), "may be disabled"),
            (ACCOUNT, "malformed", Some(200), None, "not what the provider's API answers"),
        ],
    );
}

#[test]
fn a_registry_that_refuses_or_sends_the_password_elsewhere_is_told() {
    let wrong = registry::start("d3Jvbmc6cGFzc3dvcmQ=", BASIC);
    let failed = World::new(&AWS, "", &wrong, &[]).failure(&[]);
    assert_eq!((&failed["step"], &failed["upstream"]["code"]), (&json!("registry"), &json!("UNAUTHORIZED")));
    assert_eq!(failed["upstream"]["message"], "authentication required");
    assert!(
        failed["causes"][0]["cause"].as_str().unwrap().contains("does not know the credential"),
        "{failed:#}"
    );

    let elsewhere = registry::start("x", "Bearer realm=\"https://evil.example/token\",service=\"r\"");
    let failed = World::new(&AWS, "", &elsewhere, &[]).failure(&[]);
    assert_eq!(failed["step"], "registry");
    assert!(failed["detail"].as_str().unwrap().contains("https://evil.example/token"), "{failed:#}");

    let world = World::new(&AWS, "", &registry::start(AWS.login, BASIC), &[]);
    let failed = world.failure(&["--image", "app:v2"]);
    assert_eq!((&failed["step"], &failed["upstream"]["code"]), (&json!("pull"), &json!("MANIFEST_UNKNOWN")));
    assert!(failed["causes"][0]["cause"].as_str().unwrap().contains("no such tag"), "{failed:#}");
}
