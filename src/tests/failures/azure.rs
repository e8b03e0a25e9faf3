use crate::feed::azure::ENDPOINT_NAMES;

use super::*;

const ENTRA: &str = "entra:token";
const EXCHANGE: &str = "acr:exchange";
const NARROW: &str = "acr:token";
const OTHER: &str = "11111111-2222-4333-8444-555555555555";

fn azure() -> Cloud {
    Cloud {
        settings: json!({
            "type": "azure-acr",
            "tenant_id": "8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c",
            "client_id": "0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e",
        }),
        registry: "images.azurecr.io",
        audience: "api://AzureADTokenExchange",
        alg: "RS256",
        trust: r#"
            [azure]
            tenant = "8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c"
            [[azure.applications]]
            client_id = "0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e"
            subject = "space:default:feed:a"
        "#,
        endpoint_names: ENDPOINT_NAMES,
        endpoints: |endpoints| {
            let azure = &endpoints.azure;
            let of = |name: &str| if name == "authority" { &azure.authority } else { &azure.registry };
            [of(ENDPOINT_NAMES[0]), of(ENDPOINT_NAMES[1])]
        },
    }
}

/// Adds a scope, and with it the step that a scope needs.
fn scoped(case: Case) -> Case {
    Case { scope: json!({ "repositories": ["app/one"] }), ..case }
}

#[tokio::test]
async fn every_failure_at_azure_names_its_step_and_number_and_has_a_hint() {
    let (past, week) = (at(0).as_second(), at(7 * 86_400).as_second());
    let reach = "must be public and respond quickly";
    let mut cases = vec![
        refused("bad issuer", ENTRA, 401, "AADSTS700211", "exactly the issuer http://localhost:1")
            .claim("iss", "http://localhost:1"),
        refused("audience", ENTRA, 401, "AADSTS700212", "exactly the audience api://other")
            .claim("aud", "api://other"),
        refused("subject", ENTRA, 401, "AADSTS700213", "exactly the subject space:default:feed:b")
            .claim("sub", "space:default:feed:b"),
        refused("case", ENTRA, 401, "AADSTS7002138", "different upper and lower case")
            .claim("sub", "Space:default:feed:a"),
        refused("expired", ENTRA, 401, "AADSTS700024", "this machine's clock").claim("exp", past),
        refused("its time, the other number", ENTRA, 401, "AADSTS500133", "this machine's clock")
            .documented(),
        refused("too long a life", ENTRA, 400, "AADSTS70023", "lower token_lifetime").claim("exp", week),
        Case {
            kid: Some("other"),
            ..refused("unknown key", ENTRA, 401, "AADSTS50013", "must have the RSA key RS256")
        },
        refused("not a token", ENTRA, 400, "AADSTS50027", "could not verify the token").claim("exp", "soon"),
        Case {
            documents: Some((503, "")),
            ..refused("JWKS unreachable", ENTRA, 400, "AADSTS501661", reach).transient()
        },
        refused("unreachable, as Entra says", ENTRA, 400, "AADSTS50166", reach)
            .fault("issuer-unreachable")
            .transient(),
        refused("unreachable, a third number", ENTRA, 400, "AADSTS90061", reach).documented().transient(),
        Case {
            documents: Some((200, "<html>")),
            ..refused("JWKS unreadable", ENTRA, 400, "AADSTS900612", "nothing in between changes it")
        },
        refused("propagation", ENTRA, 401, "AADSTS70021", "a new one takes some minutes")
            .fault("propagating"),
        refused("tenant absent", ENTRA, 400, "AADSTS90002", "no tenant 11111111")
            .feed(json!({ "tenant_id": OTHER })),
        refused("application absent", ENTRA, 400, "AADSTS700016", "the client id 11111111")
            .feed(json!({ "client_id": OTHER })),
        refused("resource absent", ENTRA, 400, "AADSTS500011", "does not have the resource").documented(),
        refused("throttling", ENTRA, 429, "AADSTS90055", "limits the rate").fault("throttled").transient(),
        refused("5xx", ENTRA, 503, "AADSTS90033", "often temporary").fault("unavailable").transient(),
        refused("an unknown number", ENTRA, 400, "AADSTS4242", "look up AADSTS4242").documented(),
        refused("no role", EXCHANGE, 401, "UNAUTHORIZED", "AcrPull").fault("propagating"),
        refused("network rules", EXCHANGE, 403, "DENIED", "network rules").documented(),
        refused("throttling of ACR", EXCHANGE, 429, "TOOMANYREQUESTS", "limits the rate")
            .fault("throttled")
            .transient(),
        refused("5xx of ACR", EXCHANGE, 503, "UNAVAILABLE", "often temporary")
            .fault("unavailable")
            .transient(),
        refused("an unknown code of ACR", EXCHANGE, 400, "NEW", "look up NEW").documented(),
        scoped(
            refused("no role in the repository", NARROW, 401, "UNAUTHORIZED", "AcrPull").fault("propagating"),
        ),
        scoped(
            refused("throttling of the narrowing", NARROW, 429, "TOOMANYREQUESTS", "limits the rate")
                .fault("throttled")
                .transient(),
        ),
        scoped(
            refused("5xx of the narrowing", NARROW, 503, "UNAVAILABLE", "often temporary")
                .fault("unavailable")
                .transient(),
        ),
        slow(ENTRA),
    ];
    cases.extend(broken(ENTRA));
    cases.extend(broken(EXCHANGE));
    cases.extend(broken(NARROW).map(scoped));
    azure().drive(cases).await;
}
