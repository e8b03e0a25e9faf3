//! Logs of the exchange and of the sandbox.
//!
//! One test, in its own process: the subscriber is global, so that it also sees the logs of the HTTP client
//! on other threads.

use crate::tests::azure_support::{APPLICATION, TENANT, World};
use crate::tests::captured_log::Log;

#[tokio::test]
async fn logs_show_no_token_at_any_level() {
    let log = Log::capture();

    let world = World::start(APPLICATION).await;
    let mut claims = world.claims();
    let token = world.issuer.token("RS256", &claims);
    let credential = world.exchange(&token).await.unwrap();
    let (_, response) = world.ask_entra(TENANT, &token, &[]).await;
    claims["sub"] = "other".into();
    let refused = world.issuer.token("RS256", &claims);
    world.exchange(&refused).await.unwrap_err();
    let access_token = response["access_token"].as_str().unwrap();
    let form = [("grant_type", "access_token"), ("service", "r.example"), ("access_token", access_token)];
    let (_, response) = world.ask_acr("exchange", &form).await;
    let refresh_token = response["refresh_token"].as_str().unwrap();

    let text = log.text();
    assert!(
        text.contains("sandbox ACR issued a refresh token") && text.contains("sandbox Entra refused"),
        "{text}"
    );
    for token in [&token, &refused, credential.password().unwrap().reveal(), access_token, refresh_token] {
        let signature = token.rsplit('.').next().unwrap();
        assert!(!text.contains(signature), "{signature} is in the log");
    }
}
