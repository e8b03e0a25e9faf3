//! The output of the key commands for a feed whose JWKS is uploaded.

use crate::support::carnet::{Carnet, Output};
use crate::uploaded_jwks::{add, json, kid};

fn assert_output(output: &Output, status: i32, parts: &[&str]) {
    assert_eq!(output.status, status, "{output:?}");
    for part in parts {
        assert!(output.stderr.contains(part), "no {part:?} in {}", output.stderr);
    }
}

fn key(carnet: &Carnet, kid: &str) -> serde_json::Value {
    let keys = json(&carnet.ok(&["key", "list", "--all", "--output=json"]));
    keys.as_array().unwrap().iter().find(|key| key["kid"] == kid).unwrap().clone()
}

#[test]
fn the_key_list_names_the_feed_for_which_a_key_waits() {
    let carnet = Carnet::new();
    add(&carnet, "prod", &["--jwks=uploaded"]);
    let (active, prepared) = (kid(&carnet, "ES256", "active"), kid(&carnet, "ES256", "prepared"));
    let waiting = key(&carnet, &prepared);
    assert_eq!(waiting["waits_for"], serde_json::json!(["feed default/prod"]));
    assert_eq!((&waiting["safe_at"], &waiting["published_at"]), (&().into(), &().into()));
    let list = carnet.run(&["key", "list"]);
    assert!(list.stdout.contains("waits for feed default/prod"), "{list:?}");
    let confirm = format!("carnet feed confirm-jwks {prepared}");
    assert_output(&list, 0, &["carnet feed setup default/prod", &confirm]);

    carnet.ok(&["feed", "confirm-jwks", &prepared]);
    assert!(key(&carnet, &prepared)["waits_for"].is_null());
    assert!(!key(&carnet, &prepared)["safe_at"].is_null());
    // An upload with the next key also contains the active one.
    assert!(key(&carnet, &active)["waits_for"].is_null());
    let list = carnet.run(&["key", "list"]);
    assert!(list.stdout.contains("may sign") && !list.stderr.contains("confirm-jwks"), "{list:?}");
}

#[test]
fn a_rotation_is_refused_with_the_feed_and_force_explains_the_effects() {
    let carnet = Carnet::new();
    add(&carnet, "prod", &["--jwks=uploaded"]);
    let prepared = kid(&carnet, "ES256", "prepared");
    let confirm = format!("carnet feed confirm-jwks {prepared}");
    let refused = carnet.run(&["key", "rotate", "--alg=ES256"]);
    assert_output(
        &refused,
        1,
        &["not yet published", "it waits for feed default/prod", "carnet feed setup default/prod", &confirm],
    );
    let asked = carnet.run(&["key", "rotate", "--alg=ES256", "--force"]);
    assert_output(
        &asked,
        2,
        &["New tokens of feed default/prod are refused until the JWKS is uploaded there again"],
    );
    assert_eq!(kid(&carnet, "ES256", "prepared"), prepared);

    carnet.ok(&["key", "rotate", "--alg=ES256", "--force", "--yes"]);
    assert_eq!(kid(&carnet, "ES256", "active"), prepared);
    assert_eq!(key(&carnet, &prepared)["waits_for"], serde_json::json!(["feed default/prod"]));
    // RS256 waits for no feed: only its age prevents the rotation.
    assert_output(&carnet.run(&["key", "rotate", "--alg=RS256"]), 1, &["has been published only since"]);
}

#[test]
fn a_revocation_warns_that_the_uploaded_jwks_still_has_the_key() {
    let carnet = Carnet::new();
    add(&carnet, "prod", &["--jwks=uploaded"]);
    // A key of another algorithm, too: an attacker who has it can sign for the feed's subject.
    for alg in ["ES256", "RS256"] {
        let active = kid(&carnet, alg, "active");
        let revoked = carnet.run(&["key", "revoke", &active, "--yes"]);
        assert_output(
            &revoked,
            0,
            &["The JWKS uploaded for feed default/prod may hold it", "carnet feed setup default/prod"],
        );
    }
    assert_output(
        &carnet.run(&["key", "revoke", "--all"]),
        2,
        &["The JWKS uploaded for feed default/prod may hold"],
    );
}

#[test]
fn the_doctor_names_the_feed_that_holds_the_rotation() {
    let carnet = Carnet::new();
    add(&carnet, "prod", &["--jwks=uploaded"]);
    let prepared = kid(&carnet, "ES256", "prepared");
    let report = carnet.run(&["doctor", "--output=json"]).stdout;
    let printed =
        format!("ES256 is held by feed default/prod, which waits for `carnet feed confirm-jwks {prepared}`");
    assert!(report.contains(&printed), "{report}");
    carnet.ok(&["feed", "confirm-jwks", &prepared]);
    assert!(!carnet.run(&["doctor", "--output=json"]).stdout.contains("confirm-jwks"));
}
