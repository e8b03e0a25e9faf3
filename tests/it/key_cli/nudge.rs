//! The nudge after `key revoke`: its verifiers, its token, and its sender.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::key_cli::{PATIENCE, json_of};
use crate::support::carnet::{Carnet, Issuer};
use crate::support::keys::{list, the};
use crate::support::relay::Relay;

/// Adds the feed `default/SLUG` with a role of `account`, whose STS is at `sts`.
fn add_feed(carnet: &Carnet, slug: &str, account: &str, alg: &str, sts: &str) {
    let (slug, alg) = (format!("--slug={slug}"), format!("--alg={alg}"));
    let role = format!("--role-arn=arn:aws:iam::{account}:role/pull");
    let (sts, ecr) = (format!("--endpoint=sts={sts}"), format!("--endpoint=ecr={sts}"));
    let feed = ["--space=default", &slug, "--registry=registry.example", &role, &alg, &sts, &ecr];
    carnet.ok(&[&["feed", "add", "aws-ecr"], &feed[..]].concat());
}

/// Returns one part of a compact token, decoded.
fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn revoke(carnet: &Carnet, alg: &str, state: &str, more: &[&str]) -> String {
    let listed = list(carnet);
    let kid = the(&listed, alg, state).to_string();
    let output = carnet.run(&[&["key", "revoke", &kid, "--yes"], more].concat());
    assert_eq!(output.status, 0, "{output:?}");
    output.stderr
}

fn recorded(carnet: &Carnet) -> Vec<Value> {
    let rows = json_of(carnet, &["audit", "list", "--kind=key.nudge"]);
    rows.as_array().or_else(|| rows["records"].as_array()).unwrap().clone()
}

/// Stops the server.
fn stopped(issuer: Issuer) -> Carnet {
    let Issuer { mut server, carnet, .. } = issuer;
    assert!(server.process.terminate(PATIENCE));
    carnet
}

#[test]
fn a_server_sends_each_verifier_one_token_of_the_new_key() {
    let issuer = Issuer::http();
    let carnet = &issuer.carnet;
    let (relay, other) = (Relay::to(|_| {}), Relay::to(|_| {}));
    for (slug, account, alg, sts) in [
        ("a", "111111111111", "ES256", &relay),
        ("b", "111111111111", "ES256", &relay),
        ("c", "222222222222", "ES256", &relay),
        ("d", "111111111111", "ES256", &other),
        ("e", "111111111111", "RS256", &other),
    ] {
        add_feed(carnet, slug, account, alg, &sts.url());
    }
    let printed = revoke(carnet, "ES256", "active", &[]);
    assert!(printed.contains("a running server sends the verifiers of ES256 tokens"), "{printed}");
    let tokens = [relay.wait_for(2), other.wait_for(1)].concat();
    let listed = list(carnet);
    for token in &tokens {
        let (header, claims) = (part(token, 0), part(token, 1));
        assert_eq!(header["kid"], the(&listed, "ES256", "prepared"));
        assert_eq!((&header["alg"], &header["typ"]), (&"ES256".into(), &"JWT".into()));
        assert_eq!(claims["sub"], "carnet:nudge");
        assert_eq!(claims["aud"], "sts.amazonaws.com");
        assert_eq!(claims["iss"], issuer.url);
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 60);
        let names: BTreeSet<&str> = claims.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, BTreeSet::from(["aud", "exp", "iat", "iss", "jti", "nbf", "sub"]));
    }
    let rows = recorded(carnet);
    assert_eq!(rows.len(), 3, "{rows:?}");
    for row in &rows {
        assert_eq!((&row["sub"], &row["outcome"]), (&"carnet:nudge".into(), &"done".into()));
        assert_eq!(row["kid"], the(&listed, "ES256", "prepared"));
        assert!(tokens.iter().any(|token| part(token, 1)["jti"] == row["jti"]), "{row}");
    }
    let log = issuer.server.process.stderr();
    assert!(tokens.iter().all(|token| !log.contains(token.as_str())), "{log}");
}

#[test]
fn the_command_sends_the_nudge_without_a_server_and_reports_each_verifier() {
    let carnet = stopped(Issuer::http());
    let relay = Relay::to(|_| {});
    add_feed(&carnet, "a", "111111111111", "ES256", &relay.url());
    // Nothing listens at the discard port.
    add_feed(&carnet, "b", "222222222222", "ES256", "http://127.0.0.1:9");
    // A vendor cannot reach an issuer on loopback.
    let role = "--role-arn=arn:aws:iam::123456789012:role/pull";
    let host = "--registry=123456789012.dkr.ecr.eu-central-1.amazonaws.com";
    carnet.ok(&["feed", "add", "aws-ecr", "--space=default", "--slug=c", host, role, "--alg=ES256"]);

    let printed = revoke(&carnet, "ES256", "active", &[]);
    let at = |url: &str| url.trim_start_matches("http://").to_owned();
    for words in [
        format!(
            "aws 111111111111 at {}: responded with AccessDenied (HTTP 403), as expected",
            at(&relay.url())
        ),
        "aws 222222222222 at 127.0.0.1:9: not reached".to_owned(),
        "sends it again".to_owned(),
    ] {
        assert!(printed.contains(&words), "no {words:?} in:\n{printed}");
    }
    assert!(!printed.contains("eu-central-1"), "{printed}");
    assert_eq!(relay.tokens().len(), 1);
    let rows = recorded(&carnet);
    let outcomes: Vec<_> = rows.iter().map(|row| row["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == "done").count(), 2, "{rows:?}");
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == "failed").count(), 1, "{rows:?}");
}

