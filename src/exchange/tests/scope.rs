use super::*;
use crate::feed::scope::ScopeError;

#[tokio::test]
async fn a_scope_becomes_the_session_policy_and_one_that_is_too_long_is_never_requested() {
    let transport = Scripted::new([assumed(), login("QVdTOmh1bnRlcjI=", 1_772_409_600.0)]);
    let scope: Scope = serde_json::from_str(r#"{"repositories":["app/one"],"actions":["pull"]}"#).unwrap();
    run_scoped(&transport, &ecr_feed(), &scope).await.unwrap();
    let (_, form) = transport.request(0);
    let policy = url::form_urlencoded::parse(form.as_bytes()).find(|(name, _)| name == "Policy").unwrap().1;
    assert!(policy.contains("\"arn:aws:ecr:eu-west-1:123456789012:repository/app/one\""), "{policy}");

    let many: Vec<String> = (0..50).map(|n| format!("repository-{n}")).collect();
    let scope: Scope = serde_json::from_value(json!({ "repositories": many })).unwrap();
    let error = run_scoped(&Scripted::default(), &ecr_feed(), &scope).await.unwrap_err();
    assert!(matches!(error.failure(), ExchangeFailure::Scope(_)) && !error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn feeds_whose_provider_cannot_limit_a_credential_give_the_reason_and_send_no_request() {
    let role = r#"{"type":"aws-ecr-public","role_arn":"arn:aws:iam::123456789012:role/pull"}"#;
    let azure = r#"{"type":"azure-acr","tenant_id":"8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c",
        "client_id":"0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e"}"#;
    let google = r#"{"type":"google-artifact-registry","workload_identity_provider":
        "projects/1/locations/global/workloadIdentityPools/pool/providers/provider"}"#;
    let (repository, pull) = (r#"{"repositories":["app/one"]}"#, r#"{"actions":["pull"]}"#);
    for (registry, settings, scope, reason) in [
        ("public.ecr.aws", role, repository, ScopeError::EcrPublic),
        ("public.ecr.aws", role, pull, ScopeError::EcrPublic),
        // A limit to repositories requires a registry token.
        ("images.azurecr.io", azure, pull, ScopeError::Azure),
        ("europe-docker.pkg.dev", google, repository, ScopeError::Google),
        ("europe-docker.pkg.dev", google, pull, ScopeError::Google),
    ] {
        let draft = FeedDraft::new(
            "default/a".parse().unwrap(),
            registry.parse().unwrap(),
            serde_json::from_str(settings).unwrap(),
        );
        let feed = Feed::new(draft, Uuid::nil(), Duration::from_secs(3600), NOW.parse().unwrap()).unwrap();
        let scope: Scope = serde_json::from_str(scope).unwrap();
        // The script has no response, so a request would panic.
        let error = run_scoped(&Scripted::default(), &feed, &scope).await.unwrap_err();
        assert!(matches!(error.failure(), ExchangeFailure::Scope(why) if *why == reason), "{error:?}");
    }
}
