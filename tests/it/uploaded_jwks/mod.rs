//! An issuer that Google cannot reach: its JWKS is uploaded, the feed states this, and keys wait for the
//! upload.

mod command;
mod field;
mod told;
mod walk;

use crate::support::carnet::Carnet;
use serde_json::Value;

/// An issuer in a private network: the host does not exist.
const ISSUER: &str = "https://issuer.invalid";
const PROVIDER: &str = "projects/1/locations/global/workloadIdentityPools/pool/providers/prod";

/// Adds a Google feed with these flags.
fn add(carnet: &Carnet, slug: &str, flags: &[&str]) {
    let (slug, issuer) = (format!("--slug={slug}"), format!("--issuer={ISSUER}"));
    let provider = format!("--workload-identity-provider={PROVIDER}");
    let good = ["feed", "add", "google-artifact-registry", "--space=default", &slug, &provider, &issuer];
    carnet.ok(&[&good[..], &["--registry=europe-docker.pkg.dev"], flags].concat());
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Returns the `kid` of the key of `alg` in `state`.
fn kid(carnet: &Carnet, alg: &str, state: &str) -> String {
    let keys = json(&carnet.ok(&["key", "list", "--all", "--output=json"]));
    let key = keys.as_array().unwrap().iter().find(|key| key["alg"] == alg && key["state"] == state);
    key.unwrap_or_else(|| panic!("no {state} key of {alg} in {keys}"))["kid"].as_str().unwrap().to_owned()
}