#[test]
fn no_nudge_sends_no_token() {
    let carnet = stopped(Issuer::http());
    let relay = Relay::to(|_| {});
    add_feed(&carnet, "a", "111111111111", "ES256", &relay.url());
    let printed = revoke(&carnet, "ES256", "active", &["--no-nudge"]);
    assert!(printed.contains("nudge: none"), "{printed}");
    // A feed with the other algorithm has no verifier of this key either.
    let printed = revoke(&carnet, "RS256", "active", &[]);
    assert!(printed.contains("no feed has a verifier that fetches RS256 keys"), "{printed}");
    assert_eq!((relay.tokens(), recorded(&carnet)), (Vec::new(), Vec::new()));
}

#[test]
fn every_revocation_sends_a_token_of_a_key_that_no_verifier_has() {
    let carnet = stopped(Issuer::http());
    let relay = Relay::to(|_| {});
    add_feed(&carnet, "a", "111111111111", "ES256", &relay.url());
    let mut held = BTreeSet::new();
    let mut hold = |listed: &[Value]| held.extend(listed.iter().map(|key| key["kid"].to_string()));
    carnet.ok(&["key", "rotate", "--alg=ES256", "--force", "--yes"]);
    hold(&list(&carnet));

    revoke(&carnet, "ES256", "retired", &[]);
    revoke(&carnet, "ES256", "prepared", &[]);
    carnet.ok(&["key", "revoke", "--all", "--yes"]);
    let tokens = relay.tokens();
    assert_eq!(tokens.len(), 3);
    for token in &tokens {
        assert!(!held.contains(&part(token, 0)["kid"].to_string()), "{}", part(token, 0));
    }
    // For the retired key, the signing key was made for the nudge and never published.
    let listed = crate::support::keys::list_all(&carnet);
    let known = |token: &str| listed.iter().any(|key| key["kid"] == part(token, 0)["kid"]);
    assert_eq!(tokens.iter().map(|token| known(token)).collect::<Vec<_>>(), [false, true, true]);
}

#[test]
fn a_recovery_from_a_leak_nudges_the_verifiers_or_has_the_server_do_it() {
    const RECOVERY: [&str; 4] = ["key", "rewrap", "--leaked", "--yes"];
    let recover = |carnet: &Carnet, more: &[&str]| {
        let output = carnet.run(&[&RECOVERY, more].concat());
        assert_eq!(output.status, 0, "{output:?}");
        output.stderr
    };
    let issuer = Issuer::http();
    let relay = Relay::to(|_| {});
    add_feed(&issuer.carnet, "a", "111111111111", "ES256", &relay.url());
    let printed = recover(&issuer.carnet, &["--new-key-file=1.key"]);
    assert!(printed.contains("nudge: a running server sends the verifiers of ES256 tokens"), "{printed}");
    assert!(printed.contains("nudge: no feed has a verifier that fetches RS256 keys"), "{printed}");
    relay.wait_for(1);

    let carnet = stopped(issuer);
    let printed = recover(&carnet, &["--new-key-file=2.key"]);
    assert!(printed.contains("responded with AccessDenied (HTTP 403), as expected"), "{printed}");
    assert!(printed.contains("sends it again"), "{printed}");
    // A recovery that is repeated nudges nobody again.
    let printed = recover(&carnet, &["--new-key-file=2.key"]);
    assert!(printed.contains("had been done already") && !printed.contains("ES256 tokens"), "{printed}");
    let tokens = relay.tokens();
    let listed = list(&carnet);
    assert_eq!(tokens.len(), 2);
    assert_eq!(part(&tokens[1], 0)["kid"], the(&listed, "ES256", "prepared"));

    // The master key is a file that carnet does not move.
    let file = carnet.keys_dir().join("master.key").display().to_string();
    let printed = recover(&carnet, &["--new-key-file=3.key", "--master-key-file", &file]);
    assert!(printed.contains("responded with AccessDenied (HTTP 403), as expected"), "{printed}");
    let printed = recover(&carnet, &["--new-key-file=4.key", "--master-key-file=3.key", "--no-nudge"]);
    assert!(printed.contains("nudge: none"), "{printed}");
    assert_eq!(relay.tokens().len(), 3);
}
