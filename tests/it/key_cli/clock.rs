//! `key clock`, and the effects on an issuer of a clock that is ten years ahead: all of them can be undone.

use std::time::Duration;

use carnet::internals::values::clock::{Clock as _, SystemClock};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::key_cli::{PATIENCE, USAGE, assert_noted, assert_refused, json_of, stop};
use crate::support::carnet::{Announced, Carnet, Output};
use crate::support::http::Connection;
use crate::support::keys::{self, add_feeds, assert_invariants, jwks, list, mint, published, serve};
use crate::support::process::wait_until;

const TEN_YEARS: &str = "+3650d";
/// The duration for which the wrong clock of an earlier bug deleted an audit log: more than the ten seconds
/// after which a server stores the time.
const THIRTEEN_SECONDS: Duration = Duration::from_secs(13);

fn now() -> Timestamp {
    SystemClock::new().now()
}

fn clock(carnet: &Carnet) -> Value {
    json_of(carnet, &["key", "clock"])
}

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap_or_else(|| panic!("no time: {value}")).parse().unwrap()
}

fn clock_seen_by(server: &Announced) -> String {
    let ready = Connection::to(server.announced("/listening"), None).get("/readyz").json();
    ready["checks"]["clock"].as_str().unwrap().to_owned()
}

fn wait_for_clock(server: &Announced, state: &str) {
    let seen = wait_until(PATIENCE, || (clock_seen_by(server) == state).then_some(()));
    assert!(seen.is_some(), "never {state}, but {}", clock_seen_by(server));
}

fn serve_with_retention(carnet: &Carnet) -> Announced {
    carnet.serve(keys::ISSUER, "127.0.0.1:0", &["--audit-retention=7d"]).unwrap()
}

/// Returns the sequence numbers of the audit log.
fn audited(carnet: &Carnet) -> Vec<i64> {
    let rows = json_of(carnet, &["audit", "list", "--limit=1000"]);
    rows.as_array().unwrap().iter().map(|row| row["seq"].as_i64().unwrap()).collect()
}

fn assert_log_is_whole(carnet: &Carnet) {
    let seqs = audited(carnet);
    assert_eq!(seqs.iter().min(), Some(&1), "the beginning of the log is gone: {seqs:?}");
    carnet.ok(&["audit", "verify"]);
}

/// Returns an issuer with feeds, whose database has the present time.
fn issuer() -> Carnet {
    let mut carnet = Carnet::with_clock_off_by("+0");
    stop(serve(&carnet));
    add_feeds(&carnet, &[]);
    mint(&carnet);
    carnet.turn_clock("+0");
    carnet
}

#[test]
fn a_server_that_starts_ten_years_ahead_for_thirteen_seconds_leaves_no_trace() {
    let mut carnet = issuer();
    let (keys, known) = (list(&carnet), time(&clock(&carnet)["high_water"]));
    carnet.turn_clock(TEN_YEARS);
    let server = serve_with_retention(&carnet);
    let served = published(&jwks(&server));
    assert_eq!(clock_seen_by(&server), "ahead");
    // This test is about time itself.
    std::thread::sleep(THIRTEEN_SECONDS);
    assert_eq!((clock_seen_by(&server).as_str(), published(&jwks(&server))), ("ahead", served));
    stop(server);

    carnet.turn_clock("+0");
    let shown = clock(&carnet);
    assert_eq!((shown["state"].as_str(), time(&shown["high_water"])), (Some("steady"), known));
    assert_eq!(list(&carnet), keys);
    mint(&carnet);
    assert_log_is_whole(&carnet);
}

