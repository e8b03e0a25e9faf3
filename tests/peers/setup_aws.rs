//! `feed setup` for AWS, carried out: the AWS CLI runs the script and Terraform the configuration, against
//! moto's IAM, and SeaweedFS decides by the trust policy's conditions.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::ca::Ca;
use crate::support::carnet::{Carnet, Issuer, Output};
use crate::support::installed_peer;
use crate::support::moto::Moto;
use crate::support::process::clean_command;
use crate::support::seaweedfs::{ROLE_ARN, SeaweedFs, Trust};
use crate::support::terraform::Terraform;

const ISSUER: &str = "https://issuer.example/carnet";
const NAME: &str = "'; touch pwned; ' ${x} \"ü\"";

/// Returns a carnet with three feeds in moto's account; two of them name the same role.
fn carnet() -> Carnet {
    let carnet = Carnet::new();
    for (slug, role) in [("prod", "carnet/pull"), ("other", "carnet/pull"), ("third", "third")] {
        carnet.ok(&[
            "feed",
            "add",
            "aws-ecr",
            "--space=default",
            &format!("--slug={slug}"),
            &format!("--name={NAME}"),
            "--registry=123456789012.dkr.ecr.eu-central-1.amazonaws.com",
            &format!("--role-arn=arn:aws:iam::123456789012:role/{role}"),
            "--session-duration=2h",
            &format!("--issuer={ISSUER}"),
        ]);
    }
    carnet
}

fn setup(carnet: &Carnet, feed: &str, format: &str, more: &[&str]) -> String {
    carnet.ok(&[&["feed", "setup", feed, "--format", format], more].concat())
}

fn documents(carnet: &Carnet, feed: &str) -> Value {
    serde_json::from_str(&setup(carnet, feed, "json", &["--repository=app/one"])).unwrap()
}

/// Configures a command to use moto as AWS.
fn at_moto<'a>(command: &'a mut Command, moto: &Moto, home: &Path) -> &'a mut Command {
    command
        .current_dir(home)
        .env("HOME", home)
        .env("AWS_ENDPOINT_URL", moto.url())
        .env("AWS_ACCESS_KEY_ID", "moto-checks-none")
        .env("AWS_SECRET_ACCESS_KEY", "moto-checks-none")
        .env("AWS_EC2_METADATA_DISABLED", "true")
}

/// Runs a script with the AWS CLI.
fn run_script(script: &str, moto: &Moto) -> Output {
    let home = tempfile::tempdir().unwrap();
    let bin = installed_peer("venv/bin/aws").parent().unwrap().to_owned();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = clean_command("sh");
    let output =
        Output::of(at_moto(command.arg("-s").env("PATH", path), moto, home.path()), script.as_bytes());
    assert!(!home.path().join("pwned").exists(), "a display name was run");
    output
}

fn aws(moto: &Moto, arguments: &[&str]) -> Value {
    let home = tempfile::tempdir().unwrap();
    let mut command = clean_command(installed_peer("venv/bin/aws"));
    command.args(arguments).args(["--region=eu-central-1", "--output=json"]);
    let output = Output::of(at_moto(&mut command, moto, home.path()), b"");
    assert_eq!(output.status, 0, "aws {arguments:?}: {output:?}");
    serde_json::from_str(&output.stdout).unwrap()
}

