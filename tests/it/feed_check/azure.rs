//! Azure: Entra, and the token endpoints of a container registry.

use crate::feed_check::cases::{CASE, Case, Fix, INTERNET, UNHEARD_OF, drive};
use crate::feed_check::clouds::AZURE;
use crate::feed_check::gate::{Act, OTHER_JWKS, rule, second};

const ENTRA: &str = "entra:token";
const EXCHANGE: &str = "acr:exchange";
const NARROW: &str = "acr:token";

const OTHER_SUBJECT: &str = "[[azure.applications]]\nclient_id = '0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e'\n\
                             subject = 'space:default:feed:other'";
const OTHER_CASE: &str = "[[azure.applications]]\nclient_id = '0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e'\n\
                          subject = 'Space:default:feed:a'";
const OTHER_AUDIENCE: &str = "[[azure.applications]]\nclient_id = '0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e'\n\
                              subject = '{sub}'\naudience = 'api://other'";
const TRUST: &str =
    "[[azure.applications]]\nclient_id = '0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e'\nsubject = '{sub}'";
const TENANT: &str = "[azure]\ntenant = '8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c'";

const AUTHORITY_URL: &str = "{url}/azure/entra";
const REGISTRY_URL: &str = "{url}/azure/acr";
/// A path to the same registry with a rule at its second step.
const AROUND: &[&str] = &["--endpoint=registry=http://{other-host}/azure/acr"];
/// The role that the script assigns.
const ACR_PULL: &str = "the role AcrPull";

/// Returns a case of an Entra error number.
const fn entra(name: &'static str, status: u16, code: &'static str, cause: &'static str) -> Case {
    Case { name, cloud: &AZURE, step: ENTRA, status: Some(status), code: Some(code), cause, ..CASE }
}

/// Returns a case of a number that the sandbox returns only as a fault.
const fn shown(
    name: &'static str,
    fault: &'static str,
    status: u16,
    code: &'static str,
    cause: &'static str,
) -> Case {
    Case { fault, fix: Fix::Ends(&[]), ..entra(name, status, code, cause) }
}

/// Returns a case of an error code of the registry at the exchange.
const fn acr(name: &'static str, status: u16, code: &'static str, cause: &'static str) -> Case {
    Case { step: EXCHANGE, ..entra(name, status, code, cause) }
}

/// The same, where a token is narrowed to a repository.
const fn narrow(name: &'static str, status: u16, code: &'static str, cause: &'static str) -> Case {
    Case { step: NARROW, check: &["--repository=app"], ..entra(name, status, code, cause) }
}

