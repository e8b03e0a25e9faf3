//! The exchange of an `azure-acr` feed against the sandbox, which performs Entra's checks.

use crate::exchange::{ExchangeError, ExchangeFailure};
use crate::feed::scope::{Scope, ScopeError};
use crate::jose::jws::decode_unverified;
use crate::tests::azure_support::{APPLICATION, CLIENT, OTHER, TENANT, World, at};
use serde_json::{Value, json};
use uuid::Uuid;

/// Returns step, status and code of a refusal, which must also have a hint and a request id.
#[track_caller]
fn refusal(error: &ExchangeError) -> (&'static str, u16, String) {
    let upstream = error.upstream().unwrap();
    assert!(error.hint().is_some(), "{error:?}");
    assert!(upstream.message.is_some() && upstream.request_id.is_some(), "{error:?}");
    (upstream.step, upstream.status.unwrap(), upstream.code.clone().unwrap())
}

#[tokio::test]
async fn a_trusted_token_becomes_a_credential_that_ends_with_the_refresh_token() {
    let world = World::start(APPLICATION).await;
    let token = world.issuer.token("RS256", &world.claims());
    let credential = world.exchange(&token).await.unwrap();
    assert_eq!(credential.username(), Some("00000000-0000-0000-0000-000000000000"));
    assert_eq!(credential.expires_at, at(1800));
    let (_, claims) = decode_unverified(credential.password().unwrap().reveal()).unwrap();
    assert_eq!(
        (claims["aud"].as_str(), claims["tenant"].as_str()),
        (Some("images.azurecr.io"), Some(TENANT))
    );
}

#[tokio::test]
async fn a_scope_of_actions_alone_is_refused_with_the_reason_before_anything_is_sent() {
    let world = World::start(APPLICATION).await;
    let scope: Scope = serde_json::from_value(json!({ "actions": ["pull"] })).unwrap();
    let error = world.exchange_scoped("no token", &scope).await.unwrap_err();
    assert!(matches!(error.failure(), ExchangeFailure::Scope(ScopeError::Azure)), "{error:?}");
}

#[tokio::test]
async fn a_registry_token_opens_exactly_the_requested_repositories() {
    let world = World::start(APPLICATION).await;
    let scope = json!({ "repositories": ["app/one", "app/two"], "actions": ["pull"] });
    let scope: Scope = serde_json::from_value(scope).unwrap();
    let token = world.issuer.token("RS256", &world.claims());
    let credential = world.exchange_scoped(&token, &scope).await.unwrap();
    assert!(credential.password().is_none());
    assert_eq!(credential.expires_at, at(4500));
    let bearer = format!("Bearer {}", credential.registry_token().unwrap().reveal());
    let password = world.exchange(&token).await.unwrap().password().unwrap().reveal().to_owned();
    for (method, path, bearer, status) in [
        // The sandbox's registry is empty: permitted lookups find nothing.
        ("GET", "app/one/manifests/latest", bearer.as_str(), 404),
        ("HEAD", "app/two/blobs/sha256:00", &bearer, 404),
        ("GET", "app/one/tags/list", &bearer, 404),
        ("PUT", "app/one/manifests/latest", &bearer, 401),
        ("POST", "app/one/blobs/uploads/", &bearer, 401),
        ("DELETE", "app/one/manifests/latest", &bearer, 401),
        ("GET", "app/three/manifests/latest", &bearer, 401),
        ("GET", "app/one/two/manifests/latest", &bearer, 401),
        ("GET", "app/manifests/latest", &bearer, 401),
        ("GET", "app/one/manifests/latest", "", 401),
        ("GET", "app/one/manifests/latest", &format!("Bearer {password}"), 401),
    ] {
        let response = world.ask_registry(method, path, bearer).await;
        assert_eq!(response.status().as_u16(), status, "{method} {path}");
        let challenge = response.headers().get("www-authenticate").map(|value| value.to_str().unwrap());
        assert_eq!(challenge.is_some_and(|text| text.contains("scope=\"repository:")), status == 401);
    }
    world.clock.step_wall_to(at(4500));
    let response = world.ask_registry("GET", "app/one/manifests/latest", &bearer).await;
    assert_eq!(response.status().as_u16(), 401, "its time is over");
}

#[tokio::test]
async fn without_settings_any_application_subject_and_audience_is_trusted() {
    let world = World::start("").await;
    let mut claims = world.claims();
    claims["sub"] = "anything".into();
    claims["aud"] = "anyone".into();
    let token = world.issuer.token("RS256", &claims);
    let credential = world.exchange_as(OTHER, OTHER, &token).await.unwrap();
    assert_eq!(credential.expires_at, at(10_800));
}

