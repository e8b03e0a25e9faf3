//! Hostile and mistaken input. Every error names the field and the rule, is on stderr alone, exits with 2 for
//! errors on the command line and with 1 for others, and changes nothing.

mod databases;
mod feeds;
mod tokens;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use crate::support::ca::Ca;
use crate::support::carnet::{Carnet, Output};
use crate::support::database;
use crate::support::process::wait_until;

const ISSUER: &str = "https://issuer.example";
const REGISTRY: &str = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";
const ROLE: &str = "arn:aws:iam::123456789012:role/pull";
const FAILED: i32 = 1;
const USAGE: i32 = 2;

/// The fields of a valid feed, of which a test breaks one.
const GOOD_FEED: [(&str, &str); 4] =
    [("--space", "default"), ("--slug", "new"), ("--registry", REGISTRY), ("--role-arn", ROLE)];

/// A carnet with an issuer and the feed `default/prod`.
fn carnet() -> Carnet {
    let carnet = Carnet::new();
    carnet.ok(&feed_add(&["--slug=prod"]).iter().map(String::as_str).collect::<Vec<_>>());
    carnet.ok(&["key", "list", "--issuer", ISSUER]);
    carnet
}

/// Returns `feed add` with valid fields, except those in `flags`, written `--flag=value`.
fn feed_add(flags: &[&str]) -> Vec<String> {
    let mut arguments = ["feed", "add", "aws-ecr"].map(ToOwned::to_owned).to_vec();
    for (flag, value) in GOOD_FEED {
        if !flags.iter().any(|given| given.starts_with(&format!("{flag}="))) {
            arguments.push(format!("{flag}={value}"));
        }
    }
    arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
    arguments
}

/// Returns the state that a refused command must not change.
fn state(carnet: &Carnet) -> (String, Vec<String>, Vec<u8>) {
    let mut files: Vec<String> = walk(carnet.home());
    files.retain(|file| !file.ends_with("-wal") && !file.ends_with("-shm"));
    files.sort();
    let master_key = fs::read(carnet.keys_dir().join("master.key")).unwrap_or_default();
    // A refusal is recorded and changes nothing else.
    (database::dump_but_audit(&carnet.database()), files, master_key)
}

fn walk(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path.display().to_string()] })
        .collect()
}

/// Asserts that `output` is an error with `status` whose message contains all of `words`.
#[track_caller]
fn assert_refused(what: &str, output: &Output, status: i32, words: &[&str]) {
    assert_eq!(output.status, status, "{what}\n{}", output.stderr);
    assert_eq!(output.stdout, "", "{what}");
    let message = output.stderr.lines().skip_while(|line| !line.starts_with("error: ")).collect::<String>();
    for word in words {
        assert!(message.contains(word), "{what}\nshould name {word}:\n{}", output.stderr);
    }
}

#[track_caller]
fn assert_all_refused<'a>(
    carnet: &Carnet,
    cases: impl IntoIterator<Item = (Vec<String>, i32, Vec<&'a str>)>,
) {
    let before = state(carnet);
    for (arguments, status, words) in cases {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let what = arguments.join(" ");
        assert_refused(&what, &carnet.run(&arguments), status, &words);
        assert!(before == state(carnet), "{what}: changed something");
    }
}

