//! Feeds of every type to set up, and a shell in which the vendors' commands only record their arguments.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which clippy does not see as such")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use carnet::internals::feed::endpoints::Endpoints;
use carnet::internals::feed::{Feed, FeedDraft, Provider};
use carnet::internals::jose::jwk::PublicKey;
use carnet::internals::oidc::subject::Context;
use carnet::internals::setup::{Format, Identity, KeysToUpload, Setup, SetupError, SetupOptions, setup};
use jiff::Timestamp;
use uuid::Uuid;

/// Display names that try to be more than text.
pub(crate) const HOSTILE_NAMES: [&str; 5] = [
    "'; touch pwned; '",
    "$(touch pwned) `touch pwned` ${HOME} %{if true}",
    "\"}); resource \"null\" \"x\" { # \\",
    "file:///etc/passwd @/etc/passwd --help",
    "日本 #{x} {{ x }} {% x %} EOT",
];

const JWK: &str = r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}"#;

/// A feed and the options of its setup, which [`Case::setup`] makes.
#[derive(Clone, Copy)]
pub(crate) struct Case<'a> {
    pub(crate) name: &'static str,
    pub(crate) issuer: &'a str,
    pub(crate) display_name: &'a str,
    pub(crate) registry: &'a str,
    /// In the stored format, with its type.
    pub(crate) provider: &'a str,
    pub(crate) audience: Option<&'a str>,
    pub(crate) subject_keys: &'a str,
    pub(crate) endpoints: &'a [&'a str],
    pub(crate) context: &'a [&'a str],
    pub(crate) scope: &'a str,
    pub(crate) identity: Identity,
    pub(crate) uploaded: bool,
}

const AWS: Case<'static> = Case {
    name: "aws-ecr",
    issuer: "https://issuer.example",
    display_name: "Production",
    registry: "123456789012.dkr.ecr.eu-central-1.amazonaws.com",
    provider: r#"{"type":"aws-ecr","role_arn":"arn:aws:iam::123456789012:role/carnet-pull"}"#,
    audience: None,
    subject_keys: "space,feed",
    endpoints: &[],
    context: &[],
    scope: r#"{"actions":["pull"]}"#,
    identity: Identity::App,
    uploaded: false,
};

const AZURE: &str = r#"{"type":"azure-acr","tenant_id":"8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c","client_id":"0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e"}"#;

const GOOGLE: &str = r#"{"type":"google-artifact-registry","workload_identity_provider":"projects/123456789012/locations/global/workloadIdentityPools/carnet/providers/prod"}"#;

/// The setups whose snapshots are in `tests/it/feed_setup/snapshots`.
pub(crate) const CASES: &[Case<'static>] = &[
    AWS,
    // Another partition, a role with a path, another account's registry, and all options.
    Case {
        name: "aws-ecr-cn",
        issuer: "https://issuer.example/carnet",
        registry: "210987654321.dkr.ecr.cn-north-1.amazonaws.com.cn",
        provider: r#"{"type":"aws-ecr","role_arn":"arn:aws-cn:iam::123456789012:role/ci/push","session_duration":7200}"#,
        audience: Some("https://audience.example"),
        subject_keys: "space,project,feed_id",
        context: &["project=shop"],
        scope: r#"{"repositories":["app/one","app/two"]}"#,
        ..AWS
    },
    Case {
        name: "aws-ecr-public",
        registry: "public.ecr.aws",
        provider: r#"{"type":"aws-ecr-public","role_arn":"arn:aws:iam::123456789012:role/carnet-push"}"#,
        scope: r#"{"repositories":["app/one"],"actions":["push"]}"#,
        ..AWS
    },
    Case { name: "azure-app", registry: "images.azurecr.io", provider: AZURE, ..AWS },
    Case {
        name: "azure-managed-us",
        registry: "images-e7ggejfuhzhgedc8.azurecr.us",
        provider: AZURE,
        scope: r#"{"repositories":["app/one","app/two"]}"#,
        identity: Identity::Managed,
        ..AWS
    },
    Case { name: "google-direct", registry: "europe-west1-docker.pkg.dev", provider: GOOGLE, ..AWS },
    Case {
        name: "google-uploaded",
        registry: "europe-west1-docker.pkg.dev",
        provider: r#"{"type":"google-artifact-registry","workload_identity_provider":"projects/123456789012/locations/global/workloadIdentityPools/carnet/providers/prod","service_account":"push@my-project.iam.gserviceaccount.com"}"#,
        audience: Some("one,audience"),
        scope: r#"{"repositories":["images","other-project/images"]}"#,
        uploaded: true,
        ..AWS
    },
];

