//! Tests of the `azure-acr` exchange, with responses as Entra and ACR send them.

use super::*;

pub(super) const TENANT: &str = "8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c";
pub(super) const CLIENT: &str = "0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e";
const ACCESS: &str = "aGVhZGVy.YWNjZXNz.YWNjZXNzLXNpZ25hdHVyZQ";
const ACCESS_SIGNATURE: &str = "YWNjZXNzLXNpZ25hdHVyZQ";
const MANAGEMENT: &str = "scope=https%3A%2F%2Fmanagement.azure.com%2F.default";

pub(super) type ScriptedResponse = Result<Response<Bytes>, TransportErrorKind>;

fn azure_feed(registry: &str, endpoints: &[&str]) -> Feed {
    let azure = json!({ "type": "azure-acr", "tenant_id": TENANT, "client_id": CLIENT });
    let endpoints = Endpoints::from_pairs(crate::feed::azure::ENDPOINT_NAMES, endpoints.iter().copied());
    let draft = FeedDraft {
        endpoints: endpoints.unwrap(),
        ..FeedDraft::new(
            "default/a".parse().unwrap(),
            registry.parse().unwrap(),
            serde_json::from_value(azure).unwrap(),
        )
    };
    Feed::new(draft, Uuid::nil(), Duration::from_secs(3600), NOW.parse().unwrap()).unwrap()
}

pub(super) fn public_feed() -> Feed {
    azure_feed("images.azurecr.io", &[])
}

async fn failure(responses: Vec<ScriptedResponse>) -> ExchangeError {
    run(&Scripted::new(responses), &public_feed()).await.unwrap_err()
}

pub(super) fn access() -> ScriptedResponse {
    let body =
        json!({ "token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": ACCESS });
    response(200, body.to_string())
}

pub(super) fn jwt(claims: &serde_json::Value) -> String {
    use base64::Engine as _;
    let encode = |text: String| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.c2ln", encode("{}".to_owned()), encode(claims.to_string()))
}

pub(super) fn refresh(exp: i64) -> ScriptedResponse {
    response(200, json!({ "refresh_token": jwt(&json!({ "exp": exp })) }).to_string())
}

pub(super) fn refused_by_entra(status: u16, error: &str, number: u64, text: &str) -> ScriptedResponse {
    let body = json!({
        "error": error, "error_description": format!("AADSTS{number}: {text} Correlation ID: corr-1"),
        "error_codes": [number], "timestamp": "2026-03-01 12:00:00Z", "trace_id": "trace-1",
        "correlation_id": "corr-1", "error_uri": format!("https://login.microsoftonline.com/error?code={number}"),
    });
    response(status, body.to_string())
}

pub(super) fn refused_by_acr(status: u16, code: &str, message: &str) -> ScriptedResponse {
    let body = json!({ "errors": [{ "code": code, "message": message }] });
    let mut response = response(status, body.to_string()).unwrap();
    response.headers_mut().insert("x-ms-correlation-request-id", "corr-2".parse().unwrap());
    Ok(response)
}

#[tokio::test]
async fn the_credential_is_the_refresh_token_and_ends_with_it() {
    let transport = Scripted::new([access(), refresh(1_772_377_200)]);
    let credential = run(&transport, &public_feed()).await.unwrap();
    transport.assert_sent_where_the_log_says(&public_feed());
    assert_eq!(credential.username(), Some("00000000-0000-0000-0000-000000000000"));
    assert_eq!(credential.password().unwrap().reveal(), jwt(&json!({ "exp": 1_772_377_200 })));
    assert_eq!(credential.issued_at, NOW.parse().unwrap());
    assert_eq!(credential.expires_at.to_string(), "2026-03-01T15:00:00Z");
    assert_eq!(credential.expiries, [StatedExpiry { of: "acr", at: credential.expires_at }]);
    assert!(!format!("{credential:?}").contains(credential.password().unwrap().reveal()));
}

#[tokio::test]
async fn requests_follow_microsofts_documentation() {
    let transport = Scripted::new([access(), refresh(1_772_377_200)]);
    run(&transport, &public_feed()).await.unwrap();

    let (entra, form) = transport.request(0);
    assert_eq!(
        entra.uri.to_string(),
        format!("https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token")
    );
    assert_eq!(
        form,
        format!(
            "client_id={CLIENT}&grant_type=client_credentials\
             &scope=https%3A%2F%2Fcontainerregistry.azure.net%2F.default\
             &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
             &client_assertion={TOKEN}"
        )
    );
    let (acr, form) = transport.request(1);
    assert_eq!(acr.uri, "https://images.azurecr.io/oauth2/exchange");
    assert_eq!(
        form,
        format!("grant_type=access_token&service=images.azurecr.io&tenant={TENANT}&access_token={ACCESS}")
    );
    for (request, id) in [(entra, "client-request-id"), (acr, "x-ms-client-request-id")] {
        assert_eq!(request.method, http::Method::POST);
        assert_eq!(request.headers["content-type"], "application/x-www-form-urlencoded");
        assert_eq!(request.headers[id], Uuid::nil().to_string());
        assert!(!request.headers.contains_key("authorization"));
    }
}