pub(crate) const AT_ENTRA: &[Case] = &[
    Case {
        fault: "fault = 'throttled'",
        fix: Fix::Wait,
        ..entra("azure-entra-throttled", 429, "AADSTS90055", "limits the rate")
    },
    Case {
        fault: "fault = 'unavailable'",
        fix: Fix::Wait,
        ..entra("azure-entra-unavailable", 503, "AADSTS90033", "often temporary")
    },
    Case {
        fix: INTERNET,
        ..shown(
            "azure-entra-unreachable-50166",
            "fault = 'issuer-unreachable'",
            400,
            "AADSTS50166",
            "could not fetch",
        )
    },
    Case {
        fault: "fault = 'propagating'",
        fix: Fix::Lifts("az ad app federated-credential create"),
        ..entra("azure-entra-propagating", 401, "AADSTS70021", "must name exactly the issuer")
    },
    Case {
        trust: TRUST,
        trusts: Some("https://other.example"),
        ..entra("azure-entra-other-issuer", 401, "AADSTS700211", "without a slash at its end")
    },
    Case {
        trust: OTHER_AUDIENCE,
        ..entra(
            "azure-entra-other-audience",
            401,
            "AADSTS700212",
            "exactly the audience api://AzureADTokenExchange",
        )
    },
    Case {
        trust: OTHER_SUBJECT,
        ..entra("azure-entra-other-subject", 401, "AADSTS700213", "exactly the subject space:default:feed:a")
    },
    Case {
        trust: OTHER_CASE,
        ..entra("azure-entra-other-case", 401, "AADSTS7002138", "upper and lower case")
    },
    Case { clock: Some("-2h"), ..entra("azure-entra-expired", 401, "AADSTS700024", "this machine's clock") },
    shown(
        "azure-entra-expired-500133",
        "fault = 'refused'\nstatus = 401\ncode = 'AADSTS500133'",
        401,
        "AADSTS500133",
        "this machine's clock",
    ),
    Case {
        rules: &[second("/.well-known/jwks", OTHER_JWKS)],
        fix: Fix::Wait,
        ..entra("azure-entra-unknown-key", 401, "AADSTS50013", "an earlier JWKS")
    },
    Case {
        fault: "fault = 'refused'\nstatus = 400\ncode = 'AADSTS50027'",
        fix: Fix::Hand("in the JWKS of {url}", "Entra finds the key in the JWKS"),
        ..entra("azure-entra-invalid-token", 400, "AADSTS50027", "the RSA key")
    },
    shown(
        "azure-entra-not-rs256",
        "fault = 'refused'\nstatus = 400\ncode = 'AADSTS5002730'",
        400,
        "AADSTS5002730",
        "RS256 only",
    ),
    Case {
        fix: INTERNET,
        ..shown(
            "azure-entra-unreachable-90061",
            "fault = 'refused'\nstatus = 400\ncode = 'AADSTS90061'",
            400,
            "AADSTS90061",
            "could not fetch",
        )
    },
    Case {
        rules: &[second("/.well-known/openid-configuration", Act::Answer("503 Service Unavailable", "", ""))],
        fix: INTERNET,
        ..entra("azure-entra-unreachable-501661", 400, "AADSTS501661", "could not fetch")
    },
    Case {
        rules: &[second("/.well-known/jwks", Act::Answer("200 OK", "", "<html>"))],
        fix: Fix::Hand("check that nothing in between changes it", "what changed the JWKS is taken away"),
        ..entra("azure-entra-jwks-unreadable", 400, "AADSTS900612", "could not read the JWKS")
    },
    Case {
        // The sandbox, whose tenants all know the same resources, responds like this with `resources = []`.
        feed: &["--tenant-id=11111111-2222-4333-8444-555555555555"],
        rules: &[rule(
            "/azure/entra/11111111-2222-4333-8444-555555555555/",
            Act::Answer("400 Bad Request", "Content-Type: application/json\r\n", NO_RESOURCE),
        )],
        fix: Fix::Run(&[("UUID", crate::feed_check::clouds::TENANT)]),
        ..entra("azure-entra-no-resource", 400, "AADSTS500011", "does not have the resource")
    },
    Case {
        feed: &["--client-id=11111111-2222-4333-8444-555555555555"],
        trust: TRUST,
        fix: Fix::Run(&[("UUID", crate::feed_check::clouds::CLIENT)]),
        ..entra("azure-entra-no-application", 400, "AADSTS700016", "no application or managed identity")
    },
    Case {
        feed: &["--tenant-id=11111111-2222-4333-8444-555555555555"],
        trust: TENANT,
        fix: Fix::Run(&[("UUID", crate::feed_check::clouds::TENANT)]),
        ..entra("azure-entra-no-tenant", 400, "AADSTS90002", "there is no tenant")
    },
    Case {
        feed: &["--token-lifetime=50m"],
        ..shown(
            "azure-entra-lives-too-long",
            "fault = 'refused'\nstatus = 400\ncode = 'AADSTS70023'",
            400,
            "AADSTS70023",
            "lower token_lifetime",
        )
    },
    Case {
        fault: "fault = 'refused'\nstatus = 400\ncode = 'AADSTS4242'",
        fix: Fix::Not(UNHEARD_OF),
        ..entra("azure-entra-new-code", 400, "AADSTS4242", "look up AADSTS4242")
    },
    Case {
        feed: &["--endpoint=authority={url}/faulty/azure/entra"],
        code: None,
        fix: Fix::Run(&[("URL", AUTHORITY_URL)]),
        ..shown(
            "azure-entra-malformed",
            "fault = 'malformed'",
            200,
            "",
            "not a response of the provider's API",
        )
    },
    Case {
        feed: &["--endpoint=authority={url}/faulty/azure/entra"],
        status: None,
        code: None,
        fix: Fix::Run(&[("URL", AUTHORITY_URL)]),
        ..shown("azure-entra-oversized", "fault = 'oversized'", 200, "", "this is not the provider's API")
    },
];

