//! The exchange of an `aws-ecr` feed against the sandbox, which performs the cloud's checks.

use crate::exchange::ExchangeFailure;
use crate::sandbox::{Sandbox, SandboxEndpoints, SandboxError};
use crate::tests::aws_support::{World, at};
use http::HeaderValue;
use serde_json::{Value, json};
use tokio::net::TcpListener;

const ROLES: &str = r#"
    [aws]
    password = "hunter2"
    credential_lifetime = 1800
    [[aws.roles]]
    arn = "arn:aws:iam::123456789012:role/pull"
    audiences = ["sts.amazonaws.com"]
    subjects = ["space:default:feed:a"]
"#;

#[tokio::test]
async fn a_trusted_token_becomes_a_credential_with_either_algorithm() {
    for alg in ["ES256", "RS256"] {
        let world = World::start(ROLES).await;
        let token = world.issuer.token(alg, &world.claims());
        let credential = world.exchange(&token).await.unwrap();
        assert_eq!(
            (credential.username().unwrap(), credential.password().unwrap().reveal()),
            ("AWS", "hunter2"),
            "{alg}"
        );
        let stated: Vec<_> = credential.expiries.iter().map(|stated| (stated.of, stated.at)).collect();
        assert_eq!(stated, [("sts", at(3600)), ("ecr", at(1800))]);
        assert_eq!(credential.expires_at, at(1800));
    }
}

#[tokio::test]
async fn without_settings_any_subject_and_audience_of_the_issuer_is_trusted() {
    let world = World::start("").await;
    let mut claims = world.claims();
    claims["sub"] = "anything".into();
    claims["aud"] = "anyone".into();
    let token = world.issuer.token("ES256", &claims);
    let first = world.exchange(&token).await.unwrap();
    let second = world.exchange(&token).await.unwrap();
    assert_ne!(first.password(), second.password());
}

#[tokio::test]
async fn tokens_that_a_cloud_refuses_are_refused_with_its_code() {
    type Fault = fn(&mut Value, &World);
    let faults: [(&str, Fault, u16, &str); 15] = [
        ("another issuer", |c, _| c["iss"] = "http://localhost:1".into(), 400, "InvalidIdentityToken"),
        (
            "issuer with a slash",
            |c, w| c["iss"] = format!("{}/", w.issuer.url).into(),
            400,
            "InvalidIdentityToken",
        ),
        ("another audience", |c, _| c["aud"] = "other".into(), 400, "InvalidIdentityToken"),
        ("another subject", |c, _| c["sub"] = "space:default:feed:b".into(), 403, "AccessDenied"),
        ("subject in other case", |c, _| c["sub"] = "Space:default:feed:a".into(), 403, "AccessDenied"),
        ("expired", |c, _| c["exp"] = at(0).as_second().into(), 400, "ExpiredTokenException"),
        ("not yet valid", |c, _| c["nbf"] = at(1).as_second().into(), 400, "ExpiredTokenException"),
        ("issued in the future", |c, _| c["iat"] = at(1).as_second().into(), 400, "ExpiredTokenException"),
        ("iat with a fraction", |c, _| c["iat"] = 1.5.into(), 403, "IDPRejectedClaim"),
        ("exp as text", |c, _| c["exp"] = "9999999999".into(), 403, "IDPRejectedClaim"),
        ("audience as a list", |c, _| c["aud"] = json!(["sts.amazonaws.com"]), 403, "IDPRejectedClaim"),
        ("no subject", |c, _| drop(c.as_object_mut().unwrap().remove("sub")), 400, "InvalidIdentityToken"),
        ("no audience", |c, _| drop(c.as_object_mut().unwrap().remove("aud")), 400, "InvalidIdentityToken"),
        ("no iat", |c, _| drop(c.as_object_mut().unwrap().remove("iat")), 400, "InvalidIdentityToken"),
        ("no exp", |c, _| drop(c.as_object_mut().unwrap().remove("exp")), 400, "InvalidIdentityToken"),
    ];
    let world = World::start(ROLES).await;
    for (name, fault, status, code) in faults {
        let mut claims = world.claims();
        fault(&mut claims, &world);
        let error = world.exchange(&world.issuer.token("ES256", &claims)).await.unwrap_err();
        let upstream = error.upstream().unwrap();
        assert_eq!((upstream.status, upstream.code.as_deref()), (Some(status), Some(code)), "{name}");
        assert_eq!(upstream.step, "sts:AssumeRoleWithWebIdentity");
        assert!(upstream.request_id.is_some() && error.hint().is_some(), "{name}");
    }
}

