//! Tests of the `azure-acr` exchange for some repositories: a registry token.

use super::azure::*;
use super::*;

const EXP: i64 = 1_772_371_500;

fn scope(json: serde_json::Value) -> Scope {
    serde_json::from_value(json).unwrap()
}

fn entry(name: &str, actions: &[&str]) -> serde_json::Value {
    json!({ "type": "repository", "name": name, "actions": actions })
}

fn issued(claims: &serde_json::Value) -> ScriptedResponse {
    response(200, json!({ "access_token": jwt(claims) }).to_string())
}

async fn failed(last: ScriptedResponse) -> ExchangeError {
    let transport = Scripted::new([access(), refresh(1_772_377_200), last]);
    let asked = scope(json!({ "repositories": ["app/one", "app/two"], "actions": ["pull"] }));
    run_scoped(&transport, &public_feed(), &asked).await.unwrap_err()
}

#[tokio::test]
async fn repositories_become_a_registry_token_that_ends_by_itself_and_is_no_password() {
    let claims = json!({ "exp": EXP, "access": [entry("app/one", &["pull"]), entry("app/two", &["pull"])] });
    let transport = Scripted::new([access(), refresh(1_772_377_200), issued(&claims)]);
    let asked = scope(json!({ "repositories": ["app/two", "app/one"], "actions": ["pull"] }));
    let credential = run_scoped(&transport, &public_feed(), &asked).await.unwrap();
    assert_eq!(credential.registry_token().unwrap().reveal(), jwt(&claims));
    assert!(credential.username().is_none() && credential.password().is_none());
    assert_eq!(credential.expires_at.as_second(), EXP);
    assert_eq!(credential.expiries, [StatedExpiry { of: "acr-token", at: credential.expires_at }]);
    assert!(!format!("{credential:?}").contains(&jwt(&claims)));

    let (head, form) = transport.request(2);
    assert_eq!(head.uri.to_string(), "https://images.azurecr.io/oauth2/token");
    let refresh = jwt(&json!({ "exp": 1_772_377_200 }));
    assert_eq!(
        form,
        format!(
            "grant_type=refresh_token&service=images.azurecr.io&scope=repository%3Aapp%2Fone%3Apull\
             &scope=repository%3Aapp%2Ftwo%3Apull&refresh_token={refresh}"
        )
    );
}

#[tokio::test]
async fn both_actions_are_requested_unless_limited_and_fewer_may_be_granted() {
    let claims = json!({ "exp": EXP, "access": [entry("app/one", &["pull"])] });
    let transport = Scripted::new([access(), refresh(1_772_377_200), issued(&claims)]);
    let asked = scope(json!({ "repositories": ["app/one"] }));
    run_scoped(&transport, &public_feed(), &asked).await.unwrap();
    assert!(transport.request(2).1.contains("&scope=repository%3Aapp%2Fone%3Apull%2Cpush&"));
}

#[tokio::test]
async fn a_token_that_is_not_limited_as_requested_is_never_handed_out() {
    let more = "access_token is for more than the requested scope";
    let silent = "access_token does not name its scope";
    for (access, reason) in [
        (json!([entry("app/one", &["pull", "push"])]), more),
        (json!([entry("app/one", &["*"])]), more),
        (json!([entry("app/one", &["pull"]), entry("other", &["pull"])]), more),
        (json!([{ "type": "registry", "name": "app/one", "actions": ["pull"] }]), more),
        (
            json!([]),
            "access_token is for nothing in the requested scope: the identity has no permission for it",
        ),
        (
            json!([entry("app/one", &[])]),
            "access_token is for nothing in the requested scope: the identity has no permission for it",
        ),
        (json!("everything"), silent),
        (json!(null), silent),
    ] {
        let error = failed(issued(&json!({ "exp": EXP, "access": access }))).await;
        assert!(error.failure().to_string().ends_with(reason), "{access}: {}", error.failure());
        assert_eq!(error.step().name, "acr:token");
        assert!(error.hint().is_some());
    }
}

#[tokio::test]
async fn incomplete_responses_are_unusable_and_never_quoted() {
    for (body, reason) in [
        (json!({}), "access_token is missing"),
        (
            json!({ "access_token": "SECRET" }),
            "access_token is not a JWT, so its expiry and scope are unknown",
        ),
        (json!({ "access_token": "a b" }), "access_token is not a token"),
        (json!({ "access_token": jwt(&json!({ "access": [] })) }), "access_token has no exp"),
        (json!({ "access_token": jwt(&json!({ "exp": "soon" })) }), "the exp of access_token is not a time"),
        (json!({ "access_token": jwt(&json!({ "exp": EXP })) }), "access_token does not name its scope"),
    ] {
        let error = failed(response(200, body.to_string())).await;
        assert!(error.failure().to_string().ends_with(reason), "{body}: {}", error.failure());
        assert!(!shown(&error).contains("SECRET"));
    }
    let access = json!([entry("app/one", &["pull"])]);
    let error = failed(issued(&json!({ "exp": 1_772_366_400, "access": access }))).await;
    assert!(matches!(error.failure(), ExchangeFailure::ArrivedExpired { .. }), "{error:?}");
}

#[tokio::test]
async fn a_refusal_names_the_step_and_the_missing_permission() {
    let error = failed(refused_by_acr(401, "UNAUTHORIZED", "authentication required")).await;
    let upstream = error.upstream().unwrap();
    assert_eq!(
        (upstream.step, upstream.status, upstream.code.as_deref()),
        ("acr:token", Some(401), Some("UNAUTHORIZED"))
    );
    assert_eq!(upstream.request_id.as_deref(), Some("corr-2"));
    assert!(error.hint().unwrap().contains("AcrPull"));
}
