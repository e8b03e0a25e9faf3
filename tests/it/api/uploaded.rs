//! A feed with an uploaded JWKS, over the API.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::world::{World, refusal, success};
use crate::support::process::wait_until;

#[test]
fn a_feeds_jwks_is_set_changed_and_followed_by_its_setup_and_the_keys() {
    let world = World::new("");
    let path = "/spaces/default/feeds/prod";
    let new = json!({
        "slug": "prod", "type": "google-artifact-registry", "registry": "europe-docker.pkg.dev", "jwks": "uploaded",
        "workload_identity_provider":
            "projects/1/locations/global/workloadIdentityPools/pool/providers/carnet",
    });
    assert_eq!(success(&world.api.post(&world.admin, "/spaces/default/feeds", &new))["jwks"], "uploaded");
    let setup = |query: &str| -> Value {
        let response = success(&world.api.get(&world.admin, &format!("{path}/setup?format=json{query}")));
        response["content"]["workload_identity_pool_provider"]["oidc"]["jwksJson"].clone()
    };
    assert!(setup("").is_string() && setup("&jwks=fetched").is_null());
    let waiting = |alg: &str| -> Value {
        let keys = success(&world.api.get(&world.admin, "/signing-keys"));
        keys.as_array().unwrap().iter().find(|key| key["alg"] == alg && key["state"] == "prepared").unwrap()["waits_for"].clone()
    };
    let held = wait_until(Duration::from_secs(5), || {
        (waiting("ES256") == json!(["feed default/prod"])).then_some(())
    });
    assert!(held.is_some() && waiting("RS256").is_null());

    let patch = |body| world.api.call("PATCH", path, Some(&world.admin.token), Some(&body));
    let refused = patch(json!({"jwks": "Uploaded"}));
    assert_eq!((refusal(&refused).0, &refused.json()["field"]), (422, &json!("jwks")));
    assert_eq!(success(&patch(json!({"name": "Images"})))["jwks"], "uploaded", "what is absent stays");
    assert_eq!(success(&patch(json!({"jwks": "fetched"})))["jwks"], "fetched");
    assert!(setup("").is_null() && setup("&jwks=uploaded").is_string());
}
