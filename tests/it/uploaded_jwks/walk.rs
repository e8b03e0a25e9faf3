//! All steps with the real binary, while nothing fetches from the issuer.

use std::path::Path;

use serde_json::Value;

use crate::support::carnet::{Carnet, Output};
use crate::uploaded_jwks::{ISSUER, PROVIDER, add, json, kid};

const LOOPBACK: &str = "--allow-loopback-endpoints";

/// Uploads the setup's JWKS, as an admin does.
fn upload(carnet: &Carnet, to: &Path) {
    let setup = json(&carnet.ok(&["feed", "setup", "default/prod", "--format=json"]));
    let jwks = setup["workload_identity_pool_provider"]["oidc"]["jwksJson"].as_str().unwrap();
    std::fs::write(to, jwks).unwrap();
}

fn credentials(carnet: &Carnet) -> Output {
    carnet.run(&["feed", "credentials", "default/prod", "--format=password", LOOPBACK])
}

fn force(carnet: &Carnet) -> Output {
    carnet.run(&["key", "rotate", "--alg=ES256", "--force", "--yes"])
}

/// Returns the step of this name in a check.
fn step<'a>(check: &'a Value, name: &str) -> &'a Value {
    let steps = check["steps"].as_array().unwrap();
    steps.iter().find(|step| step["step"] == name).unwrap_or_else(|| panic!("no {name} in {check}"))
}

#[test]
fn an_issuer_that_google_cannot_reach_works_by_upload_and_confirmation() {
    let carnet = Carnet::new();
    let uploaded = carnet.home().join("uploaded.json");
    let sandbox = carnet.sandbox(
        ISSUER,
        &format!("[[google.providers]]\nname = {PROVIDER:?}\nuploaded_jwks = {uploaded:?}\n[google]\naccess_token = \"hunter2\"\n"),
    );
    let sts = format!("--endpoint=sts={}", sandbox.announced("/endpoints/google/sts"));
    add(&carnet, "prod", &["--jwks=uploaded", &sts]);

    // Nothing is uploaded yet.
    let refused = credentials(&carnet);
    assert!(refused.status == 1 && refused.stderr.contains("invalid_grant"), "{refused:?}");
    upload(&carnet, &uploaded);
    let first = credentials(&carnet);
    assert_eq!((first.status, first.stdout.trim()), (0, "hunter2"), "{first:?}");

    // A forced rotation to a key that is already uploaded breaks nothing; the next one does.
    let known = kid(&carnet, "ES256", "prepared");
    carnet.ok(&["feed", "confirm-jwks", &known]);
    assert_eq!(force(&carnet).status, 0);
    assert_eq!(credentials(&carnet).status, 0);
    let unknown = kid(&carnet, "ES256", "prepared");
    assert_eq!(force(&carnet).status, 0);
    let refused = credentials(&carnet);
    assert!(refused.status == 1 && refused.stderr.contains("invalid_grant"), "{refused:?}");
    assert!(refused.stderr.contains(&format!("must have the key {unknown}")), "{refused:?}");

    let check = carnet.run(&["feed", "check", "default/prod", "--output=json", LOOPBACK]);
    let check = json(&check.stdout);
    assert_eq!(step(&check, "discovery")["ok"], true, "Google does not fetch it: {check}");
    assert!(check["warnings"].to_string().contains("its JWKS is uploaded to Google"), "{check}");
    let failed = step(&check, "sts:token");
    assert_eq!((&failed["ok"], &failed["upstream"]["code"]), (&false.into(), &"invalid_grant".into()));
    let cause = &failed["causes"][0];
    assert!(cause["cause"].as_str().unwrap().contains(&unknown), "{cause}");
    assert_eq!(cause["command"], "carnet feed setup default/prod");
    let fix = cause["fix"].as_str().unwrap();
    for part in [
        "providers update-oidc prod --project=\"$(gcloud projects describe 1 --format='value(projectId)')\"",
        "--workload-identity-pool=pool --jwk-json-path=FILE",
        &format!("carnet feed confirm-jwks {unknown} default/prod"),
    ] {
        assert!(fix.contains(part), "no {part:?} in {fix}");
    }

    upload(&carnet, &uploaded);
    carnet.ok(&["feed", "confirm-jwks", &unknown]);
    let last = credentials(&carnet);
    assert_eq!((last.status, last.stdout.trim()), (0, "hunter2"), "{last:?}");
}
