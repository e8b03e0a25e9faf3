//! No token, password or key is in any output or file of carnet, at any log level. The test performs all
//! operations with real programs and full logging, and searches every output and file for every secret.
#![cfg(feature = "otlp")]
#![allow(clippy::print_stderr, reason = "what fails says why")]

mod life;
mod secrets;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::no_secrets::life::{Life, STRANGERS, TRUSTED, request, whole};
use crate::support::http::Connection;

/// The files of the master keys, including earlier ones; no other file may contain a secret.
const KEY_FILES: [&str; 3] = ["keys/master.key", "keys/master-", "new.key"];

#[test]
fn no_output_or_file_has_a_token_a_password_or_a_key() {
    let mut life = Life::begin();
    life.add_feeds();
    use_the_command_line(&mut life);
    let grants = make_grants(&mut life);
    ask_for_credentials(&mut life, &grants);
    ask_wrongly(&mut life, &grants);
    read_everything(&mut life, &grants);
    let mut over_tls = use_tls(&mut life, &grants);

    // The files after a crash, including the write-ahead log.
    over_tls.process.kill();
    life.server.process.kill();
    keep_files(&mut life, "after a crash");
    let log = life.carnet.ok(&["audit", "list", "--output=jsonl"]);
    life.say("audit list", log.as_bytes());
    life.gather();
    keep_files(&mut life, "at the end");
    for (name, process) in [
        ("serve", &life.server.process),
        ("serve over TLS", &over_tls.process),
        ("sandbox", &life.sandbox.process),
    ] {
        let text = process.stdout() + &process.stderr();
        assert!(text.contains("TRACE") && text.contains("DEBUG"), "{name} did not log everything");
        life.said.push((name.to_owned(), text.into_bytes()));
    }

    assert_all_was_there(&life);
    search(&life);
}

/// Grants' tokens: of an admin, a deployer, a viewer, and a revoked one.
struct Grants {
    admin: String,
    deployer: String,
    viewer: String,
    revoked: String,
}

fn use_the_command_line(life: &mut Life) {
    for feed in TRUSTED {
        let feed = format!("default/{feed}");
        let token = life.run(&["token", "mint", &feed]).stdout;
        life.secrets.add("a minted token", token.trim());
        for format in ["json", "password"] {
            let output = life.run(&["feed", "credentials", &feed, &format!("--format={format}")]);
            assert_eq!(output.status, 0, "{feed}");
            match serde_json::from_str(&output.stdout) {
                Ok(json) => life.secrets.add_members("a printed credential", &json),
                Err(_) => life.secrets.add("a printed password", output.stdout.trim()),
            }
        }
    }
    for feed in STRANGERS {
        let output = life.run(&["feed", "credentials", &format!("default/{feed}")]);
        assert_eq!((output.status, output.stdout.as_str()), (1, ""), "{feed}");
    }
    life.cli(&["key", "rotate", "--force", "--yes"]);
    life.cli(&["key", "rewrap", "--new-key-file=new.key"]);
    life.note_master_key("new.key");
    for arguments in [
        &["key", "list", "--all", "--output=json"][..],
        &["feed", "list", "--output=json"],
        &["feed", "show", "default/azure"],
        &["feed", "setup", "default/aws"],
        &["audit", "verify"],
    ] {
        life.cli(arguments);
    }
}

fn make_grants(life: &mut Life) -> Grants {
    let (_, admin) = life.grant("admin");
    let (id, revoked) = life.grant("viewer");
    life.cli(&["grant", "revoke", &id, "--yes"]);
    let mut make = |role: &str| {
        let made = life.ask_secret(
            &admin,
            "/api/v1/grants",
            &json!({ "name": role, "role": role, "spaces": ["default"] }).to_string(),
        );
        let token = made["token"].as_str().unwrap().to_owned();
        life.note_grant(&token);
        token
    };
    let (deployer, viewer) = (make("deployer"), make("viewer"));
    life.cli(&["grant", "list", "--output=json"]);
    Grants { admin, deployer, viewer, revoked }
}

fn credentials_of(feed: &str) -> String {
    format!("/api/v1/spaces/default/feeds/{feed}/credentials")
}

