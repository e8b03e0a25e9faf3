//! `feed confirm-jwks`.

use crate::support::carnet::{Carnet, Output};
use crate::support::local_actor;
use crate::uploaded_jwks::{add, json, kid};

fn refused(output: &Output, status: i32, parts: &[&str]) {
    assert_eq!((output.status, output.stdout.as_str()), (status, ""), "{output:?}");
    for part in parts {
        assert!(output.stderr.contains(part), "no {part:?} in {}", output.stderr);
    }
}

fn confirmations(carnet: &Carnet) -> Vec<serde_json::Value> {
    let audit = carnet.ok(&["audit", "list", "--kind=feed.confirm-jwks", "--output=json"]);
    json(&audit).as_array().unwrap().clone()
}

#[test]
fn a_confirmation_is_recorded_once_and_the_first_time_stays() {
    let carnet = Carnet::new();
    add(&carnet, "prod", &["--jwks=uploaded"]);
    let prepared = kid(&carnet, "ES256", "prepared");
    let confirm = ["feed", "confirm-jwks", &prepared, "default/prod", "--output=json"];
    let first = json(&carnet.ok(&confirm));
    assert_eq!((&first["kid"], &first["alg"]), (&prepared.as_str().into(), &"ES256".into()));
    assert_eq!((&first["state"], &first["feeds"][0]["feed"]), (&"prepared".into(), &"default/prod".into()));
    assert_eq!(first["feeds"][0]["already"], false);
    let (confirmed_at, safe_at): (jiff::Timestamp, jiff::Timestamp) = (
        first["feeds"][0]["confirmed_at"].as_str().unwrap().parse().unwrap(),
        first["safe_at"].as_str().unwrap().parse().unwrap(),
    );
    assert_eq!(safe_at.duration_since(confirmed_at).as_hours(), 24, "propagation counts from here: {first}");

    let again = json(&carnet.ok(&confirm));
    assert_eq!(again["feeds"][0]["already"], true);
    assert_eq!(again["feeds"][0]["confirmed_at"], first["feeds"][0]["confirmed_at"]);
    let output = carnet.run(&["feed", "confirm-jwks", &prepared]);
    assert!(output.status == 0 && output.stderr.contains("Nothing to do"), "{output:?}");

    let records = confirmations(&carnet);
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!((&records[0]["kid"], &records[0]["feed"]), (&prepared.as_str().into(), &"prod".into()));
    assert_eq!((&records[0]["actor"], &records[0]["outcome"]), (&local_actor().into(), &"done".into()));
}

#[test]
fn a_key_that_cannot_be_confirmed_is_refused_with_the_reason() {
    let carnet = Carnet::new();
    add(&carnet, "prod", &["--jwks=uploaded"]);
    add(&carnet, "fetched", &[]);
    let (active, prepared) = (kid(&carnet, "ES256", "active"), kid(&carnet, "ES256", "prepared"));
    let other = kid(&carnet, "RS256", "prepared");
    let unknown = format!("-h{}", "A".repeat(41));
    let confirm = |kid: &str, more: &[&str]| carnet.run(&[&["feed", "confirm-jwks", kid], more].concat());

    refused(&confirm(&unknown, &[]), 1, &["has no signing key", "key list"]);
    refused(&confirm("nonsense", &[]), 2, &["not a kid"]);
    refused(&confirm(&other, &[]), 1, &["no feed of the algorithm RS256 has an uploaded JWKS"]);
    refused(&confirm(&other, &["default/prod"]), 1, &["default/prod has the algorithm ES256", "has RS256"]);
    refused(
        &confirm(&prepared, &["default/fetched"]),
        1,
        &["default/fetched has no uploaded JWKS", "--jwks uploaded"],
    );
    refused(&confirm(&prepared, &["default/none"]), 1, &["there is no feed default/none", "feed list"]);
    refused(&confirm(&prepared, &["default/prod", "default/fetched"]), 1, &["default/fetched"]);

    carnet.ok(&["key", "rotate", "--alg=ES256", "--force", "--yes"]);
    refused(&confirm(&active, &[]), 1, &["is retired", "nothing to confirm"]);
    let young = kid(&carnet, "ES256", "prepared");
    carnet.ok(&["key", "revoke", &young, "--yes"]);
    refused(&confirm(&young, &[]), 1, &["is revoked"]);
    assert!(confirmations(&carnet).is_empty());
    // The key that signs already may be confirmed, too.
    carnet.ok(&["feed", "confirm-jwks", &prepared]);
}

#[test]
fn several_feeds_are_listed_and_need_a_confirmation() {
    let carnet = Carnet::new();
    add(&carnet, "a", &["--jwks=uploaded"]);
    add(&carnet, "b", &["--jwks=uploaded"]);
    add(&carnet, "c", &["--jwks=uploaded", "--alg=RS256"]);
    let prepared = kid(&carnet, "ES256", "prepared");
    let asked = carnet.run(&["feed", "confirm-jwks", &prepared]);
    refused(&asked, 2, &["default/a\n", "default/b\n", "--yes confirms"]);
    assert!(!asked.stderr.contains("default/c"), "{asked:?}");
    assert!(confirmations(&carnet).is_empty());

    let done = json(&carnet.ok(&["feed", "confirm-jwks", &prepared, "--yes", "--output=json"]));
    assert_eq!(done["feeds"].as_array().unwrap().len(), 2);
    assert_eq!(confirmations(&carnet).len(), 2);
}

#[test]
fn another_upload_target_has_to_be_confirmed_anew() {
    let carnet = Carnet::new();
    add(&carnet, "prod", &["--jwks=uploaded"]);
    let prepared = kid(&carnet, "ES256", "prepared");
    let confirm = || {
        let done = carnet.ok(&["feed", "confirm-jwks", &prepared, "--output=json"]);
        json(&done)["feeds"][0]["already"].as_bool().unwrap()
    };
    assert!(!confirm() && confirm());
    // A change that keeps the provider also keeps the confirmation.
    carnet.ok(&["feed", "update", "default/prod", "--name=Production"]);
    assert!(confirm());
    let other =
        "--workload-identity-provider=projects/1/locations/global/workloadIdentityPools/pool/providers/other";
    carnet.ok(&["feed", "update", "default/prod", other]);
    assert!(!confirm());
    carnet.ok(&["feed", "update", "default/prod", "--jwks=fetched"]);
    carnet.ok(&["feed", "update", "default/prod", "--jwks=uploaded"]);
    assert!(!confirm());
    carnet.ok(&["feed", "remove", "default/prod", "--yes"]);
    add(&carnet, "prod", &["--jwks=uploaded", "--reuse-slug"]);
    assert!(!confirm());
}
