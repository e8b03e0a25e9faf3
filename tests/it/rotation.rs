//! Rotation by the command line while a server runs: it takes effect at once, breaks no token, and concurrent
//! rotations rotate once. Also the shutdown of a server.

use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::support::carnet::{Announced, Carnet};
use crate::support::http::Connection;
use crate::support::keys::{self, ISSUER, jwks, kid, kids, list, mint, published, states, verify};
use crate::support::process::wait_until;
use jiff::Timestamp;
use serde_json::Value;

/// Far longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn serve() -> (Announced, Carnet) {
    let carnet = Carnet::new();
    let server = keys::serve(&carnet);
    keys::add_feeds(&carnet, &[]);
    (server, carnet)
}

#[test]
fn a_running_server_publishes_keys_that_another_process_rotated() {
    let (server, carnet) = serve();
    let (before, old_tokens) = (jwks(&server), mint(&carnet));
    let output = carnet.run(&["key", "rotate", "--force", "--yes"]);
    assert_eq!((output.status, output.stdout.as_str()), (0, ""), "{}", output.stderr);
    for text in ["refuses every new RS256 token until", "signs from now on", "its private key is destroyed"] {
        assert!(output.stderr.contains(text), "{text}:\n{}", output.stderr);
    }

    let expected = kids(&list(&carnet));
    let after = wait_until(PATIENCE, || {
        let after = jwks(&server);
        (published(&after) == expected).then_some(after)
    });
    let after = after.expect("the server never publishes the new keys");
    assert_eq!(expected.len(), 6);

    let new_tokens = mint(&carnet);
    for (old, new) in old_tokens.iter().zip(&new_tokens) {
        assert_ne!(kid(old), kid(new));
        let claims = verify(&after, old).expect("the retired key is not published");
        assert_eq!(claims["iss"], ISSUER);
        verify(&after, new).expect("the active key is not published");
        // The key was published before it signed: a verifier that has not fetched since has it.
        verify(&before, new).expect("the promoted key was not published before");
    }
}

#[test]
fn key_list_shows_each_key_with_its_state_and_events() {
    let (_server, carnet) = serve();
    let first = list(&carnet);
    assert_eq!(states(&first), ["ES256 active", "ES256 prepared", "RS256 active", "RS256 prepared"]);
    carnet.ok(&["key", "rotate", "--alg=ES256", "--force", "--yes"]);
    let second = list(&carnet);
    assert_eq!(
        states(&second),
        ["ES256 active", "ES256 prepared", "ES256 retired", "RS256 active", "RS256 prepared"]
    );
    let time = |value: &Value| value.as_str().map(|time| time.parse::<Timestamp>().unwrap());
    for key in &second {
        let earlier = first.iter().find(|earlier| earlier["kid"] == key["kid"]);
        assert!(earlier.is_none_or(|earlier| earlier["prepared_at"] == key["prepared_at"]));
        let [prepared, activated, retired, until] =
            ["prepared_at", "activated_at", "retired_at", "published_until"].map(|event| time(&key[event]));
        let was = earlier.map(|earlier| earlier["state"].as_str().unwrap());
        match (was, key["state"].as_str().unwrap()) {
            (Some("active"), "retired") => {
                assert!(prepared <= activated && activated <= retired);
                // The longest lifetime, an hour, and five minutes of leeway.
                assert_eq!(until.unwrap().duration_since(retired.unwrap()).as_secs(), 3900);
            }
            (Some("active" | "prepared"), "active") => assert!(activated >= prepared && retired.is_none()),
            (Some("prepared") | None, "prepared") => assert_eq!((activated, retired), (None, None)),
            other => panic!("{other:?}"),
        }
    }
    let table = carnet.ok(&["key", "list"]);
    let mut lines = table.lines();
    let heading: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(heading, ["KID", "ALG", "STATE", "SINCE", "NEXT", "SEEN", "BY"]);
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 5);
    for key in &second {
        let row = rows.iter().find(|row| row[0] == key["kid"]).unwrap();
        assert_eq!((row[1], row[2]), (key["alg"].as_str().unwrap(), key["state"].as_str().unwrap()));
        let next = match row[2] {
            "active" => "retires in 30 days",
            "prepared" => "may sign in 24 hours",
            _ => "leaves the JWKS in 65 minutes",
        };
        assert!(table.lines().any(|line| line.contains(row[0]) && line.contains(next)), "{next}:\n{table}");
    }
}