fn ask_for_credentials(life: &mut Life, grants: &Grants) {
    for feed in TRUSTED {
        for _ in 0..2 {
            life.ask_secret(&grants.deployer, &credentials_of(feed), "");
        }
    }
    let scope = r#"{"repositories":["app/one"],"actions":["pull"]}"#;
    let response = life.ask_secret(&grants.deployer, &credentials_of("azure"), scope);
    assert!(response["registry_token"].is_string());
    for feed in STRANGERS {
        let response = life.ask(&grants.deployer, "POST", &credentials_of(feed), "");
        assert_eq!(response.status, 502, "{feed}: {}", response.body);
        // From the cache of failures.
        life.ask(&grants.deployer, "POST", &credentials_of(feed), "");
    }
}

/// Sends invalid tokens, and valid ones in wrong places.
fn ask_wrongly(life: &mut Life, grants: &Grants) {
    let good = grants.admin.clone();
    let mistyped = good[..good.len() - 1].to_owned() + if good.ends_with('0') { "1" } else { "0" };
    let (stranger, jwt) =
        (life.stranger(), life.run(&["token", "mint", "default/aws"]).stdout.trim().to_owned());
    life.secrets.add("a minted token", &jwt);
    for wrong in [&mistyped, &stranger, &jwt, &grants.revoked, "", "carnet_"] {
        assert_eq!(life.ask(wrong, "GET", "/api/v1/grants", "").status, 401);
    }
    let mut raw = |what: &str, request: String| {
        let mut connection = life.connection();
        connection.write(request.as_bytes());
        let response = connection.response("GET");
        assert!((400..500).contains(&response.status), "{what}: {response:?}");
        life.say(what, whole(&response).as_bytes());
    };
    let basic = STANDARD.encode(format!("carnet:{good}"));
    raw(
        "a token as a password",
        format!("GET /api/v1/grants HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {basic}\r\n\r\n"),
    );
    raw(
        "a token in the query",
        format!("GET /api/v1/grants?access_token={good} HTTP/1.1\r\nHost: a\r\n\r\n"),
    );
    raw(
        "a token as a request's name",
        format!("GET /api/v1/grants HTTP/1.1\r\nHost: a\r\nX-Api-Key: {good}\r\n\r\n"),
    );
    for path in [format!("/api/v1/grants/{good}"), format!("/api/v1/spaces/{good}/feeds"), format!("/{good}")]
    {
        let response = request(&mut life.connection(), &good, "DELETE", &path, "");
        assert!((400..500).contains(&response.status), "{response:?}");
        life.say("a token in the path", whole(&response).as_bytes());
    }
    for grant in [&grants.viewer, &grants.deployer] {
        for (path, body) in
            [("/api/v1/signing-keys/rotate", ""), ("/api/v1/grants", r#"{"role":"admin","name":"x"}"#)]
        {
            assert_eq!(life.ask(grant, "POST", path, body).status, 403, "{path}");
        }
    }
    for body in ["{", r#"{"password":1}"#, r#"{"min_remaining_seconds":-1}"#] {
        assert!(life.ask(&grants.deployer, "POST", &credentials_of("aws"), body).status >= 400);
    }
    for misplaced in [
        format!(r#"{{"min_remaining_seconds":"{good}"}}"#),
        format!(r#"{{"{good}":1}}"#),
        format!(r#"{{"context":{{"tenant":"{good}"}}}}"#),
        format!(r#"{{"repositories":["{good}"]}}"#),
    ] {
        // The response may quote this caller's own request and is not collected; its log lines are.
        let path = credentials_of("aws");
        assert!(request(&mut life.connection(), &grants.deployer, "POST", &path, &misplaced).status >= 400);
    }
}

fn read_everything(life: &mut Life, grants: &Grants) {
    for path in [
        "/metrics",
        "/api/v1/audit?limit=1000",
        "/api/v1/grants",
        "/api/v1/signing-keys",
        "/api/v1/spaces/default/feeds",
        "/api/v1/spaces/default/feeds/google",
        "/api/v1/openapi.json",
        "/readyz",
        "/.well-known/openid-configuration",
        "/.well-known/jwks",
    ] {
        assert_eq!(life.ask(&grants.admin, "GET", path, "").status, 200, "{path}");
    }
    let metrics = life.ask(&grants.admin, "GET", "/metrics", "").body;
    for series in [
        r#"carnet_grant_checks_total{outcome="missing"} "#,
        r#"carnet_grant_checks_total{outcome="unknown"} "#,
        r#"carnet_grant_checks_total{outcome="revoked"} "#,
        r#"carnet_grant_checks_total{outcome="forbidden"} "#,
        r#"carnet_grant_checks_total{outcome="accepted"} "#,
        "carnet_audit_group_rows_sum ",
        "carnet_audit_write_duration_seconds_count ",
    ] {
        let line = metrics.lines().find_map(|line| line.strip_prefix(series));
        assert!(line.is_some_and(|value| value.parse::<f64>().unwrap() >= 1.0), "{series}: {line:?}");
    }
}

/// The same over TLS, with a server that logs in JSON.
fn use_tls(life: &mut Life, grants: &Grants) -> crate::support::carnet::Announced {
    let server = life.serve_tls();
    let listening = server.announced("/listening").to_owned();
    let mut connection = Connection::to(&listening, Some(&life.ca));
    let response = request(&mut connection, &grants.deployer, "POST", &credentials_of("aws"), "");
    // The only difference is that there is no proxy.
    assert_eq!(response.status, 200, "{}", response.body);
    life.secrets.add_members("the answer over TLS", &response.json());
    let response = request(&mut connection, &grants.viewer, "GET", "/metrics", "");
    assert!(
        response.body.contains(r#"carnet_tls_certificate_not_after_timestamp_seconds{listener="main"} "#)
    );
    life.say("metrics over TLS", whole(&response).as_bytes());
    server
}

/// Collects the content of every file in the home, except those that contain keys by purpose.
fn keep_files(life: &mut Life, when: &str) {
    let home = life.carnet.home().to_owned();
    let mut folders = vec![home.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&home).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                folders.push(path);
            } else if !KEY_FILES.iter().any(|file| name.starts_with(file)) {
                life.say(&format!("{name} {when}"), &std::fs::read(path).unwrap());
            }
        }
    }
}

/// Asserts that every kind of secret occurred, because the search proves nothing otherwise.
fn assert_all_was_there(life: &Life) {
    for secret in [
        "a grant's token",
        "a master key",
        "a minted token",
        "a token on its way's signature",
        // AWS's session, and Google's federated token.
        "a header on its way",
        "a cloud's SecretAccessKey",
        "a cloud's SessionToken",
        "a cloud's answer: access_token",
        "a cloud's answer: refresh_token",
        "a cloud's answer: accessToken",
        "a cloud's answer: authorizationToken",
        "a printed credential: password",
        "the API's answer: password",
        "the API's answer: registry_token",
        "the key of TLS",
        "the proxy's password",
    ] {
        assert!(life.secrets.seen.contains(secret), "there was no {secret}: {:?}", life.secrets.seen);
    }
    let said = |name: &str| life.said.iter().any(|(by, what)| by.contains(name) && !what.is_empty());
    for name in
        ["carnet.db after", "carnet.db-wal after", "carnet.db-shm after", "an export of traces", "audit list"]
    {
        assert!(said(name), "there is no {name}");
    }
}

fn search(life: &Life) {
    let needles = life.secrets.needles();
    let mut found = Vec::new();
    for (by, what) in &life.said {
        found.extend(needles.found_in(what).into_iter().map(|needle| format!("{by}: {needle}")));
    }
    let bytes: usize = life.said.iter().map(|(_, what)| what.len()).sum();
    eprintln!(
        "{} secrets looked for in {} texts and files of {bytes} bytes",
        life.secrets.all.len(),
        life.said.len()
    );
    assert!(found.is_empty(), "{found:#?}");

    // The control: each secret, complete or in part, is found in any place, in plain text and as base64.
    for (number, (name, secret)) in life.secrets.all.iter().enumerate() {
        let (by, what) = &life.said[number % life.said.len()];
        let middle = what.len() / 2;
        let around = &what[middle.saturating_sub(500)..(middle + 500).min(what.len())];
        let half = &secret[secret.len() / 2..];
        let mut planted = vec![secret.clone(), STANDARD.encode([b"x", &secret[..]].concat()).into_bytes()];
        // A half contains a complete search piece only if it is long enough.
        planted.extend((half.len() >= 48).then(|| half.to_vec()));
        for planted in planted {
            let text = [&around[..around.len() / 2], &planted[..], &around[around.len() / 2..]].concat();
            assert!(!needles.found_in(&text).is_empty(), "{name} would not be found in {by}");
        }
    }
}
