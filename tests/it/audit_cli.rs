//! The audit log on the command line: it has every act, can be listed, followed, exported and verified, and
//! contains no token or password.

use std::fs;
use std::time::Duration;

use crate::support::carnet::{Announced, Carnet, Issuer};
use crate::support::database;
use crate::support::local_actor;
use crate::support::process::Process;
use serde_json::Value;

const FEED: [&str; 7] = [
    "feed",
    "add",
    "aws-ecr",
    "--space=default",
    "--slug=prod",
    "--registry=123456789012.dkr.ecr.eu-central-1.amazonaws.com",
    "--role-arn=arn:aws:iam::123456789012:role/pull",
];

/// A database with an issuer and a feed, without a server.
fn carnet() -> Carnet {
    let carnet = Carnet::new();
    carnet.ok(&[&FEED[..], &["--issuer=https://issuer.example"]].concat());
    carnet
}

/// Exports the log: one record per line, oldest first.
fn export(carnet: &Carnet, more: &[&str]) -> Vec<Value> {
    let lines = carnet.ok(&[&["audit", "list", "--output=jsonl"], more].concat());
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn column<'a>(records: &'a [Value], column: &str) -> Vec<&'a str> {
    records.iter().map(|record| record[column].as_str().unwrap_or_default()).collect()
}

fn seqs(records: &[Value]) -> Vec<i64> {
    records.iter().map(|record| record["seq"].as_i64().unwrap()).collect()
}

#[test]
fn every_change_is_recorded_with_its_actor() {
    let carnet = carnet();
    carnet.ok(&["feed", "update", "default/prod", "--audience=other"]);
    carnet.ok(&["key", "rotate", "--alg=ES256", "--force", "--yes"]);
    carnet.ok(&["key", "policy", "--leeway=6m"]);
    carnet.ok(&["key", "rewrap", "--new-key-file=new.key"]);
    let token = carnet.ok(&["token", "mint", "default/prod"]);
    carnet.run(&["token", "mint", "default/prod", "--context=runbook=x"]);
    carnet.ok(&["feed", "remove", "default/prod", "--yes"]);

    carnet.ok(&["audit", "verify"]);
    let records = export(&carnet, &[]);
    let kinds = column(&records, "kind");
    let founded = ["issuer.change", "key.prepare", "key.activate", "key.prepare", "key.activate"];
    let mut first: Vec<_> = kinds[..5].to_vec();
    first[1..].sort_unstable();
    let mut expected: Vec<_> = founded.to_vec();
    expected[1..].sort_unstable();
    assert_eq!(first, expected);
    assert_eq!(kinds[5..7], ["feed.add", "feed.update"]);
    for kind in ["key.retire", "key.policy", "key.rewrap", "token.mint", "feed.remove"] {
        assert!(kinds.contains(&kind), "{kind} is not among {kinds:?}");
    }
    assert_eq!(seqs(&records), (1..=records.len() as i64).collect::<Vec<_>>());
    assert!(column(&records, "actor").iter().all(|actor| *actor == local_actor()), "{records:?}");

    let update = &records[6];
    assert_eq!((&update["space"], &update["feed"]), (&"default".into(), &"prod".into()));
    let detail = update["detail"].as_str().unwrap();
    assert_eq!(detail, "version 2: audience \"sts.amazonaws.com\" → \"other\"");
    let minted = records.iter().find(|record| record["kind"] == "token.mint").unwrap();
    assert_eq!(minted["sub"], "space:default:feed:prod");
    assert_eq!((&minted["aud"], &minted["outcome"]), (&"other".into(), &"done".into()));
    assert!(minted["kid"].is_string());
    // Version 7 of RFC 9562 makes the log's index of tokens grow at its end.
    assert_eq!(minted["jti"].as_str().unwrap().as_bytes()[14], b'7', "{minted}");
    let everything = database::dump(&carnet.database());
    let signature = token.trim().rsplit('.').next().unwrap();
    assert!(!everything.contains(signature), "the token is in the database");
}

