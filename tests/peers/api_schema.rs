//! schemathesis calls every operation of the API with requests that its OpenAPI document allows and forbids.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::carnet::{Carnet, Issuer};
use crate::support::http::{Connection, HttpResponse};
use crate::support::process::clean_command;
use crate::support::{in_package, installed_peer};

/// Makes the random decisions the same each time.
const SEED: &str = "20260801";
/// The number of examples for each operation and phase, and with `--long`.
const EXAMPLES: &str = "25";
const MANY_EXAMPLES: &str = "300";

/// Rates that the test does not reach.
const RATES: [&str; 4] =
    ["--grant-rate=100000", "--grant-burst=100000", "--address-rate=100000", "--address-burst=100000"];

struct World {
    issuer: Issuer,
    token: String,
}

impl World {
    fn new() -> Self {
        let issuer = Issuer::http_with(&RATES);
        let made =
            issuer.carnet.ok(&["grant", "create", "--role=admin", "--expires-in=never", "--output=json"]);
        let made: Value = serde_json::from_str(&made).unwrap();
        Self { token: made["token"].as_str().unwrap().to_owned(), issuer }
    }

    fn call(&self, method: &str, path: &str, body: &str) -> HttpResponse {
        let mut connection = Connection::to(self.issuer.server.announced("/listening"), None);
        let head = format!(
            "{method} /api/v1{path} HTTP/1.1\r\nHost: carnet.test\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        connection.write(head.as_bytes());
        connection.response(method)
    }
}

fn add_feeds(carnet: &Carnet, endpoints: &Value) {
    let endpoint =
        |cloud: &str, name: &str| format!("--endpoint={name}={}", endpoints[cloud][name].as_str().unwrap());
    let aws = [endpoint("aws", "sts"), endpoint("aws", "ecr")];
    let azure = [endpoint("azure", "authority"), endpoint("azure", "registry")];
    let google = [endpoint("google", "sts"), endpoint("google", "iamcredentials")];
    let provider = "projects/1/locations/global/workloadIdentityPools/pool/providers/carnet";
    let role = "arn:aws:iam::123456789012:role/pull";
    let identity = [
        "--tenant-id=8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c",
        "--client-id=0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e",
    ];
    for (kind, slug, registry, own, endpoints) in [
        ("aws-ecr", "aws", "123456789012.dkr.ecr.eu-central-1.amazonaws.com", &["--role-arn", role][..], aws),
        ("azure-acr", "azure", "images.azurecr.io", &identity, azure),
        (
            "google-artifact-registry",
            "google",
            "europe-docker.pkg.dev",
            &["--workload-identity-provider", provider],
            google,
        ),
    ] {
        let common = ["feed", "add", kind, "--space=default", "--slug", slug, "--registry", registry];
        let endpoints = [endpoints[0].as_str(), &endpoints[1]];
        carnet.ok(&[&common[..], own, &endpoints].concat());
    }
}

#[test]
fn schemathesis_finds_no_fault_with_the_api() {
    let world = World::new();
    let sandbox = world.issuer.carnet.sandbox(&world.issuer.url, "");
    add_feeds(&world.issuer.carnet, &sandbox.line["endpoints"]);
    let listening = world.issuer.server.announced("/listening");
    let examples = if std::env::var_os("CARNET_TEST_LONG").is_some() { MANY_EXAMPLES } else { EXAMPLES };
    let home = tempfile::tempdir().unwrap();
    let output = clean_command(installed_peer("venv/bin/schemathesis"))
        .arg("--config-file")
        .arg(in_package("tests/peers/schemathesis.toml"))
        .args(["--no-color", "run", &format!("{listening}/api/v1/openapi.json")])
        .args(["--checks=all", "--seed", SEED, "--max-examples", examples])
        .args(["--header", &format!("Authorization: Bearer {}", world.token)])
        .arg("--continue-on-failure")
        .current_dir(home.path())
        .env("HOME", home.path())
        // The hooks keep it from revoking its own grant.
        .env("SCHEMATHESIS_HOOKS", "schemathesis_hooks")
        .env("PYTHONPATH", in_package("tests/peers"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("CARNET_OWN_GRANT", own_grant(&world))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    // Its grant was valid to the end, and the API still works.
    assert_eq!(world.call("GET", "/grants", "").status, 200, "{said}");
    let new = json!({
        "slug": "last", "type": "aws-ecr", "registry": "123456789012.dkr.ecr.eu-central-1.amazonaws.com",
        "role_arn": "arn:aws:iam::123456789012:role/pull", "endpoints": sandbox.line["endpoints"]["aws"],
    });
    assert_eq!(world.call("POST", "/spaces/last/feeds", &new.to_string()).status, 201);
    let credential = world.call("POST", "/spaces/last/feeds/last/credentials", "{}");
    assert_eq!(credential.status, 200, "{credential:?}");
    eprintln!("{said}");
}

fn own_grant(world: &World) -> String {
    world.call("GET", "/grants", "").json()[0]["id"].as_str().unwrap().to_owned()
}