impl Case<'static> {
    pub(crate) fn named(name: &str) -> &'static Self {
        CASES.iter().find(|case| case.name == name).unwrap()
    }
}

impl Case<'_> {
    pub(crate) fn feed(&self) -> Feed {
        let provider: Provider = serde_json::from_str(self.provider).unwrap();
        const NAMES: &[&str] = &["sts", "ecr", "authority", "registry", "iamcredentials"];
        let draft = FeedDraft {
            space: "default".parse().unwrap(),
            slug: "prod".parse().unwrap(),
            name: Some(self.display_name.parse().unwrap()),
            registry: self.registry.parse().unwrap(),
            provider,
            audience: self.audience.map(|audience| audience.parse().unwrap()),
            subject_keys: Some(self.subject_keys.parse().unwrap()),
            alg: None,
            token_lifetime: None,
            endpoints: Endpoints::from_pairs(NAMES, self.endpoints.iter().copied()).unwrap(),
        };
        let id = Uuid::from_u128(0x67e5_5044_10b1_426f_9247_bb68_0e5f_e0c8);
        Feed::new(draft, id, Duration::from_secs(3600), Timestamp::UNIX_EPOCH).unwrap()
    }

    pub(crate) fn options(&self) -> SetupOptions {
        let mut context = Context::empty();
        for pair in self.context {
            let (key, value) = Context::parse_pair(pair).unwrap();
            context.try_insert(key, value).unwrap();
        }
        SetupOptions {
            context,
            scope: serde_json::from_str(self.scope).unwrap(),
            identity: self.identity,
            uploaded_jwks: self.uploaded.then(|| KeysToUpload {
                keys: vec![PublicKey::from_jwk(JWK).unwrap()],
                prepared: Vec::new(),
            }),
        }
    }

    pub(crate) fn setup(&self) -> Result<Setup, SetupError> {
        setup(&self.feed(), &self.issuer.parse().unwrap(), &self.options())
    }

    pub(crate) fn render(&self, format: Format) -> String {
        self.setup().unwrap().render(format).unwrap()
    }
}

/// Returns the calls of `aws`, `az` and `gcloud` by a script that finds no existing resources: the words of
/// every call, the command's name first.
pub(crate) fn recorded_calls(script: &str) -> Vec<Vec<String>> {
    // Responds to the initial queries of the scripts, and reports everything else as missing.
    const STAND_IN: &str = r#"#!/bin/sh
{ printf '%s\0' "${0##*/}" "$@"; printf '\0'; } >> "$CALLS"
case "$*" in
  *get-caller-identity*) echo 123456789012 ;;
  *'cloud show'*) echo "$CLOUD" ;;
  *'account show'*) echo 8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c ;;
  *'query=roleAssignmentMode'*) echo AbacRepositoryPermissions ;;
  *'ad app show'* | *'acr show'* | *'identity list'* | *'identity show'* | *'projects describe'*) echo there ;;
  *describe* | *' get-'* | *' show '*) exit 1 ;;
esac
"#;
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    for name in ["aws", "az", "gcloud"] {
        let file = bin.join(name);
        fs::write(&file, STAND_IN).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let calls = folder.path().join("calls");
    let cloud = if script.contains("AzureUSGovernment") { "AzureUSGovernment" } else { "AzureCloud" };
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let output = Command::new("sh")
        .args(["-c", script])
        .env_clear()
        .env("PATH", path)
        .env("CALLS", &calls)
        .env("CLOUD", cloud)
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}\n{script}");
    assert!(!folder.path().join("pwned").exists(), "the script ran what a name holds:\n{script}");
    let recorded = fs::read_to_string(&calls).unwrap();
    let calls = recorded.split("\0\0").filter(|call| !call.is_empty());
    calls.map(|call| call.trim_matches('\0').split('\0').map(str::to_owned).collect()).collect()
}
