//! Logs of the exchange and of the sandbox.
//!
//! One test, in its own process: the subscriber is global, so that it also sees the logs of the HTTP client
//! on other threads.

use std::sync::{Arc, Mutex, PoisonError};

use crate::tests::aws_support::World;
use crate::tests::captured_log::Log;

const CONFIG: &str = r#"
    [aws]
    password = "hunter2"
    [[aws.roles]]
    arn = "arn:aws:iam::123456789012:role/pull"
    audiences = ["sts.amazonaws.com"]
    subjects = ["space:default:feed:a"]
"#;

#[tokio::test]
async fn logs_show_no_token_password_or_key_at_any_level() {
    let log = Log::capture();

    let world = World::start(CONFIG).await;
    let mut claims = world.claims();
    let token = world.issuer.token("ES256", &claims);
    let (_, response) = world.call_sts(&token, &[], false).await;
    let sent = Arc::new(Mutex::new(String::new()));
    let seen = Arc::clone(&sent);
    let see = move |request: &mut http::Request<bytes::Bytes>| {
        let header = &request.headers()["x-amz-security-token"];
        *seen.lock().unwrap_or_else(PoisonError::into_inner) = header.to_str().unwrap_or_default().to_owned();
    };
    world.exchange_tampered(&token, see).await.unwrap();
    let sent = sent.lock().unwrap().clone();
    assert!(!sent.is_empty());
    claims["sub"] = "other".into();
    let refused = world.issuer.token("ES256", &claims);
    world.exchange(&refused).await.unwrap_err();

    let text = log.text();
    assert!(text.contains("sandbox ECR issued a login") && text.contains("sandbox STS refused"), "{text}");
    let element = |name: &str| {
        let (_, rest) = response.split_once(&format!("<{name}>")).unwrap();
        rest.split('<').next().unwrap().to_owned()
    };
    let signature = |token: &str| token.rsplit('.').next().unwrap().to_owned();
    for secret in [
        signature(&token),
        signature(&refused),
        element("SecretAccessKey"),
        element("SessionToken"),
        sent,
        "hunter2".to_owned(),
        // `AWS:hunter2`, in ECR's encoding.
        "QVdTOmh1bnRlcjI=".to_owned(),
    ] {
        assert!(!text.contains(&secret), "{secret} is in the log");
    }
}