fn words(command: &str) -> Vec<String> {
    command.split(' ').map(ToOwned::to_owned).collect()
}
#[test]
fn issuer_urls_that_clouds_would_read_differently_are_refused() {
    let carnet = carnet();
    let long = format!("https://issuer.example/{}", "a".repeat(240));
    let cases = [
        ("http://issuer.example", "use https"),
        ("http://127.0.0.1.evil.example", "use https"),
        ("http://localhost.evil.example", "use https"),
        ("https://issuer.example?tenant=1", "leave off “?”"),
        ("https://issuer.example#a", "leave off “#”"),
        ("https://me:hunter2@issuer.example", "leave off user name and password"),
        ("https://127.0.0.1@issuer.example", "leave off user name and password"),
        ("https://issuer .example", "use letters, digits"),
        (" https://issuer.example", "start with “https://”"),
        ("https://issuer.example/a b", "in the path use letters"),
        ("https://issuer.example/%61", "in the path use letters"),
        ("https://issuer.example/../a", "without “.” and “..”"),
        ("https://issuer.example//a", "single slashes"),
        ("https://issuer.example/.well-known/openid-configuration", "leave off “/.well-known”"),
        ("https://", "the host"),
        ("https://issuer.example:0", "the host"),
        ("https://issuer.example:99999", "the host"),
        ("https://issu\u{435}r.example", "U+0435"),
        (&long, "at most 255 characters"),
        ("ftp://issuer.example", "start with “https://”"),
        ("", "start with “https://”"),
    ];
    for (url, rule) in cases {
        let output = carnet.run(&["serve", "--listen=127.0.0.1:0", &format!("--issuer={url}")]);
        assert_refused(url, &output, USAGE, &["--issuer", rule]);
        assert!(!output.stderr.contains("hunter2"), "a password is repeated: {}", output.stderr);
    }
}

#[test]
fn commands_on_feeds_and_keys_are_refused_by_name_and_rule() {
    let carnet = carnet();
    carnet.ok(&["feed", "update", "default/prod", "--subject-keys=space,tenant,project?,feed"]);
    let cases = [
        ("feed show prod", USAGE, vec!["SPACE/FEED", "default/prod"]),
        ("feed show a/b/c", USAGE, vec!["SPACE/FEED"]),
        ("feed show default/PROD", USAGE, vec!["SPACE/FEED", "a–z"]),
        ("feed show default/absent", FAILED, vec!["there is no feed default/absent"]),
        ("feed list --space Default", USAGE, vec!["--space", "a–z"]),
        ("feed list --output yaml", USAGE, vec!["--output", "table, json"]),
        ("feed update default/absent --name x", FAILED, vec!["there is no feed default/absent"]),
        ("feed update default/prod --token-lifetime 2h", USAGE, vec!["token_lifetime", "3600 s"]),
        ("feed update default/prod --registry harbor.example", USAGE, vec!["registry", "endpoint sts"]),
        ("feed update default/prod --slug other", USAGE, vec!["--slug"]),
        ("feed remove default/absent --yes", FAILED, vec!["there is no feed default/absent"]),
        ("feed remove default/prod", USAGE, vec!["confirmation", "--yes"]),
        ("feed credentials default/absent", FAILED, vec!["there is no feed default/absent"]),
        ("feed credentials default/prod", FAILED, vec!["“tenant”", "--context tenant="]),
        ("feed credentials default/prod --context tenant=a --ca-file absent.pem", FAILED, vec!["--ca-file"]),
        ("feed credentials default/prod --format xml", USAGE, vec!["--format", "docker-config"]),
        ("token mint default/absent", FAILED, vec!["there is no feed default/absent"]),
        ("token mint default/prod", FAILED, vec!["“tenant”", "--context tenant="]),
        ("token mint default/prod --context project=a", FAILED, vec!["“tenant”"]),
        ("token mint default/prod --context tenant", USAGE, vec!["--context", "write KEY=VALUE"]),
        ("token mint default/prod --context tenant=", USAGE, vec!["--context", "“tenant”", "empty"]),
        ("token mint default/prod --context tenant=a:feed:b", USAGE, vec!["--context", "not ':'"]),
        ("token mint default/prod --context space=a", USAGE, vec!["--context", "is not a context key"]),
        ("token mint default/prod --context tenant=a --context tenant=b", USAGE, vec!["--context", "twice"]),
        ("key rotate", FAILED, vec!["published only since", "--force"]),
        ("key rotate --alg HS256", USAGE, vec!["--alg", "use RS256 or ES256"]),
        ("key rotate --force", USAGE, vec!["confirmation", "--yes"]),
    ];
    assert_all_refused(&carnet, cases.map(|(command, status, named)| (words(command), status, named)));
}

