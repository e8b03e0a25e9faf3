//! The metrics of a running issuer, seen from outside: real tokens, real exchanges, real scrapes.

use crate::support::in_process::InProcess;
use carnet::internals::Mint as _;
use carnet::internals::Parts as _;
use carnet::internals::broker::Source;
use carnet::internals::feed::scope::Scope;
use carnet::internals::oidc::subject::Context;

/// Returns the value of one series.
#[track_caller]
fn value(text: &str, series: &str) -> f64 {
    let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.map_or_else(|| panic!("no {series} in\n{text}"), |value| value.parse().unwrap())
}

#[tokio::test]
async fn an_issuer_counts_its_tokens_exchanges_credentials_and_fetches() {
    let world = InProcess::start().await;
    let (broker, everything) = (world.carnet.broker().unwrap(), Scope::default());
    let context = Context::default();
    let ask = async |feed| broker.credential(feed, &context, &everything, None).await;
    assert_eq!(ask(&world.trusted).await.unwrap().source, Source::Exchange);
    assert_eq!(ask(&world.trusted).await.unwrap().source, Source::Cache);
    for _ in 0..2 {
        ask(&world.stranger).await.unwrap_err();
    }

    let text = world.carnet.metrics().encode();
    for (series, expected) in [
        (r#"carnet_tokens_minted_total{alg="ES256",outcome="minted"}"#, 2.0),
        (r#"carnet_tokens_minted_total{alg="RS256",outcome="minted"}"#, 0.0),
        (r#"carnet_exchanges_total{provider="aws-ecr",outcome="ok"}"#, 1.0),
        (r#"carnet_exchanges_total{provider="aws-ecr",outcome="refused"}"#, 1.0),
        (r#"carnet_exchange_duration_seconds_count{provider="aws-ecr"}"#, 2.0),
        (r#"carnet_exchanges_in_progress{provider="aws-ecr"}"#, 0.0),
        (r#"carnet_credential_requests_total{provider="aws-ecr",outcome="exchange"}"#, 1.0),
        (r#"carnet_credential_requests_total{provider="aws-ecr",outcome="cache"}"#, 1.0),
        (r#"carnet_credential_requests_total{provider="aws-ecr",outcome="failed"}"#, 1.0),
        (r#"carnet_credential_requests_total{provider="aws-ecr",outcome="failed-lately"}"#, 1.0),
        ("carnet_credentials_remembered", 2.0),
        (r#"carnet_signing_keys{alg="RS256",state="active"}"#, 1.0),
        (r#"carnet_signing_keys{alg="ES256",state="prepared"}"#, 1.0),
        (r#"carnet_clock_state{state="steady"}"#, 1.0),
        ("carnet_rotation_consecutive_failures", 0.0),
    ] {
        assert!((value(&text, series) - expected).abs() < f64::EPSILON, "{series}\n{text}");
    }
    // The sandbox fetched the keys that it verifies with.
    assert!(value(&text, "carnet_jwks_fetches_total") >= 1.0);
    assert!(value(&text, "carnet_key_state_unconfirmed_seconds") < 5.0);
    assert!(value(&text, r#"carnet_rotation_due_seconds{alg="ES256"}"#) > 29.0 * 86400.0);

    // The feed and the caller are never labels.
    for outside in ["trusted", "stranger", "default", "127.0.0.1", "arn:aws", "amazonaws"] {
        assert!(!text.contains(outside), "{outside}\n{text}");
    }
    broker.forget(world.trusted.id);
    broker.forget(world.stranger.id);
    assert!(value(&world.carnet.metrics().encode(), "carnet_credentials_remembered").abs() < f64::EPSILON);
}

#[tokio::test]
async fn each_issuer_of_a_process_counts_for_itself() {
    let (one, other) = (InProcess::start().await, InProcess::start().await);
    one.carnet.issuer().mint(&one.trusted, &Context::default()).unwrap();
    let minted = r#"carnet_tokens_minted_total{alg="ES256",outcome="minted"}"#;
    let of = |world: &InProcess| value(&world.carnet.metrics().encode(), minted);
    assert!((of(&one) - 1.0).abs() < f64::EPSILON && of(&other).abs() < f64::EPSILON);
}
