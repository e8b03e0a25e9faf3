//! `key list`: ages, next events, history, and the clients that fetch the JWKS.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::key_cli::{USAGE, assert_refused, founded, json_of, rows, stop};
use crate::support::carnet::{Announced, Carnet};
use crate::support::http::Connection;
use crate::support::keys::{self, list, list_all, the};
use crate::support::local_actor;

fn fetch(server: &Announced, user_agent: &str) {
    let mut connection = Connection::to(server.announced("/listening"), None);
    let response = connection.request("GET", "/.well-known/jwks", &format!("User-Agent: {user_agent}\r\n"));
    assert_eq!(response.status, 200);
}

#[test]
fn the_list_shows_ages_and_next_events_in_words_and_exact_times_in_json() {
    let mut carnet = founded("-3d");
    let first = list(&carnet);
    carnet.turn_clock("-2h");
    carnet.ok(&["key", "rotate", "--alg=ES256"]);
    carnet.turn_clock("-1h");
    let young = the(&list(&carnet), "ES256", "prepared").to_owned();
    carnet.ok(&["key", "revoke", &young, "--yes"]);
    carnet.turn_clock("+0");

    let keys = list(&carnet);
    let table = carnet.ok(&["key", "list"]);
    let rows = rows(&table);
    let seen = "no regular clients";
    for (alg, state, words) in [
        ("RS256", "active", vec!["3 days ago", "retires in 27 days", seen]),
        ("RS256", "prepared", vec!["3 days ago", "may sign", seen]),
        ("ES256", "active", vec!["2 hours ago", "retires in 30 days", seen]),
        ("ES256", "prepared", vec!["60 minutes ago", "may sign in 23 hours", seen]),
        ("ES256", "revoked", vec!["60 minutes ago"]),
    ] {
        let kid = the(&keys, alg, state);
        let expected = [vec![kid, alg, state], words].concat();
        assert!(rows.contains(&expected), "{expected:?}\n{table}");
    }
    assert_eq!(rows.len(), 5, "a pruned key is listed:\n{table}");

    // The start-up takes some seconds between the clock's offset and the event.
    let near = |value: &Value, ago: i64| {
        let time: Timestamp = value.as_str().unwrap_or_else(|| panic!("{value}")).parse().unwrap();
        let off = now().as_second() - ago - time.as_second();
        assert!(off.abs() < 60, "{time} is not {ago} s ago");
    };
    let by_kid = |kid: &str| list_all(&carnet).into_iter().find(|key| key["kid"] == kid).unwrap();
    let active = by_kid(the(&keys, "ES256", "active"));
    near(&active["prepared_at"], 3 * 86_400);
    near(&active["activated_at"], 2 * 3600);
    for member in ["retired_at", "revoked_at", "published_until", "safe_at"] {
        assert_eq!(active[member], Value::Null, "{member}");
    }
    let prepared = by_kid(the(&keys, "ES256", "prepared"));
    near(&prepared["safe_at"], 3600 - 86_400);
    assert_eq!(prepared["seen_by"], json!({ "clients": 0, "of": 0 }));
    let revoked = by_kid(&young);
    near(&revoked["revoked_at"], 3600);
    assert_eq!((&revoked["state"], &revoked["published_until"]), (&json!("revoked"), &revoked["revoked_at"]));
    let pruned = by_kid(the(&first, "ES256", "active"));
    assert_eq!(pruned["state"], "pruned");
    near(&pruned["retired_at"], 2 * 3600);
    near(&pruned["published_until"], 2 * 3600 - 3900);
}

#[expect(clippy::disallowed_methods, reason = "the commands under test read this machine's clock, too")]
fn now() -> Timestamp {
    Timestamp::now()
}

#[test]
fn the_history_shows_time_event_reason_and_actor() {
    let carnet = founded("-2d");
    let keys = list(&carnet);
    let (active, prepared) = (the(&keys, "RS256", "active"), the(&keys, "RS256", "prepared"));
    carnet.ok(&["key", "policy", "--rotate-every=40d"]);
    carnet.ok(&["key", "rotate", "--alg=RS256", "--force", "--yes"]);
    carnet.ok(&["key", "revoke", prepared, "--yes"]);
    let new = carnet.home().join("new.key");
    carnet.ok(&["key", "rewrap", "--new-key-file", new.to_str().unwrap()]);

    let history = json_of(&carnet, &["key", "list", "--history"]);
    let events: Vec<[&str; 4]> = history
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|event| ["event", "kid", "reason", "actor"].map(|member| event[member].as_str().unwrap_or("-")))
        .collect();
    let position = |expected: [&str; 4]| {
        let found = events.iter().position(|event| {
            event.iter().zip(&expected).all(|(had, wanted)| *wanted == "…" || had == wanted)
        });
        found.unwrap_or_else(|| panic!("{expected:?} is not in {events:#?}"))
    };
    let me = local_actor();
    let me = me.as_str();
    let order = [
        position(["activated", active, "scheduled", "serve"]),
        position(["policy", "-", "…", me]),
        position(["retired", active, "forced", me]),
        position(["activated", prepared, "forced", me]),
        position(["revoked", prepared, "revoked", me]),
        position(["rewrap", "-", "…", me]),
    ];
    assert!(order.is_sorted(), "{events:#?}");
    let policy = events[order[1]][2];
    assert!(policy.contains("rotate-every 3456000 s"), "{policy}");
    let times = history.as_array().unwrap().iter().map(|event| event["at"].as_str().unwrap());
    assert!(times.map(|time| time.parse::<Timestamp>().unwrap()).rev().is_sorted());

    let table = carnet.ok(&["key", "list", "--history"]);
    let retired = ["retired", active, "forced", me];
    assert!(rows(&table).iter().any(|row| row[1..] == retired), "{table}");
}

