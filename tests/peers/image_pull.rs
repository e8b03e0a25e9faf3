//! A real registry and a real client: skopeo pulls with the credential that came through the whole chain.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use crate::support::ca::Ca;
use crate::support::carnet::Issuer;
use crate::support::docker_registry::{DockerRegistry, one_layer_image};

const PASSWORD: &str = "what-the-sandbox-answers-as-ecr";

/// An authentication file as `docker login` writes it.
fn auth_file(folder: &Path, name: &str, host: &str, password: &str) -> PathBuf {
    let file = folder.join(name);
    let auth = BASE64_STANDARD.encode(format!("AWS:{password}"));
    fs::write(&file, json!({"auths": {host: {"auth": auth}}}).to_string()).unwrap();
    file
}

#[test]
fn skopeo_pulls_with_a_credential_from_the_whole_chain() {
    let ca = Ca::new();
    let issuer = Issuer::http();
    let sandbox = issuer.carnet.sandbox(&issuer.url, &format!("[aws]\npassword = \"{PASSWORD}\"\n"));
    let registry = DockerRegistry::start(&ca, PASSWORD);
    let files = tempfile::tempdir().unwrap();
    let pushed = one_layer_image(files.path(), "greeting", b"hello\n");
    let owner = auth_file(files.path(), "owner.json", &registry.host, PASSWORD);
    let push = registry.push(&pushed, "app/one:v1", &owner);
    assert_eq!(push.status, 0, "{push:?}");

    let sts = format!("sts={}", sandbox.announced("/endpoints/aws/sts"));
    let ecr = format!("ecr={}", sandbox.announced("/endpoints/aws/ecr"));
    let role = ["--role-arn", "arn:aws:iam::123456789012:role/pull"];
    let feed = ["--space", "default", "--slug", "a", "--registry", &registry.host];
    let endpoints = ["--endpoint", &sts, "--endpoint", &ecr];
    issuer.carnet.ok(&[&["feed", "add", "aws-ecr"], &feed[..], &role, &endpoints].concat());
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
    let registry = DockerRegistry::start(&ca, PASSWORD);
    let files = tempfile::tempdir().unwrap();
    let image = one_layer_image(files.path(), "greeting", b"hello\n");
    let owner = auth_file(files.path(), "owner.json", &registry.host, PASSWORD);
    let push = registry.push(&image, "app/one:v1", &owner);
    assert_eq!(push.status, 0, "{push:?}");

    let wrong = auth_file(files.path(), "wrong.json", &registry.host, "guessed");
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
