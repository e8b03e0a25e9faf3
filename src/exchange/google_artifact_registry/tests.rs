use std::time::Duration;

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::exchange::tests::{NOW, SIGNATURE, SILENCES, Scripted, TOKEN, response, shown};
use crate::exchange::transport::TransportErrorKind;
use crate::exchange::{Credential, ExchangeError, ExchangeFailure, ExchangeRequest, exchange};
use crate::feed::endpoints::Endpoints;
use crate::feed::google::ENDPOINT_NAMES;
use crate::feed::scope::Scope;
use crate::feed::{Feed, FeedDraft};
use crate::jose::Algorithm;
use crate::oidc::token::{Presented, SignedToken};
use crate::values::clock::SimulatedClock;
use crate::values::secret::SecretString;

type ScriptedResponse = Result<Response<Bytes>, TransportErrorKind>;

const NAME: &str = "projects/123456789012/locations/global/workloadIdentityPools/carnet/providers/issuer";
const ACCOUNT: &str = "pull@my-project.iam.gserviceaccount.com";
const FEDERATED: &str = "ya29.federated-token";
const STS: &str = "sts:token";
const IAM: &str = "iamcredentials:generateAccessToken";

fn feed(account: Option<&str>, registry: &str, endpoints: &[&str]) -> Feed {
    let mut google = json!({
        "type": "google-artifact-registry", "workload_identity_provider": NAME, "lifetime": 1800,
    });
    if let Some(account) = account {
        google["service_account"] = account.into();
    }
    let draft = FeedDraft {
        endpoints: Endpoints::from_pairs(ENDPOINT_NAMES, endpoints.iter().copied()).unwrap(),
        ..FeedDraft::new(
            "default/a".parse().unwrap(),
            registry.parse().unwrap(),
            serde_json::from_value(google).unwrap(),
        )
    };
    Feed::new(draft, Uuid::nil(), Duration::from_secs(3600), NOW.parse().unwrap()).unwrap()
}

fn direct() -> Feed {
    feed(None, "europe-west1-docker.pkg.dev", &[])
}

fn impersonating() -> Feed {
    feed(Some(ACCOUNT), "gcr.io", &[])
}

fn token() -> SignedToken {
    SignedToken {
        compact: SecretString::new(TOKEN.into()),
        jti: Uuid::nil(),
        issued_at: NOW.parse().unwrap(),
        expires_at: "2026-03-01T12:10:00Z".parse().unwrap(),
        presented: Presented {
            iss: "https://issuer.example/x".into(),
            sub: "space:default:feed:a".into(),
            aud: format!("//iam.googleapis.com/{NAME}"),
            kid: "key-1".into(),
            alg: Algorithm::Es256,
        },
    }
}

async fn run(transport: &Scripted, feed: &Feed) -> Result<Credential, ExchangeError> {
    let (token, scope) = (token(), Scope::everything());
    let request = ExchangeRequest { feed, token: &token, scope: &scope };
    exchange(transport, request, &SimulatedClock::at(NOW.parse().unwrap())).await
}

async fn failure(feed: &Feed, responses: Vec<ScriptedResponse>) -> ExchangeError {
    run(&Scripted::new(responses), feed).await.unwrap_err()
}

fn exchanged() -> ScriptedResponse {
    let body = json!({
        "access_token": FEDERATED, "expires_in": 3599, "token_type": "Bearer",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
    });
    response(200, body.to_string())
}

fn generated(expire_time: &str) -> ScriptedResponse {
    response(200, json!({ "accessToken": "ya29.hunter2", "expireTime": expire_time }).to_string())
}

fn oauth_error(status: u16, code: &str, description: &str) -> ScriptedResponse {
    response(status, json!({ "error": code, "error_description": description }).to_string())
}

