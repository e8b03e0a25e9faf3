//! The output of `feed setup`: exact, for every type of feed, in every format, with any names of feeds.

use crate::setup_support::{CASES, Case, HOSTILE_NAMES, recorded_calls};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use carnet::internals::feed::Feed;
use carnet::internals::feed::scope::Scope;
use carnet::internals::setup::{Format, Identity, KeysToUpload, SetupError, SetupOptions, setup};
use carnet::internals::values::issuer_url::IssuerUrl;
use serde_json::{Value, json};

use crate::support::carnet::Output;
use crate::support::process::clean_command;
use crate::support::snapshots;

const FORMATS: [(Format, &str); 3] = [(Format::Cli, "sh"), (Format::Terraform, "tf"), (Format::Json, "json")];

#[test]
fn every_type_of_feed_has_its_expected_setup_in_every_format() {
    for case in CASES {
        for (format, extension) in FORMATS {
            let name = format!("{}.{extension}", case.name);
            snapshots::compare("tests/it/feed_setup/snapshots", &name, &(case.render(format) + "\n"));
        }
    }
}

#[test]
fn no_setup_trusts_by_pattern_or_by_less_than_issuer_subject_and_audience() {
    for case in CASES {
        let setup = case.setup().unwrap();
        for (format, extension) in FORMATS {
            let text = setup.render(format).unwrap();
            for pattern in ["StringLike", "startsWith", "claimsMatchingExpression", "ForAnyValue"] {
                assert!(!text.contains(pattern), "{} {extension}: {pattern}", case.name);
            }
            for part in [&setup.trusted.issuer, &setup.trusted.audience, setup.trusted.subject.as_str()] {
                assert!(text.contains(part), "{} {extension} lacks {part}", case.name);
            }
        }
    }
}

/// Runs the setup script of the case `name`, with `stand_in` as the vendor's command, and `variables`.
/// Returns the output, and the content of the file `calls`, which the stand-in wrote.
fn run_with(name: &str, (command, stand_in): (&str, &str), variables: &[(&str, &str)]) -> (Output, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(command);
    std::fs::write(&file, stand_in).unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let mut shell = clean_command("sh");
    shell.args(["-c", &Case::named(name).render(Format::Cli)]).env("PATH", path).current_dir(folder.path());
    let output = Output::of(shell.envs(variables.iter().copied()), b"");
    (output, std::fs::read_to_string(folder.path().join("calls")).unwrap_or_default())
}

/// Runs the setup of a Google feed where gcloud shows `pool` and `provider`; `None` does not exist.
fn at_google(pool: Option<&str>, provider: Option<&str>) -> (Output, String) {
    const GCLOUD: &str = r#"#!/bin/sh
case "$*" in
  *'projects describe'*) echo my-project ;;
  *'providers describe'*) [ -n "${PROVIDER+x}" ] && echo "$PROVIDER" ;;
  *'pools describe'*) [ -n "${POOL+x}" ] && echo "$POOL" ;;
  *) echo "$*" >> calls ;;
esac
"#;
    let variables: Vec<_> = [("POOL", pool), ("PROVIDER", provider)]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    run_with("google-direct", ("gcloud", GCLOUD), &variables)
}