#[tokio::test]
async fn every_cloud_has_its_own_hosts_scope_and_audience() {
    for (registry, authority, scope, audience) in [
        (
            "images.azurecr.io",
            "login.microsoftonline.com",
            "containerregistry.azure.net",
            "api://AzureADTokenExchange",
        ),
        (
            "images.azurecr.us",
            "login.microsoftonline.us",
            "management.usgovcloudapi.net",
            "api://AzureADTokenExchangeUSGov",
        ),
        (
            "images.azurecr.cn",
            "login.chinacloudapi.cn",
            "management.chinacloudapi.cn",
            "api://AzureADTokenExchangeChina",
        ),
    ] {
        let feed = azure_feed(registry, &[]);
        assert_eq!((feed.audience.as_str(), feed.alg), (audience, Algorithm::Rs256));
        let transport = Scripted::new([access(), refresh(1_772_377_200)]);
        run(&transport, &feed).await.unwrap();
        let (entra, form) = transport.request(0);
        assert_eq!(entra.uri.host(), Some(authority));
        assert!(form.contains(&format!("scope=https%3A%2F%2F{scope}%2F.default")), "{form}");
        assert_eq!(transport.request(1).0.uri.host(), Some(registry));
    }
}

#[tokio::test]
async fn overridden_endpoints_are_used_and_the_registry_keeps_its_name() {
    let endpoints = ["authority=http://localhost:1/azure/entra", "registry=http://localhost:1/azure/acr"];
    let transport = Scripted::new([access(), refresh(1_772_377_200)]);
    let credential = run(&transport, &azure_feed("localhost:5000", &endpoints)).await.unwrap();
    assert_eq!(credential.registry.as_str(), "localhost:5000");
    let (entra, _) = transport.request(0);
    assert_eq!(entra.uri.to_string(), format!("http://localhost:1/azure/entra/{TENANT}/oauth2/v2.0/token"));
    let (acr, form) = transport.request(1);
    assert_eq!(acr.uri, "http://localhost:1/azure/acr/oauth2/exchange");
    assert!(form.contains("service=localhost%3A5000"), "{form}");
}

#[tokio::test]
async fn a_tenant_without_the_registry_resource_gets_one_request_for_the_management_resource() {
    let unknown = || refused_by_entra(400, "invalid_resource", 500_011, "no such resource");
    let transport = Scripted::new([unknown(), access(), refresh(1_772_377_200)]);
    run(&transport, &public_feed()).await.unwrap();
    assert!(transport.request(1).1.contains(MANAGEMENT));

    let error = failure(vec![unknown(), unknown()]).await;
    assert_eq!(error.upstream().unwrap().code.as_deref(), Some("AADSTS500011"));
    assert!(error.hint().unwrap().contains(TENANT));

    let elsewhere = Scripted::new([unknown()]);
    run(&elsewhere, &azure_feed("images.azurecr.us", &[])).await.unwrap_err();
    let other_refusal = Scripted::new([refused_by_entra(401, "invalid_client", 700_213, "no")]);
    run(&other_refusal, &public_feed()).await.unwrap_err();
}