#[tokio::test]
async fn a_fixed_refresh_token_is_returned_by_every_exchange() {
    let fixed = "e30.eyJleHAiOjQxMDI0NDQ4MDB9.hunter2";
    let world = World::start(&format!("[azure]\nrefresh_token = \"{fixed}\"")).await;
    let credential = world.exchange(&world.issuer.token("RS256", &world.claims())).await.unwrap();
    assert_eq!(credential.password().unwrap().reveal(), fixed);
    // It expires in 2100, and no refresh token of ACR lives longer than three hours.
    assert_eq!(credential.expires_at, at(10_800));
}

#[tokio::test]
async fn assertions_that_entra_refuses_are_refused_with_its_number() {
    type Fault = fn(&mut Value, &World);
    let faults: [(&str, Fault, u16, &str); 15] = [
        ("another issuer", |c, _| c["iss"] = "http://localhost:1".into(), 401, "AADSTS700211"),
        ("issuer with a slash", |c, w| c["iss"] = format!("{}/", w.issuer.url).into(), 401, "AADSTS700211"),
        ("another audience", |c, _| c["aud"] = "api://other".into(), 401, "AADSTS700212"),
        (
            "audience in other case",
            |c, _| c["aud"] = "api://azureadtokenexchange".into(),
            401,
            "AADSTS700212",
        ),
        ("another subject", |c, _| c["sub"] = "space:default:feed:b".into(), 401, "AADSTS700213"),
        ("subject in other case", |c, _| c["sub"] = "Space:default:feed:a".into(), 401, "AADSTS7002138"),
        ("expired", |c, _| c["exp"] = at(0).as_second().into(), 401, "AADSTS700024"),
        ("not yet valid", |c, _| c["nbf"] = at(1).as_second().into(), 401, "AADSTS700024"),
        ("issued in the future", |c, _| c["iat"] = at(1).as_second().into(), 401, "AADSTS700024"),
        ("too long a life", |c, _| c["exp"] = at(25 * 3600 - 4).as_second().into(), 400, "AADSTS70023"),
        ("exp as text", |c, _| c["exp"] = "9999999999".into(), 400, "AADSTS50027"),
        ("no subject", |c, _| drop(c.as_object_mut().unwrap().remove("sub")), 400, "AADSTS50027"),
        ("no audience", |c, _| drop(c.as_object_mut().unwrap().remove("aud")), 400, "AADSTS50027"),
        ("no iat", |c, _| drop(c.as_object_mut().unwrap().remove("iat")), 400, "AADSTS50027"),
        ("no exp", |c, _| drop(c.as_object_mut().unwrap().remove("exp")), 400, "AADSTS50027"),
    ];
    let world = World::start(APPLICATION).await;
    for (name, fault, status, code) in faults {
        let mut claims = world.claims();
        fault(&mut claims, &world);
        let error = world.exchange(&world.issuer.token("RS256", &claims)).await.unwrap_err();
        assert_eq!(refusal(&error), ("entra:token", status, code.to_owned()), "{name}");
        // The token's identifier is the correlation id, by which Entra's log can be searched.
        let message = error.upstream().unwrap().message.clone().unwrap();
        assert!(message.contains(&format!("Correlation ID: {}", Uuid::from_u128(7))), "{message}");
        assert!(!error.is_transient());
    }
    let mut claims = world.claims();
    claims["exp"] = at(25 * 3600 - 5).as_second().into();
    world.exchange(&world.issuer.token("RS256", &claims)).await.unwrap();
}

#[tokio::test]
async fn tenants_applications_signatures_and_algorithms_are_checked() {
    let world = World::start(APPLICATION).await;
    let token = world.issuer.token("RS256", &world.claims());
    let (signed_part, signature) = token.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    let forged = format!("{signed_part}.{first}{}", &signature[1..]);
    let unknown_key = world.issuer.signed(
        "RS256",
        json!({ "alg": "RS256", "kid": "other", "typ": "JWT" }),
        &world.claims(),
    );
    for (name, tenant, client, token, status, code) in [
        ("another tenant", OTHER, CLIENT, token.as_str(), 400, "AADSTS90002"),
        ("another application", TENANT, OTHER, &token, 400, "AADSTS700016"),
        ("ES256", TENANT, CLIENT, &world.issuer.token("ES256", &world.claims()), 400, "AADSTS5002730"),
        ("forged", TENANT, CLIENT, &forged, 401, "AADSTS50013"),
        ("unknown key", TENANT, CLIENT, &unknown_key, 401, "AADSTS50013"),
        ("no token", TENANT, CLIENT, "not.a.token", 400, "AADSTS50027"),
    ] {
        let error = world.exchange_as(tenant, client, token).await.unwrap_err();
        assert_eq!(refusal(&error), ("entra:token", status, code.to_owned()), "{name}");
    }
}