/// AWS's own clients send a token file as it is, including the line end of `carnet token mint > FILE`.
#[tokio::test]
async fn the_end_of_a_line_behind_a_good_token_is_no_bad_signature() {
    let world = World::start(ROLES).await;
    let token = world.issuer.token("ES256", &world.claims());
    for token in [format!("{token}\n"), format!("{token}\r\n"), format!(" {token} ")] {
        world.exchange(&token).await.unwrap();
    }
    // A line end inside the token is an error, but not one about the signature.
    let error = world.exchange(&token.replacen('.', ".\n", 1)).await.unwrap_err();
    let upstream = error.upstream().unwrap();
    let message = upstream.message.as_deref().unwrap();
    assert_eq!(upstream.code.as_deref(), Some("InvalidIdentityToken"));
    assert!(!message.contains("signature"), "{message}");
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let world = World::start(ROLES).await;
    let stranger = crate::tests::aws_support::Issuer::start().await;
    let genuine = world.issuer.token("ES256", &world.claims());
    let (signed, signature) = genuine.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    let other_payload =
        crate::tests::aws_support::encode(world.claims().to_string().replace("feed:a", "feed:b").as_bytes());
    let none = crate::tests::aws_support::encode(br#"{"alg":"none","kid":"ES256"}"#);
    let hmac = crate::tests::aws_support::encode(br#"{"alg":"HS256","kid":"ES256"}"#);
    let critical =
        crate::tests::aws_support::encode(br#"{"alg":"ES256","kid":"ES256","crit":["b64"],"b64":false}"#);
    for (name, token) in [
        ("another issuer's key under the same kid", stranger.token("ES256", &world.claims())),
        ("claims changed after signing", format!("{header}.{other_payload}.{signature}")),
        ("no signature", format!("{signed}.")),
        ("algorithm none", format!("{none}.{payload}.")),
        ("HMAC with a public key", format!("{hmac}.{payload}.{signature}")),
        ("critical header", format!("{critical}.{payload}.{signature}")),
        ("unknown kid", world.issuer.signed("ES256", json!({"alg":"ES256","kid":"other"}), &world.claims())),
        ("no kid", world.issuer.signed("ES256", json!({"alg":"ES256"}), &world.claims())),
        (
            "kid of another algorithm",
            world.issuer.signed("ES256", json!({"alg":"ES256","kid":"RS256"}), &world.claims()),
        ),
        ("four parts", format!("{genuine}.x")),
        ("no JWS at all", "token".to_owned()),
    ] {
        let error = world.exchange(&token).await.unwrap_err();
        assert_eq!(error.upstream().unwrap().code.as_deref(), Some("InvalidIdentityToken"), "{name}");
    }
    assert!(world.exchange(&genuine).await.is_ok());
}

#[tokio::test]
async fn the_issuers_documents_must_meet_the_requirements_of_aws() {
    let world = World::start(ROLES).await;
    let token = world.issuer.token("ES256", &world.claims());
    let good = world.issuer.documents();
    let without = |name: &str| {
        let mut discovery: Value = serde_json::from_str(&good.discovery.1).unwrap();
        discovery.as_object_mut().unwrap().remove(name);
        (200, discovery.to_string())
    };
    let with = |name: &str, value: Value| {
        let mut discovery: Value = serde_json::from_str(&good.discovery.1).unwrap();
        discovery[name] = value;
        (200, discovery.to_string())
    };
    let (fault, silence) = ("InvalidIdentityToken", "IDPCommunicationError");
    for (discovery, jwks, code) in [
        (without("issuer"), None, fault),
        (without("jwks_uri"), None, fault),
        (without("response_types_supported"), None, fault),
        (without("subject_types_supported"), None, fault),
        (without("id_token_signing_alg_values_supported"), None, fault),
        (with("issuer", format!("{}/", world.issuer.url).into()), None, fault),
        (with("id_token_signing_alg_values_supported", json!(["RS256"])), None, fault),
        (with("response_types_supported", json!([])), None, fault),
        (with("jwks_uri", "http://127.0.0.1:1/".into()), None, silence),
        ((200, "<html>".into()), None, fault),
        ((302, String::new()), None, silence),
        ((500, String::new()), None, silence),
        (good.discovery.clone(), Some((503, String::new())), silence),
        (good.discovery.clone(), Some((200, "{}".into())), fault),
        (good.discovery.clone(), Some((200, r#"{"keys":[]}"#.into())), fault),
        (good.discovery.clone(), Some((200, good.jwks.1.replace("\"sig\"", "\"enc\""))), fault),
    ] {
        let jwks = jwks.unwrap_or_else(|| good.jwks.clone());
        world.issuer.publish(discovery.clone(), jwks.clone());
        let error = world.exchange(&token).await.unwrap_err();
        let upstream = error.upstream().unwrap();
        assert_eq!(upstream.code.as_deref(), Some(code), "{discovery:?} {jwks:?}");
        // AWS uses this code for a temporarily unreachable issuer, too.
        let about_keys = upstream.message.as_deref().is_some_and(|text| text.contains("verification key"));
        assert_eq!(error.is_transient(), code == silence || about_keys);
    }
    world.issuer.publish(good.discovery.clone(), good.jwks.clone());
    assert!(world.exchange(&token).await.is_ok());
}

#[tokio::test]
async fn sts_keeps_to_the_limits_of_its_api() {
    let world = World::start(ROLES).await;
    let token = world.issuer.token("ES256", &world.claims());
    let policy = "x".repeat(2049);
    let long = "t".repeat(20_001);
    for (name, value, code) in [
        ("Action", "AssumeRole", "InvalidAction"),
        ("Version", "2010-01-01", "InvalidAction"),
        ("RoleArn", "arn:aws:iam::123456789012:user/x", "ValidationError"),
        ("RoleSessionName", "a", "ValidationError"),
        ("RoleSessionName", "a/b", "ValidationError"),
        ("DurationSeconds", "899", "ValidationError"),
        ("DurationSeconds", "43201", "ValidationError"),
        ("DurationSeconds", "3601", "ValidationError"),
        ("WebIdentityToken", "abc", "ValidationError"),
        ("WebIdentityToken", &long, "ValidationError"),
        ("Policy", "no JSON", "MalformedPolicyDocument"),
        ("Policy", &policy, "ValidationError"),
    ] {
        let (status, body) = world.call_sts(&token, &[(name, value)], false).await;
        assert!(status == 400 && body.contains(&format!("<Code>{code}</Code>")), "{name}={value}: {body}");
    }
    let (status, body) = world.call_sts(&token, &[("Policy", "{}"), ("DurationSeconds", "900")], false).await;
    assert!(
        status == 200 && body.contains("<SubjectFromWebIdentityToken>space:default:feed:a</Subject"),
        "{body}"
    );
    assert!(body.contains("<Arn>arn:aws:sts::123456789012:assumed-role/pull/default@a</Arn>"), "{body}");
    let (status, body) = world.call_sts(&token, &[], true).await;
    assert!(status == 400 && body.contains("ValidationError") && body.contains("be given once"), "{body}");
}

#[tokio::test]
async fn ecr_accepts_only_fresh_requests_signed_in_a_session_that_it_issued() {
    type Tamper = fn(&mut http::Request<bytes::Bytes>);
    fn edit(request: &mut http::Request<bytes::Bytes>, from: &str, to: &str) {
        let header = request.headers_mut().get_mut("authorization").unwrap();
        let changed = header.to_str().unwrap().replace(from, to);
        assert_ne!(header, changed.as_str(), "{from}");
        *header = HeaderValue::from_str(&changed).unwrap();
    }
    let tampers: [(&str, Tamper, &str); 13] = [
        (
            "no signature",
            |r| drop(r.headers_mut().remove("authorization")),
            "MissingAuthenticationTokenException",
        ),
        ("another scheme", |r| edit(r, "AWS4-HMAC-SHA256", "Basic"), "IncompleteSignatureException"),
        ("another key", |r| edit(r, "=ASIA", "=ASIB"), "UnrecognizedClientException"),
        ("another service", |r| edit(r, "/ecr/", "/s3/"), "InvalidSignatureException"),
        ("another region", |r| edit(r, "/us-east-1/", "/us-east-2/"), "InvalidSignatureException"),
        ("another day", |r| edit(r, "/20260301/", "/20260302/"), "InvalidSignatureException"),
        ("another signature", |r| edit(r, "Signature=", "Signature=0"), "InvalidSignatureException"),
        ("target not signed", |r| edit(r, ";x-amz-target", ""), "IncompleteSignatureException"),
        (
            "header signed but not sent",
            |r| edit(r, "=content-type;", "=content-type;foo;"),
            "IncompleteSignatureException",
        ),
        ("another body", |r| *r.body_mut() = "{ }".into(), "InvalidSignatureException"),
        (
            "another time",
            |r| drop(r.headers_mut().insert("x-amz-date", HeaderValue::from_static("20260301T120001Z"))),
            "InvalidSignatureException",
        ),
        (
            "another session token",
            |r| drop(r.headers_mut().insert("x-amz-security-token", HeaderValue::from_static("x"))),
            "UnrecognizedClientException",
        ),
        (
            "another operation",
            |r| drop(r.headers_mut().insert("x-amz-target", HeaderValue::from_static("x.ListImages"))),
            "UnknownOperationException",
        ),
    ];
    let world = World::start(ROLES).await;
    let token = world.issuer.token("ES256", &world.claims());
    for (name, tamper, code) in tampers {
        let error = world.exchange_tampered(&token, tamper).await.unwrap_err();
        let upstream = error.upstream().unwrap();
        assert_eq!(
            (upstream.step, upstream.code.as_deref()),
            ("ecr:GetAuthorizationToken", Some(code)),
            "{name}"
        );
    }
    assert!(world.exchange_tampered(&token, |_| ()).await.is_ok());
}

#[tokio::test]
async fn ecr_public_answers_requests_signed_for_it_in_its_region() {
    type Tamper = fn(&mut http::Request<bytes::Bytes>);
    fn replace(request: &mut http::Request<bytes::Bytes>, header: &str, from: &str, to: &str) {
        let header = request.headers_mut().get_mut(header).unwrap();
        *header = HeaderValue::from_str(&header.to_str().unwrap().replace(from, to)).unwrap();
    }
    // `region` applies to private registries only.
    let world =
        World::of_type("aws-ecr-public", &ROLES.replace("[aws]", "[aws]\nregion = 'eu-west-1'")).await;
    let token = world.issuer.token("ES256", &world.claims());
    let credential = world.exchange(&token).await.unwrap();
    assert_eq!((credential.username().unwrap(), credential.password().unwrap().reveal()), ("AWS", "hunter2"));
    let stated: Vec<_> = credential.expiries.iter().map(|stated| (stated.of, stated.at)).collect();
    assert_eq!(stated, [("sts", at(3600)), ("ecr-public", at(1800))]);

    let tampers: [(&str, Tamper, &str); 3] = [
        (
            "signed for ECR",
            |r| replace(r, "authorization", "/ecr-public/", "/ecr/"),
            "InvalidSignatureException",
        ),
        (
            "another region",
            |r| replace(r, "authorization", "/us-east-1/", "/us-west-2/"),
            "InvalidSignatureException",
        ),
        ("another operation", |r| replace(r, "x-amz-target", "Get", "List"), "UnknownOperationException"),
    ];
    for (name, tamper, code) in tampers {
        let error = world.exchange_tampered(&token, tamper).await.unwrap_err();
        let upstream = error.upstream().unwrap();
        assert_eq!(upstream.step, "ecr-public:GetAuthorizationToken", "{name}");
        assert_eq!(upstream.code.as_deref(), Some(code), "{name}");
    }
}

#[tokio::test]
async fn ecr_refuses_stale_requests_and_ended_sessions() {
    let world = World::start(ROLES).await;
    let token = world.issuer.token("ES256", &world.claims());
    for (client, sandbox, code) in [
        (at(0), at(300), None),
        (at(0), at(301), Some("InvalidSignatureException")),
        (at(0), at(-301), Some("InvalidSignatureException")),
        (at(3599), at(3600), Some("ExpiredTokenException")),
    ] {
        let outcome = world.exchange_at(&token, client, sandbox).await;
        let refused = outcome.err().map(|error| error.upstream().unwrap().code.clone().unwrap());
        assert_eq!(refused.as_deref(), code, "{client} {sandbox}");
    }
}

#[tokio::test]
async fn settings_narrow_region_and_lifetime() {
    let world = World::start("[aws]\nregion = 'eu-west-1'").await;
    let error = world.exchange(&world.issuer.token("ES256", &world.claims())).await.unwrap_err();
    assert_eq!(error.upstream().unwrap().code.as_deref(), Some("InvalidSignatureException"));

    let world = World::start("[aws]\ncredential_lifetime = 0").await;
    let error = world.exchange(&world.issuer.token("ES256", &world.claims())).await.unwrap_err();
    assert!(
        matches!(error.failure(), ExchangeFailure::ArrivedExpired { expired_at } if *expired_at == at(0)),
        "{error:?}"
    );
}

#[tokio::test]
async fn the_sandbox_listens_on_loopback_only_and_prints_its_address() {
    let world = World::start("").await;
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = world.sandbox().serve(listener, std::future::ready(())).await;
    assert!(matches!(refused, Err(SandboxError::NotLoopback(_))));
    assert_eq!(
        serde_json::to_value(SandboxEndpoints::at("127.0.0.1:7".parse().unwrap())).unwrap(),
        json!({"endpoints": {
            "aws": {"sts": "http://127.0.0.1:7/aws/sts", "ecr": "http://127.0.0.1:7/aws/ecr"},
            "azure": {
                "authority": "http://127.0.0.1:7/azure/entra", "registry": "http://127.0.0.1:7/azure/acr",
            },
            "google": {
                "sts": "http://127.0.0.1:7/google/sts",
                "iamcredentials": "http://127.0.0.1:7/google/iamcredentials",
            },
        }})
    );
}

#[tokio::test]
async fn the_sandbox_stops_on_a_signal() {
    let world = World::start("").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sandbox: Sandbox = world.sandbox();
    sandbox.serve(listener, std::future::ready(())).await.unwrap();
}
