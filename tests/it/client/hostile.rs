//! Servers that are not carnet, disconnect, or limit the rate.

use std::io::{BufReader, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use carnet::internals::api_types::credentials::CredentialRequest;
use carnet::internals::api_types::feeds::FeedPatch;
use carnet::internals::client::{ApiClient, ClientError};
use carnet::internals::values::clock::SimulatedClock;
use carnet::internals::values::secret::SecretString;
use uuid::Uuid;

use super::path;
use crate::support::recording_proxy::{Recorded, read_request};

const TOKEN: &str = "carnet_hunter2";

/// A server that sends these responses, one per connection, and records the requests.
struct Canned {
    url: String,
    asked: Receiver<Recorded>,
}

fn canned(responses: Vec<Vec<u8>>) -> Canned {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, asked) = channel();
    std::thread::spawn(move || {
        for response in responses {
            let (mut stream, _) = listener.accept().unwrap();
            let request = read_request(&mut BufReader::new(stream.try_clone().unwrap())).unwrap();
            // The client may have closed already.
            let _ = sender.send(request);
            let _ = stream.write_all(&response);
        }
    });
    Canned { url, asked }
}

fn response(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
        .into_bytes()
}

fn client(server: &str) -> ApiClient {
    super::client(server, &SecretString::new(TOKEN.to_owned()), None)
}

fn put_off(status: &str, problem: &str, wait: &str) -> Vec<u8> {
    let code = status.split(' ').next().unwrap();
    let body = format!(r#"{{"type":"urn:carnet:problem:{problem}","title":"x","status":{code}}}"#);
    response(status, &format!("Retry-After: {wait}\r\n"), &body)
}

const CREDENTIAL: &str = r#"{"feed":"default/prod","registry":"r.example","username":"u","password":"hunter3",
    "issued_at":"2026-01-01T00:00:00Z","expires_at":"2126-01-01T12:00:00Z","expiries":[],"source":"cache",
    "jti":"00000000-0000-0000-0000-000000000000"}"#;

#[tokio::test]
async fn a_server_other_than_carnet_is_distinguished_from_a_refusal() {
    let not_found = r#"{"type":"urn:carnet:problem:not-found","title":"x","status":404}"#;
    for (status, body) in [
        ("200 OK", ""),
        ("200 OK", "<html>Please log in</html>"),
        ("200 OK", "{}"),
        ("204 No Content", ""),
        ("404 Not Found", "404 page not found"),
        ("404 Not Found", "{}"),
        // A problem document that a proxy sends with another status.
        ("502 Bad Gateway", not_found),
        ("500 Internal Server Error", "\u{1b}[2J"),
    ] {
        let server = canned(vec![response(status, "", body)]);
        let error = client(&server.url).signing_keys().await.unwrap_err();
        assert!(matches!(error, ClientError::NotCarnet { .. }), "{status} {body:?}: {error:?}");
        assert!(error.to_string().contains(&status[..3]), "{error}");
    }
    // A removal accepts only its own success status.
    for status in ["200 OK", "202 Accepted"] {
        let server = canned(vec![response(status, "", "")]);
        let error = client(&server.url).revoke_grant(Uuid::nil()).await.unwrap_err();
        assert!(matches!(error, ClientError::NotCarnet { .. }), "{error:?}");
    }
    // Nor is a credential accepted that would write additional lines.
    let evil = CREDENTIAL.replace("hunter3", "a\\nREGISTRY=evil");
    let server = canned(vec![response("200 OK", "", &evil)]);
    let asked = client(&server.url).credential(&path("default/prod"), &CredentialRequest::default()).await;
    assert!(matches!(asked, Err(ClientError::NotCarnet { .. })), "{asked:?}");
}