#[test]
fn a_long_value_hides_no_other_change_of_a_feed() {
    let carnet = carnet();
    let [first, second] = ["1", "2"].map(|end| format!("--audience={}{end}", "a".repeat(250)));
    carnet.ok(&["feed", "update", "default/prod", &first]);
    let long = format!("https://{}.example/{}", "a".repeat(60), "p".repeat(1900));
    let ecr = format!("--endpoint=ecr={long}");
    let changes = [&second, &ecr, "--endpoint=sts=https://evil.example", "--name=Other"];
    carnet.ok(&[&["feed", "update", "default/prod"][..], &changes].concat());
    let records = export(&carnet, &["--kind=feed.update"]);
    let detail = records[1]["detail"].as_str().unwrap();
    let places = [
        "version 3: endpoints.ecr null → \"https://aaa",
        "… sha256:",
        "endpoints.sts null → \"https://evil.example\"",
        "audience \"aaa",
        "name \"prod\" → \"Other\"",
    ]
    .map(|part| detail.find(part).unwrap_or_else(|| panic!("no {part} in {detail}")));
    assert!(places.is_sorted(), "{detail}");
    // Values with a common prefix must still differ in the log.
    let audience = &detail[places[3]..places[4]];
    let digests: Vec<_> = audience.split("sha256:").skip(1).map(|rest| &rest[..16]).collect();
    assert!(matches!(digests[..], [old, new] if old != new), "{audience}");
}

#[test]
fn filters_choose_and_the_formats_agree() {
    let carnet = carnet();
    carnet.ok(&["token", "mint", "default/prod"]);
    let minted = export(&carnet, &["--kind=token.mint"]);
    assert_eq!(column(&minted, "kind"), ["token.mint"]);
    let jti = minted[0]["jti"].as_str().unwrap();
    let me = local_actor();
    for (filter, kinds) in [
        (vec!["--feed=default/prod"], vec!["feed.add", "token.mint"]),
        (vec!["--space=default", "--outcome=done"], vec!["feed.add", "token.mint"]),
        (vec!["--space=other"], vec![]),
        (vec!["--jti", jti], vec!["token.mint"]),
        (vec!["--actor", &me, "--kind=feed.add"], vec!["feed.add"]),
        (vec!["--actor=serve"], vec![]),
        (vec!["--since=1h", "--kind=feed.add"], vec!["feed.add"]),
        (vec!["--until=1h"], vec![]),
        (vec!["--since=2100-01-01T00:00:00Z"], vec![]),
        (vec!["--limit=1"], vec!["token.mint"]),
    ] {
        assert_eq!(column(&export(&carnet, &filter), "kind"), kinds, "{filter:?}");
        let json = carnet.ok(&[&["audit", "list", "--output=json"][..], &filter].concat());
        let mut json: Vec<Value> = serde_json::from_str(&json).unwrap();
        json.reverse();
        assert_eq!(column(&json, "kind"), kinds, "{filter:?}");
    }
    let table = carnet.ok(&["audit", "list"]);
    let first = table.lines().nth(1).unwrap();
    assert!(first.contains("token.mint") && first.contains("default/prod"), "{table}");
    for wrong in ["--kind=mint", "--since=yesterday", "--outcome=ok", "--grant=1"] {
        assert_eq!(carnet.run(&["audit", "list", wrong]).status, 2, "{wrong}");
    }
}

