//! A real registry and a real client: skopeo pulls with a credential from the whole exchange.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use crate::support::ca::Ca;
use crate::support::carnet::Issuer;
use crate::support::docker_registry::{DockerRegistry, one_layer_image};

const PASSWORD: &str = "what-the-sandbox-answers-as-ecr";

/// Writes an authentication file as `docker login` does.
fn auth_file(folder: &Path, name: &str, host: &str, user: &str, password: &str) -> PathBuf {
    let file = folder.join(name);
    let auth = BASE64_STANDARD.encode(format!("{user}:{password}"));
    fs::write(&file, json!({"auths": {host: {"auth": auth}}}).to_string()).unwrap();
    file
}

#[test]
fn skopeo_pulls_with_a_credential_from_the_whole_chain_of_aws() {
    skopeo_pulls(&Chain {
        sandbox: format!("[aws]\npassword = \"{PASSWORD}\"\n"),
        endpoints: [("sts", "/endpoints/aws/sts"), ("ecr", "/endpoints/aws/ecr")],
        add: &["feed", "add", "aws-ecr", "--role-arn", "arn:aws:iam::123456789012:role/pull"],
        user: "AWS",
        password: PASSWORD,
    });
}

#[test]
fn skopeo_pulls_with_a_credential_from_the_whole_chain_of_azure() {
    // A JWT that expires in the year 2100, fixed so that the registry can know it beforehand.
    let refresh_token = "e30.eyJleHAiOjQxMDI0NDQ4MDB9.what-the-sandbox-answers-as-acr";
    skopeo_pulls(&Chain {
        sandbox: format!("[azure]\nrefresh_token = \"{refresh_token}\"\n"),
        endpoints: [("authority", "/endpoints/azure/authority"), ("registry", "/endpoints/azure/registry")],
        add: &[
            "feed",
            "add",
            "azure-acr",
            "--tenant-id=8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c",
            "--client-id=0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e",
        ],
        user: "00000000-0000-0000-0000-000000000000",
        password: refresh_token,
    });
}

#[test]
fn skopeo_pulls_with_a_credential_from_the_whole_chain_of_google() {
    let access_token = "ya29.what-the-sandbox-answers-as-google";
    skopeo_pulls(&Chain {
        sandbox: format!("[google]\naccess_token = \"{access_token}\"\n"),
        endpoints: [("sts", "/endpoints/google/sts"), ("iamcredentials", "/endpoints/google/iamcredentials")],
        add: &[
            "feed",
            "add",
            "google-artifact-registry",
            "--workload-identity-provider=projects/1/locations/global/workloadIdentityPools/pool/providers/carnet",
            "--service-account=pull@my-project.iam.gserviceaccount.com",
        ],
        user: "oauth2accesstoken",
        password: access_token,
    });
}

/// A sandbox that issues one fixed password, and the feed that uses it.
struct Chain<'a> {
    /// The sandbox's configuration.
    sandbox: String,
    /// Endpoint names, and their JSON pointers in the sandbox's announcement.
    endpoints: [(&'a str, &'a str); 2],
    /// The flags of `feed add` that are specific to the cloud.
    add: &'a [&'a str],
    user: &'a str,
    password: &'a str,
}

#[track_caller]
fn skopeo_pulls(chain: &Chain<'_>) {
    let ca = Ca::new();
    let issuer = Issuer::http();
    let sandbox = issuer.carnet.sandbox(&issuer.url, &chain.sandbox);
    let registry = DockerRegistry::start(&ca, chain.user, chain.password);
    let files = tempfile::tempdir().unwrap();
    let pushed = one_layer_image(files.path(), "greeting", b"hello\n");
    let owner = auth_file(files.path(), "owner.json", &registry.host, chain.user, chain.password);
    let push = registry.push(&pushed, "app/one:v1", &owner);
    assert_eq!(push.status, 0, "{push:?}");

    let feed = ["--space", "default", "--slug", "a", "--registry", &registry.host];
    let [one, two] = chain.endpoints.map(|(name, at)| format!("--endpoint={name}={}", sandbox.announced(at)));
    issuer.carnet.ok(&[chain.add, &feed, &[&one, &two]].concat());
    let credential = files.path().join("auth.json");
    let docker_config = issuer.carnet.ok(&["feed", "credentials", "default/a", "--format", "docker-config"]);
    fs::write(&credential, docker_config).unwrap();

    let pulled = files.path().join("pulled");
    let pull = registry.pull("app/one:v1", Some(&credential), &pulled);

    assert_eq!(pull.status, 0, "{pull:?}");
    let manifest = fs::read(pulled.join("manifest.json")).unwrap();
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(pushed.join("index.json")).unwrap()).unwrap();
    let (_, digest) = index["manifests"][0]["digest"].as_str().unwrap().split_once(':').unwrap();
    assert!(manifest == fs::read(pushed.join("blobs/sha256").join(digest)).unwrap(), "another image came");
}

#[test]
fn registry_refuses_a_wrong_password_and_none() {
    let ca = Ca::new();
    let registry = DockerRegistry::start(&ca, "AWS", PASSWORD);
    let files = tempfile::tempdir().unwrap();
    let image = one_layer_image(files.path(), "greeting", b"hello\n");
    let owner = auth_file(files.path(), "owner.json", &registry.host, "AWS", PASSWORD);
    let push = registry.push(&image, "app/one:v1", &owner);
    assert_eq!(push.status, 0, "{push:?}");

    let wrong = auth_file(files.path(), "wrong.json", &registry.host, "AWS", "guessed");
    for credential in [Some(&*wrong), None] {
        let pull = registry.pull("app/one:v1", credential, &files.path().join("pulled"));
        assert_ne!(pull.status, 0, "{credential:?} was let in: {pull:?}");
        assert!(
            pull.stderr.contains("authentication required") || pull.stderr.contains("unauthorized"),
            "{pull:?}"
        );
    }
    let pull = registry.pull("app/one:v1", Some(&owner), &files.path().join("pulled"));
    assert_eq!(pull.status, 0, "{pull:?}");
}