fn api_error(status: u16, code: &str, details: Value) -> ScriptedResponse {
    let mut error = json!({ "code": status, "message": "No.", "status": code });
    if !details.is_null() {
        error["details"] = details;
    }
    response(status, json!({ "error": error }).to_string())
}

fn fields(form: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(form.as_bytes()).into_owned().collect()
}

#[tokio::test]
async fn a_stated_life_is_believed_up_to_twelve_hours() {
    let body = json!({ "access_token": FEDERATED, "expires_in": 3_153_600_000_i64, "token_type": "Bearer" });
    for (feed, responses) in [
        (direct(), vec![response(200, body.to_string())]),
        (impersonating(), vec![exchanged(), generated("2126-12-31T00:00:00Z")]),
    ] {
        let credential = run(&Scripted::new(responses), &feed).await.unwrap();
        assert_eq!(credential.expires_at.to_string(), "2026-03-02T00:00:00Z");
        assert_eq!(credential.expiries[0].at, credential.expires_at);
    }
}

#[tokio::test]
async fn a_step_that_gives_the_presented_token_back_fails() {
    for feed in [direct(), impersonating()] {
        let body = json!({ "access_token": TOKEN, "expires_in": 3599, "token_type": "Bearer" });
        let error = failure(&feed, vec![response(200, body.to_string())]).await;
        assert_eq!(error.step().name, STS);
        assert!(
            error.failure().to_string().ends_with("it repeats the token that was presented"),
            "{error:?}"
        );
    }
    let body = json!({ "accessToken": TOKEN, "expireTime": "2026-03-01T13:00:00Z" });
    let error = failure(&impersonating(), vec![exchanged(), response(200, body.to_string())]).await;
    assert_eq!(error.step().name, IAM);
    assert!(error.failure().to_string().ends_with("it repeats the token that was presented"), "{error:?}");
}