pub(crate) const AT_ACR: &[Case] = &[
    Case {
        fault: "fault = 'throttled'",
        fix: Fix::Wait,
        ..acr("azure-acr-throttled", 429, "TOOMANYREQUESTS", "limits the rate")
    },
    Case {
        fault: "fault = 'unavailable'",
        fix: Fix::Wait,
        ..acr("azure-acr-unavailable", 503, "UNAVAILABLE", "often temporary")
    },
    Case {
        fault: "fault = 'propagating'",
        fix: Fix::Lifts(ACR_PULL),
        ..acr("azure-acr-no-role", 401, "UNAUTHORIZED", "AcrPull")
    },
    Case {
        fault: "fault = 'refused'\nstatus = 403\ncode = 'DENIED'",
        fix: Fix::Lifts(ACR_PULL),
        ..acr("azure-acr-denied", 403, "DENIED", "AcrPull")
    },
    Case {
        feed: &["--endpoint=registry={url}/elsewhere"],
        rules: &[rule(
            "/elsewhere",
            Act::Answer("404 Not Found", "Content-Type: text/html\r\n", "<html>Not found"),
        )],
        code: None,
        fix: Fix::Run(&[("URL", REGISTRY_URL)]),
        ..acr("azure-acr-not-acr", 404, "", "is not an Azure container registry")
    },
    Case {
        fault: "fault = 'refused'\nstatus = 400\ncode = 'NEW'",
        fix: Fix::Not(UNHEARD_OF),
        ..acr("azure-acr-new-code", 400, "NEW", "look up NEW")
    },
    Case {
        // Expired in 1970.
        trust: "[azure]\nrefresh_token = 'e30.eyJleHAiOjF9.c2ln'",
        status: None,
        code: None,
        fix: Fix::Hand(
            "compare this machine's clock with the provider's",
            "the stand-in's time is set right",
        ),
        ..acr("azure-acr-arrived-expired", 0, "", "compare this machine's clock")
    },
    Case {
        feed: &["--endpoint=registry={url}/faulty/azure/acr"],
        fault: "fault = 'malformed'",
        code: None,
        fix: Fix::Run(&[("URL", REGISTRY_URL)]),
        ..acr("azure-acr-malformed", 200, "", "not a response of the provider's API")
    },
    Case {
        feed: &["--endpoint=registry={url}/faulty/azure/acr"],
        fault: "fault = 'oversized'",
        status: None,
        code: None,
        fix: Fix::Run(&[("URL", REGISTRY_URL)]),
        ..acr("azure-acr-oversized", 200, "", "this is not the provider's API")
    },
    Case {
        fault: "fault = 'throttled'",
        fix: Fix::Wait,
        ..narrow("azure-acr-token-throttled", 429, "TOOMANYREQUESTS", "limits the rate")
    },
    Case {
        fault: "fault = 'unavailable'",
        fix: Fix::Wait,
        ..narrow("azure-acr-token-unavailable", 503, "UNAVAILABLE", "often temporary")
    },
    Case {
        fault: "fault = 'propagating'",
        fix: Fix::Lifts(ACR_PULL),
        ..narrow("azure-acr-token-no-role", 401, "UNAUTHORIZED", "AcrPull")
    },
    Case {
        feed: AROUND,
        rules: &[rule("//127.0.0.2/azure/acr/oauth2/token", Act::Answer("200 OK", "", "<html>Welcome"))],
        code: None,
        fix: Fix::Run(&[("URL", REGISTRY_URL)]),
        ..narrow("azure-acr-token-malformed", 200, "", "not a response of the provider's API")
    },
    Case {
        feed: AROUND,
        rules: &[rule("//127.0.0.2/azure/acr/oauth2/token", Act::Long)],
        status: None,
        code: None,
        fix: Fix::Run(&[("URL", REGISTRY_URL)]),
        ..narrow("azure-acr-token-oversized", 200, "", "this is not the provider's API")
    },
];

/// In the sandbox's words.
const NO_RESOURCE: &str = r#"{"error":"invalid_resource","error_description":"AADSTS500011: The resource principal named https://management.azure.com was not found in the tenant named 11111111-2222-4333-8444-555555555555.","error_codes":[500011]}"#;

#[test]
fn every_failure_of_entra_is_explained_and_fixed() {
    drive(AT_ENTRA);
}

#[test]
fn every_failure_of_acr_is_explained_and_fixed() {
    drive(AT_ACR);
}
