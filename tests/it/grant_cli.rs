//! `carnet grant`: output, effects and refusals of each command, as text and as JSON.

use crate::support::carnet::{Carnet, Output};
use crate::support::local_actor;
use carnet::internals::grant::GrantToken;
use serde_json::{Value, json};

const USAGE: i32 = 2;

fn json_of(carnet: &Carnet, arguments: &[&str]) -> Value {
    serde_json::from_str(&carnet.ok(&[arguments, &["--output=json"]].concat())).unwrap()
}

fn create(carnet: &Carnet, arguments: &[&str]) -> Value {
    json_of(carnet, &[&["grant", "create"], arguments].concat())
}

#[track_caller]
fn assert_refused(output: &Output, status: i32, texts: &[&str]) {
    assert_eq!((output.status, output.stdout.as_str()), (status, ""), "{}", output.stderr);
    for words in texts {
        assert!(output.stderr.contains(words), "should say {words:?}:\n{}", output.stderr);
    }
}

#[test]
fn the_first_grant_makes_the_database_and_prints_its_token_alone() {
    let carnet = Carnet::new();
    let Output { status, stdout, stderr } =
        carnet.run(&["grant", "create", "--role=deployer", "--name=CI", "--space=default", "--feed=prod-*"]);
    assert_eq!(status, 0, "{stderr}");
    let token = stdout.strip_suffix('\n').unwrap();
    let id = GrantToken::parse(token).unwrap().id();
    for words in [&id.to_string(), "deployer of spaces default", "prod-*", "in 90 days", "shown this once"] {
        assert!(stderr.contains(words), "should say {words:?}:\n{stderr}");
    }
    assert!(!stderr.contains(token));
    let listed = json_of(&carnet, &["grant", "list"]);
    assert_eq!(listed[0]["id"], id.to_string());
    assert!(!listed.to_string().contains(&token[29..72]));
    assert!(!carnet.ok(&["grant", "list"]).contains(&token[29..72]));
}

#[test]
fn every_flag_is_in_the_grant_and_omitted_ones_have_their_default() {
    let carnet = Carnet::new();
    let full = create(
        &carnet,
        &[
            "--role=deployer",
            "--name=CI of acme",
            "--space=b",
            "--space=a",
            "--feed=prod",
            "--feed=test-*",
            "--context=tenant=acme",
            "--context=environment=*",
            "--repository=app/one",
            "--action=pull",
            "--expires-in=never",
        ],
    );
    assert!(GrantToken::parse(full["token"].as_str().unwrap()).is_ok());
    for (member, value) in [
        ("role", json!("deployer")),
        ("name", json!("CI of acme")),
        ("spaces", json!(["a", "b"])),
        ("feeds", json!(["prod", "test-*"])),
        ("context", json!({"tenant": "acme", "environment": "*"})),
        ("repositories", json!(["app/one"])),
        ("actions", json!(["pull"])),
        ("expires_at", json!(null)),
        ("created_by", json!(local_actor())),
    ] {
        assert_eq!(full[member], value, "{member}");
    }
    let admin = create(&carnet, &["--role=admin"]);
    for (member, value) in [
        ("name", json!("admin")),
        ("spaces", json!(null)),
        ("feeds", json!(null)),
        ("repositories", json!(null)),
        ("actions", json!(["pull", "push"])),
    ] {
        assert_eq!(admin[member], value, "{member}");
    }
    assert_eq!(admin["context"].as_object().unwrap().len(), 5);
    assert!(admin["context"].as_object().unwrap().values().all(|value| value == "*"));
    assert!(admin["expires_at"].is_string());
    let viewer = create(&carnet, &["--role=viewer", "--expires-in=12h"]);
    assert_eq!(viewer["context"], json!({}));
    let listed = json_of(&carnet, &["grant", "list"]);
    let ids: Vec<_> = listed.as_array().unwrap().iter().map(|grant| &grant["id"]).collect();
    assert_eq!(ids, [&full["id"], &admin["id"], &viewer["id"]]);
    assert!(
        listed
            .as_array()
            .unwrap()
            .iter()
            .all(|grant| grant["state"] == "valid" && grant.get("token").is_none())
    );
}

#[test]
fn a_revoked_grant_is_shown_as_such_and_revoking_it_again_changes_nothing() {
    let carnet = Carnet::new();
    let id = create(&carnet, &["--role=viewer"])["id"].as_str().unwrap().to_owned();
    assert_refused(&carnet.run(&["grant", "revoke", &id]), USAGE, &["“viewer”", "--yes"]);
    assert_eq!(json_of(&carnet, &["grant", "list"])[0]["state"], "valid");
    let revoked = carnet.run(&["grant", "revoke", &id, "--yes"]);
    assert_eq!((revoked.status, revoked.stdout.as_str()), (0, ""), "{}", revoked.stderr);
    let listed = json_of(&carnet, &["grant", "list"]);
    assert_eq!(listed[0]["state"], "revoked");
    let again = carnet.run(&["grant", "revoke", &id]);
    assert!(again.status == 0 && again.stderr.contains("Nothing to do"), "{}", again.stderr);
    assert_eq!(json_of(&carnet, &["grant", "list"]), listed);
    let table = carnet.ok(&["grant", "list"]);
    assert!(table.contains("revoked") && table.contains(&id), "{table}");
    let unknown = carnet.run(&["grant", "revoke", "00000000-0000-4000-8000-000000000000", "--yes"]);
    assert_refused(&unknown, 1, &["there is no grant", "grant list"]);
}

#[test]
fn contradictory_arguments_are_refused_and_create_no_database() {
    let carnet = Carnet::new();
    for (arguments, words) in [
        (&["--role=deployer"][..], "name at least one space"),
        (&["--role=owner"], "admin, viewer or deployer"),
        (&["--role=deployer", "--feed=default/prod"], "only the feed's slug"),
        (&["--role=deployer", "--feed=Prod"], "not 'P'"),
        (&["--role=deployer", "--space=a*"], "not a slug"),
        (&["--role=admin", "--context=colour=red"], "not a context key"),
        (&["--role=admin", "--context=tenant=a", "--context=tenant=b"], "twice"),
        (&["--role=admin", "--repository=app/*"], "wildcards"),
        (&["--role=admin", "--action=delete"], "pull or push"),
        (&["--role=admin", "--expires-in=0"], "has passed"),
        (&["--role=admin", "--expires-in=soon"], "a duration is"),
        (&["--role=admin", "--expires-in=999999999999d"], "too long"),
        (&["--role=admin", "--name="], "1–200"),
    ] {
        let output = carnet.run(&[&["grant", "create"], arguments].concat());
        assert_refused(&output, USAGE, &[words]);
    }
    assert!(!carnet.database().exists() && !carnet.keys_dir().exists());
    assert_refused(&carnet.run(&["grant", "list"]), 1, &["there is no database"]);
    assert!(!carnet.database().exists());
}