#[tokio::test]
async fn direct_access_is_one_request_as_google_documents_it() {
    let transport = Scripted::new([exchanged()]);
    let credential = run(&transport, &direct()).await.unwrap();
    transport.assert_sent_where_the_log_says(&direct());
    assert_eq!(
        (credential.username().unwrap(), credential.password().unwrap().reveal()),
        ("oauth2accesstoken", FEDERATED)
    );
    assert_eq!(credential.registry.as_str(), "europe-west1-docker.pkg.dev");
    assert_eq!(credential.expires_at.to_string(), "2026-03-01T12:59:59Z");
    assert_eq!(credential.expiries.iter().map(|stated| stated.of).collect::<Vec<_>>(), ["sts"]);

    let (request, form) = transport.request(0);
    assert_eq!(request.uri, "https://sts.googleapis.com/v1/token");
    assert_eq!(request.headers["content-type"], "application/x-www-form-urlencoded");
    assert!(!request.headers.contains_key("authorization"));
    let expected = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("audience", &format!("//iam.googleapis.com/{NAME}")),
        ("scope", "https://www.googleapis.com/auth/cloud-platform"),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("subject_token", TOKEN),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
    ];
    assert_eq!(fields(&form), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn impersonation_is_a_second_request_and_only_its_expiry_counts() {
    let transport = Scripted::new([exchanged(), generated("2026-03-01T23:00:00Z")]);
    let credential = run(&transport, &impersonating()).await.unwrap();
    transport.assert_sent_where_the_log_says(&impersonating());
    assert_eq!(credential.password().unwrap().reveal(), "ya29.hunter2");
    assert_eq!(credential.expires_at.to_string(), "2026-03-01T23:00:00Z");
    assert_eq!(credential.expiries.iter().map(|stated| stated.of).collect::<Vec<_>>(), ["iamcredentials"]);
    assert!(!format!("{credential:?}").contains("hunter2"));

    let (request, body) = transport.request(1);
    assert_eq!(
        request.uri.to_string(),
        format!(
            "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken"
        )
    );
    assert_eq!(request.headers["authorization"], format!("Bearer {FEDERATED}"));
    assert!(request.headers["authorization"].is_sensitive());
    assert_eq!(request.headers["content-type"], "application/json");
    assert_eq!(
        serde_json::from_str::<Value>(&body).unwrap(),
        json!({
            "delegates": [], "scope": ["https://www.googleapis.com/auth/cloud-platform"], "lifetime": "1800s",
        })
    );
}

#[tokio::test]
async fn endpoints_override_hosts_and_a_whole_token_url_is_understood() {
    for sts in ["http://localhost:1/google", "http://localhost:1/google/v1/token"] {
        let endpoints = [format!("sts={sts}"), "iamcredentials=http://localhost:2/iam".to_owned()];
        let endpoints: Vec<_> = endpoints.iter().map(String::as_str).collect();
        let transport = Scripted::new([exchanged(), generated("2026-03-01T13:00:00Z")]);
        run(&transport, &feed(Some(ACCOUNT), "localhost:5000", &endpoints)).await.unwrap();
        assert_eq!(transport.request(0).0.uri, "http://localhost:1/google/v1/token");
        assert_eq!(
            transport.request(1).0.uri.to_string(),
            format!("http://localhost:2/iam/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken")
        );
    }
}

#[tokio::test]
async fn every_refusal_of_the_token_service_keeps_its_code_and_has_a_hint() {
    let documents = "https://issuer.example/x/.well-known/openid-configuration and find key key-1";
    for (status, code, description, hint, transient) in [
        (400, "invalid_grant", "Error connecting to the given credential's issuer.", documents, true),
        (400, "invalid_grant", "Invalid ID Token signature.", documents, false),
        (
            400,
            "invalid_grant",
            "The audience in ID Token [x] does not match.",
            "must allow the audience",
            false,
        ),
        (400, "invalid_grant", "ID Token issued at 1 is stale to sign-in.", "clock", false),
        (400, "invalid_grant", "The ID Token expired.", "clock", false),
        (400, "invalid_grant", "Something new.", "exactly the issuer https://issuer.example/x", false),
        (400, "invalid_grant", "", "exactly the issuer https://issuer.example/x", false),
        (400, "invalid_target", "The target service is invalid.", "disabled or deleted", false),
        (400, "unauthorized_client", "Rejected by the attribute condition.", "space:default:feed:a", false),
        (401, "unauthorized_client", "Rejected by the attribute condition.", "condition", false),
        (400, "invalid_request", "The size of mapped attribute", "at most 127 bytes", false),
        (400, "unsupported_grant_type", "x", "not Google's Security Token Service", false),
        (400, "something_new", "x", "look up something_new", false),
        (400, "temporarily_unavailable", "x", "often temporary", true),
        (429, "rate_limited", "x", "limits the rate", true),
        (500, "server_error", "x", "often temporary", true),
        (503, "something_new", "x", "often temporary", true),
    ] {
        let error = failure(&direct(), vec![oauth_error(status, code, description)]).await;
        let message = (!description.is_empty()).then_some(description);
        assert_eq!(
            serde_json::to_value(error.upstream().unwrap()).unwrap(),
            json!({
                "provider": "google", "step": STS, "status": status, "code": code, "message": message,
                "request_id": null,
            })
        );
        assert!(error.hint().unwrap_or_default().contains(hint), "{code} {description}: {:?}", error.hint());
        assert_eq!(error.is_transient(), transient, "{code}");
        assert_eq!(error.presented().sub, "space:default:feed:a");
    }
}

#[tokio::test]
async fn every_refusal_of_impersonation_keeps_its_code_and_has_a_hint() {
    let info = |reason: &str| {
        json!([{
            "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "iam.googleapis.com",
            "metadata": { "permission": "iam.serviceAccounts.getAccessToken" },
        }])
    };
    let principal = "principal://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/\
                     carnet/subject/space:default:feed:a needs the permission iam.serviceAccounts.getAccessToken";
    for (status, code, details, hint, transient) in [
        (403, "PERMISSION_DENIED", info("IAM_PERMISSION_DENIED"), principal, false),
        (403, "PERMISSION_DENIED", Value::Null, principal, false),
        (404, "NOT_FOUND", Value::Null, ACCOUNT, false),
        (403, "PERMISSION_DENIED", info("SERVICE_DISABLED"), "enable the IAM Service Account Cred", false),
        (400, "INVALID_ARGUMENT", Value::Null, "lifetime, which is 1800s", false),
        (401, "UNAUTHENTICATED", Value::Null, "must belong together", false),
        (400, "FAILED_PRECONDITION", Value::Null, "disabled", false),
        (400, "UNKNOWN", Value::Null, "look up UNKNOWN", false),
        (429, "RESOURCE_EXHAUSTED", Value::Null, "limits the rate", true),
        (503, "UNAVAILABLE", Value::Null, "often temporary", true),
        (500, "INTERNAL", Value::Null, "often temporary", true),
    ] {
        let refused = api_error(status, code, details.clone());
        let error = failure(&impersonating(), vec![exchanged(), refused]).await;
        let upstream = error.upstream().unwrap();
        assert_eq!((upstream.step, upstream.status), (IAM, Some(status)));
        assert_eq!(upstream.code.as_deref(), Some(code));
        let message = upstream.message.as_deref().unwrap();
        assert!(message.starts_with("No."), "{message}");
        assert_eq!(message.contains("iam.serviceAccounts.getAccessToken"), !details.is_null(), "{message}");
        assert!(error.hint().unwrap_or_default().contains(hint), "{code}: {:?}", error.hint());
        assert_eq!(error.is_transient(), transient, "{code}");
    }
}

#[tokio::test]
async fn request_ids_are_found_and_either_step_may_use_either_shape() {
    let details = json!([{ "@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": "req-1", "servingData": "x" }]);
    let error = failure(&direct(), vec![api_error(403, "PERMISSION_DENIED", details)]).await;
    let upstream = error.upstream().unwrap();
    assert_eq!(
        (upstream.code.as_deref(), upstream.request_id.as_deref()),
        (Some("PERMISSION_DENIED"), Some("req-1"))
    );
    assert!(error.hint().unwrap().contains("Security Token Service API must be enabled"));
    let refused = oauth_error(400, "invalid_grant", "x");
    let error = failure(&impersonating(), vec![exchanged(), refused]).await;
    assert_eq!(error.upstream().unwrap().code.as_deref(), Some("invalid_grant"));
    assert!(error.hint().unwrap().contains("look up invalid_grant"));
}

#[tokio::test]
async fn refusals_in_no_known_form_keep_status_and_an_excerpt() {
    for (status, body, excerpt, transient) in [
        (502, "<html>\nBad Gateway</html>", Some("<html>\\nBad Gateway</html>"), true),
        (403, "{\"error\":", Some("{\"error\":"), false),
        (400, "{\"error\":[1]}", Some("{\"error\":[1]}"), false),
        (404, "", None, false),
        (302, "", None, false),
    ] {
        for (feed, responses) in [
            (direct(), vec![response(status, body)]),
            (impersonating(), vec![exchanged(), response(status, body)]),
        ] {
            let error = failure(&feed, responses).await;
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
    let good: Value = serde_json::from_slice(exchanged().unwrap().body()).unwrap();
    let with = |name: &str, value: Value| {
        let mut changed = good.clone();
        changed[name] = value;
        changed.to_string()
    };
    for (body, reason) in [
        ("SECRET".to_owned(), "it is not the JSON of a token exchange"),
        ("{}".to_owned(), "access_token is missing"),
        (with("access_token", Value::Null), "access_token is missing"),
        (with("access_token", "".into()), "access_token is not an access token"),
        (with("access_token", "SECRET\r\nX: y".into()), "access_token is not an access token"),
        (with("access_token", "SECRET é".into()), "access_token is not an access token"),
        (with("access_token", 1.into()), "it is not the JSON of a token exchange"),
        (with("expires_in", Value::Null), "expires_in is missing"),
        (with("expires_in", "3600".into()), "it is not the JSON of a token exchange"),
        (with("expires_in", i64::MAX.into()), "expires_in is not a lifetime"),
        (with("token_type", "mac".into()), "token_type is not Bearer"),
        (with("issued_token_type", "x".into()), "issued_token_type is not that of an access token"),
    ] {
        let error = failure(&direct(), vec![response(200, body.clone())]).await;
        assert!(error.failure().to_string().ends_with(reason), "{body}: {}", error.failure());
        assert!(!shown(&error).contains("SECRET") && !error.is_transient());
    }
    for (body, reason) in [
        ("SECRET".to_owned(), "it is not the JSON of generateAccessToken"),
        ("{}".to_owned(), "accessToken is missing"),
        (json!({ "accessToken": "SECRET" }).to_string(), "expireTime is missing"),
        (json!({ "accessToken": "SECRET", "expireTime": "soon" }).to_string(), "expireTime is not a time"),
        (json!({ "accessToken": "SECRET x" }).to_string(), "accessToken is not an access token"),
    ] {
        let error = failure(&impersonating(), vec![exchanged(), response(200, body.clone())]).await;
        assert!(error.failure().to_string().ends_with(reason), "{body}: {}", error.failure());
        assert!(!shown(&error).contains("SECRET"));
    }
}

#[tokio::test]
async fn tokens_that_arrive_expired_are_never_returned_nor_used() {
    let dead =
        |seconds: i64| response(200, json!({ "access_token": FEDERATED, "expires_in": seconds }).to_string());
    for (feed, responses, step) in [
        (direct(), vec![dead(0)], STS),
        (direct(), vec![dead(-1)], STS),
        (impersonating(), vec![dead(0)], STS),
        (impersonating(), vec![exchanged(), generated(NOW)], IAM),
        (impersonating(), vec![exchanged(), generated("2015-01-01T00:00:00Z")], IAM),
    ] {
        let error = failure(&feed, responses).await;
        assert!(matches!(error.failure(), ExchangeFailure::ArrivedExpired { .. }), "{error:?}");
        assert_eq!(error.step().name, step);
    }
}

#[tokio::test]
async fn silence_is_reported_with_its_step_and_kind() {
    for (kind, transient) in SILENCES {
        for (responses, step) in [(vec![Err(kind)], STS), (vec![exchanged(), Err(kind)], IAM)] {
            let error = failure(&impersonating(), responses).await;
            let upstream = error.upstream().unwrap();
            assert_eq!((upstream.provider, upstream.step, upstream.status), ("google", step, None));
            assert_eq!((error.is_transient(), error.hint().is_some()), (transient, true));
        }
    }
}

#[tokio::test]
async fn an_echoed_secret_never_gets_into_an_error() {
    let echo = format!("bad token {TOKEN}, signature {SIGNATURE}, \u{1b}[2Jbye");
    let by_sts = failure(&direct(), vec![oauth_error(400, "invalid_grant", &echo)]).await;
    let as_code = failure(&direct(), vec![oauth_error(400, TOKEN, "x")]).await;
    let by_proxy = failure(&direct(), vec![response(500, format!("dump: {TOKEN}"))]).await;
    let details = json!([{ "seen": FEDERATED }]);
    let by_iam =
        failure(&impersonating(), vec![exchanged(), api_error(401, "UNAUTHENTICATED", details)]).await;
    for error in [by_sts, as_code, by_proxy, by_iam] {
        let shown = shown(&error);
        for secret in [SIGNATURE, FEDERATED, "\u{1b}"] {
            assert!(!shown.contains(secret), "{secret:?} in {shown}");
        }
    }
}
