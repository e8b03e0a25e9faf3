//! `feed check` against a third-party registry: login and pull, with the right and with a wrong password.

use serde_json::{Value, json};

use crate::support::ca::Ca;
use crate::support::carnet::Issuer;
use crate::support::docker_registry::{DockerRegistry, one_layer_image};

const PASSWORD: &str = "what-the-sandbox-answers-as-ecr";

#[test]
fn a_check_logs_in_to_a_real_registry_and_pulls_and_explains_refusals() {
    let ca = Ca::new();
    let issuer = Issuer::http();
    let sandbox = issuer.carnet.sandbox(&issuer.url, &format!("[aws]\npassword = \"{PASSWORD}\"\n"));
    let endpoint =
        |name: &str| format!("--endpoint={name}={}", sandbox.announced(&format!("/endpoints/aws/{name}")));
    let files = tempfile::tempdir().unwrap();
    let image = one_layer_image(files.path(), "greeting", b"hello\n");
    let ca_file = ca.certificate();
    for (slug, password, expected) in
        [("right", PASSWORD, None), ("wrong", "another", Some(("registry", "UNAUTHORIZED")))]
    {
        let registry = DockerRegistry::start(&ca, "AWS", password);
        let owner = files.path().join(format!("{slug}.json"));
        let auth = {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.encode(format!("AWS:{password}"))
        };
        std::fs::write(&owner, json!({ "auths": { &registry.host: { "auth": auth } } }).to_string()).unwrap();
        let push = registry.push(&image, "app/one:v1", &owner);
        assert_eq!(push.status, 0, "{push:?}");
        let (slug_flag, path) = (format!("--slug={slug}"), format!("default/{slug}"));
        issuer.carnet.ok(&[
            "feed",
            "add",
            "aws-ecr",
            "--space=default",
            &slug_flag,
            "--registry",
            &registry.host,
            "--role-arn=arn:aws:iam::123456789012:role/pull",
            &endpoint("sts"),
            &endpoint("ecr"),
        ]);
        let check = |tag: &str| {
            let image = format!("--image={}/app/one:{tag}", registry.host);
            let output = issuer.carnet.run(&[
                "feed",
                "check",
                &path,
                "--output=json",
                "--ca-file",
                ca_file.to_str().unwrap(),
                &image,
            ]);
            assert!(!output.stdout.contains(PASSWORD), "{output:?}");
            let response: Value =
                serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
            response
        };
        let failed = |response: &Value| {
            let last = response["steps"].as_array().unwrap().last().unwrap().clone();
            (last["step"].clone(), last["upstream"]["code"].clone())
        };
        let response = check("v1");
        match expected {
            None => {
                assert_eq!(response["ok"], true, "{response:#}");
                let response = check("v2");
                assert_eq!(failed(&response), (json!("pull"), json!("MANIFEST_UNKNOWN")), "{response:#}");
            }
            Some((step, code)) => assert_eq!(failed(&response), (json!(step), json!(code)), "{response:#}"),
        }
    }
}
