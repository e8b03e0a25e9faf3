//! Servers and commands concurrently on one database: a change by one of them reaches the others within a
//! second, and no interleaving breaks anything.
#![allow(clippy::print_stderr, reason = "what fails says why")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::carnet::{Announced, Carnet, Output};
use crate::support::http::{Connection, HttpResponse};
use crate::support::keys::{
    self, ISSUER, assert_invariants, jwks, kid, kids, list, mint, published, the, verify,
};
use crate::support::process::wait_until;
use serde_json::Value;

const JWKS: &str = "/.well-known/jwks";
/// The timeout of each change. The guarantee is one second; a busy machine gets more.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(5);

fn issuer() -> (Carnet, Announced) {
    let carnet = Carnet::new();
    let server = keys::serve(&carnet);
    keys::add_feeds(&carnet, &[]);
    (carnet, server)
}

#[expect(clippy::disallowed_methods, reason = "what is measured happens in other programs, in real time")]
fn now() -> Instant {
    Instant::now()
}

/// Runs a command and returns the time of its end.
fn change(carnet: &Carnet, arguments: &[&str]) -> Instant {
    carnet.ok(arguments);
    now()
}

/// Waits until each server's response to `path` is as it `should` be, and prints the maximum time since
/// `changed`, including the polling.
#[track_caller]
fn follow(
    servers: &[&Announced],
    what: &str,
    changed: Instant,
    path: &str,
    should: impl Fn(&HttpResponse) -> bool,
) {
    for (number, server) in servers.iter().enumerate() {
        let mut connection = Connection::to(server.announced("/listening"), None);
        let followed = wait_until(FOLLOWS_WITHIN, || should(&connection.get(path)).then_some(()));
        assert!(followed.is_some(), "server {number} does not follow {what} in {FOLLOWS_WITHIN:?}");
        eprintln!("server {number} had followed {what} after {} ms", changed.elapsed().as_millis());
    }
}

/// Waits until each server publishes the keys of `key list`.
#[track_caller]
fn follow_keys(carnet: &Carnet, servers: &[&Announced], what: &str, changed: Instant) {
    let keys = list(carnet);
    assert_invariants(&keys);
    let expected = kids(keys.iter().filter(|key| key["state"] != "revoked"));
    follow(servers, what, changed, JWKS, |response| published(&response.body) == expected);
}

#[test]
fn running_servers_follow_every_change_of_another_process() {
    let (carnet, first) = issuer();
    let second = keys::serve(&carnet);
    let servers = [&first, &second];
    let etag = |server| {
        let response = Connection::to(server, None).get("/.well-known/jwks");
        response.header("etag").unwrap().to_owned()
    };
    let before = servers.map(|server| etag(server.announced("/listening")));
    assert_eq!(before[0], before[1], "two servers publish different bytes");

    let changed = change(&carnet, &["key", "rotate", "--force", "--yes"]);
    follow_keys(&carnet, &servers, "a rotation", changed);
    let after = servers.map(|server| etag(server.announced("/listening")));
    assert_eq!(after[0], after[1], "two servers publish different bytes");
    assert_ne!(before, after);

    let changed = change(&carnet, &["key", "policy", "--jwks-max-age=77s"]);
    follow(&servers, "a change of policy", changed, JWKS, |response| {
        response.header("cache-control") == Some("public, max-age=77")
    });

    for state in ["active", "prepared", "retired"] {
        let kid = the(&list(&carnet), "ES256", state).to_owned();
        let token = mint(&carnet)[1].clone();
        let changed = change(&carnet, &["key", "revoke", &kid, "--yes", "--no-nudge"]);
        follow_keys(&carnet, &servers, &format!("the revocation of the {state} key"), changed);
        for server in servers {
            let jwks = jwks(server);
            assert!(!published(&jwks).contains(&kid), "a revoked key is published");
            assert_eq!(verify(&jwks, &token).is_none(), state == "active", "{state}");
        }
    }

    let known = kids(&list(&carnet));
    let changed = change(&carnet, &["key", "revoke", "--all", "--yes", "--no-nudge"]);
    follow_keys(&carnet, &servers, "the revocation of all keys", changed);
    for server in servers {
        assert!(published(&jwks(server)).is_disjoint(&known), "a revoked key is published");
    }
    for token in mint(&carnet) {
        for server in servers {
            verify(&jwks(server), &token).expect("the new key is not published");
        }
    }
}