/// Reads provider and role back, and compares them with the documents of `feed setup`.
fn assert_is_set_up(moto: &Moto, documents: &Value) {
    let arn = documents["open_id_connect_provider_arn"].as_str().unwrap();
    let provider =
        aws(moto, &["iam", "get-open-id-connect-provider", &format!("--open-id-connect-provider-arn={arn}")]);
    // IAM shows the URL without its scheme.
    assert_eq!(provider["Url"], ISSUER.strip_prefix("https://").unwrap());
    assert_eq!(provider["ClientIDList"], documents["open_id_connect_provider"]["ClientIDList"]);

    let wanted = &documents["role"];
    let name = format!("--role-name={}", wanted["RoleName"].as_str().unwrap());
    let role = &aws(moto, &["iam", "get-role", &name])["Role"];
    assert_eq!(role["Arn"], documents["role_arn"]);
    for member in ["Path", "Description", "MaxSessionDuration", "Tags"] {
        assert_eq!(role[member], wanted[member], "{member}");
    }
    assert_eq!(unwrapped(&role["AssumeRolePolicyDocument"]), unwrapped(&wanted["AssumeRolePolicyDocument"]));

    let wanted = &documents["role_policy"];
    let policy_name = format!("--policy-name={}", wanted["PolicyName"].as_str().unwrap());
    let policy = aws(moto, &["iam", "get-role-policy", &name, &policy_name]);
    assert_eq!(unwrapped(&policy["PolicyDocument"]), unwrapped(&wanted["PolicyDocument"]));
}

/// Returns a policy with lists of one element replaced by the element, and other lists sorted: for AWS both
/// are equal.
fn unwrapped(policy: &Value) -> Value {
    match policy {
        Value::Array(items) if items.len() == 1 => unwrapped(&items[0]),
        Value::Array(items) => {
            let mut items: Vec<_> = items.iter().map(unwrapped).collect();
            items.sort_by_key(Value::to_string);
            Value::Array(items)
        }
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), unwrapped(value))).collect()
        }
        other => other.clone(),
    }
}

#[test]
fn the_script_is_repeatable_and_does_not_change_foreign_roles() {
    let (carnet, moto) = (carnet(), Moto::start());
    let script = setup(&carnet, "default/prod", "cli", &["--repository=app/one"]);
    for round in 1..=2 {
        let output = run_script(&script, &moto);
        assert_eq!(output.status, 0, "round {round}: {output:?}");
        assert_eq!(output.stdout, "arn:aws:iam::123456789012:role/carnet/pull\n");
        assert_is_set_up(&moto, &documents(&carnet, "default/prod"));
    }

    // Another feed that names the same role.
    let script = setup(&carnet, "default/other", "cli", &[]);
    let output = run_script(&script, &moto);
    assert_eq!(output.status, 1, "{output:?}");
    assert!(output.stderr.contains("was not made for this issuer and subject"), "{}", output.stderr);
    assert_is_set_up(&moto, &documents(&carnet, "default/prod"));

    // A feed of the same issuer with a separate role finds the existing provider and its audience.
    let script = setup(&carnet, "default/third", "cli", &["--repository=app/one"]);
    let output = run_script(&script, &moto);
    assert_eq!(output.status, 0, "{output:?}");
    assert_is_set_up(&moto, &documents(&carnet, "default/third"));

    // The command in the script's output gives it the role of the first feed.
    let script = setup(&carnet, "default/other", "cli", &["--repository=app/one"]);
    let refused = run_script(&script, &moto).stderr;
    let tag = refused.lines().map(str::trim).find(|line| line.starts_with("aws iam tag-role")).unwrap();
    // With a custom endpoint, the AWS CLI needs a region even for IAM.
    let output = run_script(&format!("export AWS_DEFAULT_REGION=eu-central-1; {tag}"), &moto);
    assert_eq!(output.status, 0, "{tag}: {output:?}");
    let output = run_script(&script, &moto);
    assert_eq!(output.status, 0, "{output:?}");
    let other = documents(&carnet, "default/other");
    let name = format!("--role-name={}", other["role"]["RoleName"].as_str().unwrap());
    let role = &aws(&moto, &["iam", "get-role", &name])["Role"];
    let trusted = unwrapped(&role["AssumeRolePolicyDocument"]);
    assert_eq!(trusted, unwrapped(&other["role"]["AssumeRolePolicyDocument"]));
}