#[test]
fn without_force_a_young_key_is_not_promoted() {
    let (server, carnet) = serve();
    let before = (jwks(&server), carnet.ok(&["key", "list", "--output=json"]));
    let output = carnet.run(&["key", "rotate", "--yes"]);
    assert_eq!((output.status, output.stdout.as_str()), (1, ""));
    assert!(output.stderr.contains("verifiers may not know it before"), "{}", output.stderr);
    assert_eq!((jwks(&server), carnet.ok(&["key", "list", "--output=json"])), before);
}

#[test]
fn a_storm_of_rotations_keeps_the_invariants() {
    let (server, carnet) = serve();
    let storm: Vec<Child> = (0..20)
        .map(|_| {
            let mut command = carnet.command(&["key", "rotate", "--force", "--yes"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let (mut rotated, mut already, mut refused) = (0, 0, 0);
    for process in storm {
        let output = process.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        match output.status.code() {
            Some(0) if stderr.contains("signs from now on") => rotated += 1,
            Some(0) if stderr.contains("Already rotated") => already += 1,
            Some(1) if stderr.contains("must not publish more than 8") => refused += 1,
            status => panic!("{status:?}: {stderr}"),
        }
    }
    // Four keys are published at first and each rotation adds two, so two rotations reach eight.
    assert!((1..=2).contains(&rotated), "{rotated} rotated, {already} were too late, {refused} refused");
    let keys = list(&carnet);
    assert_eq!(keys.len(), 4 + 2 * rotated);
    let lasting: Vec<_> = states(&keys).into_iter().filter(|state| !state.ends_with("retired")).collect();
    assert_eq!(lasting, ["ES256 active", "ES256 prepared", "RS256 active", "RS256 prepared"]);
    for token in mint(&carnet) {
        wait_until(PATIENCE, || verify(&jwks(&server), &token))
            .expect("the server does not publish the signing key");
    }
}

#[test]
fn a_server_asked_to_stop_finishes_the_request_under_way() {
    let (mut server, _carnet) = serve();
    let listening = server.announced("/listening").to_owned();
    let mut idle = Connection::to(&listening, None);
    let body = idle.get("/.well-known/jwks").body;
    let mut under_way = Connection::to(&listening, None);
    under_way.write(b"GET /.well-known/jwks HTTP/1.1\r\nHost: carnet");
    // Connections are accepted in order: once the next ones have responses, that one has been read.
    for _ in 0..10 {
        assert_eq!(Connection::to(&listening, None).get("/healthz").status, 200);
    }

    server.process.ask_to_stop();
    assert!(idle.is_closed(), "an idle connection got an answer to nothing");
    let address = listening.trim_start_matches("http://");
    wait_until(PATIENCE, || TcpStream::connect(address).err()).expect("new connections are still taken");
    under_way.write(b".test\r\n\r\n");
    let response = under_way.response("GET");
    assert_eq!((response.status, response.body), (200, body));
    assert!(under_way.is_closed());

    let status = server.process.wait_for_end(PATIENCE).expect("the server does not stop");
    assert_eq!(status.code(), Some(0), "{}", server.process.stderr());
    assert!(server.process.stderr().contains("stopped"), "{}", server.process.stderr());
    assert_eq!(server.process.stdout().lines().count(), 1, "more than the announcement on stdout");
}

#[test]
fn a_stopped_server_leaves_no_log_behind_and_starts_again() {
    let (mut server, carnet) = serve();
    let before = jwks(&server);
    server.process.ask_to_stop();
    assert!(server.process.wait_for_end(PATIENCE).expect("the server does not stop").success());
    let log = carnet.home().join("carnet.db-wal");
    assert!(!log.exists(), "the write-ahead log is left behind");
    let again = carnet.serve(ISSUER, "127.0.0.1:0", &[]).unwrap();
    assert_eq!(jwks(&again), before);
}