#[test]
fn servers_refuse_unsafe_options() {
    let (carnet, ca, other) = (carnet(), Ca::new(), Ca::new());
    let certificate = format!("--tls-cert={}", ca.server_certificate().display());
    let text = carnet.home().join("text.pem");
    fs::write(&text, "-----BEGIN NOTHING-----").unwrap();
    let tls = |certificate: &str, key: &Path| {
        let mut arguments = words("serve --listen 127.0.0.1:0");
        arguments.extend([certificate.to_owned(), format!("--tls-key={}", key.display())]);
        arguments
    };
    let text_certificate = format!("--tls-cert={}", text.display());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_address = format!("--listen={}", taken.local_addr().unwrap());
    let cases = vec![
        (words("serve --listen 0.0.0.0:0"), USAGE, vec!["--listen", "has no TLS", "--insecure-listen"]),
        (words("serve --listen [::]:0"), USAGE, vec!["--listen", "has no TLS"]),
        (words("serve --listen localhost"), USAGE, vec!["--listen", "ADDRESS:PORT"]),
        (words("serve --listen 203.0.113.1:0 --insecure-listen"), FAILED, vec!["--listen 203.0.113.1:0"]),
        (vec!["serve".to_owned(), taken_address], FAILED, vec!["--listen 127.0.0.1:", "in use"]),
        (words("serve --change-issuer"), USAGE, vec!["--issuer"]),
        (words("serve --tls-cert a.pem"), USAGE, vec!["--tls-key"]),
        (words("serve --tls-key a.pem"), USAGE, vec!["--tls-cert"]),
        (words("serve --tls-cert a.pem --tls-key a.pem"), FAILED, vec!["--tls-cert", "a.pem cannot be read"]),
        (tls(&text_certificate, &ca.server_key()), FAILED, vec!["--tls-cert", "no PEM certificate"]),
        (tls(&certificate, &text), FAILED, vec!["--tls-key", "no PEM private key"]),
        (tls(&certificate, &other.server_key()), FAILED, vec!["--tls-key", "together for TLS"]),
        (
            words("serve --listen 127.0.0.1:0 --issuer https://other.example"),
            FAILED,
            vec![ISSUER, "--change-issuer"],
        ),
        (words("sandbox"), USAGE, vec!["--issuer is missing"]),
        (words("sandbox --issuer https://a.example --listen 0.0.0.0:0"), USAGE, vec!["--listen", "loopback"]),
        (words("sandbox --issuer https://a.example --config absent"), FAILED, vec!["--config", "absent"]),
        (words("sandbox --issuer https://a.example --config text.pem"), USAGE, vec!["--config", "text.pem"]),
    ];
    assert_all_refused(&carnet, cases);
}

#[test]
fn the_issuer_url_changes_only_with_its_flag() {
    let carnet = carnet();
    let keys = carnet.ok(&["key", "list", "--output=json"]);
    let other = "https://other.example/carnet";
    for command in [["key", "list"], ["token", "inspect"]] {
        let output = carnet.run(&[command.as_slice(), &["--issuer", other]].concat());
        assert_refused(other, &output, FAILED, &[ISSUER, other, "would refuse", "hint: ", "--change-issuer"]);
    }
    let server = carnet.serve(other, "127.0.0.1:0", &["--change-issuer"]).unwrap();
    assert_eq!(server.announced("/issuer"), other);
    assert_eq!(carnet.ok(&["key", "list", "--output=json", "--issuer", other]), keys);
    let output = carnet.run(&["key", "list", "--issuer", ISSUER]);
    assert_refused("the old one", &output, FAILED, &[ISSUER, other, "--change-issuer"]);
    let token = carnet.ok(&["token", "mint", "default/prod"]);
    let inspected = Output::of(&mut carnet.command(&["token", "inspect", "--output=json"]), token.as_bytes());
    let inspected: serde_json::Value = serde_json::from_str(&inspected.stdout).unwrap();
    assert_eq!((&inspected["verified"], &inspected["claims"]["iss"]), (&true.into(), &other.into()));
}
