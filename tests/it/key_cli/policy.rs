//! `key policy`: output, changes, and refusals with a suggestion.

use serde_json::{Value, json};

use crate::key_cli::{USAGE, assert_refused, founded, json_of, state};
use crate::support::carnet::Carnet;

#[test]
fn a_policy_is_shown_and_changed_member_by_member() {
    let carnet = founded("+0");
    let shown = |carnet: &Carnet| json_of(carnet, &["key", "policy"]);
    let mut expected = json!({
        "rotate_every": 2_592_000, "propagation": 86_400, "max_token_lifetime": 3600, "leeway": 300,
        "jwks_max_age": 300, "rsa_bits": 2048,
    });
    assert_eq!(shown(&carnet), expected);
    for (change, member, value) in [
        ("--rotate-every=14d", "rotate_every", 1_209_600),
        ("--propagation=12h", "propagation", 43_200),
        ("--max-token-lifetime=30m", "max_token_lifetime", 1800),
        ("--leeway=90s", "leeway", 90),
        ("--jwks-max-age=600", "jwks_max_age", 600),
        ("--rsa-bits=3072", "rsa_bits", 3072),
    ] {
        let output = carnet.run(&["key", "policy", change, "--output=json"]);
        assert_eq!(output.status, 0, "{}", output.stderr);
        assert!(output.stderr.contains("Running servers use it within a second"), "{}", output.stderr);
        expected[member] = value.into();
        assert_eq!(serde_json::from_str::<Value>(&output.stdout).unwrap(), expected, "{change}");
        assert_eq!(shown(&carnet), expected, "{change}");
    }
    let table = carnet.ok(&["key", "policy"]);
    let pairs: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let expected = [
        ["rotate-every", "14d"],
        ["propagation", "12h"],
        ["max-token-lifetime", "30m"],
        ["leeway", "90s"],
        ["jwks-max-age", "10m"],
        ["rsa-bits", "3072"],
    ];
    assert_eq!(pairs, expected);

    let before = state(&carnet);
    let output = carnet.run(&["key", "policy", "--leeway=90"]);
    assert_eq!(
        (output.status, output.stderr.as_str()),
        (0, ""),
        "a change that changes nothing is announced"
    );
    assert_eq!(state(&carnet), before);
}

#[test]
fn impossible_policies_are_refused_with_a_suggestion_that_works() {
    let carnet = founded("+0");
    for (changes, rule) in [
        (vec!["--jwks-max-age=2d"], "a verifier could have a key set without the key that already signs"),
        (vec!["--propagation=1m"], "`jwks-max-age` (300s) must not exceed `propagation` (60s)"),
        (vec!["--rotate-every=1h"], "the next key would not be safe to use when it is due"),
        (vec!["--propagation=31d"], "`rotate-every` (2592000s) must not be shorter than `propagation`"),
        (vec!["--max-token-lifetime=61d"], "retired keys would fill the key set"),
        (vec!["--leeway=60d"], "retired keys would fill the key set"),
        (vec!["--rotate-every=1d", "--max-token-lifetime=3d"], "twice `rotate-every` (86400s) must cover"),
    ] {
        let before = state(&carnet);
        let refused = carnet.run(&[&["key", "policy"], &changes[..]].concat());
        assert_refused(&refused, USAGE, &["error: ", rule]);
        assert_eq!(state(&carnet), before, "{changes:?}: changed something");

        let (_, suggestion) = refused.stderr.split_once("set `").unwrap();
        let (name, rest) = suggestion.split_once("` to ").unwrap();
        let value = rest.split_whitespace().next().unwrap();
        let suggested = format!("--{name}={value}");
        let flag = format!("--{name}=");
        let mut fixed: Vec<&str> = changes.into_iter().filter(|change| !change.starts_with(&flag)).collect();
        fixed.push(&suggested);
        let home = founded("+0");
        home.ok(&[&["key", "policy"], &fixed[..]].concat());
    }
    for (change, rule) in [
        ("--leeway=0", "`leeway` must be a whole number of seconds, at least 1 and at most ten years"),
        ("--rotate-every=100000d", "`rotate-every` must be a whole number of seconds"),
        ("--propagation=soon", "a duration is a whole number of seconds (600), or has a unit"),
        ("--jwks-max-age=-1", "jwks-max-age"),
        ("--max-token-lifetime=1.5h", "a duration is a whole number of seconds"),
        ("--leeway=99999999999999999999d", "a duration is a whole number of seconds"),
        ("--rsa-bits=1024", "2048, 3072 or 4096"),
    ] {
        let before = state(&carnet);
        assert_refused(&carnet.run(&["key", "policy", change]), USAGE, &["error: ", rule]);
        assert_eq!(state(&carnet), before, "{change}: changed something");
    }
}