#[test]
fn verify_finds_changed_rows_and_names_them() {
    let carnet = carnet();
    let anchor = carnet.ok(&["audit", "anchor"]);
    let anchor = anchor.trim();
    let output = carnet.run(&["audit", "verify", "--anchor", anchor]);
    assert_eq!(output.status, 0, "{}{}", output.stdout, output.stderr);
    assert!(output.stdout.contains(anchor), "{}", output.stdout);
    let file = carnet.home().join("anchors");
    let file = file.to_str().unwrap();
    let log_line = format!("2026-01-01T00:00:00Z  INFO carnet: the audit log's end anchor={anchor}");
    fs::write(file, format!("# kept elsewhere\n\n{anchor}\n{log_line}\n")).unwrap();
    let agreed = carnet.ok(&["audit", "verify", "--anchors-file", file]);
    assert!(agreed.contains("agrees with 2 anchors"), "{agreed}");
    fs::write(file, "7 sheep\n").unwrap();
    assert_eq!(carnet.run(&["audit", "verify", "--anchors-file", file]).status, 2);

    database::execute(&carnet.database(), "DELETE FROM audit WHERE seq = (SELECT MAX(seq) FROM audit)");
    let seq = anchor.split(':').next().unwrap();
    assert_eq!(carnet.run(&["audit", "verify"]).status, 0, "only an anchor shows a cut tail");
    let output = carnet.run(&["audit", "verify", "--anchor", anchor]);
    assert_eq!(output.status, 1);
    assert!(output.stdout.contains(&format!("names row {seq}")), "{}", output.stdout);

    database::execute(&carnet.database(), "UPDATE audit SET actor = 'local:somebody' WHERE seq = 3");
    let output = carnet.run(&["audit", "verify", "--output=json"]);
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((output.status, &report["ok"]), (1, &false.into()));
    assert_eq!(report["findings"], serde_json::json!([{ "seq": 3, "problem": "changed" }]));
    assert!(output.stderr.contains("row 3"), "{}", output.stderr);
}

#[test]
fn reading_needs_no_master_key_and_changing_does() {
    let carnet = carnet();
    fs::rename(carnet.keys_dir(), carnet.home().join("elsewhere")).unwrap();
    for reading in
        [&["audit", "list"][..], &["audit", "anchor"], &["feed", "list"], &["feed", "show", "default/prod"]]
    {
        carnet.ok(reading);
    }
    for needing in [
        &["audit", "verify"][..],
        &["feed", "update", "default/prod", "--audience=other"],
        &["feed", "remove", "default/prod", "--yes"],
    ] {
        let output = carnet.run(needing);
        assert_eq!(output.status, 1, "{needing:?}");
        assert!(output.stderr.contains("master key"), "{}", output.stderr);
    }
}

#[test]
fn follow_prints_new_rows_and_a_server_logs_the_end_of_the_audit_log() {
    let issuer = Issuer::http();
    let carnet = &issuer.carnet;
    let mut command = carnet.command(&["audit", "list", "--follow", "--output=jsonl", "--limit=1"]);
    let mut follow = Process::start("audit list --follow", &mut command);
    let soon = Duration::from_secs(20);
    let lines = |process: &Process, wanted: usize| (process.stdout().lines().count() >= wanted).then_some(());
    follow.wait_ready(soon, |process| lines(process, 1)).unwrap();
    carnet.ok(&FEED);
    carnet.ok(&["token", "mint", "default/prod"]);
    follow.wait_ready(soon, |process| lines(process, 3)).unwrap();
    let printed = follow.stdout();
    let printed: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(column(&printed[1..], "kind"), ["feed.add", "token.mint"]);
    drop(follow);

    let Announced { process, .. } = &issuer.server;
    let logged = process.stderr();
    assert!(logged.contains("the audit log's end"), "{logged}");
    carnet.ok(&["audit", "verify"]);
}

