//! Tests of the rules that hold for the credential of every provider; those for Google are beside its own.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::azure::{ScriptedResponse, access, jwt, public_feed, refresh};
use super::*;

fn refresh_token(token: &str) -> ScriptedResponse {
    response(200, json!({ "refresh_token": token }).to_string())
}

#[track_caller]
fn assert_unusable(error: &ExchangeError, step: &str, reason: &str) {
    assert_eq!((error.step().name, error.upstream().unwrap().status), (step, Some(200)));
    assert_eq!(error.failure().to_string(), format!("the response cannot be used: {reason}"));
}

#[tokio::test]
async fn a_secret_that_no_client_could_send_is_refused_at_its_step() {
    let good = jwt(&json!({ "exp": 1_772_377_200 }));
    for bad in ["\n", "\u{1b}[2J", "\0", " ", "ü"] {
        let transport = Scripted::new([access(), refresh_token(&format!("{good}{bad}x"))]);
        let error = run(&transport, &public_feed()).await.unwrap_err();
        assert_unusable(
            &error,
            "acr:exchange",
            "the password is empty, or holds characters that no password has",
        );
        for (text, reason) in [
            (format!("AWS{bad}:x"), "the user name is empty, or holds characters that no user name has"),
            (format!("AWS:x{bad}"), "the password is empty, or holds characters that no password has"),
        ] {
            let error = failure(vec![assumed(), login(&BASE64_STANDARD.encode(text), 1_772_370_000.0)]).await;
            assert_unusable(&error, "ecr:GetAuthorizationToken", reason);
        }
    }
}

#[tokio::test]
async fn an_expiry_beyond_the_providers_maximum_counts_as_the_maximum() {
    let credential = run(&Scripted::new([access(), refresh(4_928_000_000)]), &public_feed()).await.unwrap();
    assert_eq!(credential.expires_at.to_string(), "2026-03-01T15:00:00Z");
    assert_eq!(credential.expiries, [StatedExpiry { of: "acr", at: credential.expires_at }]);

    let responses =
        [response(200, credentials("2126-12-31T00:00:00Z")), login("QVdTOmh1bnRlcjI=", 4_928_000_000.0)];
    let credential = run(&Scripted::new(responses), &ecr_feed()).await.unwrap();
    assert_eq!(credential.expires_at.to_string(), "2026-03-02T00:00:00Z");
    assert!(credential.expiries.iter().all(|stated| stated.at == credential.expires_at), "{credential:?}");
}

#[tokio::test]
async fn a_step_that_gives_the_presented_token_back_fails() {
    let repeated = "it repeats the token that was presented";
    let own = jwt(&json!({ "exp": 1_772_377_200 }));
    let token = SignedToken { compact: SecretString::new(own.clone()), ..token() };
    let scope = Scope::everything();
    let (azure, ecr) = (public_feed(), ecr_feed());
    let sts = credentials("2026-03-01T13:00:00Z").replace(SESSION_TOKEN, &own);
    let basic = BASE64_STANDARD.encode(format!("AWS:{own}"));
    for (feed, responses, step) in [
        (&azure, vec![response(200, json!({ "access_token": own }).to_string())], "entra:token"),
        (&azure, vec![access(), refresh_token(&own)], "acr:exchange"),
        (&ecr, vec![response(200, sts)], "sts:AssumeRoleWithWebIdentity"),
        (&ecr, vec![assumed(), login(&basic, 1_772_370_000.0)], "ecr:GetAuthorizationToken"),
    ] {
        let request = ExchangeRequest { feed, token: &token, scope: &scope };
        let clock = SimulatedClock::at(NOW.parse().unwrap());
        let error = exchange(&Scripted::new(responses), request, &clock).await.unwrap_err();
        assert_unusable(&error, step, repeated);
        assert!(!format!("{error:?}").contains(&own));
    }
}