#[test]
fn a_jump_of_ten_years_in_a_running_server_stops_minting_until_the_clock_is_corrected() {
    let mut carnet = issuer();
    let admin =
        carnet.ok(&["grant", "create", "--role=admin", "--name=admin", "--feed=*", "--expires-in=never"]);
    let authorization =
        format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", admin.trim());
    carnet.turn_running_clock("+0");
    let server = serve_with_retention(&carnet);
    wait_for_clock(&server, "steady");
    carnet.turn_running_clock(TEN_YEARS);
    wait_for_clock(&server, "ahead");
    let mut connection = Connection::to(server.announced("/listening"), None);
    assert_eq!(connection.get("/readyz").status, 503);
    let body = r#"{"role":"viewer","name":"late","feeds":["*"]}"#;
    let head = format!("POST /api/v1/grants HTTP/1.1\r\nHost: carnet.test\r\n{authorization}");
    connection.write(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    let refused = connection.response("POST");
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(refused.body.contains("key clock --accept"), "{}", refused.body);

    carnet.turn_running_clock("+0");
    wait_for_clock(&server, "steady");
    assert_eq!(connection.get("/readyz").status, 200);
    mint(&carnet);
    stop(server);
    assert_log_is_whole(&carnet);
}

#[test]
fn commands_with_a_clock_far_ahead_create_nothing_and_a_revocation_works() {
    let mut carnet = issuer();
    let grant: Value = json_of(&carnet, &["grant", "create", "--role=viewer", "--name=v", "--feed=*"]);
    let known = clock(&carnet)["high_water"].clone();
    carnet.turn_clock("+31d");
    for command in [
        &["token", "mint", "default/es256"][..],
        &["grant", "create", "--role=viewer", "--name=w", "--feed=*"],
        &["key", "rotate", "--force", "--yes"],
        &["key", "policy", "--rotate-every=3650d"],
        &["feed", "credentials", "default/es256"],
    ] {
        let refused = carnet.run(command);
        assert_refused(
            &refused,
            1,
            &["this machine's clock says", "the latest time known", "key clock --accept"],
        );
    }
    carnet.ok(&["grant", "revoke", grant["id"].as_str().unwrap(), "--yes"]);
    assert_eq!((&clock(&carnet)["state"], &clock(&carnet)["high_water"]), (&Value::from("ahead"), &known));
    carnet.turn_clock("+29d");
    mint(&carnet);
}

#[test]
fn a_clock_is_accepted_only_after_a_confirmation() {
    let mut carnet = issuer();
    assert_noted(&carnet.run(&["key", "clock", "--accept", "--yes"]), &["Nothing to do"]);
    carnet.turn_clock("+31d");
    assert_refused(
        &carnet.run(&["key", "clock", "--accept"]),
        USAGE,
        &["the latest time known to the database is", "Compare it with another clock first", "hint: --yes"],
    );
    assert!(carnet.run(&["token", "mint", "default/es256"]).status != 0);
    assert_noted(&carnet.run(&["key", "clock", "--accept", "--yes"]), &["Accepted: "]);
    mint(&carnet);
    let log = json_of(&carnet, &["audit", "list", "--kind=key.clock"]);
    assert!(log[0]["detail"].as_str().unwrap().starts_with("accepted"), "{log}");

    // A clock that is behind now is treated differently.
    carnet.turn_clock("+0");
    assert_refused(
        &carnet.run(&["key", "clock", "--accept", "--yes"]),
        1,
        &["which is before", "--set-back"],
    );
}

#[test]
fn a_rotation_by_a_clock_some_days_ahead_leaves_a_database_that_serves_and_is_set_back() {
    let mut carnet = issuer();
    carnet.turn_clock("+20d");
    carnet.ok(&["key", "rotate", "--force", "--yes"]);
    carnet.turn_clock("+0");
    // The documents are served; nothing is minted until an operator confirms the time.
    let server = serve(&carnet);
    wait_for_clock(&server, "behind");
    stop(server);
    carnet.ok(&["key", "clock", "--set-back", &now().to_string()]);
    mint(&carnet);
    let server = serve(&carnet);
    wait_for_clock(&server, "steady");
    let latest = now() + SignedDuration::from_secs(60);
    for key in list(&carnet) {
        let until = &key["published_until"];
        assert!(until.is_null() || time(until) <= latest + SignedDuration::from_secs(3900), "{key}");
    }
}

#[test]
fn set_back_corrects_the_rows_of_an_accepted_wrong_clock_and_minting_works() {
    let mut carnet = issuer();
    let lasting = json_of(&carnet, &["grant", "create", "--role=viewer", "--name=lasting", "--feed=*"]);
    carnet.turn_clock(TEN_YEARS);
    carnet.ok(&["key", "clock", "--accept", "--yes"]);
    let late = ["grant", "create", "--role=viewer", "--name=late", "--feed=*", "--expires-in=2h"];
    let late = json_of(&carnet, &late);
    let revoked = json_of(&carnet, &["grant", "create", "--role=viewer", "--name=gone", "--feed=*"]);
    carnet.ok(&["grant", "revoke", revoked["id"].as_str().unwrap(), "--yes"]);
    let retired = list(&carnet);
    carnet.ok(&["key", "rotate", "--force", "--yes"]);
    let server = serve_with_retention(&carnet);
    stop(server);

    carnet.turn_clock("+0");
    for command in [&["token", "mint", "default/es256"][..], &["key", "rotate", "--force", "--yes"]] {
        assert_refused(&carnet.run(command), 1, &["which is before", "key clock --set-back"]);
    }
    assert_eq!(clock(&carnet)["state"], "behind");
    assert_refused(&carnet.run(&["key", "clock", "--set-back"]), USAGE, &["this needs the present time"]);
    let wrong = (now() + SignedDuration::from_hours(1)).to_string();
    assert_refused(&carnet.run(&["key", "clock", "--set-back", &wrong]), 1, &["this machine's clock says"]);
    let typed =
        Output::of(&mut carnet.command(&["key", "clock", "--set-back"]), format!("{}\n", now()).as_bytes());
    assert_noted(&typed, &["Type the present time", "Set back from ", "mint again"]);

    mint(&carnet);
    let server = serve(&carnet);
    wait_for_clock(&server, "steady");
    let latest = now() + SignedDuration::from_secs(60);
    let keys = list(&carnet);
    assert_invariants(&keys);
    for key in &keys {
        for member in ["prepared_at", "activated_at", "retired_at"] {
            assert!(key[member].is_null() || time(&key[member]) <= latest, "{member}: {key}");
        }
        let until = &key["published_until"];
        assert!(until.is_null() || time(until) <= latest + SignedDuration::from_secs(3900), "{key}");
    }
    for key in retired.iter().filter(|key| key["state"] == "active") {
        let after = keys.iter().find(|after| after["kid"] == key["kid"]).unwrap();
        assert_eq!(after["state"], "retired", "a key was revived");
    }
    stop(server);
    let grants = json_of(&carnet, &["grant", "list"]);
    let grant =
        |made: &Value| grants.as_array().unwrap().iter().find(|grant| grant["id"] == made["id"]).cloned();
    let lives = |grant: &Value| time(&grant["expires_at"]).duration_since(time(&grant["created_at"]));
    let lived = lives(&late);
    let late = grant(&late).unwrap();
    assert_eq!(lives(&late), lived, "{late}");
    assert!(time(&late["created_at"]) <= latest, "{late}");
    assert!(grant(&revoked).is_some_and(|grant| !grant["revoked_at"].is_null()), "a grant was revived");
    assert_eq!(grant(&lasting).unwrap()["created_at"], lasting["created_at"]);
    assert_log_is_whole(&carnet);
    let again = now().to_string();
    assert_noted(&carnet.run(&["key", "clock", "--set-back", &again]), &["Nothing to do"]);
}
