//! Hostile and mistaken input. Every error names the field and the rule, is on stderr alone, exits with 2 for
//! errors on the command line and with 1 for others, and changes nothing.

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
fn every_field_of_a_new_feed_is_refused_by_name_and_rule() {
    let long_slug = format!("--slug={}", "x".repeat(51));
    let long_audience = format!("--audience={}", "x".repeat(256));
    let long_name = format!("--name={}", "x".repeat(201));
    let host = |host: &str| format!("--registry={host}");
    let ecr = "is not a private ECR registry";
    let mut cases: Vec<(String, &str, &str)> = vec![
        (host(&format!("{REGISTRY}.evil.example")), "registry", ecr),
        (host("123456789012.dkr.ecr.eu-central-1.amazonaws.com.cn"), "registry", ecr),
        (host("123456789012.dkr.ecr.eu-central-1.amazonaws.org"), "registry", ecr),
        (host("123456789012.dkr.ecr.eu-central-1.amazonaws.co"), "registry", ecr),
        (host("evil-123456789012.dkr.ecr.eu-central-1.amazonaws.com"), "registry", ecr),
        (host("123456789012.dkr.ecr.evil.example.amazonaws.com"), "registry", ecr),
        (host("evil.123456789012.dkr.ecr.eu-central-1.amazonaws.com"), "registry", ecr),
        (host("12345678901.dkr.ecr.eu-central-1.amazonaws.com"), "registry", ecr),
        (host("123456789012.dkr.ecr.amazonaws.com"), "registry", ecr),
        (host("public.ecr.aws"), "registry", ecr),
        (host("harbor.example"), "registry", "the endpoint sts must be given too"),
        (host(&format!("https://{REGISTRY}")), "--registry", "leave off “https://”"),
        (host(&format!("{REGISTRY}/app")), "--registry", "leave off “/”"),
        (host(&format!("me@{REGISTRY}")), "--registry", "leave off user name and password"),
        (host(&format!("{REGISTRY}:99999")), "--registry", "a port from 1 to 65535"),
        (host(&format!("evil.example#.{REGISTRY}")), "--registry", "not '#'"),
        (host(&format!("{REGISTRY}\n")), "--registry", r"not '\n'"),
        (host("12345678901\u{662}.dkr.ecr.eu-central-1.amazonaws.com"), "--registry", "U+0662"),
        (host(""), "--registry", "write a name or an address"),
    ];
    for (flag, field, rule) in [
        ("--slug=Prod", "--slug", "a–z, 0–9 and inner “-”, not 'P'"),
        ("--slug=a:b", "--slug", "not ':'"),
        ("--slug=a/b", "--slug", "not '/'"),
        ("--slug=-a", "--slug", "not “-” at the start or end"),
        ("--slug=p\u{430}th", "--slug", "U+0430"),
        (long_slug.as_str(), "--slug", "1–50 characters"),
        ("--slug=", "--slug", "a slug cannot be empty"),
        ("--space=Default", "--space", "a–z"),
        ("--space=", "--space", "a slug cannot be empty"),
        ("--role-arn=pull", "--role-arn", "use 20 to 2048 characters"),
        ("--role-arn=arn:aws:iam::123456789012:user/pull", "--role-arn", "there must be “role/”"),
        (
            "--role-arn=arn:aws:sts::123456789012:assumed-role/pull/x",
            "--role-arn",
            "write arn:PARTITION:iam::",
        ),
        ("--role-arn=arn:aws:iam::12345:role/pull-image", "--role-arn", "12 digits"),
        ("--role-arn=arn:aws:iam::123456789012:role/", "--role-arn", "as the name"),
        ("--role-arn=arn:aws:iam::123456789012:role/a b", "--role-arn", "as the name"),
        ("--role-arn=arn:evil:iam::123456789012:role/pull", "--role-arn", "a partition of AWS"),
        (
            "--role-arn=arn:aws-cn:iam::123456789012:role/pull",
            "role_arn",
            "cannot read a registry of partition aws",
        ),
        ("--session-duration=899", "--session-duration", "900 to 43200 seconds"),
        ("--session-duration=43201", "--session-duration", "900 to 43200 seconds"),
        ("--session-duration=soon", "--session-duration", "900 to 43200 seconds"),
        ("--session-duration=-900", "--session-duration", "900 to 43200 seconds"),
        ("--token-lifetime=3601", "token_lifetime", "max-token-lifetime, 3600 s"),
        ("--token-lifetime=0", "token_lifetime", "between 1 s"),
        ("--token-lifetime=1.5h", "--token-lifetime", "a whole number of seconds"),
        ("--token-lifetime=99999999999999999999", "--token-lifetime", "a whole number of seconds"),
        ("--subject-keys=feed", "--subject-keys", "need “space” or “feed_id”"),
        ("--subject-keys=space,colour", "--subject-keys", "\"colour\" is not a subject key"),
        ("--subject-keys=space,space", "--subject-keys", "“space” twice"),
        ("--subject-keys=space,tenant,tenant?", "--subject-keys", "“tenant” twice"),
        ("--subject-keys=space?", "--subject-keys", "always present"),
        ("--subject-keys=space,,feed", "--subject-keys", "is not a subject key"),
        ("--subject-keys=", "--subject-keys", "needs keys"),
        ("--audience=", "--audience", "an audience cannot be empty"),
        ("--audience= sts.amazonaws.com", "--audience", "without space at the start or end"),
        ("--audience=sts.amazonaws.com\u{200b}", "--audience", "visible characters"),
        (long_audience.as_str(), "--audience", "1–255 visible characters, not 256"),
        ("--alg=HS256", "--alg", "use RS256 or ES256"),
        ("--alg=none", "--alg", "use RS256 or ES256"),
        ("--alg=es256", "--alg", "use RS256 or ES256"),
        ("--endpoint=azure=https://a.example", "endpoint \"azure\"", "use sts or ecr"),
        ("--endpoint=sts", "--endpoint", "write NAME=URL"),
        ("--endpoint=sts=http://a.example", "--endpoint", "only for a loopback host"),
        ("--endpoint=sts=http://127.0.0.1.evil.example", "--endpoint", "only for a loopback host"),
        ("--endpoint=sts=https://a.example?x", "--endpoint", "leave off the query"),
        ("--name=", "--name", "1–200 characters"),
        ("--name=a\u{1b}[31m", "--name", "no control characters"),
        ("--name=\u{202e}dorp", "--name", "no direction marks"),
        ("--name=prod\u{200b}", "--name", "(U+200B)"),
        (long_name.as_str(), "--name", "1–200 characters"),
    ] {
        cases.push((flag.to_owned(), field, rule));
    }
    let carnet = carnet();
    let cases =
        cases.iter().map(|(flag, field, rule)| (feed_add(&[flag]), USAGE, vec![*field, *rule])).chain([
            (
                feed_add(&["--endpoint=sts=https://a.example", "--endpoint=sts=https://b.example"]),
                USAGE,
                vec!["--endpoint", "given twice"],
            ),
            (words("feed add aws-ecr --space default --slug new"), USAGE, vec!["--registry", "--role-arn"]),
            (feed_add(&["--slug=prod"]), FAILED, vec!["default/prod"]),
        ]);
    assert_all_refused(&carnet, cases);
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
fn databases_that_carnet_cannot_use_are_refused_by_name() {
    let carnet = carnet();
    fs::write(carnet.home().join("text.db"), "This is no database. ".repeat(100)).unwrap();
    fs::write(carnet.home().join("empty.db"), "").unwrap();
    fs::create_dir(carnet.home().join("folder.db")).unwrap();
    let before = state(&carnet);
    for (database, status, named) in [
        ("postgres://localhost/carnet", USAGE, ["--database", "SQLite only"]),
        ("postgresql://localhost/carnet", USAGE, ["--database", "SQLite only"]),
        ("sqlite::memory:", USAGE, ["--database", "name a file"]),
        ("sqlite:", USAGE, ["--database", "name a file"]),
        ("sqlite:a.db?mode=memory", USAGE, ["--database", "no parameters"]),
        ("mysql://localhost/carnet", USAGE, ["--database", "sqlite:PATH"]),
        ("carnet.db", USAGE, ["--database", "sqlite:PATH"]),
        ("", USAGE, ["--database", "sqlite:PATH"]),
        ("sqlite:absent.db", FAILED, ["sqlite:absent.db", "there is no database"]),
        (
            "sqlite:folder.db",
            FAILED,
            ["cannot be opened", "hint: the database's file and the folder around it must be writable"],
        ),
        ("sqlite:text.db", FAILED, ["sqlite:text.db", "file is not a database"]),
        ("sqlite:empty.db", FAILED, ["sqlite:empty.db", "has not been set up"]),
    ] {
        let mut command = carnet.bare_command();
        command.args(["key", "list", &format!("--database={database}")]);
        assert_refused(database, &Output::of(&mut command, b""), status, &named);
        assert!(before == state(&carnet), "{database}: changed something");
    }
    for (database, named) in [
        ("sqlite:absent/new.db", ["sqlite:absent/new.db", "cannot be created"]),
        ("sqlite:text.db", ["sqlite:text.db", "file is not a database"]),
    ] {
        let mut command = carnet.bare_command();
        command.args(feed_add(&[])).arg(format!("--database={database}"));
        assert_refused(database, &Output::of(&mut command, b""), FAILED, &named);
        assert!(before == state(&carnet), "{database}: changed something");
    }
}

#[test]
fn a_database_of_a_newer_carnet_is_refused_by_every_command() {
    let carnet = carnet();
    database::execute(
        &carnet.database(),
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (90000000000000, 'later', TRUE, x'00', 0)",
    );
    let named = [
        "schema 90000000000000",
        "carnet.db",
        "newer carnet",
        "hint: run the version of carnet that wrote it",
    ];
    assert_all_refused(
        &carnet,
        [
            "key list",
            "serve --listen 127.0.0.1:0",
            "feed list",
            "feed credentials default/prod",
            "token inspect",
        ]
        .map(|command| (words(command), FAILED, named.to_vec()))
        .into_iter()
        .chain([(feed_add(&[]), FAILED, named.to_vec())]),
    );
}

#[test]
fn a_database_opens_only_with_its_own_master_key() {
    let carnet = carnet();
    let id = database::texts(&carnet.database(), "SELECT DISTINCT master_key_id FROM sealed_keys").remove(0);
    let master_key = carnet.keys_dir().join("master.key");
    let good = fs::read(&master_key).unwrap();
    let other = Carnet::new();
    other.ok(&feed_add(&[]).iter().map(String::as_str).collect::<Vec<_>>());
    let foreign = fs::read(other.keys_dir().join("master.key")).unwrap();

    let write = |content: &[u8], mode| {
        fs::write(&master_key, content).unwrap();
        fs::set_permissions(&master_key, fs::Permissions::from_mode(mode)).unwrap();
    };
    let refused = |what, named: &[&str]| {
        let before = state(&carnet);
        for command in ["key list", "serve --listen 127.0.0.1:0", "token inspect"] {
            let output = carnet.run(&words(command).iter().map(String::as_str).collect::<Vec<_>>());
            assert_refused(what, &output, FAILED, &[named, &["carnet.db", &id, "hint: "]].concat());
            assert!(!output.stderr.contains("carnet-master-key-1:A"), "{}", output.stderr);
        }
        assert!(before == state(&carnet), "{what}: changed something");
    };
    write(&good, 0o644);
    refused("readable by others", &["master.key", "mode 0644", "chmod 600"]);
    write(&good, 0o660);
    refused("readable by the group", &["master.key", "mode 0660"]);
    write(&foreign, 0o600);
    refused("another database's", &["sealed with the master key", "not with"]);
    write(b"carnet-master-key-1:AAAA\n", 0o600);
    refused("too short", &["master.key", "does not hold a master key"]);
    write(&[0xff; 1 << 16], 0o600);
    refused("binary", &["master.key", "does not hold a master key"]);
    write(b"", 0o600);
    refused("empty", &["master.key", "does not hold a master key"]);
    fs::remove_file(&master_key).unwrap();
    refused("missing", &["master.key", "does not exist"]);
    fs::remove_dir_all(carnet.keys_dir()).unwrap();
    refused("missing with its folder", &["master.key", "does not exist"]);
    fs::write(carnet.keys_dir(), "").unwrap();
    refused("a file in the folder's place", &["keys/master.key", "cannot be read"]);

    fs::remove_file(carnet.keys_dir()).unwrap();
    fs::create_dir(carnet.keys_dir()).unwrap();
    write(&good, 0o600);
    carnet.ok(&["key", "list"]);
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

#[test]
fn inspect_refuses_an_invalid_token() {
    let carnet = carnet();
    let inspect = |token: &[u8]| Output::of(&mut carnet.command(&["token", "inspect"]), token);
    let token = carnet.ok(&["token", "mint", "default/prod"]);
    let compact = "three base64url parts";
    for (what, input, rule) in [
        ("nothing", Vec::new(), compact),
        ("words", b"not a token".to_vec(), compact),
        ("parts that are no base64url", b"a.b.c".to_vec(), compact),
        ("a header that is no JSON", b"aGVsbG8.e30.c2ln".to_vec(), compact),
        ("two tokens", token.repeat(2).into_bytes(), compact),
        ("binary", vec![0xff; 64], "UTF-8"),
        ("a flood", vec![b'a'; 1 << 20], "20000 bytes"),
        ("a flood of dots", vec![b'.'; 20_000], compact),
        (
            "as many dots with line ends around them",
            ["\n", &".".repeat(20_000), "\r\n"].concat().into(),
            compact,
        ),
        ("one more dot", vec![b'.'; 20_001], "20000 bytes"),
        ("a flood of spaces", vec![b' '; 1 << 20], "20000 bytes"),
    ] {
        assert_refused(what, &inspect(&input), FAILED, &["stdin", rule]);
    }
}

#[test]
fn inspect_shows_a_token_that_is_not_valid_but_fails() {
    let carnet = carnet();
    let inspect = |token: &str| {
        let output =
            Output::of(&mut carnet.command(&["token", "inspect", "--output=json"]), token.trim().as_bytes());
        (output.status, output.stdout.contains("\"verified\": true"), output.stderr)
    };
    let good = carnet.ok(&["token", "mint", "default/prod"]);
    assert_eq!(inspect(&good), (0, true, String::new()));

    let other = Carnet::new();
    other.ok(&feed_add(&["--slug=prod"]).iter().map(String::as_str).collect::<Vec<_>>());
    let foreign = other.ok(&["token", "mint", "default/prod", "--issuer", ISSUER]);
    let [header, claims, signature] = good.trim().split('.').collect::<Vec<_>>()[..] else {
        panic!("{good}")
    };
    let foreign_claims = foreign.split('.').nth(1).unwrap();
    let turned: String = signature.chars().rev().collect();
    for (what, token) in [
        ("another issuer's key", foreign.clone()),
        ("other claims", format!("{header}.{foreign_claims}.{signature}")),
        ("another signature", format!("{header}.{claims}.{turned}")),
        ("no signature", format!("{header}.{claims}.")),
        ("alg none", format!("eyJhbGciOiJub25lIn0.{claims}.")),
    ] {
        let (status, verified, stderr) = inspect(&token);
        assert_eq!((status, verified), (FAILED, false), "{what}");
        assert!(stderr.contains("error: the token is not valid"), "{what}: {stderr}");
    }

    carnet.ok(&["feed", "update", "default/prod", "--token-lifetime=1"]);
    let short = carnet.ok(&["token", "mint", "default/prod"]);
    let refusal =
        wait_until(Duration::from_secs(30), || Some(inspect(&short)).filter(|(status, ..)| *status != 0));
    let (status, verified, stderr) = refusal.expect("the token lives for ever");
    assert_eq!((status, verified), (FAILED, false));
    assert!(stderr.contains("it has expired"), "{stderr}");
}
