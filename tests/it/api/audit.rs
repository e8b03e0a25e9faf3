//! `GET /audit`.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::world::{Grant, World, refusal, success};
use crate::support::database;
use crate::support::http::Connection;

/// Returns the rows of one page.
#[track_caller]
fn rows(world: &World, of: &Grant, query: &str) -> Vec<Value> {
    let page = success(&world.api.get(of, &format!("/audit?{query}")));
    page["records"].as_array().unwrap().clone()
}

fn texts(rows: &[Value], member: &str) -> Vec<String> {
    rows.iter().map(|row| row[member].as_str().unwrap_or("-").to_owned()).collect()
}

#[test]
fn the_log_records_actor_act_object_and_request() {
    let world = World::new("");
    world.add_feed("here/a", &[]);
    world.add_feed("there/a", &[]);
    let deployer = world.grant(&["--role=deployer", "--space=here"]);
    let credential = success(&world.credentials(&deployer, "here/a", &json!({})));
    let refused = world.credentials(&deployer, "there/a", &json!({}));
    let refused = refused.header("x-request-id").unwrap();

    let actor = format!("grant:{}", deployer.id);
    let of_deployer = rows(&world, &world.admin, &format!("actor={actor}"));
    assert_eq!(texts(&of_deployer, "kind"), ["request", "credential"]);
    assert_eq!(texts(&of_deployer, "outcome"), ["refused", "done"]);
    assert_eq!(of_deployer[0]["request_id"], refused);
    let jti = credential["jti"].as_str().unwrap();
    let of_token = rows(&world, &world.admin, &format!("jti={jti}"));
    // The server minted the token for all callers waiting at that moment; the credential is the grant's.
    assert_eq!(texts(&of_token, "kind"), ["credential", "token.mint"]);
    assert_eq!(texts(&of_token, "actor"), [&actor, "serve"]);
    for row in of_token {
        assert_eq!((&row["space"], &row["feed"]), (&json!("here"), &json!("a")), "{row}");
    }
    assert_eq!(of_deployer[1]["client"], "127.0.0.1");

    let path = "/spaces/here/feeds/a";
    let patch = json!({"name": "other"});
    assert_eq!(world.api.call("PATCH", path, Some(&world.admin.token), Some(&patch)).status, 200);
    assert_eq!(world.api.delete(&world.admin, path).status, 204);
    let rotated = world.api.post(&world.admin, "/signing-keys/rotate", &json!({"force": true}));
    assert_eq!(rotated.status, 200);
    let by_admin = rows(&world, &world.admin, &format!("actor=grant:{}&outcome=done", world.admin.id));
    let kinds: BTreeSet<_> = texts(&by_admin, "kind").into_iter().collect();
    for kind in ["feed.update", "feed.remove", "key.activate", "key.retire", "key.prepare"] {
        assert!(kinds.contains(kind), "no {kind} in {kinds:?}");
    }
    for secret in [&deployer.token, &world.admin.token, credential["password"].as_str().unwrap()] {
        let everything = rows(&world, &world.admin, "limit=1000");
        assert!(!Value::from(everything).to_string().contains(secret));
    }
}

#[test]
fn filters_return_the_named_rows() {
    let world = World::new("");
    world.add_feed("here/a", &[]);
    world.add_feed("here/b", &[]);
    world.add_feed("there/a", &[]);
    for feed in ["here/a", "here/b", "there/a"] {
        success(&world.credentials(&world.admin, feed, &json!({})));
    }
    let everything = rows(&world, &world.admin, "limit=1000");
    let middle = everything[everything.len() / 2]["at"].as_str().unwrap();
    for (query, holds) in [
        ("kind=credential", &(|row: &Value| row["kind"] == "credential") as &dyn Fn(&Value) -> bool),
        ("outcome=done", &|row| row["outcome"] == "done"),
        ("space=here", &|row| row["space"] == "here"),
        ("feed=a", &|row| row["feed"] == "a"),
        ("space=here&feed=a&kind=credential", &|row| {
            row["space"] == "here" && row["feed"] == "a" && row["kind"] == "credential"
        }),
        (&format!("since={middle}"), &|row| row["at"].as_str().unwrap() >= middle),
        (&format!("until={middle}"), &|row| row["at"].as_str().unwrap() < middle),
    ] {
        let expected: Vec<_> = everything.iter().filter(|row| holds(row)).cloned().collect();
        assert!(!expected.is_empty(), "{query}");
        assert_eq!(rows(&world, &world.admin, &format!("limit=1000&{query}")), expected, "{query}");
    }
    for (query, status, kind) in [
        ("kind=nothing", 422, "invalid-field"),
        ("outcome=maybe", 422, "invalid-field"),
        ("space=A", 422, "invalid-field"),
        ("since=yesterday", 422, "invalid-field"),
        ("limit=0", 422, "invalid-field"),
        ("limit=1001", 422, "invalid-field"),
        ("before=0", 422, "invalid-field"),
        ("before=18446744073709551615", 422, "invalid-field"),
        ("before=-1", 400, "malformed-request"),
        ("limit=x", 400, "malformed-request"),
        ("limit=1&limit=2", 400, "malformed-request"),
        ("jti=x", 400, "malformed-request"),
        ("colour=red", 400, "malformed-request"),
    ] {
        let response = world.api.get(&world.admin, &format!("/audit?{query}"));
        assert_eq!(refusal(&response), (status, kind.to_owned()), "{query}");
        let (name, _) = query.split_once('=').unwrap();
        assert!(response.body.contains(name) || status == 400, "{query}: {}", response.body);
    }
    let long = world.api.get(&world.admin, &format!("/audit?actor={}", "a".repeat(81)));
    assert_eq!(refusal(&long), (422, "invalid-field".to_owned()));
}