#[test]
fn a_storm_of_rotations_beside_two_servers_rotates_as_often_as_its_callers_saw_new_keys() {
    let (carnet, first) = issuer();
    let second = keys::serve(&carnet);
    let before = list(&carnet);
    let tokens = mint(&carnet);
    let storm: Vec<Child> = (0..24)
        .map(|number| {
            let force: &[&str] = if number % 2 == 0 { &["--force", "--yes"] } else { &[] };
            let mut command = carnet.command(&[&["key", "rotate"], force].concat());
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let mut outcomes = BTreeMap::<&str, usize>::new();
    for (number, child) in storm.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let says = |words: &str| stderr.contains(words);
        let outcome = match (output.status.code(), number % 2 == 0) {
            (Some(0), true) if says("signs from now on") => "rotated",
            // Another process has rotated both algorithms since this one looked.
            (Some(0), _) if says("Already rotated") => "already rotated",
            (Some(1), true) if says("must not publish more than 8") && says("next slot becomes free at") => {
                "full"
            }
            (Some(1), false) if says("verifiers may not know it before") => "too young",
            (status, force) => panic!("{status:?}, force {force}: {stderr}"),
        };
        assert!(output.stdout.is_empty());
        *outcomes.entry(outcome).or_default() += 1;
    }
    eprintln!("the storm: {outcomes:?}");
    // Four keys at first, two more for each rotation, eight at most.
    let rotated = outcomes["rotated"];
    assert!((1..=2).contains(&rotated), "{outcomes:?}");
    let changed = now();
    let after = list(&carnet);
    assert_eq!(after.len(), before.len() + 2 * rotated);
    for alg in ["RS256", "ES256"] {
        let retired = after.iter().filter(|key| key["alg"] == alg && key["state"] == "retired").count();
        assert_eq!(retired, rotated, "{alg}");
    }
    follow_keys(&carnet, &[&first, &second], "the storm", changed);
    for server in [&first, &second] {
        for token in tokens.iter().chain(&mint(&carnet)) {
            verify(&jwks(server), token).expect("a token of before or after the storm does not verify");
        }
        let ready = Connection::to(server.announced("/listening"), None).get("/readyz");
        assert_eq!(ready.status, 200, "{}", ready.body);
    }
    let history: Value =
        serde_json::from_str(&carnet.ok(&["key", "list", "--history", "--output=json"])).unwrap();
    let retired = history.as_array().unwrap().iter().filter(|event| event["event"] == "retired").count();
    assert_eq!(retired, 2 * rotated, "a rotation is missing from the history, or is there twice");
}

/// Checks that everything the servers publish verifies every token, before and after a rotation.
fn assert_all_well(carnet: &Carnet, servers: &[&Announced]) {
    let before = mint(carnet);
    let changed = change(carnet, &["key", "rotate", "--force", "--yes"]);
    follow_keys(carnet, servers, "a rotation under the new master key", changed);
    for token in before.iter().chain(&mint(carnet)) {
        for server in servers {
            verify(&jwks(server), token).expect("a published key is missing");
        }
    }
    for server in servers {
        let response = Connection::to(server.announced("/listening"), None).get("/readyz");
        assert_eq!(response.status, 200, "{}", response.body);
    }
}

#[test]
fn servers_continue_during_a_rewrap_and_rotate_with_the_new_master_key() {
    let (carnet, first) = issuer();
    let second = keys::serve(&carnet);
    let servers = [&first, &second];
    let published_before = jwks(&first);
    let old = fs::read(carnet.keys_dir().join("master.key")).unwrap();
    let new = carnet.home().join("new.key");

    let output = carnet.run(&["key", "rewrap", "--new-key-file", new.to_str().unwrap()]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(output.stderr.contains("is sealed with the master key"), "{}", output.stderr);
    let (master, made) = (carnet.keys_dir().join("master.key"), fs::read(&new).unwrap());
    assert_eq!(fs::read(&master).unwrap(), made);
    assert_ne!(old, made);
    let kept = fs::read_dir(carnet.keys_dir()).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
    assert!(kept.into_iter().any(|content| content == old), "the old master key was deleted");
    let sealed_with = crate::support::database::texts(
        &carnet.database(),
        "SELECT master_key_id FROM signing_keys WHERE master_key_id IS NOT NULL \
         UNION SELECT master_key_id FROM sealed_keys",
    );
    assert_eq!(sealed_with.len(), 1, "{sealed_with:?}");

    assert_eq!(servers.map(jwks), [&published_before, &published_before].map(Clone::clone));
    assert_all_well(&carnet, &servers);
    // Servers also rotate on schedule with it: under this policy the keys are due at once.
    let active = the(&list(&carnet), "ES256", "active").to_owned();
    keys::set_quick_policy(&carnet);
    let rotated = wait_until(Duration::from_secs(30), || {
        let keys = list(&carnet);
        (the(&keys, "ES256", "active") != active).then_some(keys)
    });
    let keys = rotated.expect("no server rotates after the rewrap");
    let pair = ["active", "prepared"].map(|state| the(&keys, "ES256", state).to_owned());
    assert!(!pair.contains(&active));
    for server in servers {
        assert!(!server.process.stderr().contains("ERROR"), "{}", server.process.stderr());
    }

    let again = carnet.run(&["key", "rewrap", "--new-key-file", new.to_str().unwrap()]);
    assert_eq!(again.status, 0, "{}", again.stderr);
    assert!(again.stderr.contains("Nothing to seal"), "{}", again.stderr);
}

/// A carnet whose master key is a file provided from outside.
struct Provided {
    carnet: Carnet,
    file: PathBuf,
}

impl Provided {
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.carnet.bare_command();
        command
            .args(arguments)
            .arg(format!("--database=sqlite:{}", self.carnet.database().display()))
            .env("CARNET_MASTER_KEY_FILE", &self.file);
        Output::of(&mut command, b"")
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status, 0, "{}", output.stderr);
        output.stdout
    }

    fn list(&self) -> Vec<Value> {
        serde_json::from_str(&self.ok(&["key", "list", "--output=json"])).unwrap()
    }
}