#[test]
fn a_credential_and_a_refused_exchange_are_recorded_without_a_secret() {
    let issuer = Issuer::http();
    let carnet = &issuer.carnet;
    let sandbox = carnet.sandbox(
        &issuer.url,
        "[aws]\npassword = \"hunter2\"\n[[aws.roles]]\narn = \"arn:aws:iam::123456789012:role/pull\"\n\
         audiences = [\"sts.amazonaws.com\"]\nsubjects = [\"space:default:feed:prod\"]\n",
    );
    let endpoint =
        |name| format!("--endpoint={name}={}", sandbox.announced(&format!("/endpoints/aws/{name}")));
    let (sts, ecr) = (endpoint("sts"), endpoint("ecr"));
    carnet.ok(&[&FEED[..], &[&sts, &ecr]].concat());
    carnet.ok(&[&FEED[..4], &["--slug=stranger"], &FEED[5..], &[&sts, &ecr]].concat());

    let response: Value = serde_json::from_str(&carnet.ok(&["feed", "credentials", "default/prod"])).unwrap();
    let records = export(carnet, &["--feed=default/prod"]);
    assert_eq!(column(&records, "kind"), ["feed.add", "token.mint", "credential"]);
    assert_eq!(column(&records, "actor"), [local_actor().as_str(); 3]);
    assert_eq!([&records[1]["jti"], &records[2]["jti"]], [&response["jti"]; 2]);
    let asked = |url: &str| url.split('/').nth(2).unwrap().to_owned();
    let asked = format!("asked ecr at {}, sts at {}: ", asked(&ecr), asked(&sts));
    let handed_out = format!("{asked}exchange, expires at ");
    assert!(records[2]["detail"].as_str().unwrap().starts_with(&handed_out), "{}", records[2]);

    assert_eq!(carnet.run(&["feed", "credentials", "default/stranger"]).status, 1);
    let records = export(carnet, &["--feed=default/stranger"]);
    let mut seen: Vec<_> = column(&records, "kind").into_iter().zip(column(&records, "outcome")).collect();
    seen.sort_unstable();
    let expected =
        [("credential", "failed"), ("exchange", "refused"), ("feed.add", "done"), ("token.mint", "done")];
    assert_eq!(seen, expected);
    let exchange = records.iter().find(|record| record["kind"] == "exchange").unwrap();
    let detail = exchange["detail"].as_str().unwrap();
    assert!(detail.starts_with(&asked) && detail.contains("AccessDenied"), "{exchange}");
    assert!(exchange["upstream_request_id"].is_string(), "{exchange}");
    assert!(!database::dump(&carnet.database()).contains("hunter2"), "the password is in the database");
    carnet.ok(&["audit", "verify"]);
}

#[test]
fn nothing_is_handed_out_or_changed_without_its_audit_row() {
    let carnet = carnet();
    // The last number that there is, behind which no row has a place.
    database::execute(
        &carnet.database(),
        "UPDATE audit SET seq = 9223372036854775807 WHERE seq = (SELECT MAX(seq) FROM audit)",
    );
    let before = database::dump(&carnet.database());
    for command in [
        &["token", "mint", "default/prod"][..],
        &["feed", "update", "default/prod", "--audience=other"],
        &["feed", "remove", "default/prod", "--yes"],
        &["key", "rotate", "--force", "--yes"],
        &["key", "policy", "--leeway=6m"],
        &["key", "rewrap", "--new-key-file=new.key"],
    ] {
        let output = carnet.run(command);
        assert_eq!((output.status, output.stdout.as_str()), (1, ""), "{command:?}");
    }
    assert_eq!(database::dump(&carnet.database()), before);
}

#[test]
fn a_database_from_before_there_was_a_log_gets_one() {
    let carnet = carnet();
    for statement in [
        "DELETE FROM audit",
        "DELETE FROM audit_base",
        "DELETE FROM sealed_keys WHERE name <> 'signing-key-rows'",
        "UPDATE key_state SET purposes = 0",
        "DELETE FROM states",
    ] {
        database::execute(&carnet.database(), statement);
    }
    std::fs::remove_file(carnet.keys_dir().join("state")).unwrap();
    assert_eq!(carnet.run(&["audit", "anchor"]).status, 1);
    carnet.ok(&["feed", "update", "default/prod", "--audience=other"]);
    let records = export(&carnet, &[]);
    assert_eq!((seqs(&records), column(&records, "kind")), (vec![1], vec!["feed.update"]));
    carnet.ok(&["audit", "verify"]);
}