#[test]
fn pages_hold_every_row_once_newest_first() {
    let world = World::new("");
    world.add_feed("here/a", &[]);
    for _ in 0..10 {
        success(&world.credentials(&world.admin, "here/a", &json!({})));
    }
    let whole: Vec<_> =
        rows(&world, &world.admin, "limit=1000").iter().map(|row| row["seq"].clone()).collect();
    let newest = whole[0].as_i64().unwrap();
    let contiguous: Vec<Value> = (1..=newest).rev().map(Value::from).collect();
    assert_eq!(whole, contiguous);
    for limit in [1, 3, 7] {
        let (mut paged, mut query) = (Vec::new(), format!("limit={limit}"));
        loop {
            let page = success(&world.api.get(&world.admin, &format!("/audit?{query}")));
            let records = page["records"].as_array().unwrap();
            assert!(records.len() <= limit, "{limit}");
            paged.extend(records.iter().map(|row| row["seq"].clone()));
            let Some(before) = page["next_before"].as_i64() else { break };
            query = format!("limit={limit}&before={before}");
        }
        assert_eq!(paged, whole, "{limit}");
    }
}

#[test]
fn a_limited_grant_sees_the_rows_of_its_spaces_and_feeds_and_pages_through_all_of_them() {
    let world = World::new("");
    for feed in ["here/a", "here/b", "there/a"] {
        world.add_feed(feed, &[]);
        success(&world.credentials(&world.admin, feed, &json!({})));
    }
    let all = rows(&world, &world.admin, "limit=1000");
    let paged = |of: &Grant| -> Vec<Value> {
        let (mut seen, mut query) = (Vec::new(), "limit=2".to_owned());
        loop {
            let page = success(&world.api.get(of, &format!("/audit?{query}")));
            seen.extend(page["records"].as_array().unwrap().iter().cloned());
            let Some(before) = page["next_before"].as_i64() else { return seen };
            query = format!("limit=2&before={before}");
        }
    };
    let of_here = world.grant(&["--role=viewer", "--space=here"]);
    let of_a = world.grant(&["--role=viewer", "--space=here", "--feed=a"]);
    let known = all[0]["seq"].as_i64().unwrap();
    for (grant, holds) in [
        (&of_here, &(|row: &Value| row["space"] == "here") as &dyn Fn(&Value) -> bool),
        (&of_a, &|row| row["space"] == "here" && row["feed"] == "a"),
    ] {
        let expected: Vec<_> = all.iter().filter(|row| holds(row)).cloned().collect();
        // The rows about the grants themselves came later.
        let seen: Vec<_> =
            paged(grant).into_iter().filter(|row| row["seq"].as_i64().unwrap() <= known).collect();
        assert_eq!(seen, expected);
    }
    // A space outside the grant looks like a space without rows.
    assert_eq!(rows(&world, &of_here, "space=there"), rows(&world, &of_here, "space=nowhere"));
    assert_eq!(rows(&world, &of_here, "space=there"), Vec::<Value>::new());
}