#[test]
fn the_list_counts_the_regular_clients_that_have_a_key() {
    let mut carnet = Carnet::with_clock_off_by("-4h");
    // Three clients that return, and one that fetched once; the keys are four hours old for all of them.
    let server = keys::serve(&carnet);
    ["aws", "azure", "google", "once"].iter().for_each(|name| fetch(&server, name));
    stop(server);
    carnet.turn_clock("-3h");
    let server = keys::serve(&carnet);
    ["aws", "azure", "google", "aws", "azure", "google"].iter().for_each(|name| fetch(&server, name));
    stop(server);
    let seen = |carnet: &Carnet, state: &str| {
        let kid = the(&list(carnet), "ES256", state).to_owned();
        let key = list(carnet).into_iter().find(|key| key["kid"] == kid.as_str()).unwrap();
        let table = carnet.ok(&["key", "list"]);
        let row = rows(&table).into_iter().find(|row| row[0] == kid).unwrap();
        (row.last().unwrap().to_string(), key["seen_by"].clone())
    };
    let (three, two, none) = ("3 of 3 regular clients", "2 of 3 regular clients", "0 of 3 regular clients");
    assert_eq!(seen(&carnet, "prepared"), (three.to_owned(), json!({ "clients": 3, "of": 3 })));

    carnet.turn_clock("-2h");
    carnet.ok(&["key", "rotate", "--force", "--yes"]);
    assert_eq!(seen(&carnet, "prepared").0, none);
    assert_eq!(seen(&carnet, "active").0, three);
    carnet.turn_clock("-1h");
    let server = keys::serve(&carnet);
    ["aws", "google", "again once"].iter().for_each(|name| fetch(&server, name));
    stop(server);
    assert_eq!(seen(&carnet, "prepared"), (two.to_owned(), json!({ "clients": 2, "of": 3 })));

    // The clients that may hold a key are listed before it is revoked.
    let keys = list(&carnet);
    let refused = carnet.run(&["key", "revoke", the(&keys, "ES256", "prepared")]);
    assert_refused(&refused, USAGE, &["3 clients have fetched it: "]);
    // A verifier that has not fetched for more than a week does not count.
    carnet.turn_clock("+8d");
    assert_eq!(seen(&carnet, "prepared").0, "no regular clients");
}

#[test]
fn clients_are_listed_by_their_user_agent_however_hostile() {
    let carnet = Carnet::new();
    let server = keys::serve(&carnet);
    for _ in 0..3 {
        fetch(&server, "aws-sts/1.0 (regular)");
    }
    let long = format!("long {}", "x".repeat(4000));
    fetch(&server, &long);
    let listening = server.announced("/listening");
    // Bytes that are not allowed in a header are refused; allowed bytes that are not text are escaped.
    for (agent, status) in [("esc \x1b[2J", 400), ("nul \0", 400), ("bell \x07", 400)] {
        let mut connection = Connection::to(listening, None);
        let response = connection.request("GET", "/.well-known/jwks", &format!("User-Agent: {agent}\r\n"));
        assert_eq!(response.status, status, "{agent:?}");
    }
    fetch(&server, "opaque \u{202e}\u{9b}31m\ttab");
    Connection::to(listening, None).get("/.well-known/jwks");
    stop(server);

    let names = |carnet: &Carnet| -> Vec<String> {
        let clients = json_of(carnet, &["key", "list", "--clients"]);
        let names = clients.as_array().unwrap().iter();
        names.map(|client| client["user_agent"].as_str().unwrap().to_owned()).collect()
    };
    let mut known = names(&carnet);
    known.sort_unstable();
    let expected = ["(no user agent)", "aws-sts/1.0 (regular)", &long[..120], "opaque ?????31m?tab"];
    assert_eq!(known, expected);
    let clients = json_of(&carnet, &["key", "list", "--clients"]);
    let regular =
        clients.as_array().unwrap().iter().find(|client| client["fetches"] == 3).expect("three fetches");
    assert_eq!(regular["user_agent"], "aws-sts/1.0 (regular)");
    for member in ["first_fetched_at", "last_fetched_at"] {
        regular[member].as_str().unwrap().parse::<Timestamp>().unwrap();
    }
    let table = carnet.ok(&["key", "list", "--clients"]);
    assert!(table.lines().any(|line| line.ends_with("aws-sts/1.0 (regular)")));
    assert!(table.chars().all(|character| character == '\n' || !character.is_control()), "{table:?}");

    let server = keys::serve(&carnet);
    for number in 0..600 {
        fetch(&server, &format!("flood/{number}"));
    }
    fetch(&server, "aws-sts/1.0 (regular)");
    stop(server);
    let known = names(&carnet);
    assert!(known.len() <= 256, "{} clients are kept", known.len());
    assert!(known.iter().any(|name| name == "aws-sts/1.0 (regular)"), "{known:?}");
    assert!(known.iter().any(|name| name == "(other user agents)"), "{known:?}");
}