#[tokio::test]
async fn every_refusal_of_entra_keeps_its_code_and_has_a_hint() {
    for (status, oauth, number, hint, transient) in [
        (400, "invalid_request", 70_021, "exactly the issuer https://issuer.example/x, the subject", false),
        (401, "invalid_client", 700_211, "the issuer https://issuer.example/x, without a slash", false),
        (401, "invalid_client", 700_212, "exactly the audience", false),
        (401, "invalid_client", 700_213, "exactly the subject space:default:feed:a", false),
        (401, "invalid_client", 7_002_138, "upper and lower case: write exactly space", false),
        (401, "invalid_client", 700_024, "clock", false),
        (400, "invalid_request", 500_133, "clock", false),
        (401, "invalid_client", 50_013, "without the RSA key key-1", false),
        (400, "invalid_request", 50_027, "RSA key key-1", false),
        (400, "invalid_request", 5_002_730, "RS256 only", false),
        (400, "invalid_request", 90_061, "/.well-known/openid-configuration", true),
        (400, "invalid_request", 50_166, "/.well-known/openid-configuration", true),
        (400, "invalid_request", 501_661, "/.well-known/openid-configuration", true),
        (400, "invalid_request", 900_612, "could not read the JWKS", false),
        (400, "unauthorized_client", 700_016, CLIENT, false),
        (400, "invalid_request", 90_002, TENANT, false),
        (400, "invalid_request", 70_023, "token_lifetime", false),
        (401, "invalid_client", 70_025, "has no federated credential at all", false),
        (401, "invalid_client", 7_000_112, "is disabled in tenant", false),
        (401, "invalid_client", 7_000_229, "has no service principal in tenant", false),
        (400, "invalid_grant", 53_003, "a Conditional Access or security policy of tenant", false),
        (400, "invalid_request", 90_055, "limits the rate", true),
        (400, "invalid_request", 90_033, "often temporary", true),
        (400, "invalid_request", 4_242, "look up AADSTS4242 in azure's documentation", false),
        (429, "temporarily_unavailable", 4_242, "limits the rate", true),
        (503, "temporarily_unavailable", 4_242, "often temporary", true),
    ] {
        let error = failure(vec![refused_by_entra(status, oauth, number, "Some text.")]).await;
        assert_eq!(
            serde_json::to_value(error.upstream().unwrap()).unwrap(),
            json!({
                "provider": "azure", "step": "entra:token", "status": status, "code": format!("AADSTS{number}"),
                "message": format!("{oauth}: AADSTS{number}: Some text. Correlation ID: corr-1"),
                "request_id": "trace-1",
            })
        );
        assert!(error.hint().unwrap_or_default().contains(hint), "{number}: {:?}", error.hint());
        assert_eq!(error.is_transient(), transient, "{number}");
        assert_eq!(error.to_string(), "entra:token failed");
    }
}

#[tokio::test]
async fn members_beside_entras_description_are_kept() {
    for (body, code, message, request_id) in [
        (
            json!({ "error": "invalid_client", "error_description": "No.", "error_codes": [70021, 4242],
                "suberror": "bad_token", "trace_id": "t", "correlation_id": "corr" }),
            "AADSTS70021",
            "invalid_client: No. [also AADSTS4242] [suberror bad_token] [correlation id corr]",
            Some("t"),
        ),
        (json!({ "error": "invalid_client", "error_description": "No." }), "invalid_client", "No.", None),
    ] {
        let error = failure(vec![response(400, body.to_string())]).await;
        let upstream = error.upstream().unwrap();
        assert_eq!((upstream.code.as_deref(), upstream.message.as_deref()), (Some(code), Some(message)));
        assert_eq!(upstream.request_id.as_deref(), request_id);
    }
}

#[tokio::test]
async fn every_refusal_of_acr_keeps_its_code_and_has_a_hint() {
    for (status, code, hint, transient) in [
        (401, "UNAUTHORIZED", "AcrPull", false),
        (403, "DENIED", "images.azurecr.io", false),
        (404, "NOT_FOUND", "not an Azure container registry", false),
        (400, "OTHER", "look up OTHER", false),
        (429, "TOOMANYREQUESTS", "limits the rate", true),
        (500, "UNKNOWN", "often temporary", true),
    ] {
        let error = failure(vec![access(), refused_by_acr(status, code, "no")]).await;
        assert_eq!(
            serde_json::to_value(error.upstream().unwrap()).unwrap(),
            json!({
                "provider": "azure", "step": "acr:exchange", "status": status, "code": code, "message": "no",
                "request_id": "corr-2",
            })
        );
        assert!(error.hint().unwrap_or_default().contains(hint), "{code}: {:?}", error.hint());
        assert_eq!(error.is_transient(), transient, "{code}");
    }
    let several = json!({ "errors": [
        { "code": "UNAUTHORIZED", "message": "no", "detail": [{ "Name": "a" }] }, { "code": "DENIED", "message": "neither" },
    ]});
    let error = failure(vec![access(), response(401, several.to_string())]).await;
    let message = error.upstream().unwrap().message.as_deref();
    assert_eq!(message, Some("no [detail [{\"Name\":\"a\"}]] [also DENIED neither]"));
}