#[test]
fn rows_outside_a_grant_look_like_rows_that_do_not_exist() {
    const NOBODY: &str = "00000000-0000-4000-8000-000000000000";
    let world = World::new("");
    for feed in ["here/a", "there/a", "there/b"] {
        world.add_feed(feed, &[]);
    }
    // The limit by feed is the one that a query may forget.
    let viewers = [&["--space=here"][..], &["--space=here", "--feed=a"]]
        .map(|limits| world.grant(&[&["--role=viewer"], limits].concat()));
    let outsider = world.grant(&["--role=deployer", "--space=there"]);
    let outside = || success(&world.credentials(&outsider, "there/b", &json!({})));
    for _ in 0..3 {
        success(&world.credentials(&world.admin, "here/a", &json!({})));
        outside();
    }
    let jti = outside()["jti"].as_str().unwrap().to_owned();
    assert_eq!(world.api.delete(&world.admin, "/spaces/there/feeds/a").status, 204);

    let pages = |query: &str| {
        viewers.each_ref().map(|viewer| success(&world.api.get(viewer, &format!("/audit?{query}"))))
    };
    let all = rows(&world, &world.admin, "limit=1000");
    let middle = all[all.len() / 2]["seq"].as_i64().unwrap();
    let id = &outsider.id;
    for (there, nowhere) in [
        ("space=there", "space=nowhere"),
        ("feed=b", "feed=nosuch"),
        ("space=there&feed=b", "space=nowhere&feed=nosuch"),
        ("space=here&feed=b", "space=here&feed=nosuch"),
        (&format!("actor=grant:{id}"), &format!("actor=grant:{NOBODY}")),
        (&format!("grant={id}"), &format!("grant={NOBODY}")),
        (&format!("jti={jti}"), &format!("jti={NOBODY}")),
        ("kind=feed.remove", "kind=audit.prune"),
    ] {
        let is_there = !rows(&world, &world.admin, there).is_empty();
        assert!(is_there || there == "space=here&feed=b", "{there}");
        for more in [
            "limit=1000",
            "limit=1",
            &format!("limit=1&before={middle}"),
            "since=2000-01-01T00:00:00Z",
            "outcome=done",
        ] {
            let [there, nowhere] = [there, nowhere].map(|query| pages(&format!("{query}&{more}")));
            assert_eq!(there, nowhere, "{more}");
            for page in there {
                assert_eq!(page, json!({"records": [], "next_before": null}), "{more}");
            }
        }
    }

    // A cursor is the number of a visible row, and does not depend on rows outside the grant.
    let walk = || {
        let (mut walked, mut query) = (Vec::new(), "limit=1".to_owned());
        loop {
            let [page, _] = pages(&query);
            walked.push(page.clone());
            let Some(before) = page["next_before"].as_i64() else { return walked };
            assert_eq!(page["records"][0]["seq"], before, "{page}");
            query = format!("limit=1&before={before}");
        }
    };
    let before = walk();
    assert!(before.len() > 4, "{before:?}");
    (0..3).for_each(|_| drop(outside()));
    assert_eq!(walk(), before);
}

/// The guarantee is an end within 10 s; this waits longer, because the machine may be busy.
#[test]
fn a_server_with_a_long_log_and_clients_that_hang_ends_soon_after_sigterm() {
    const MANY_ROWS: &str = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100000) \
        INSERT INTO audit SELECT seq + n, at, kind, outcome, actor, space, feed, feed_id, grant_id, jti, sub, aud, kid, \
        request_id, upstream_request_id, client, is_check, detail, count, mac \
        FROM (SELECT * FROM audit ORDER BY seq DESC LIMIT 1), numbers";
    let mut world = World::new("");
    world.add_feed("here/a", &[]);
    database::execute(&world.issuer.carnet.database(), MANY_ROWS);
    let mut hanging = Vec::new();
    for _ in 0..4 {
        let viewer = world.grant(&["--role=viewer"]);
        for query in ["outcome=failed", "limit=1000", "feed=nosuch&since=2000-01-01T00:00:00Z"] {
            let mut connection = Connection::to(&world.api.listening, None);
            // The client does not read the response.
            let head = format!("Host: localhost\r\nAuthorization: Bearer {}\r\n\r\n", viewer.token);
            connection.write(format!("GET /api/v1/audit?{query} HTTP/1.1\r\n{head}").as_bytes());
            hanging.push(connection);
        }
        let mut connection = Connection::to(&world.api.listening, None);
        let headers = format!(
            "Authorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\
             Expect: 100-continue\r\n",
            world.admin.token
        );
        // The server waits for a body that is never sent.
        let begun = connection.request("POST", "/api/v1/spaces/here/feeds/a/credentials", &headers);
        assert_eq!(begun.status, 100);
        hanging.push(connection);
    }
    // `serve` adds up the limits of each step on this path, and does not compile if they exceed ten seconds.
    // This test shows that there are no other waits; a busy machine needs additional time.
    assert!(world.issuer.server.process.terminate(Duration::from_secs(30)));
    let log = world.issuer.server.process.stderr();
    assert!(log.trim_end().ends_with("carnet::cli::serve: stopped"), "{log}");
}
