//! The labels of published copies remember the database's state, whatever a state file says.

use std::fs;
use std::path::PathBuf;

use crate::put_back::{Copy, PATIENCE, active, founded, get, grant, readyz, revoke_grant, stop};
use crate::support::carnet::{Announced, Carnet};
use crate::support::keys;
use crate::support::process::wait_until;
use serde_json::Value;

fn serve(carnet: &Carnet) -> Result<Announced, String> {
    let folder = carnet.home().join("www");
    carnet.serve(keys::ISSUER, "127.0.0.1:0", &["--publish", folder.to_str().unwrap()])
}

fn labels(carnet: &Carnet) -> PathBuf {
    carnet.home().join("www/.carnet-publication.json")
}

fn lose_the_state_file(carnet: &Carnet) {
    fs::remove_file(carnet.keys_dir().join("state")).unwrap();
}

fn is_unproved(server: &Announced) -> bool {
    readyz(server).json()["checks"]["state"]["unproved"] == true
}

/// Waits until a label has the last state of the database.
#[track_caller]
fn wait_until_labelled(carnet: &Carnet) {
    let shown: Value = serde_json::from_str(&carnet.ok(&["database", "show", "--output=json"])).unwrap();
    let state = shown["state"].as_str().unwrap();
    let labelled = wait_until(PATIENCE, || {
        fs::read_to_string(labels(carnet)).ok().filter(|labels| labels.contains(state))
    });
    assert!(labelled.is_some(), "no label has the state {state}");
}

#[test]
fn a_published_copy_proves_the_database_when_the_state_file_is_lost() {
    let carnet = founded();
    stop(serve(&carnet).unwrap());
    let before = Copy::of(&carnet);
    // No server runs, so the command would wait for the copy.
    carnet.ok(&["key", "revoke", &active(&carnet), "--yes", "--no-nudge"]);
    let server = serve(&carnet).unwrap();
    wait_until_labelled(&carnet);
    stop(server);
    let now = Copy::of(&carnet);

    lose_the_state_file(&carnet);
    let server = serve(&carnet).unwrap();
    assert!(!is_unproved(&server));
    stop(server);
    // The state file has the proof from then on.
    let command = carnet.run(&["key", "list"]);
    assert_eq!((command.status, command.stderr.as_str()), (0, ""));

    // An older database is refused because of the label alone: at the first start, at the next one, and after a
    // command has made a state file.
    lose_the_state_file(&carnet);
    before.put_back(&carnet);
    for start in 1..=3 {
        let refused = serve(&carnet).err().expect("an older database is served");
        assert!(refused.contains("the label of the published copy at"), "{start}: {refused}");
        assert_eq!(carnet.run(&["key", "list"]).status, 0, "{start}");
    }
    let folder = carnet.home().join("www");
    let refused = carnet.run(&["publish", folder.to_str().unwrap()]);
    assert!(refused.status == 1 && refused.stderr.contains("the label of"), "{}", refused.stderr);

    // A label that somebody else changed proves nothing, and refuses nothing.
    lose_the_state_file(&carnet);
    now.put_back(&carnet);
    let text = fs::read_to_string(labels(&carnet)).unwrap();
    fs::write(labels(&carnet), text.replace("\"state\": \"", "\"state\": \"1")).unwrap();
    let server = serve(&carnet).unwrap();
    assert!(is_unproved(&server));
    stop(server);
    // The label that this server has written does not prove it either.
    let server = serve(&carnet).unwrap();
    assert!(is_unproved(&server));
    stop(server);
}

#[test]
fn a_database_from_before_the_revocation_of_a_grant_is_refused_by_the_renewed_label() {
    let carnet = founded();
    let thief = grant(&carnet, &[]);
    stop(serve(&carnet).unwrap());
    let before = Copy::of(&carnet);
    let documents = fs::metadata(carnet.home().join("www/.well-known/jwks")).unwrap().modified().unwrap();
    let server = serve(&carnet).unwrap();
    assert_eq!(get(&server, &thief, "/api/v1/signing-keys").status, 200);
    revoke_grant(&carnet, &thief);
    wait_until_labelled(&carnet);
    stop(server);
    let now = fs::metadata(carnet.home().join("www/.well-known/jwks")).unwrap().modified().unwrap();
    assert_eq!(now, documents, "the document was written, and not only its label");

    lose_the_state_file(&carnet);
    before.put_back(&carnet);
    let refused = serve(&carnet).err().expect("the revoked grant is back");
    assert!(refused.contains("the label of the published copy at"), "{refused}");
}

#[test]
fn a_label_older_than_the_last_state_does_not_prove_the_database() {
    let carnet = founded();
    let server = serve(&carnet).unwrap();
    wait_until_labelled(&carnet);
    stop(server);
    // No server renews the label.
    drop(grant(&carnet, &[]));
    lose_the_state_file(&carnet);
    for _ in 0..2 {
        let server = serve(&carnet).unwrap();
        assert!(is_unproved(&server));
        stop(server);
    }
    let shown: Value = serde_json::from_str(&carnet.ok(&["database", "show", "--output=json"])).unwrap();
    carnet.ok(&["key", "list", &format!("--state-at-least={}", shown["state"].as_str().unwrap())]);
    let server = serve(&carnet).unwrap();
    assert!(!is_unproved(&server));
    wait_until_labelled(&carnet);
    stop(server);
    lose_the_state_file(&carnet);
    let server = serve(&carnet).unwrap();
    assert!(!is_unproved(&server));
    stop(server);
}

#[test]
fn an_accepted_database_is_published_over_a_label_from_before() {
    let carnet = founded();
    stop(serve(&carnet).unwrap());
    let before = Copy::of(&carnet);
    let server = serve(&carnet).unwrap();
    drop(grant(&carnet, &[]));
    wait_until_labelled(&carnet);
    stop(server);
    before.put_back(&carnet);
    carnet.ok(&["database", "accept", "--yes"]);
    let server = serve(&carnet).unwrap();
    assert!(!is_unproved(&server));
    wait_until_labelled(&carnet);
    stop(server);

    // Without the state file, nothing shows that the label is from before. The operator takes the copy over.
    let before = Copy::of(&carnet);
    let server = serve(&carnet).unwrap();
    for _ in 0..3 {
        drop(grant(&carnet, &[]));
    }
    wait_until_labelled(&carnet);
    stop(server);
    lose_the_state_file(&carnet);
    before.put_back(&carnet);
    carnet.ok(&["database", "accept", "--yes"]);
    let refused = serve(&carnet).err().expect("the label is ignored");
    assert!(refused.contains("--take-over"), "{refused}");
    let folder = carnet.home().join("www");
    carnet.ok(&["publish", folder.to_str().unwrap(), "--take-over", "--yes"]);
    stop(serve(&carnet).unwrap());
}
