//! `key rotate`: refused until it is safe, or forced.

use jiff::Timestamp;
use serde_json::Value;

use crate::key_cli::{USAGE, assert_noted, assert_refused, founded, state};
use crate::support::keys::{assert_invariants, list, the};

#[test]
fn a_young_key_is_refused_until_the_time_that_the_refusal_names() {
    let mut carnet = founded("+0");
    let before = state(&carnet);
    let prepared = before[0].as_array().unwrap().iter().find(|key| key["state"] == "prepared").unwrap();
    let safe_at: Timestamp = prepared["safe_at"].as_str().unwrap().parse().unwrap();
    let published: Timestamp = prepared["prepared_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(safe_at.duration_since(published).as_secs(), 86_400);

    for arguments in [&["key", "rotate"][..], &["key", "rotate", "--alg=ES256"], &["key", "rotate", "--yes"]]
    {
        let refused = carnet.run(arguments);
        let printed =
            [&format!("verifiers may not know it before {safe_at}"), "hint: wait until then", "--force"];
        assert_refused(&refused, 1, &printed);
    }
    assert_refused(
        &carnet.run(&["key", "rotate", "--force"]),
        USAGE,
        &[
            "has been published since",
            "refuses every new RS256 token until it fetches again: at the latest in 24 hours",
            "this needs a confirmation",
            "hint: --yes",
        ],
    );
    assert_eq!(state(&carnet), before, "a refusal changed something");

    carnet.turn_clock("+25h");
    let keys = list(&carnet);
    let (active, prepared) = (the(&keys, "ES256", "active"), the(&keys, "ES256", "prepared"));
    let output = carnet.run(&["key", "rotate", "--alg=ES256"]);
    assert_noted(
        &output,
        &[
            &format!("ES256: {prepared} signs from now on. {active} verifies until "),
            "its private key is destroyed",
        ],
    );
    let after = list(&carnet);
    assert_eq!((the(&after, "ES256", "active"), the(&after, "ES256", "retired")), (prepared, active));
    assert_eq!(the(&after, "RS256", "active"), the(&keys, "RS256", "active"));
}

#[test]
fn a_ninth_key_is_refused_with_the_time_of_the_next_free_slot_and_a_revocation_is_not() {
    let carnet = founded("+0");
    for _ in 0..4 {
        carnet.ok(&["key", "rotate", "--alg=ES256", "--force", "--yes"]);
    }
    let before = state(&carnet);
    let keys = list(&carnet);
    assert_eq!(keys.len(), 8);
    let until = |key: &Value| key["published_until"].as_str().map(|time| time.parse::<Timestamp>().unwrap());
    let frees_at = keys.iter().filter_map(until).min().unwrap();
    for arguments in
        [&["key", "rotate", "--force", "--yes"][..], &["key", "rotate", "--alg=RS256", "--force", "--yes"]]
    {
        let printed =
            ["already has 8 keys", &format!("the next slot becomes free at {frees_at}"), "hint: wait"];
        assert_refused(&carnet.run(arguments), 1, &printed);
    }
    assert_eq!(state(&carnet), before, "a refusal changed something");

    carnet.ok(&["key", "revoke", the(&keys, "ES256", "active"), "--yes"]);
    let keys = list(&carnet);
    assert_invariants(&keys);
    assert_eq!(keys.iter().filter(|key| key["state"] != "revoked").count(), 8);
}