#[test]
fn the_script_stops_in_the_wrong_account() {
    let (carnet, moto) = (Carnet::new(), Moto::start());
    carnet.ok(&[
        "feed",
        "add",
        "aws-ecr-public",
        "--space=default",
        "--slug=public",
        "--role-arn=arn:aws:iam::210987654321:role/pull",
        &format!("--issuer={ISSUER}"),
    ]);
    let output = run_script(&setup(&carnet, "default/public", "cli", &[]), &moto);
    assert_eq!(output.status, 1, "{output:?}");
    assert!(output.stderr.contains("Signed in to account 123456789012"), "{}", output.stderr);
    assert_eq!(
        aws(&moto, &["iam", "list-open-id-connect-providers"])["OpenIDConnectProviderList"],
        json!([])
    );
}

#[test]
fn terraform_makes_the_same_provider_and_role() {
    let terraform = Terraform::installed();
    let (carnet, moto) = (carnet(), Moto::start());
    let folder = tempfile::tempdir().unwrap();
    let configuration = setup(&carnet, "default/prod", "terraform", &["--repository=app/one"]);
    std::fs::write(folder.path().join("main.tf"), configuration).unwrap();
    terraform.init(folder.path(), "aws");
    let mut apply =
        terraform.command(folder.path(), &["apply", "-auto-approve", "-no-color", "-input=false"]);
    let output = Output::of(at_moto(&mut apply, &moto, folder.path()), b"");
    assert_eq!(output.status, 0, "{output:?}");
    assert!(output.stdout.contains("arn:aws:iam::123456789012:role/carnet/pull"), "{}", output.stdout);
    assert_is_set_up(&moto, &documents(&carnet, "default/prod"));

    // Each accepts the resources that the other created.
    let output = run_script(&setup(&carnet, "default/prod", "cli", &["--repository=app/one"]), &moto);
    assert_eq!(output.status, 0, "{output:?}");
}

#[test]
fn seaweedfs_accepts_only_the_feed_with_the_generated_conditions() {
    let ca = Ca::new();
    let issuer = Issuer::https(&ca);
    let carnet = &issuer.carnet;
    let add = |slug: &str, endpoint: &str| {
        let registry = "--registry=123456789012.dkr.ecr.us-east-1.amazonaws.com";
        let (slug, role) = (format!("--slug={slug}"), format!("--role-arn={ROLE_ARN}"));
        let (sts, ecr) = (format!("--endpoint=sts={endpoint}"), format!("--endpoint=ecr={endpoint}"));
        carnet.ok(&["feed", "add", "aws-ecr", "--space=default", &slug, registry, &role, &sts, &ecr]);
    };
    add("a", "http://localhost:1");
    let documents: Value = serde_json::from_str(&setup(carnet, "default/a", "json", &[])).unwrap();
    let condition = &documents["role"]["AssumeRolePolicyDocument"]["Statement"][0]["Condition"];

    // The same conditions, under SeaweedFS's names for AWS's keys.
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let equals: serde_json::Map<_, _> = condition["StringEquals"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, value)| (format!("oidc:{}", key.rsplit_once(':').unwrap().1), value.clone()))
        .collect();
    assert_eq!(equals.keys().collect::<Vec<_>>(), ["oidc:aud", "oidc:sub"]);
    let provider = &documents["open_id_connect_provider"];
    let trust = Trust {
        issuer: &text(&provider["Url"]),
        audience: &text(&provider["ClientIDList"][0]),
        subject: "the condition says it",
        ca: &ca.certificate(),
    };
    let seaweedfs = SeaweedFs::start_where(&trust, &json!({ "StringEquals": equals }));

    let sts = format!("--endpoint=sts={}", seaweedfs.sts());
    carnet.ok(&["feed", "update", "default/a", &sts, "--endpoint=ecr=http://localhost:1"]);
    add("b", &seaweedfs.sts());
    let [trusted, other] =
        ["a", "b"].map(|slug| carnet.run(&["feed", "credentials", &format!("default/{slug}")]));
    // The step after STS; no server responds as ECR.
    assert!(trusted.stderr.contains("step ecr:GetAuthorizationToken got no response"), "{trusted:?}");
    assert!(other.stderr.contains("refused step sts:AssumeRoleWithWebIdentity"), "{other:?}");
    assert!(other.stderr.contains("code: AccessDenied"), "{other:?}");
}