#[test]
fn a_deleted_or_disabled_pool_or_provider_of_google_is_not_used() {
    const TRUST: &str = "https://issuer.example|assertion.sub == 'space:default:feed:prod'";
    let of = |state: &str| format!("{state}|{TRUST}");
    for (pool, provider, words) in [
        ("DELETED|", None, "workload-identity-pools undelete carnet --project=my-project --location=global"),
        ("DELETED|True", Some(of("ACTIVE|")), "workload-identity-pools undelete carnet "),
        (
            "ACTIVE|True",
            None,
            "workload-identity-pools update carnet --project=my-project --location=global --no-disabled",
        ),
        (
            "ACTIVE|",
            Some(of("DELETED|")),
            "providers undelete prod --project=my-project --location=global --workload-identity-pool=carnet",
        ),
        (
            "ACTIVE|",
            Some(of("ACTIVE|True")),
            "providers update-oidc prod --project=my-project --location=global --workload-identity-pool=carnet --no-disabled",
        ),
        // A provider that trusts another issuer is foreign in every state.
        (
            "ACTIVE|",
            Some("ACTIVE|True|https://other.example|x".to_owned()),
            "trusts something else: https://other.example|x",
        ),
    ] {
        let (output, changes) = at_google(Some(pool), provider.as_deref());
        assert_eq!((output.status, changes.as_str()), (1, ""), "{pool} {provider:?}: {output:?}");
        assert!(output.stderr.contains(words), "{pool} {provider:?}: {}", output.stderr);
    }
    for (pool, provider, operation) in [
        (None, None, "providers create-oidc prod"),
        (Some("ACTIVE|"), None, "providers create-oidc prod"),
        (Some("ACTIVE|False"), Some(of("ACTIVE|False")), "providers update-oidc prod"),
        (Some("ACTIVE|"), Some(of("ACTIVE|")), "providers update-oidc prod"),
    ] {
        let (output, changes) = at_google(pool, provider.as_deref());
        assert_eq!(output.status, 0, "{output:?}");
        assert!(changes.contains(operation), "{changes}");
        assert_eq!(changes.contains("workload-identity-pools create carnet"), pool.is_none(), "{changes}");
    }
    let configuration = Case::named("google-direct").render(Format::Terraform);
    assert_eq!(configuration.matches("= false\n").count(), 2, "{configuration}");
    assert!(configuration.contains("providers undelete"), "{configuration}");
}

#[test]
fn a_federated_credential_of_another_subject_is_made_anew_and_its_own_is_brought_up_to_date() {
    const AZ: &str = r#"#!/bin/sh
case "$*" in
  *'cloud show'*) echo AzureCloud ;;
  *'account show'*) echo 8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c ;;
  *'roleAssignmentMode'*) echo LegacyRegistryPermissions ;;
  *'federated-credential show'*) [ -n "${SUBJECT+x}" ] && echo "$SUBJECT" ;;
  *' show '*) echo there ;;
  *federated-credential*) echo "$4" >> calls ;;
esac
"#;
    for (subject, expected) in [
        (None, "create\n"),
        (Some("space:default:feed:prod"), "update\n"),
        (Some("space:default:feed:Prod"), "delete\ncreate\n"),
    ] {
        let variables: Vec<_> = subject.map(|subject| ("SUBJECT", subject)).into_iter().collect();
        let (output, calls) = run_with("azure-app", ("az", AZ), &variables);
        assert_eq!(output.status, 0, "{output:?}");
        assert_eq!(calls, expected, "{subject:?}");
    }
}

#[test]
fn hostile_display_names_stay_inside_their_words() {
    for case in CASES {
        for name in HOSTILE_NAMES {
            let hostile = Case { display_name: name, ..*case };
            let plain = recorded_calls(&case.render(Format::Cli));
            let calls = recorded_calls(&hostile.render(Format::Cli));
            let shape = |calls: &[Vec<String>]| -> Vec<Vec<String>> {
                let word =
                    |word: &String| word.split_once(['{', '=']).map_or(word.clone(), |(name, _)| name.into());
                calls.iter().map(|call| call.iter().map(word).collect()).collect()
            };
            assert!(plain.len() > 3, "{}: {plain:?}", case.name);
            assert_eq!(shape(&calls), shape(&plain), "{}: {name}", case.name);
        }
    }
}

/// The conditions of an AWS trust policy.
fn aws_conditions(documents: &Value) -> &Value {
    &documents["role"]["AssumeRolePolicyDocument"]["Statement"][0]["Condition"]
}

