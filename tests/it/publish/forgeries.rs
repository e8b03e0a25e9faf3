//! Labels that something other than carnet wrote: they block nothing, and their documents are replaced and
//! recorded.

use std::fs;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::publish::serving::{PATIENCE, follows};
use crate::publish::{ISSUER, JWKS, Publisher};
use crate::support::keys;
use crate::support::process::wait_until;

const LABELS: &str = ".carnet-publication.json";
const FORGERY: &str = r#"{"keys":[]}"#;

impl Publisher {
    fn labels(&self) -> Value {
        serde_json::from_str(&self.read(LABELS)).unwrap()
    }

    /// Replaces the JWKS by `body`, with `label`.
    fn forge(&self, body: &str, mut label: Value) {
        let mut labels = self.labels();
        label["sha256"] = json!(URL_SAFE_NO_PAD.encode(digest(&SHA256, body.as_bytes())));
        labels["documents"][JWKS] = json!([label]);
        fs::write(self.folder.join(LABELS), labels.to_string()).unwrap();
        fs::write(self.folder.join(JWKS), body).unwrap();
    }

    /// Returns how often the audit log records an altered copy.
    fn alterations(&self) -> usize {
        let listed =
            self.carnet.ok(&["audit", "list", "--kind=publication.altered", "--output=json", "--limit=100"]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        listed.as_array().or_else(|| listed["records"].as_array()).map_or(usize::MAX, Vec::len)
    }
}

#[test]
fn a_forged_label_neither_keeps_its_document_nor_goes_unrecorded() {
    let publisher = Publisher::new();
    publisher.ok(&[]);
    let kids = publisher.kids();
    let authentic = publisher.labels()["documents"][JWKS][0].clone();
    assert!(authentic["mac"].is_string(), "{authentic}");
    let mac = &authentic["mac"];
    let forgeries = [
        json!({"issuer": ISSUER, "generation": "999999-0"}),
        json!({"issuer": ISSUER, "generation": "999999-0", "mac": mac}),
        json!({"issuer": ISSUER, "generation": authentic["generation"], "mac": mac}),
        json!({"issuer": "https://other.example", "generation": "1-0"}),
        json!({"issuer": "https://other.example", "generation": "999999-0", "mac": mac}),
    ];
    for (done, label) in forgeries.into_iter().enumerate() {
        publisher.forge(FORGERY, label.clone());
        let (response, notes) = publisher.ok(&[]);
        assert_eq!(response["written"], json!([JWKS]), "{label}");
        assert!(notes.contains("changed by something other than carnet"), "{label}: {notes}");
        assert_eq!(publisher.kids(), kids, "{label}");
        assert_eq!(publisher.alterations(), done + 1, "{label}");
    }
    // Another run has nothing to write and records nothing.
    assert_eq!(publisher.ok(&[]).0["written"], json!([]));
    assert_eq!(publisher.alterations(), 5);
    let doctor = publisher.carnet.run(&["doctor"]);
    assert!(doctor.stdout.contains("something other than carnet has changed 1 target"), "{doctor:?}");
}

#[test]
fn an_authentic_label_of_another_target_proves_nothing() {
    let publisher = Publisher::new();
    publisher.ok(&[]);
    let elsewhere = Publisher { folder: publisher.carnet.home().join("elsewhere"), carnet: publisher.carnet };
    elsewhere.ok(&["--once"]);
    let (label, body) = (elsewhere.labels()["documents"][JWKS][0].clone(), elsewhere.read(JWKS));
    let publisher = Publisher { folder: elsewhere.carnet.home().join("www"), carnet: elsewhere.carnet };
    publisher.carnet.ok(&["key", "rotate", "--force", "--yes"]);
    publisher.ok(&[]);
    let kids = publisher.kids();
    publisher.forge(&body, label);
    let (_, notes) = publisher.ok(&[]);
    assert!(notes.contains("changed by something other than carnet"), "{notes}");
    assert_eq!(publisher.kids(), kids);
}

#[test]
fn a_running_server_publishes_a_revocation_over_a_forged_label() {
    let publisher = Publisher::never_started();
    let server = publisher.serve();
    publisher.forge(FORGERY, json!({"issuer": ISSUER, "generation": "999999-0"}));
    let listed = keys::list(&publisher.carnet);
    let revoked = keys::the(&listed, "ES256", "active").to_string();
    publisher.carnet.ok(&["key", "revoke", &revoked, "--yes"]);
    let gone = wait_until(PATIENCE, || (!publisher.kids().contains(&revoked)).then_some(()));
    assert!(gone.is_some(), "{}", server.process.stderr());
    let recorded = wait_until(PATIENCE, || (publisher.alterations() == 1).then_some(()));
    assert!(recorded.is_some(), "{}", server.process.stderr());
    assert!(server.process.stderr().contains("changed by something other than carnet"));
}

#[test]
fn labels_without_a_mac_are_taken_over_with_their_text_and_nothing_is_recorded() {
    let publisher = Publisher::new();
    publisher.ok(&[]);
    let mut labels = publisher.labels();
    for entries in labels["documents"].as_object_mut().unwrap().values_mut() {
        entries[0].as_object_mut().unwrap().remove("mac");
    }
    fs::write(publisher.folder.join(LABELS), labels.to_string()).unwrap();
    let (response, notes) = publisher.ok(&[]);
    assert_eq!(response["written"].as_array().unwrap().len(), 2);
    assert!(!notes.contains("warning"), "{notes}");
    assert!(publisher.labels()["documents"][JWKS][0]["mac"].is_string());
    assert_eq!(publisher.alterations(), 0);
}

#[test]
fn a_copy_of_an_earlier_version_with_the_same_keys_in_another_order_raises_no_alarm() {
    let publisher = Publisher::new();
    publisher.ok(&[]);
    let mut jwks: Value = serde_json::from_str(&publisher.read(JWKS)).unwrap();
    jwks["keys"].as_array_mut().unwrap().reverse();
    // As an earlier version wrote it: another order, and a label without a MAC.
    let mut label = publisher.labels()["documents"][JWKS][0].clone();
    label.as_object_mut().unwrap().remove("mac");
    publisher.forge(&jwks.to_string(), label);
    let (response, notes) = publisher.ok(&[]);
    assert_eq!(response["written"], json!([JWKS]));
    assert!(!notes.contains("changed by something other than carnet"), "{notes}");
    assert_eq!(publisher.alterations(), 0);
    // A missing, additional or different key is an alteration.
    for change in ["remove", "alter", "double"] {
        let mut jwks: Value = serde_json::from_str(&publisher.read(JWKS)).unwrap();
        let keys = jwks["keys"].as_array_mut().unwrap();
        match change {
            "remove" => drop(keys.pop()),
            "double" => {}
            _ => keys[0]["alg"] = json!("none"),
        }
        // A reader that takes the first of two equal members gets no key here.
        let doubled = format!(r#"{{"keys":[],{}"#, &jwks.to_string()[1..]);
        let forged = if change == "double" { doubled } else { jwks.to_string() };
        publisher.forge(&forged, json!({"issuer": ISSUER, "generation": "1-0"}));
        let (_, notes) = publisher.ok(&[]);
        assert!(notes.contains("changed by something other than carnet"), "{change}: {notes}");
    }
    assert_eq!(publisher.alterations(), 3);
}

#[test]
fn two_servers_at_one_target_raise_no_alarm_when_keys_and_macs_change() {
    let publisher = Publisher::never_started();
    let (first, second) = (publisher.serve(), publisher.serve());
    publisher.carnet.ok(&["key", "rotate", "--force", "--yes"]);
    follows(&publisher, &first);
    let before = publisher.labels();
    publisher.carnet.ok(&["key", "rewrap", "--new-key-file=new.key"]);
    let relabelled = wait_until(PATIENCE, || {
        let now = publisher.labels();
        // The last label belongs to the current text; the previous one stays until the next write.
        let mac =
            |labels: &Value| labels["documents"][JWKS].as_array().unwrap().last().unwrap()["mac"].clone();
        (mac(&now) != mac(&before)).then_some(())
    });
    assert!(relabelled.is_some(), "{}{}", first.process.stderr(), second.process.stderr());
    publisher.carnet.ok(&["key", "rotate", "--force", "--yes"]);
    follows(&publisher, &first);
    follows(&publisher, &second);
    assert_eq!(publisher.alterations(), 0, "{}{}", first.process.stderr(), second.process.stderr());
}