#[tokio::test]
async fn an_unreadable_issuer_is_distinguished_from_an_untrusted_one() {
    let world = World::start(APPLICATION).await;
    let token = world.issuer.token("RS256", &world.claims());
    let good = world.issuer.documents();
    for (name, discovery, jwks, code, transient) in [
        ("no discovery", (503, String::new()), good.jwks.clone(), "AADSTS501661", true),
        ("discovery is a page", (200, "<html>".into()), good.jwks.clone(), "AADSTS501661", true),
        ("no JWKS", good.discovery.clone(), (404, String::new()), "AADSTS501661", true),
        ("JWKS is a page", good.discovery.clone(), (200, "<html>".into()), "AADSTS900612", false),
        (
            "JWKS is empty",
            good.discovery.clone(),
            (200, json!({ "keys": [] }).to_string()),
            "AADSTS900612",
            false,
        ),
    ] {
        world.issuer.publish(discovery, jwks);
        let error = world.exchange(&token).await.unwrap_err();
        assert_eq!(refusal(&error), ("entra:token", 400, code.to_owned()), "{name}");
        assert_eq!(error.is_transient(), transient, "{name}");
    }
    world.issuer.publish(good.discovery, good.jwks);
    world.exchange(&token).await.unwrap();
}

#[tokio::test]
async fn a_tenant_that_knows_only_resource_manager_gets_a_request_for_that() {
    let world = World::start("[azure]\nresources = [\"https://management.azure.com\"]").await;
    let token = world.issuer.token("RS256", &world.claims());
    world.exchange(&token).await.unwrap();

    let world = World::start("[azure]\nresources = []").await;
    let token = world.issuer.token("RS256", &world.claims());
    let error = world.exchange(&token).await.unwrap_err();
    assert_eq!(refusal(&error), ("entra:token", 400, "AADSTS500011".to_owned()));
}

#[tokio::test]
async fn a_credential_that_arrives_expired_is_never_handed_out() {
    let world = World::start("[azure]\ncredential_lifetime = 0").await;
    let error = world.exchange(&world.issuer.token("RS256", &world.claims())).await.unwrap_err();
    assert!(matches!(error.failure(), ExchangeFailure::ArrivedExpired { .. }), "{error:?}");
    assert_eq!(error.step().name, "acr:exchange");
}

#[tokio::test]
async fn requests_that_entra_does_not_accept_are_refused_with_its_number_and_body() {
    let world = World::start(APPLICATION).await;
    let token = world.issuer.token("RS256", &world.claims());
    for (tenant, replaced, status, error, number) in [
        (TENANT, &[("grant_type", "password")][..], 400, "unsupported_grant_type", 70_003),
        (TENANT, &[("grant_type", "")], 400, "invalid_request", 900_144),
        (TENANT, &[("scope", "")], 400, "invalid_request", 900_144),
        (TENANT, &[("scope", "https://containerregistry.azure.net")], 400, "invalid_scope", 1_002_012),
        (TENANT, &[("scope", "https://graph.microsoft.com/.default")], 400, "invalid_resource", 500_011),
        (TENANT, &[("client_id", "me")], 400, "unauthorized_client", 700_016),
        (TENANT, &[("client_assertion", "")], 401, "invalid_client", 7_000_218),
        (TENANT, &[("client_assertion_type", "saml")], 401, "invalid_client", 7_000_218),
        (TENANT, &[("x", "1"), ("x", "2")], 400, "invalid_request", 9_000_411),
        ("common", &[], 400, "invalid_request", 90_002),
    ] {
        let (answered, body) = world.ask_entra(tenant, &token, replaced).await;
        assert_eq!(
            (answered, &body["error"], &body["error_codes"]),
            (status, &json!(error), &json!([number]))
        );
        let text = body["error_description"].as_str().unwrap();
        assert!(text.starts_with(&format!("AADSTS{number}: ")), "{text}");
        assert_eq!(body["timestamp"], "2026-03-01 12:00:00Z");
        assert!(Uuid::try_parse(body["trace_id"].as_str().unwrap()).is_ok());
        assert!(Uuid::try_parse(body["correlation_id"].as_str().unwrap()).is_ok());
        assert_eq!(body["error_uri"], format!("https://login.microsoftonline.com/error?code={number}"));
    }
    let (status, body) = world.ask_entra(TENANT, &token, &[]).await;
    assert_eq!((status, &body["token_type"], &body["expires_in"]), (200, &json!("Bearer"), &json!(3599)));
}

