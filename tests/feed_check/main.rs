//! `feed check` and the API's `…/check` and `…/setup`: the step that fails, the cloud's own words, the first
//! cause, and that what is said to mend it does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "set-up that fails should fail the test where it stands"
)]

mod failures;
mod mends;
mod registry;
mod routes;
#[path = "../support/mod.rs"]
mod support;

use serde_json::Value;
use support::carnet::{Announced, Carnet, Issuer};

const ROLE: &str = "arn:aws:iam::123456789012:role/pull";
const PROVIDER: &str = "projects/1/locations/global/workloadIdentityPools/pool/providers/carnet";
const BASIC: &str = "Basic realm=\"registry\"";

/// A provider as the command line and the sandbox know it, and what its credential is.
struct Cloud {
    add: &'static [&'static str],
    endpoints: [(&'static str, &'static str); 2],
    /// The sandbox's password, in its configuration.
    password: &'static str,
    /// User name and password, in base64.
    login: &'static str,
}

const AWS: Cloud = Cloud {
    add: &["aws-ecr", "--role-arn", ROLE],
    endpoints: [("sts", "aws/sts"), ("ecr", "aws/ecr")],
    password: "[aws]\npassword = \"hunter2\"\n",
    login: "QVdTOmh1bnRlcjI=",
};

const AZURE: Cloud = Cloud {
    add: &[
        "azure-acr",
        "--tenant-id=8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c",
        "--client-id=0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e",
    ],
    endpoints: [("authority", "azure/authority"), ("registry", "azure/registry")],
    password: "[azure]\nrefresh_token = \"e30.eyJleHAiOjQxMDI0NDQ4MDB9.c2ln\"\n",
    login: "MDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAwOmUzMC5leUpsZUhBaU9qUXhNREkwTkRRNE1EQjkuYzJsbg==",
};

const GOOGLE: Cloud = Cloud {
    add: &[
        "google-artifact-registry",
        "--workload-identity-provider",
        PROVIDER,
        "--service-account=pull@my-project.iam.gserviceaccount.com",
    ],
    endpoints: [("sts", "google/sts"), ("iamcredentials", "google/iamcredentials")],
    password: "[google]\naccess_token = \"hunter2\"\n",
    login: "b2F1dGgyYWNjZXNzdG9rZW46aHVudGVyMg==",
};

/// An issuer, and a feed `default/a` of a cloud at a sandbox, whose registry is `registry`.
struct World {
    issuer: Issuer,
    sandbox: Announced,
    cloud: &'static Cloud,
}

impl World {
    /// `config` stands before the password in the sandbox's configuration.
    fn new(cloud: &'static Cloud, config: &str, registry: &str, more: &[&str]) -> Self {
        let issuer = Issuer::http();
        let sandbox = issuer.carnet.sandbox(&issuer.url, &format!("{config}\n{}", cloud.password));
        let world = Self { issuer, sandbox, cloud };
        let [one, two] = world.endpoints();
        let common =
            ["--space=default", "--slug=a", "--registry", registry, "--endpoint", &one, "--endpoint", &two];
        world.carnet().ok(&[&["feed", "add"], cloud.add, &common, more].concat());
        world
    }

    fn endpoints(&self) -> [String; 2] {
        self.cloud
            .endpoints
            .map(|(name, at)| format!("{name}={}", self.sandbox.announced(&format!("/endpoints/{at}"))))
    }

    /// Another sandbox in the place of this one.
    fn turn(&mut self, config: &str) {
        let config = format!("{}{config}", self.cloud.password);
        self.sandbox = self.issuer.carnet.sandbox(&self.issuer.url, &config);
        let [one, two] = self.endpoints();
        self.carnet().ok(&["feed", "update", "default/a", "--endpoint", &one, "--endpoint", &two]);
    }

    fn carnet(&self) -> &Carnet {
        &self.issuer.carnet
    }

    /// The answer to `feed check --output json`, which exits with 1 exactly if a step failed.
    fn check(&self, more: &[&str]) -> Value {
        let output = self.carnet().run(&[&["feed", "check", "default/a", "--output=json"], more].concat());
        let answer: Value =
            serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        assert_eq!(output.status, i32::from(answer["ok"] == false), "{output:?}");
        assert!(!output.stdout.contains("hunter2"), "{output:?}");
        answer
    }

    /// The one step that failed, which is the last.
    fn failure(&self, more: &[&str]) -> Value {
        let answer = self.check(more);
        let steps = answer["steps"].as_array().unwrap();
        let (last, before) = steps.split_last().unwrap();
        assert!(last["ok"] == false && before.iter().all(|step| step["ok"] == true), "{answer:#}");
        last.clone()
    }
}

fn names(answer: &Value) -> Vec<&str> {
    answer["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect()
}
