use crate::feed::aws::ENDPOINT_NAMES;

use super::*;

const STS: &str = "sts:AssumeRoleWithWebIdentity";
const ECR: &str = "ecr:GetAuthorizationToken";
const PUBLIC: &str = "ecr-public:GetAuthorizationToken";
const INVALID: &str = "InvalidIdentityToken";
const DENIED: &str = "AccessDenied";
const ALGORITHM: &str = "ES256";

fn aws(feed_type: &str) -> Cloud {
    Cloud {
        settings: json!({ "type": feed_type, "role_arn": "arn:aws:iam::123456789012:role/pull" }),
        registry: "localhost:5000",
        audience: "sts.amazonaws.com",
        alg: ALGORITHM,
        trust: r#"
            [[aws.roles]]
            arn = "arn:aws:iam::123456789012:role/pull"
            audiences = ["sts.amazonaws.com"]
            subjects = ["space:default:feed:a"]
        "#,
        endpoint_names: ENDPOINT_NAMES,
        endpoints: |endpoints| {
            let of = |name: &str| if name == "sts" { &endpoints.aws.sts } else { &endpoints.aws.ecr };
            [of(ENDPOINT_NAMES[0]), of(ENDPOINT_NAMES[1])]
        },
    }
}

#[tokio::test]
async fn every_failure_at_aws_names_its_step_and_code_and_has_a_hint() {
    let past = at(0).as_second();
    let absent = json!({ "role_arn": "arn:aws:iam::123456789012:role/absent" });
    let mut cases = vec![
        refused("bad issuer", STS, 400, INVALID, "exactly the URL http://localhost:1")
            .claim("iss", "http://localhost:1"),
        refused("audience", STS, 400, INVALID, "the client id other").claim("aud", "other"),
        refused("subject", STS, 403, DENIED, ":sub = space:default:feed:b")
            .claim("sub", "space:default:feed:b"),
        refused("case", STS, 403, DENIED, ":sub = Space:default:feed:a").claim("sub", "Space:default:feed:a"),
        refused("expired", STS, 400, "ExpiredTokenException", "this machine's clock").claim("exp", past),
        Case {
            kid: Some("other"),
            ..refused("unknown key", STS, 400, INVALID, "find key ES256 in its JWKS").transient()
        },
        Case {
            documents: Some((503, "")),
            ..refused(
                "JWKS unreachable",
                STS,
                400,
                "IDPCommunicationError",
                "must be public and respond quickly",
            )
            .transient()
        },
        Case {
            documents: Some((200, "<html>")),
            ..refused("JWKS unreadable", STS, 400, INVALID, "JWKS").transient()
        },
        refused("role absent", STS, 403, DENIED, "the role may be missing").feed(absent),
        refused("session too long", STS, 400, "ValidationError", "session_duration")
            .feed(json!({ "session_duration": 7200 })),
        refused("claim refused", STS, 403, "IDPRejectedClaim", "refused a claim").claim("iat", 1.5),
        refused("propagation", STS, 403, DENIED, "a recent change takes some seconds").fault("propagating"),
        refused("unreachable, as AWS says", STS, 400, "IDPCommunicationError", "well-known")
            .fault("issuer-unreachable")
            .transient(),
        refused("throttling", STS, 400, "Throttling", "limits the rate").fault("throttled").transient(),
        refused("5xx", STS, 503, "ServiceUnavailable", "often temporary").fault("unavailable").transient(),
        refused("policy", STS, 400, "MalformedPolicyDocument", "session policy").documented(),
        refused("policy too large", STS, 400, "PackedPolicyTooLarge", "fewer repositories").documented(),
        refused("region", STS, 403, "RegionDisabledException", "activate STS").documented(),
        refused("an unknown code", STS, 400, "NewException", "look up NewException").documented(),
        refused(
            "no permission",
            ECR,
            400,
            "AccessDeniedException",
            "ecr:GetAuthorizationToken on resource *",
        )
        .fault("propagating"),
        refused("throttling of ECR", ECR, 400, "ThrottlingException", "limits the rate")
            .fault("throttled")
            .transient(),
        refused("5xx of ECR", ECR, 500, "ServerException", "often temporary")
            .fault("unavailable")
            .transient(),
        refused("signature", ECR, 400, "InvalidSignatureException", "the registry's region").documented(),
        refused("session", ECR, 400, "UnrecognizedClientException", "belong together").documented(),
        refused("an unknown code of ECR", ECR, 400, "NewException", "look up NewException").documented(),
        slow(STS),
    ];
    cases.extend(broken(STS));
    cases.extend(broken(ECR));
    aws("aws-ecr").drive(cases).await;
}

#[tokio::test]
async fn every_failure_of_ecr_public_names_its_step() {
    let at_ecr = |status, code, hint, fault| {
        // Both use the route with the fault.
        let case = refused("ECR Public", ECR, status, code, hint).fault(fault);
        Case { step: PUBLIC, ..case }
    };
    let mut cases = vec![
        at_ecr(400, "AccessDeniedException", "ecr-public:GetAuthorizationToken", "propagating"),
        at_ecr(400, "ThrottlingException", "limits the rate", "throttled").transient(),
        at_ecr(500, "ServerException", "often temporary", "unavailable").transient(),
        refused("subject", STS, 403, DENIED, ":sub = space:default:feed:b")
            .claim("sub", "space:default:feed:b"),
    ];
    cases.extend(broken(ECR).into_iter().map(|case| Case { step: PUBLIC, ..case }));
    aws("aws-ecr-public").drive(cases).await;
}