#[test]
fn aws_partitions_give_arns_and_regions_and_the_issuers_path_belongs_to_the_condition_keys() {
    for (partition, host, region) in [
        ("aws", "amazonaws.com", "eu-central-1"),
        ("aws-cn", "amazonaws.com.cn", "cn-north-1"),
        ("aws-us-gov", "amazonaws.com", "us-gov-west-1"),
        ("aws-iso", "c2s.ic.gov", "us-iso-east-1"),
        ("aws-iso-b", "sc2s.sgov.gov", "us-isob-east-1"),
        ("aws-iso-e", "cloud.adc-e.uk", "eu-isoe-west-1"),
        ("aws-iso-f", "csp.hci.ic.gov", "us-isof-south-1"),
        ("aws-eusc", "amazonaws.eu", "eusc-de-east-1"),
    ] {
        let registry = format!("123456789012.dkr.ecr.{region}.{host}");
        let role = format!("arn:{partition}:iam::123456789012:role/team/pull");
        let provider = format!(r#"{{"type":"aws-ecr","role_arn":"{role}"}}"#);
        let case = Case {
            issuer: "https://issuer.example/a/b",
            registry: &registry,
            provider: &provider,
            ..CASES[0]
        };
        let documents = case.setup().unwrap().documents().unwrap();
        let arn = format!("arn:{partition}:iam::123456789012:oidc-provider/issuer.example/a/b");
        assert_eq!(documents["open_id_connect_provider_arn"], arn);
        let statement = &documents["role"]["AssumeRolePolicyDocument"]["Statement"][0];
        assert_eq!(statement["Principal"], json!({ "Federated": arn }));
        assert_eq!(
            aws_conditions(&documents),
            &json!({ "StringEquals": {
                "issuer.example/a/b:aud": "sts.amazonaws.com",
                "issuer.example/a/b:sub": "space:default:feed:prod",
            }})
        );
        assert_eq!(
            (&documents["role"]["Path"], &documents["role"]["RoleName"]),
            (&json!("/team/"), &json!("pull"))
        );
        let script = case.render(Format::Cli);
        assert!(script.contains(&format!("export AWS_REGION='{region}'")), "{script}");
        let resource = &documents["role_policy"]["PolicyDocument"]["Statement"][1]["Resource"][0];
        assert_eq!(resource, &json!(format!("arn:{partition}:ecr:{region}:123456789012:repository/*")));
    }
}

#[test]
fn azure_clouds_give_audience_and_environment() {
    for (suffix, audience, cloud, environment) in [
        ("io", "api://AzureADTokenExchange", "AzureCloud", "public"),
        ("us", "api://AzureADTokenExchangeUSGov", "AzureUSGovernment", "usgovernment"),
        ("cn", "api://AzureADTokenExchangeChina", "AzureChinaCloud", "china"),
    ] {
        let registry = format!("images-a1b2c3.azurecr.{suffix}");
        let case = Case { registry: &registry, ..*Case::named("azure-app") };
        let documents = case.setup().unwrap().documents().unwrap();
        assert_eq!(documents["federated_credential"]["audiences"], json!([audience]));
        assert_eq!(documents["cloud"], cloud);
        assert_eq!(documents["role_assignment"]["registry"], "images");
        assert!(case.render(Format::Terraform).contains(&format!("environment = \"{environment}\"")));
    }
}

#[test]
fn a_subject_that_rests_on_context_needs_its_values_and_is_never_a_pattern() {
    let case = Case { subject_keys: "space,project,tenant?,feed", ..CASES[0] };
    let error = case.setup().unwrap_err();
    assert!(matches!(&error, SetupError::Subject(_)), "{error}");
    assert!(error.to_string().contains("“project”"), "{error}");

    let case = Case { context: &["project=shop", "environment=live"], ..case };
    let setup = case.setup().unwrap();
    assert_eq!(setup.trusted.subject.as_str(), "space:default:project:shop:feed:prod");
    for part in ["“tenant” is absent", "“environment” is not part"] {
        assert!(setup.notes.iter().any(|note| note.contains(part)), "no {part:?} in {:?}", setup.notes);
    }

    let case = Case { context: &["project=shop", "tenant=acme"], ..case };
    assert_eq!(
        case.setup().unwrap().trusted.subject.as_str(),
        "space:default:project:shop:tenant:acme:feed:prod"
    );
}

#[test]
fn a_setup_that_a_cloud_cannot_express_is_refused_with_the_reason() {
    let google = Case::named("google-direct");
    let public = Case::named("aws-ecr-public");
    let local = r#"{"type":"azure-acr","tenant_id":"8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c","client_id":"0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e"}"#;
    let endpoints = ["authority=http://localhost:1", "registry=http://localhost:2"];
    for (case, reason) in [
        (Case { identity: Identity::Managed, ..*google }, "identity is only for feeds of type azure-acr"),
        (Case { uploaded: true, ..CASES[0] }, "jwks is only for feeds of type google-artifact-registry"),
        (Case { scope: r#"{"repositories":["a/b/c"]}"#, ..*google }, "write NAME or PROJECT/NAME, not a/b/c"),
        (
            Case { scope: r#"{"repositories":["a"],"actions":["pull"]}"#, ..*public },
            "anyone can pull from ECR Public",
        ),
        (Case { audience: Some("a${aws:userid}"), ..CASES[0] }, "beginning of a variable"),
        (
            Case {
                registry: "localhost:5000",
                endpoints: &endpoints,
                provider: local,
                ..*Case::named("azure-app")
            },
            "is not an Azure container registry",
        ),
    ] {
        let error = case.setup().unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    let managed = Case { audience: Some("@/etc/passwd"), ..*Case::named("azure-managed-us") };
    let error = managed.setup().unwrap().render(Format::Cli).unwrap_err().to_string();
    assert!(error.contains("name of a file"), "{error}");
}

#[test]
fn a_policy_too_long_for_a_role_is_refused_and_too_many_keys_for_google_too() {
    let feed: Feed = CASES[0].feed();
    let issuer: IssuerUrl = CASES[0].issuer.parse().unwrap();
    // A grant from before the limit may have this many.
    let names: Vec<_> = (0..200).map(|n| format!("repository-{n:03}")).collect();
    let scope: Scope = serde_json::from_value(json!({ "repositories": names })).unwrap();
    let options = SetupOptions { scope, ..SetupOptions::default() };
    let error = setup(&feed, &issuer, &options).unwrap_err();
    assert!(matches!(error, SetupError::PolicyTooLong { limit: 10_240, .. }), "{error}");

    let google = Case::named("google-uploaded");
    let one = google.options().uploaded_jwks.unwrap();
    let nine = KeysToUpload { keys: one.keys.iter().cycle().take(9).cloned().collect(), ..one };
    let options = SetupOptions { uploaded_jwks: Some(nine), ..google.options() };
    let error = setup(&google.feed(), &issuer, &options).unwrap_err();
    assert!(matches!(error, SetupError::TooManyKeys { count: 9, limit: 8 }), "{error}");
}

#[test]
fn an_uploaded_jwks_has_exactly_the_members_that_google_accepts() {
    let documents = Case::named("google-uploaded").setup().unwrap().documents().unwrap();
    let jwks = documents["workload_identity_pool_provider"]["oidc"]["jwksJson"].as_str().unwrap();
    let jwks: Value = serde_json::from_str(jwks).unwrap();
    let keys = jwks["keys"].as_array().unwrap();
    assert!(!keys.is_empty());
    for key in keys {
        for member in key.as_object().unwrap().keys() {
            assert!(
                ["kty", "alg", "use", "kid", "n", "e", "x", "y", "crv"].contains(&member.as_str()),
                "{member}"
            );
        }
    }
}

#[test]
fn notes_name_surprising_effects() {
    for (case, note) in [
        (Case { issuer: "https://issuer.example:8443", ..CASES[0] }, "AWS accepts no issuer with a port"),
        (Case { issuer: "http://localhost:1", ..*Case::named("azure-app") }, "No cloud can fetch keys"),
        (*Case::named("aws-ecr-cn"), "--format json shows that policy as repository_policy"),
        (*Case::named("azure-managed-us"), "assignments of AcrPush no longer have an effect"),
        (*Case::named("google-uploaded"), "after every rotation"),
        (*Case::named("google-direct"), "give every feed a provider of its own"),
    ] {
        let notes = case.setup().unwrap().notes;
        assert!(notes.iter().any(|found| found.contains(note)), "{}: no {note:?} in {notes:?}", case.name);
    }
}

#[test]
fn the_command_prints_the_setup_on_stdout_and_the_trusted_claims_on_stderr() {
    let carnet = crate::support::carnet::Carnet::new();
    let role = "--role-arn=arn:aws:iam::123456789012:role/carnet-pull";
    let registry = format!("--registry={}", CASES[0].registry);
    let keys = "--subject-keys=space,project,feed";
    carnet.ok(&["feed", "add", "aws-ecr", "--space=default", "--slug=prod", &registry, role, keys]);

    let output = carnet.run(&["feed", "setup", "default/prod"]);
    assert_eq!((output.status, &*output.stdout), (1, ""), "{output:?}");
    assert!(output.stderr.contains("has no issuer yet"), "{output:?}");

    let issuer = "--issuer=https://issuer.example/";
    let output = carnet.run(&["feed", "setup", "default/prod", issuer]);
    assert_eq!((output.status, &*output.stdout), (2, ""), "{output:?}");
    for part in ["“project”", "hint: ", "not for a pattern", "--context"] {
        assert!(output.stderr.contains(part), "no {part:?} in {}", output.stderr);
    }

    let context = "--context=project=shop";
    let output = carnet.run(&["feed", "setup", "default/prod", issuer, context, "--format=json"]);
    assert_eq!(output.status, 0, "{output:?}");
    let documents: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(documents["issuer"], "https://issuer.example");
    assert_eq!(
        aws_conditions(&documents)["StringEquals"]["issuer.example:sub"],
        "space:default:project:shop:feed:prod"
    );
    for part in ["space:default:project:shop:feed:prod", "sts.amazonaws.com", "https://issuer.example\n"] {
        assert!(output.stderr.contains(part), "no {part:?} in {}", output.stderr);
    }
    let actions = &documents["role_policy"]["PolicyDocument"]["Statement"][1]["Action"];
    assert!(
        !actions.to_string().contains("PutImage"),
        "a pull is all that is allowed unless asked: {actions}"
    );

    let output = carnet.run(&["feed", "setup", "default/prod", issuer, context, "--jwks=uploaded"]);
    assert_ne!(output.status, 0, "{output:?}");
    let output = carnet.run(&["feed", "setup", "default/none", issuer]);
    assert!(output.status == 1 && output.stderr.contains("feed list"), "{output:?}");
}

#[test]
fn the_uploaded_jwks_has_exactly_the_published_keys() {
    let carnet = crate::support::carnet::Carnet::new();
    let provider =
        "--workload-identity-provider=projects/1/locations/global/workloadIdentityPools/pool/providers/prod";
    let registry = "--registry=europe-west1-docker.pkg.dev";
    let issuer = "--issuer=https://issuer.example";
    carnet.ok(&[
        "feed",
        "add",
        "google-artifact-registry",
        "--space=a",
        "--slug=b",
        registry,
        provider,
        issuer,
    ]);
    let documents = carnet.ok(&["feed", "setup", "a/b", "--format=json", "--jwks=uploaded"]);
    let documents: Value = serde_json::from_str(&documents).unwrap();
    let jwks = documents["workload_identity_pool_provider"]["oidc"]["jwksJson"].as_str().unwrap();
    let jwks: Value = serde_json::from_str(jwks).unwrap();
    let kids = |keys: &Value| {
        let mut kids: Vec<_> = keys.as_array().unwrap().iter().map(|key| key["kid"].to_string()).collect();
        kids.sort();
        kids
    };
    let listed: Value = serde_json::from_str(&carnet.ok(&["key", "list", "--output=json"])).unwrap();
    assert_eq!(kids(&jwks["keys"]), kids(&listed));
    assert_eq!(kids(&listed).len(), 4);
}