#[tokio::test]
async fn the_registry_takes_only_tokens_of_its_own_entra_and_narrows_them() {
    let world = World::start(APPLICATION).await;
    let (_, body) = world.ask_entra(TENANT, &world.issuer.token("RS256", &world.claims()), &[]).await;
    let access = body["access_token"].as_str().unwrap();
    let exchange = [("grant_type", "access_token"), ("service", "r.example"), ("access_token", access)];

    let (status, body) = world.ask_acr("exchange", &exchange).await;
    let refresh = body["refresh_token"].as_str().unwrap();
    assert_eq!(status, 200);
    let pull = [
        ("grant_type", "refresh_token"),
        ("service", "r.example"),
        ("scope", "repository:app/one:pull,push"),
        ("refresh_token", refresh),
    ];
    let (status, body) = world.ask_acr("token", &pull).await;
    let registry_token = body["access_token"].as_str().unwrap();
    let (_, claims) = decode_unverified(registry_token).unwrap();
    assert_eq!((status, claims["aud"].as_str()), (200, Some("r.example")));
    assert_eq!(
        claims["access"],
        json!([{ "type": "repository", "name": "app/one", "actions": ["pull", "push"] }])
    );

    let replaced =
        |fields: &[(&'static str, &'static str)], form: &[(&'static str, &str)]| -> Vec<(String, String)> {
            let kept = form.iter().filter(|(name, _)| !fields.iter().any(|(replaced, _)| replaced == name));
            kept.chain(fields).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
    for (path, form, status, code) in [
        ("exchange", replaced(&[("access_token", "e30.e30.e30")], &exchange), 401, "UNAUTHORIZED"),
        ("exchange", replaced(&[("tenant", OTHER)], &exchange), 401, "UNAUTHORIZED"),
        ("exchange", replaced(&[("service", "")], &exchange), 400, "BAD_REQUEST"),
        ("exchange", replaced(&[("grant_type", "password")], &exchange), 400, "BAD_REQUEST"),
        ("token", replaced(&[("service", "other.example")], &pull), 401, "UNAUTHORIZED"),
        ("token", replaced(&[("scope", "app/one")], &pull), 400, "BAD_REQUEST"),
        ("token", replaced(&[("scope", "repository::pull")], &pull), 400, "BAD_REQUEST"),
        ("token", replaced(&[("scope", "repository:app/*:pull")], &pull), 400, "BAD_REQUEST"),
        ("token", replaced(&[("scope", "repository:a:pull repository::pull")], &pull), 400, "BAD_REQUEST"),
        ("token", replaced(&[("scope", "repository:a:pull,")], &pull), 400, "BAD_REQUEST"),
        ("token", replaced(&[("scope", " ")], &pull), 400, "BAD_REQUEST"),
    ] {
        let form: Vec<(&str, &str)> =
            form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let (answered, body) = world.ask_acr(path, &form).await;
        assert_eq!((answered, &body["errors"][0]["code"]), (status, &json!(code)), "{form:?}");
    }
    // One kind of token is never accepted in place of another.
    for (path, name, token) in [
        ("exchange", "access_token", refresh),
        ("exchange", "access_token", registry_token),
        ("token", "refresh_token", access),
        ("token", "refresh_token", registry_token),
    ] {
        let form = if path == "exchange" { &exchange[..] } else { &pull };
        let form: Vec<(&str, &str)> =
            form.iter().filter(|(field, _)| *field != name).copied().chain([(name, token)]).collect();
        assert_eq!(world.ask_acr(path, &form).await.0, 401, "{path} with {token}");
    }
    // Entra's token has expired an hour later, and the refresh token after half an hour.
    world.clock.step_wall_to(at(3600));
    assert_eq!(world.ask_acr("exchange", &exchange).await.0, 401);
    assert_eq!(world.ask_acr("token", &pull).await.0, 401);
}
