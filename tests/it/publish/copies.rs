//! The documents at a target, and whether keys wait for it.

use serde_json::json;

use crate::publish::{DISCOVERY, ISSUER, JWKS, Publisher};
use crate::support::http::Connection;

#[test]
fn a_published_copy_equals_the_served_documents_byte_for_byte() {
    let publisher = Publisher::new();
    let (response, notes) = publisher.ok(&[]);
    assert_eq!(response["target"], publisher.folder.to_str().unwrap());
    assert_eq!(response["issuer"], ISSUER);
    assert_eq!(response["written"], json!([JWKS, DISCOVERY]));
    assert_eq!(response["kids"], json!(publisher.kids()));
    assert_eq!(response["registered"], true);
    for words in ["no key signs before", "for 24 hours", "carnet serve --publish", "carnet doctor"] {
        assert!(notes.contains(words), "{notes}");
    }

    let server =
        publisher.carnet.serve(ISSUER, "127.0.0.1:0", &[]).unwrap_or_else(|failure| panic!("{failure}"));
    let mut connection = Connection::to(server.announced("/listening"), None);
    for document in [JWKS, DISCOVERY] {
        assert_eq!(connection.get(&format!("/{document}")).body, publisher.read(document), "{document}");
    }
}

#[test]
fn a_second_publication_does_nothing_until_a_rotation() {
    let publisher = Publisher::new();
    let (first, _) = publisher.ok(&[]);
    let before = crate::publish::contents(&publisher.folder);
    let (second, notes) = publisher.ok(&[]);
    assert_eq!(second["written"], json!([]));
    assert_eq!(second["generation"], first["generation"]);
    assert!(notes.contains("nothing to do: ") && notes.contains("already"), "{notes}");
    assert_eq!(crate::publish::contents(&publisher.folder), before);

    publisher.carnet.ok(&["key", "rotate", "--force", "--yes"]);
    let (third, _) = publisher.ok(&[]);
    assert_ne!(third["generation"], first["generation"]);
    assert_eq!(third["written"][0], JWKS);
    let listed = crate::support::keys::list(&publisher.carnet);
    let active = crate::support::keys::the(&listed, "ES256", "active");
    assert!(publisher.kids().contains(&active.to_string()));
}

#[test]
fn an_unregistered_copy_is_still_written() {
    let publisher = Publisher::new();
    let (response, notes) = publisher.ok(&["--once"]);
    assert_eq!((&response["registered"], &response["written"]), (&json!(false), &json!([JWKS, DISCOVERY])));
    assert!(notes.contains("No server keeps this copy up to date"), "{notes}");
    let (response, _) = publisher.ok(&[]);
    assert_eq!((&response["registered"], &response["written"]), (&json!(true), &json!([])));
    // Nor does it end the registration.
    assert_eq!(publisher.ok(&["--once"]).0["registered"], true);
}

#[test]
fn a_forgotten_copy_stays_and_the_effects_are_explained() {
    let publisher = Publisher::new();
    publisher.ok(&[]);
    publisher.refused(
        &["--forget"],
        2,
        &["stay and become out of date", "this needs a confirmation", "hint: --yes confirms"],
    );
    assert_eq!(publisher.ok(&["--once"]).0["registered"], true);
    let before = crate::publish::contents(&publisher.folder);
    let output = publisher.run(&["--forget", "--yes"]);
    assert_eq!(output.status, 0, "{output:?}");
    assert!(output.stderr.contains("no key waits for"), "{output:?}");
    assert_eq!(crate::publish::contents(&publisher.folder), before);
    assert_eq!(publisher.ok(&["--once"]).0["registered"], false);
    let again = publisher.run(&["--forget"]);
    assert!(again.status == 0 && again.stderr.contains("nothing to do"), "{again:?}");
}

#[test]
fn a_key_missing_in_the_copy_signs_nothing_and_the_refusal_has_a_fix() {
    let publisher = Publisher::new();
    publisher.ok(&[]);
    crate::support::keys::add_feeds(&publisher.carnet, &[]);
    publisher.carnet.ok(&["key", "revoke", "--all", "--yes", "--no-nudge"]);
    let target = publisher.folder.to_str().unwrap();
    for command in [["token", "mint", "default/es256"], ["feed", "credentials", "default/es256"]] {
        let refused = publisher.carnet.run(&command);
        assert_eq!(refused.status, 1, "{refused:?}");
        for words in [
            format!("is not yet published at {target}"),
            "hint: a server that runs with --publish".to_owned(),
        ] {
            assert!(refused.stderr.contains(&words), "{refused:?}");
        }
    }
    publisher.ok(&[]);
    publisher.carnet.ok(&["token", "mint", "default/es256"]);
}
