//! The field `jwks` of a feed.

use serde_json::Value;

use crate::support::carnet::Carnet;
use crate::uploaded_jwks::{ISSUER, add, json, kid};

fn shown(carnet: &Carnet, feed: &str) -> Value {
    json(&carnet.ok(&["feed", "show", feed, "--output=json"]))["jwks"].clone()
}

#[test]
fn a_google_feed_has_a_fetched_or_an_uploaded_jwks() {
    let carnet = Carnet::new();
    add(&carnet, "plain", &[]);
    add(&carnet, "upload", &["--jwks=uploaded"]);
    assert_eq!(
        (shown(&carnet, "default/plain"), shown(&carnet, "default/upload")),
        ("fetched".into(), "uploaded".into())
    );
    assert!(carnet.ok(&["feed", "show", "default/upload"]).contains("uploaded"));
    let listed = json(&carnet.ok(&["feed", "list", "--output=json"]));
    assert_eq!(listed[1]["jwks"], "uploaded");

    carnet.ok(&["feed", "update", "default/plain", "--jwks=uploaded"]);
    assert_eq!(shown(&carnet, "default/plain"), "uploaded");
    let audit = carnet.ok(&["audit", "list", "--kind=feed.update", "--output=json"]);
    assert!(audit.contains(r#"jwks \"fetched\" → \"uploaded\""#), "{audit}");

    let refused = carnet.run(&["feed", "update", "default/plain", "--jwks=Uploaded"]);
    assert_eq!(refused.status, 2, "{refused:?}");
    assert!(refused.stderr.contains("either fetched, by Google from the issuer, or uploaded"), "{refused:?}");
}

#[test]
fn only_google_feeds_have_it() {
    let carnet = Carnet::new();
    let registry = "--registry=123456789012.dkr.ecr.eu-central-1.amazonaws.com";
    let role = "--role-arn=arn:aws:iam::123456789012:role/pull";
    let issuer = format!("--issuer={ISSUER}");
    carnet.ok(&["feed", "add", "aws-ecr", "--space=a", "--slug=b", registry, role, &issuer]);
    assert_eq!(shown(&carnet, "a/b"), Value::Null);
    let refused = carnet.run(&["feed", "update", "a/b", "--jwks=uploaded"]);
    assert_eq!(refused.status, 2, "{refused:?}");
    assert!(refused.stderr.contains("--jwks: a feed of type aws-ecr has no such field"), "{refused:?}");
}

#[test]
fn a_row_from_before_the_field_reads_as_fetched() {
    let carnet = Carnet::new();
    add(&carnet, "old", &[]);
    let change = "UPDATE feeds SET settings = json_remove(settings, '$.jwks')";
    let changed = tokio::runtime::Runtime::new().unwrap().block_on(async {
        use sqlx::Connection as _;
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(carnet.database());
        let mut sql = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::query(change).execute(&mut sql).await.unwrap().rows_affected()
    });
    assert_eq!(changed, 1);
    assert_eq!(shown(&carnet, "default/old"), "fetched");
}

#[test]
fn the_setup_is_as_the_feed_says_and_names_the_key_to_confirm() {
    let carnet = Carnet::new();
    add(&carnet, "prod", &["--jwks=uploaded"]);
    let uploads =
        |output: &str| json(output)["workload_identity_pool_provider"]["oidc"]["jwksJson"].is_string();

    let setup = carnet.run(&["feed", "setup", "default/prod", "--format=json"]);
    assert!(setup.status == 0 && uploads(&setup.stdout), "{setup:?}");
    let prepared = kid(&carnet, "ES256", "prepared");
    assert!(setup.stderr.contains(&format!("carnet feed confirm-jwks {prepared} default/prod")), "{setup:?}");
    assert!(!setup.stderr.contains("feed update"), "{setup:?}");

    let fetched = carnet.run(&["feed", "setup", "default/prod", "--format=json", "--jwks=fetched"]);
    assert!(fetched.status == 0 && !uploads(&fetched.stdout), "{fetched:?}");

    carnet.ok(&["feed", "update", "default/prod", "--jwks=fetched"]);
    let overridden = carnet.run(&["feed", "setup", "default/prod", "--format=json", "--jwks=uploaded"]);
    assert!(uploads(&overridden.stdout), "{overridden:?}");
    assert!(overridden.stderr.contains("carnet feed update default/prod --jwks uploaded"), "{overridden:?}");
}
