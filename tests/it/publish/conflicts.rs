//! Documents that are not overwritten, and how to take them over.

use serde_json::json;

use crate::publish::{DISCOVERY, ISSUER, JWKS, Publisher};

#[test]
fn an_older_copy_of_the_database_never_wins() {
    let publisher = Publisher::new();
    publisher.ok(&[]);
    let backup = publisher.copy();
    publisher.carnet.ok(&["key", "rotate", "--force", "--yes"]);
    publisher.ok(&[]);
    let kids = publisher.kids();

    let texts = [
        "the label of the published copy at",
        "it was replaced by an older database",
        "is an older copy than the one that was last published",
        "--take-over",
    ];
    backup.refused(&[], 1, &texts);
    backup.refused(&["--once"], 1, &texts);
    backup.refused(&["--take-over"], 2, &["It will be overwritten", "hint: --yes confirms"]);
    assert_eq!(publisher.kids(), kids);

    let (response, notes) = backup.ok(&["--take-over", "--yes"]);
    assert!(notes.contains("It will be overwritten"), "{notes}");
    assert_eq!(response["written"][0], JWKS);
    assert_ne!(publisher.kids(), kids);
}

#[test]
fn another_issuers_copy_is_refused_and_taken_over_with_a_flag() {
    let first = Publisher::new();
    first.ok(&[]);
    let second = Publisher { folder: first.folder.clone(), ..Publisher::of("https://other.example") };
    second.refused(
        &[],
        1,
        &[
            ".well-known/jwks there belongs to the issuer https://issuer.example",
            "hint: a target holds the documents of one issuer URL",
        ],
    );
    assert!(second.read(DISCOVERY).contains(ISSUER));

    let (response, _) = second.ok(&["--take-over", "--yes"]);
    assert_eq!(response["written"], json!([JWKS, DISCOVERY]));
    assert!(second.read(DISCOVERY).contains("https://other.example"));
    // The first issuer's keys wait for the target, so a document there without its label is overwritten.
    let (_, notes) = first.ok(&[]);
    assert!(notes.contains("changed by something other than carnet"), "{notes}");
    assert!(first.read(DISCOVERY).contains(ISSUER));
}

#[test]
fn a_foreign_document_is_refused_at_first_and_overwritten_once_keys_wait_for_the_target() {
    let publisher = Publisher::new();
    std::fs::create_dir_all(publisher.folder.join(".well-known")).unwrap();
    std::fs::write(publisher.folder.join(JWKS), r#"{"keys":[]}"#).unwrap();
    publisher.refused(
        &[],
        1,
        &[
            ".well-known/jwks there was not written by carnet",
            "hint: something other than carnet wrote or changed that file",
        ],
    );
    publisher.ok(&["--take-over", "--yes"]);
    let kids = publisher.kids();

    std::fs::write(publisher.folder.join(JWKS), r#"{"keys":[]}"#).unwrap();
    let (response, notes) = publisher.ok(&[]);
    assert_eq!(response["written"], json!([JWKS]));
    assert!(
        notes.contains("changed by something other than carnet")
            && notes.contains("publish keys as this issuer"),
        "{notes}"
    );
    assert_eq!(publisher.kids(), kids);
}