#[test]
fn a_server_that_cannot_open_the_new_keys_serves_only_documents_until_it_can() {
    let (carnet, founder) = issuer();
    drop(founder);
    // As in a deployment: the key is in its provider's file, and there is no keys folder.
    let file = carnet.home().join("provided.key");
    fs::rename(carnet.keys_dir().join("master.key"), &file).unwrap();
    fs::remove_dir_all(carnet.keys_dir()).unwrap();
    let mut provided = Provided { carnet, file };
    let old_file = provided.file.clone();
    let server = provided.carnet.serve_with(ISSUER, |command| {
        command.env("CARNET_MASTER_KEY_FILE", &old_file);
    });
    let before = jwks(&server);
    let token = provided.ok(&["token", "mint", "default/es256"]).trim().to_owned();

    let new = provided.carnet.home().join("new.key");
    let old = fs::read(&provided.file).unwrap();
    let rewrap = ["key", "rewrap", "--new-key-file", new.to_str().unwrap()];
    let refused = provided.run(&rewrap);
    assert_eq!(refused.status, 1);
    assert!(refused.stderr.contains("cannot open the master key"), "{}", refused.stderr);
    provided.ok(&["key", "list"]);
    let output = provided.run(&[&rewrap[..], &["--strand"]].concat());
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(output.stderr.contains("CARNET_MASTER_KEY_FILE must name"), "{}", output.stderr);
    assert_eq!(fs::read(&provided.file).unwrap(), old, "carnet wrote a file that it does not own");
    assert!(!provided.carnet.keys_dir().exists(), "a keys folder was made");
    let refused = provided.run(&["key", "list"]);
    assert_eq!(refused.status, 1);
    assert!(refused.stderr.contains("is sealed with the master key"), "{}", refused.stderr);

    // The server's file still has the old key: it serves its current documents and is not ready.
    follow(&[&server], "that it lacks the new master key", now(), "/readyz", |response| {
        response.status == 503 && response.json()["checks"]["needs_master_key"].is_string()
    });
    assert_eq!(jwks(&server), before);
    verify(&jwks(&server), &token).expect("a published key is missing");

    // Another process rotates with the new key: the server cannot authenticate the new rows.
    provided.file = new;
    provided.ok(&["key", "rotate", "--force", "--yes"]);
    assert_eq!(jwks(&server), before);
    let after = provided.ok(&["token", "mint", "default/es256"]).trim().to_owned();
    assert_ne!(kid(&token), kid(&after));
    // Once the provider has installed the new key, the server signs again, without a restart.
    fs::copy(&provided.file, provided.carnet.home().join("arriving.key")).unwrap();
    fs::rename(provided.carnet.home().join("arriving.key"), &old_file).unwrap();
    follow(&[&server], "the new master key", now(), "/readyz", |response| response.status == 200);
    let expected = kids(&provided.list());
    follow(&[&server], "the rotation", now(), JWKS, |response| published(&response.body) == expected);
    verify(&jwks(&server), &after).expect("a published key is missing");
}

#[test]
fn servers_with_the_next_master_key_use_it_within_a_second() {
    let (carnet, founder) = issuer();
    drop(founder);
    let file = carnet.home().join("provided.key");
    fs::rename(carnet.keys_dir().join("master.key"), &file).unwrap();
    let next = carnet.home().join("next.key");
    let mut provided = Provided { carnet, file };
    let old_file = provided.file.clone();
    // The file need not exist when the servers start.
    let server = provided.carnet.serve_with(ISSUER, |command| {
        command.env("CARNET_MASTER_KEY_FILE", &old_file).env("CARNET_NEXT_MASTER_KEY_FILE", &next);
    });
    provided.ok(&["key", "rewrap", "--new-key-file", next.to_str().unwrap()]);
    provided.file = next;
    let changed = change_of(&provided);
    let expected = kids(&provided.list());
    follow(&[&server], "a rotation with the next master key", changed, JWKS, |response| {
        published(&response.body) == expected
    });
    let ready = Connection::to(server.announced("/listening"), None).get("/readyz");
    assert_eq!(ready.status, 200, "{}", ready.body);
    assert!(!server.process.stderr().contains("ERROR"), "{}", server.process.stderr());
}

/// Rotates and returns the time.
fn change_of(provided: &Provided) -> Instant {
    provided.ok(&["key", "rotate", "--force", "--yes"]);
    now()
}