#[tokio::test]
async fn an_expired_credential_and_the_callers_own_token_are_not_handed_out() {
    let (prod, request) = (path("default/prod"), CredentialRequest::default());
    let of = async |body: String| {
        let server = canned(vec![response("200 OK", "", &body)]);
        with_clock(&server.url, async |client: ApiClient| client.credential(&prod, &request).await).await.0
    };
    let expired = of(CREDENTIAL.replace("2126-", "2025-")).await.unwrap_err();
    assert!(matches!(expired, ClientError::Expired { .. }), "{expired:?}");
    assert!(expired.to_string().contains("had expired at 2025-01-01T12:00:00Z"), "{expired}");
    let token = format!(r#""registry_token":"{TOKEN}""#);
    for own in [
        CREDENTIAL.replace("hunter3", TOKEN),
        CREDENTIAL.replace("hunter3", &format!("x{TOKEN}y")),
        CREDENTIAL.replace(r#""username":"u","password":"hunter3""#, &token),
    ] {
        let asked = of(own).await;
        assert!(matches!(asked, Err(ClientError::NotCarnet { .. })), "{asked:?}");
        assert!(!format!("{asked:?}").contains("hunter2"));
    }
    assert!(of(CREDENTIAL.to_owned()).await.is_ok());
}

#[tokio::test]
async fn the_token_is_sent_once_and_follows_no_redirect() {
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let elsewhere = canned(vec![response("200 OK", "", "[]")]);
        let there = format!("Location: {}/api/v1/grants\r\n", elsewhere.url);
        let server = canned(vec![response(status, &there, "")]);
        let error = client(&server.url).grants().await.unwrap_err();
        assert!(matches!(error, ClientError::NotCarnet { .. }), "{error:?}");
        let asked = server.asked.recv().unwrap();
        assert_eq!(asked.headers.get("authorization").unwrap(), &format!("Bearer {TOKEN}"));
        assert!(!asked.target.contains("hunter2") && !asked.body.contains("hunter2"), "{asked:?}");
        assert!(elsewhere.asked.try_recv().is_err(), "{status} was followed");
    }
}

#[tokio::test]
async fn an_echoed_token_and_control_characters_get_into_no_error() {
    let body = format!(
        r#"{{"type":"urn:carnet:problem:invalid-field","title":"x","status":422,
            "detail":"\u001b[2J {TOKEN}","hint":"a\nb","upstream":{{"provider":"{TOKEN}","step":"s","status":null,
            "code":null,"message":"\r{TOKEN}","request_id":null}}}}"#
    );
    let server = canned(vec![response("422 Unprocessable", "", &body)]);
    let error = client(&server.url).grants().await.unwrap_err();
    let message = format!("{error} {error:?}");
    assert!(matches!(error, ClientError::Refused(_)) && !message.contains("hunter2"), "{message}");
    assert!(!message.contains(['\u{1b}', '\n', '\r']), "{message:?}");

    let long = format!("carnet_{}", ('0'..='9').chain('A'..='Z').chain('a'..='z').collect::<String>());
    let body = format!(
        r#"{{"type":"urn:carnet:problem:invalid-field","title":"x","status":422,"hint":"try {} again"}}"#,
        &long[20..60]
    );
    let server = canned(vec![response("422 Unprocessable", "", &body)]);
    let client = super::client(&server.url, &SecretString::new(long), None);
    match client.grants().await.unwrap_err() {
        ClientError::Refused(problem) => assert_eq!(problem.hint.as_deref(), Some("try [redacted] again")),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_oversized_response_is_not_read_to_its_end() {
    let long = 5 << 20;
    let declared = response("200 OK", "", &"x".repeat(long));
    let mut endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n".to_vec();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    endless.extend(chunk.repeat(long / 0x10000 + 1).into_bytes());
    // The connection stays open: a client that waits for its end would run into its timeout.
    for response in [declared, endless] {
        let server = canned(vec![response]);
        let error = client(&server.url).grants().await.unwrap_err();
        assert!(matches!(error, ClientError::NotCarnet { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_broken_connection_is_retried_once_and_only_for_requests_without_an_effect() {
    let broken = Vec::new();
    let server = canned(vec![broken.clone(), response("200 OK", "", "[]")]);
    assert!(client(&server.url).grants().await.unwrap().is_empty());
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".to_vec();
    let server = canned(vec![half, response("200 OK", "", CREDENTIAL)]);
    let request = CredentialRequest::default();
    let prod = path("default/prod");
    assert_eq!(client(&server.url).credential(&prod, &request).await.unwrap().feed, "default/prod");

    let server = canned(vec![broken.clone(), broken.clone(), response("200 OK", "", "[]")]);
    let error = client(&server.url).grants().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    assert_eq!(server.asked.iter().take(2).count(), 2);

    let server = canned(vec![broken, response("204 No Content", "", "")]);
    let changing = client(&server.url);
    let error = changing.update_feed(&prod, &FeedPatch::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    // The second response is still available for the next request.
    assert_eq!(server.asked.recv().unwrap().method, "PATCH");
    changing.revoke_grant(Uuid::nil()).await.unwrap();
    assert_eq!(server.asked.recv().unwrap().method, "DELETE");
}

/// Runs with a client whose clock stands still, except while it waits.
async fn with_clock<T>(server: &str, asked: impl AsyncFnOnce(ApiClient) -> T) -> (T, Duration) {
    use carnet::internals::values::clock::Clock as _;
    let clock = SimulatedClock::at("2026-01-01T00:00:00Z".parse().unwrap());
    let token = SecretString::new(TOKEN.to_owned());
    let client =
        ApiClient::with_clock(server.parse().unwrap(), &token, None, Arc::new(clock.clone())).unwrap();
    let asking = asked(client);
    tokio::pin!(asking);
    loop {
        tokio::select! {
            biased;
            response = &mut asking => return (response, clock.monotonic()),
            // Nothing else is ready: advance the clock for the waiting client.
            () = tokio::task::yield_now() => clock.advance(Duration::from_millis(1)),
        }
    }
}

#[tokio::test]
async fn a_postponed_credential_is_requested_again_when_the_server_says_so() {
    let (prod, request) = (path("default/prod"), CredentialRequest::default());
    let server = canned(vec![
        put_off("429 Too Many", "rate-limited", "2"),
        put_off("503 Unavailable", "busy", "1"),
        response("200 OK", "", CREDENTIAL),
    ]);
    let ask = async |client: ApiClient| client.credential(&prod, &request).await;
    let (answer_of_it, took) = with_clock(&server.url, ask).await;
    assert_eq!(answer_of_it.unwrap().source, "cache");
    assert!(took >= Duration::from_secs(3), "{took:?}");

    // A longer wait than the limit fails at once, and only requests for credentials wait.
    let server = canned(vec![put_off("429 Too Many", "rate-limited", "3600")]);
    let (refused, _) = with_clock(&server.url, ask).await;
    assert!(matches!(refused, Err(ClientError::Refused(_))), "{refused:?}");
    let server = canned(vec![put_off("503 Unavailable", "busy", "1")]);
    let (refused, _) = with_clock(&server.url, async |client: ApiClient| client.grants().await).await;
    assert!(matches!(refused, Err(ClientError::Refused(_))), "{refused:?}");
}
