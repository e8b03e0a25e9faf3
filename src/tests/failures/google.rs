use crate::feed::google::ENDPOINT_NAMES;

use super::*;

const STS: &str = "sts:token";
const ACCOUNT: &str = "iamcredentials:generateAccessToken";
const GRANT: &str = "invalid_grant";
const POOL: &str = "projects/123456789012/locations/global/workloadIdentityPools/carnet";

fn google() -> Cloud {
    Cloud {
        settings: json!({
            "type": "google-artifact-registry", "workload_identity_provider": format!("{POOL}/providers/issuer"),
        }),
        registry: "europe-docker.pkg.dev",
        audience: "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/carnet/providers/issuer",
        alg: "ES256",
        trust: r#"
            [[google.providers]]
            name = "projects/123456789012/locations/global/workloadIdentityPools/carnet/providers/issuer"
            subjects = ["space:default:feed:a"]
            [[google.providers]]
            name = "projects/123456789012/locations/global/workloadIdentityPools/carnet/providers/disabled"
            disabled = true
            [[google.service_accounts]]
            email = "pull@my-project.iam.gserviceaccount.com"
        "#,
        endpoint_names: ENDPOINT_NAMES,
        endpoints: |endpoints| {
            let google = &endpoints.google;
            let of = |name: &str| if name == "sts" { &google.sts } else { &google.iamcredentials };
            [of(ENDPOINT_NAMES[0]), of(ENDPOINT_NAMES[1])]
        },
    }
}

/// Uses a service account.
fn acting(case: Case) -> Case {
    case.feed(json!({ "service_account": "pull@my-project.iam.gserviceaccount.com" }))
}

#[tokio::test]
async fn every_failure_at_google_names_its_step_and_code_and_has_a_hint() {
    let past = at(0).as_second();
    let disabled = json!({ "workload_identity_provider": format!("{POOL}/providers/disabled") });
    let absent = json!({ "service_account": "absent@my-project.iam.gserviceaccount.com" });
    let long = json!({ "service_account": "pull@my-project.iam.gserviceaccount.com", "lifetime": 7200 });
    let fetch = "Google must be able to fetch";
    let mut cases = vec![
        refused("bad issuer", STS, 400, GRANT, "exactly the issuer http://localhost:1")
            .claim("iss", "http://localhost:1"),
        refused("audience", STS, 400, GRANT, "must allow the audience other").claim("aud", "other"),
        refused(
            "subject, by the condition",
            STS,
            400,
            "unauthorized_client",
            "must accept exactly the subject space:default:feed:b",
        )
        .claim("sub", "space:default:feed:b"),
        refused("case", STS, 400, "unauthorized_client", "must accept exactly")
            .claim("sub", "Space:default:feed:a"),
        refused("subject too long", STS, 400, "invalid_request", "at most 127 bytes")
            .claim("sub", "s".repeat(128)),
        refused("expired", STS, 400, GRANT, "this machine's clock").claim("exp", past),
        refused("more than 24 hours", STS, 400, GRANT, "be valid now").claim("exp", past + 86_401),
        Case { kid: Some("other"), ..refused("unknown key", STS, 400, GRANT, "find key ES256 in its JWKS") },
        Case {
            documents: Some((503, "")),
            ..refused("JWKS unreachable", STS, 400, GRANT, fetch).transient()
        },
        Case {
            documents: Some((200, "<html>")),
            ..refused("JWKS unreadable", STS, 400, GRANT, fetch).transient()
        },
        refused("unreachable, as Google says", STS, 400, GRANT, fetch)
            .fault("issuer-unreachable")
            .transient(),
        refused("pool disabled", STS, 400, "invalid_target", "disabled or deleted").feed(disabled),
        refused("propagation", STS, 400, "invalid_target", "a new one takes a few minutes")
            .fault("propagating"),
        refused("throttling", STS, 429, "RESOURCE_EXHAUSTED", "limits the rate")
            .fault("throttled")
            .transient(),
        refused("5xx", STS, 503, "UNAVAILABLE", "often temporary").fault("unavailable").transient(),
        refused("API off", STS, 403, "PERMISSION_DENIED", "must be enabled").documented(),
        refused("an unknown code", STS, 400, "new_code", "look up new_code").documented(),
        refused("account absent", ACCOUNT, 403, "PERMISSION_DENIED", "roles/iam.workloadIdentityUser")
            .feed(absent),
        refused("lifetime", ACCOUNT, 400, "INVALID_ARGUMENT", "check lifetime, which is 7200s").feed(long),
        acting(
            refused(
                "propagation of the grant",
                ACCOUNT,
                403,
                "PERMISSION_DENIED",
                "a new role binding takes a few minutes",
            )
            .fault("propagating"),
        ),
        acting(
            refused("account disabled", ACCOUNT, 400, "FAILED_PRECONDITION", "may be disabled").documented(),
        ),
        acting(
            refused("throttling of the account", ACCOUNT, 429, "RESOURCE_EXHAUSTED", "limits the rate")
                .fault("throttled")
                .transient(),
        ),
        acting(
            refused("5xx of the account", ACCOUNT, 503, "UNAVAILABLE", "often temporary")
                .fault("unavailable")
                .transient(),
        ),
        acting(
            refused("an unknown code of the account", ACCOUNT, 400, "NEW_CODE", "look up NEW_CODE")
                .documented(),
        ),
        slow(STS),
    ];
    cases.extend(broken(STS));
    cases.extend(broken(ACCOUNT).map(acting));
    google().drive(cases).await;
}
