//! A first start creates a database, a master key and signing keys exactly once, even if several processes
//! start together; a later start finds them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;

use crate::support::carnet::{Announced, Carnet};
use crate::support::database;
use crate::support::http::Connection;
use serde_json::Value;

const ISSUER: &str = "https://issuer.example";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn feed(slug: &str) -> [String; 7] {
    [
        "feed".to_owned(),
        "add".to_owned(),
        "aws-ecr".to_owned(),
        "--space=default".to_owned(),
        format!("--slug={slug}"),
        "--registry=123456789012.dkr.ecr.eu-central-1.amazonaws.com".to_owned(),
        "--role-arn=arn:aws:iam::123456789012:role/pull".to_owned(),
    ]
}

/// Checks for one master key, one schema, one issuer, and for each algorithm exactly one active and one
/// prepared key that open and sign.
#[track_caller]
fn assert_founded_once(carnet: &Carnet) {
    let texts = |query| database::texts(&carnet.database(), query);
    assert_eq!(texts("SELECT url FROM issuer"), [ISSUER]);
    assert_eq!(
        texts("SELECT name FROM sqlite_schema WHERE type = 'table' AND name = 'feeds'").len(),
        1,
        "no schema"
    );
    let migrations = fs::read_dir(crate::support::in_package("migrations")).unwrap().count();
    assert_eq!(texts("SELECT CAST(version AS TEXT) FROM _sqlx_migrations WHERE success").len(), migrations);
    let mut files: Vec<_> =
        fs::read_dir(carnet.keys_dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort_unstable();
    assert_eq!(files, ["master.key", "state", "state.lock"]);
    let master_keys = texts(
        "SELECT master_key_id FROM sealed_keys UNION SELECT master_key_id FROM signing_keys WHERE master_key_id IS NOT NULL",
    );
    assert_eq!(master_keys.len(), 1, "{master_keys:?}");

    let keys: Value = serde_json::from_str(&carnet.ok(&["key", "list", "--all", "--output=json"])).unwrap();
    let mut states: Vec<_> =
        keys.as_array().unwrap().iter().map(|key| (text(&key["alg"]), text(&key["state"]))).collect();
    states.sort_unstable();
    assert_eq!(
        states,
        [("ES256", "active"), ("ES256", "prepared"), ("RS256", "active"), ("RS256", "prepared")]
    );
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn a_first_start_creates_files_private_to_its_owner() {
    let carnet = Carnet::new();
    let server = carnet.serve(ISSUER, "127.0.0.1:0", &[]).unwrap();
    assert_eq!(server.announced("/issuer"), ISSUER);
    // While the server runs, SQLite's log and index exist, too.
    for entry in fs::read_dir(carnet.home()).unwrap().map(|entry| entry.unwrap().path()) {
        assert_eq!(mode(&entry), if entry.is_dir() { 0o700 } else { 0o600 }, "{}", entry.display());
    }
    for file in ["master.key", "state", "state.lock"] {
        assert_eq!(mode(&carnet.keys_dir().join(file)), 0o600, "{file}");
    }
    assert_founded_once(&carnet);
    drop(server);
    assert_founded_once(&carnet);
}

#[test]
fn only_commands_that_may_make_a_database_do() {
    let carnet = Carnet::new();
    for command in [
        ["key", "list"].as_slice(),
        &["key", "rotate"],
        &["feed", "list"],
        &["feed", "show", "default/prod"],
        &["feed", "remove", "default/prod", "--yes"],
        &["feed", "credentials", "default/prod"],
        &["token", "mint", "default/prod"],
        &["token", "inspect"],
    ] {
        let output = carnet.run(&[command, &["--issuer", ISSUER]].concat());
        assert_eq!(output.status, 1, "{command:?}");
        assert!(output.stderr.contains("there is no database at sqlite:"), "{}", output.stderr);
        assert_eq!(fs::read_dir(carnet.home()).unwrap().count(), 0, "{command:?} made something");
    }
}

#[test]
fn a_feed_that_is_refused_leaves_nothing_behind() {
    let carnet = Carnet::new();
    let mut arguments = feed("a");
    arguments[5] = "--registry=123456789012.dkr.ecr.eu-central-1.amazonaws.com.evil.example".to_owned();
    let refused = carnet.run(&arguments.each_ref().map(String::as_str));
    assert_eq!(refused.status, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("registry"), "{}", refused.stderr);
    assert_eq!(fs::read_dir(carnet.home()).unwrap().count(), 0, "it made something");
}

#[test]
fn a_provided_master_key_is_used_and_none_is_created() {
    let (other, carnet) = (Carnet::new(), Carnet::new());
    other.ok(&feed("prod").each_ref().map(String::as_str));
    let provided = carnet.home().join("provided.key");
    fs::copy(other.keys_dir().join("master.key"), &provided).unwrap();

    let output = crate::support::carnet::Output::of(
        carnet.command(&["key", "list", "--issuer", ISSUER]).env("CARNET_MASTER_KEY_FILE", &provided),
        b"",
    );
    assert_eq!(output.status, 1, "a command that may not make a database made one");
    let mut add = carnet.command(&feed("prod").each_ref().map(String::as_str));
    let output = crate::support::carnet::Output::of(add.env("CARNET_MASTER_KEY_FILE", &provided), b"");
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(!carnet.keys_dir().exists());
    let ids = |carnet: &Carnet| database::texts(&carnet.database(), "SELECT master_key_id FROM sealed_keys");
    assert_eq!(ids(&carnet), ids(&other));
}

#[test]
fn eight_servers_that_start_at_once_found_one_issuer() {
    let carnet = Carnet::new();
    let servers: Vec<Announced> = thread::scope(|scope| {
        let starting = [(); 8].map(|()| scope.spawn(|| carnet.serve(ISSUER, "127.0.0.1:0", &[]).unwrap()));
        starting.into_iter().map(|server| server.join().unwrap()).collect()
    });
    assert_founded_once(&carnet);
    let published: BTreeMap<String, usize> = servers.iter().fold(BTreeMap::new(), |mut published, server| {
        let jwks = Connection::to(server.announced("/listening"), None).get("/.well-known/jwks");
        *published.entry(jwks.body).or_default() += 1;
        published
    });
    assert_eq!(published.into_values().collect::<Vec<_>>(), [8], "the servers publish different keys");
}

#[test]
fn eight_commands_that_start_at_once_set_up_one_database() {
    let carnet = Carnet::new();
    let commands: Vec<Child> = (0..8)
        .map(|number| {
            let mut command = carnet.command(&feed(&format!("feed-{number}")).each_ref().map(String::as_str));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for command in commands {
        let output = command.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let feeds: Value = serde_json::from_str(&carnet.ok(&["feed", "list", "--output=json"])).unwrap();
    assert_eq!(feeds.as_array().unwrap().len(), 8);
    carnet.ok(&["key", "list", "--issuer", ISSUER]);
    assert_founded_once(&carnet);
}

#[test]
fn of_two_first_starts_with_different_issuers_one_wins() {
    let carnet = Carnet::new();
    let started = thread::scope(|scope| {
        [ISSUER, "https://other.example"]
            .map(|issuer| scope.spawn(|| carnet.serve(issuer, "127.0.0.1:0", &[])))
            .map(|start| start.join().unwrap())
    });
    let [Ok(winner), Err(loser)] = &started else {
        let [Err(loser), Ok(winner)] = &started else {
            panic!("both started, or neither: {:?}", started.map(|start| start.map(|server| server.line)));
        };
        return assert_loser(winner, loser);
    };
    assert_loser(winner, loser);
}

fn assert_loser(winner: &Announced, loser: &str) {
    assert!(loser.contains(&format!("belongs to the issuer {}", winner.announced("/issuer"))), "{loser}");
}

#[test]
fn an_issuer_has_one_url_in_every_spelling() {
    let carnet = Carnet::new();
    carnet.ok(&feed("prod").each_ref().map(String::as_str));
    let keys = carnet.ok(&["key", "list", "--output=json", "--issuer=HTTPS://Issuer.Example:443/"]);
    assert_eq!(database::texts(&carnet.database(), "SELECT url FROM issuer"), [ISSUER]);
    for same in
        [ISSUER, "https://issuer.example/", "https://ISSUER.example:443", "https://issuer.example:443/"]
    {
        let server =
            carnet.serve(same, "127.0.0.1:0", &[]).unwrap_or_else(|failure| panic!("{same}: {failure}"));
        assert_eq!(server.announced("/issuer"), ISSUER);
        assert_eq!(carnet.ok(&["key", "list", "--output=json"]), keys, "{same}");
    }
    for other in ["https://issuer.example/a", "https://issuer.example:8443", "https://www.issuer.example"] {
        let output = carnet.run(&["serve", "--listen=127.0.0.1:0", "--issuer", other]);
        assert_eq!(output.status, 1, "{other}");
        assert!(
            output.stderr.contains(&format!("belongs to the issuer {ISSUER}, not {other}")),
            "{}",
            output.stderr
        );
    }
}

#[test]
fn a_first_start_that_failed_half_way_goes_on() {
    let carnet = Carnet::new();
    // A file is in place of the keys folder: the database is created, but no master key.
    fs::write(carnet.keys_dir(), "").unwrap();
    assert_eq!(carnet.run(&["serve", "--listen=127.0.0.1:0", "--issuer", ISSUER]).status, 1);
    fs::remove_file(carnet.keys_dir()).unwrap();
    // Without an issuer URL, the master key is created, but no signing keys.
    let output = carnet.run(&["serve", "--listen=127.0.0.1:0"]);
    assert!(output.status == 1 && output.stderr.contains("has no issuer yet"), "{}", output.stderr);
    let master_key = fs::read(carnet.keys_dir().join("master.key")).unwrap();
    let server = carnet.serve(ISSUER, "127.0.0.1:0", &[]).unwrap();
    drop(server);
    assert_founded_once(&carnet);
    assert_eq!(fs::read(carnet.keys_dir().join("master.key")).unwrap(), master_key);
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn no_command_starts_while_another_user_can_change_the_database_or_the_keys_folder() {
    let carnet = Carnet::new();
    carnet.ok(&feed("prod").each_ref().map(String::as_str));
    carnet.ok(&["key", "list", "--issuer", ISSUER]);
    let (database, keys) = (carnet.database(), carnet.keys_dir());
    let log = carnet.home().join("carnet.db-wal");
    for (path, bad, good, fix) in [
        (&database, 0o666, 0o600, "chmod 0600"),
        (&database, 0o660, 0o600, "chmod 0600"),
        (&log, 0o622, 0o600, "chmod 0600"),
        (&keys, 0o777, 0o700, "chmod go-w"),
        (&keys, 0o770, 0o700, "chmod go-w"),
        (&carnet.home().to_owned(), 0o777, 0o700, "chmod go-w"),
    ] {
        if !path.exists() {
            fs::write(path, "").unwrap();
        }
        set_mode(path, bad);
        for command in [
            &["serve", "--listen=127.0.0.1:0"][..],
            &["key", "list"],
            &["feed", "list"],
            &["audit", "list"],
            &["grant", "list"],
            &["feed", "credentials", "default/prod"],
        ] {
            let output = carnet.run(command);
            assert_eq!((output.status, output.stdout.as_str()), (1, ""), "{command:?} {output:?}");
            for part in [path.to_str().unwrap(), &format!("has mode {bad:04o}"), "hint: ", fix] {
                assert!(output.stderr.contains(part), "no {part:?} in {output:?}");
            }
        }
        set_mode(path, good);
        carnet.ok(&["key", "list"]);
    }
    // A sticky folder like /tmp: users cannot replace each other's files there.
    set_mode(carnet.home(), 0o1777);
    carnet.ok(&["key", "list"]);
}

/// Only root can change a file's owner; for other users, the unit test of the rule covers this.
#[test]
fn no_command_starts_on_files_of_another_user() {
    let carnet = Carnet::new();
    carnet.ok(&feed("prod").each_ref().map(String::as_str));
    if std::os::unix::fs::chown(carnet.database(), Some(4321), None).is_err() {
        return;
    }
    let output = carnet.run(&["feed", "list"]);
    assert_eq!(output.status, 1, "{output:?}");
    assert!(
        output.stderr.contains("belongs to user 4321") && output.stderr.contains("chown 0 "),
        "{output:?}"
    );
    // Root acts for the user who owns the folder.
    std::os::unix::fs::chown(carnet.home(), Some(4321), None).unwrap();
    carnet.ok(&["feed", "list"]);
}

#[test]
fn a_pipe_instead_of_a_file_is_refused_at_once() {
    let carnet = Carnet::new();
    carnet.ok(&feed("prod").each_ref().map(String::as_str));
    carnet.ok(&["key", "list", "--issuer", ISSUER]);
    let pipe = carnet.home().join("pipe");
    assert!(std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&pipe).status().unwrap().success());
    let at = pipe.to_str().unwrap();
    let flag = |name: &str| format!("--{name}={at}");
    let commands: [&[&str]; 9] = [
        &["key", "list", &flag("master-key-file")],
        &["serve", "--listen=127.0.0.1:0", &flag("master-key-file")],
        &["serve", "--listen=127.0.0.1:0", &flag("tls-cert"), &flag("tls-key")],
        &["serve", "--listen=127.0.0.1:0", &flag("ca-file")],
        &["feed", "credentials", "default/prod", &flag("ca-file")],
        &["doctor", &flag("ca")],
        &["audit", "verify", &flag("anchors-file")],
        &["sandbox", "--issuer", ISSUER, &flag("config")],
        &["key", "rewrap", &flag("new-key-file")],
    ];
    for command in commands {
        let output = carnet.run(command);
        assert_ne!(output.status, 0, "{command:?} {output:?}");
        assert!(output.stderr.contains("a pipe, not a regular file"), "{command:?} {output:?}");
    }
    fs::remove_file(carnet.keys_dir().join("master.key")).unwrap();
    fs::rename(&pipe, carnet.keys_dir().join("master.key")).unwrap();
    let output = carnet.run(&["key", "list"]);
    assert!(output.stderr.contains("a pipe, not a regular file"), "{output:?}");
}