#[tokio::test]
async fn refusals_in_no_known_form_keep_status_and_an_excerpt() {
    for (status, body, excerpt, transient) in [
        (502, "<html>\nBad Gateway</html>", Some("<html>\\nBad Gateway</html>"), true),
        (400, "{\"errors\":\"x\",\"error\":1}", Some("{\"errors\":\"x\",\"error\":1}"), false),
        (400, "{}", Some("{}"), false),
        (302, "", None, false),
    ] {
        for responses in [vec![response(status, body)], vec![access(), response(status, body)]] {
            let error = failure(responses).await;
            let upstream = error.upstream().unwrap();
            assert_eq!((upstream.status, upstream.code.as_deref()), (Some(status), None));
            assert_eq!(upstream.message.as_deref(), excerpt);
            assert_eq!(error.is_transient(), transient);
            assert_eq!(error.hint().is_some_and(|hint| hint.contains("redirect")), status == 302);
        }
    }
}

#[tokio::test]
async fn incomplete_successes_are_unusable_and_never_quoted() {
    for (body, reason) in [
        ("SECRET".to_owned(), "it is not the JSON of Entra"),
        ("{}".into(), "access_token is missing"),
        (json!({ "access_token": null }).to_string(), "access_token is missing"),
        (json!({ "access_token": ["SECRET"] }).to_string(), "it is not the JSON of Entra"),
        (json!({ "access_token": "" }).to_string(), "access_token is not a token"),
        (json!({ "access_token": "SECRET\r\n" }).to_string(), "access_token is not a token"),
    ] {
        let error = failure(vec![response(200, body.clone())]).await;
        assert!(error.failure().to_string().ends_with(reason), "{body}: {}", error.failure());
        assert!(!shown(&error).contains("SECRET") && !error.is_transient());
    }
    let token = |token: &str| json!({ "refresh_token": token }).to_string();
    for (body, reason) in [
        ("SECRET".to_owned(), "it is not the JSON of ACR"),
        ("{}".into(), "refresh_token is missing"),
        (token("SECRET"), "refresh_token is not a JWT, so its expiry is unknown"),
        (token("SECRET.SECRET.SECRET"), "refresh_token is not a JWT, so its expiry is unknown"),
        (token(&jwt(&json!({ "sub": "SECRET" }))), "refresh_token has no exp"),
        (token(&jwt(&json!({ "exp": "SECRET" }))), "the exp of refresh_token is not a time"),
        (token(&jwt(&json!({ "exp": 1e300 }))), "the exp of refresh_token is not a time"),
        (token(&jwt(&json!({ "exp": i64::MAX }))), "the exp of refresh_token is not a time"),
    ] {
        let error = failure(vec![access(), response(200, body.clone())]).await;
        assert!(error.failure().to_string().ends_with(reason), "{body}: {}", error.failure());
        assert!(!shown(&error).contains("SECRET"));
    }
}

#[tokio::test]
async fn a_refresh_token_that_arrives_expired_is_never_returned() {
    let now = NOW.parse::<Timestamp>().unwrap().as_second();
    for exp in [0, now - 1, now] {
        let error = failure(vec![access(), refresh(exp)]).await;
        let ExchangeFailure::ArrivedExpired { expired_at } = error.failure() else { panic!("{error:?}") };
        assert_eq!((error.step().name, expired_at.as_second()), ("acr:exchange", exp));
        assert!(error.upstream().is_none() && !error.is_transient());
    }
}

#[tokio::test]
async fn silence_is_reported_with_its_step_and_kind() {
    for (kind, transient) in SILENCES {
        for (responses, step) in
            [(vec![Err(kind)], "entra:token"), (vec![access(), Err(kind)], "acr:exchange")]
        {
            let error = failure(responses).await;
            let upstream = error.upstream().unwrap();
            assert_eq!((upstream.step, upstream.status), (step, None));
            assert_eq!((error.is_transient(), error.hint().is_some()), (transient, true));
        }
    }
}

#[tokio::test]
async fn an_echoed_secret_never_gets_into_an_error() {
    let echo = format!("bad {TOKEN}, signature {SIGNATURE}, \u{1b}[2Jbye");
    let by_entra = failure(vec![refused_by_entra(400, "invalid_request", 50_027, &echo)]).await;
    let message = by_entra.upstream().unwrap().message.as_deref().unwrap();
    assert!(message.contains("bad [redacted], signature [redacted], \\u{1b}[2Jbye"), "{message}");
    let by_proxy = failure(vec![response(500, format!("dump: {TOKEN}"))]).await;
    let by_acr =
        failure(vec![access(), refused_by_acr(401, ACCESS, &format!("{ACCESS} {ACCESS_SIGNATURE}"))]).await;
    for error in [by_entra, by_proxy, by_acr] {
        let shown = shown(&error);
        for secret in [SIGNATURE, ACCESS, ACCESS_SIGNATURE, "\u{1b}"] {
            assert!(!shown.contains(secret), "{secret:?} in {shown}");
        }
    }
}
