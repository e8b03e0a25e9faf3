//! Feeds of types `google-artifact-registry` and `aws-ecr-public` on the command line: output, changes, and
//! refusals with their reasons.

use crate::api::world::World;
use crate::support::carnet::{Carnet, Output};
use serde_json::{Value, json};

const NAME: &str = "projects/123456789012/locations/global/workloadIdentityPools/carnet/providers/issuer";
const ACCOUNT: &str = "pull@my-project.iam.gserviceaccount.com";
const ROLE: &str = "arn:aws:iam::123456789012:role/pull";

/// Runs `feed add google-artifact-registry` with valid fields, except those in `flags`, written
/// `--flag=value`.
fn add(carnet: &Carnet, flags: &[&str]) -> Output {
    let good = [
        "--space=default".to_owned(),
        "--slug=a".to_owned(),
        "--registry=europe-west1-docker.pkg.dev".to_owned(),
        format!("--workload-identity-provider={NAME}"),
    ];
    let mut arguments = vec!["feed", "add", "google-artifact-registry", "--output=json"];
    arguments.extend(good.iter().map(String::as_str).filter(|default| {
        let name = default.split('=').next();
        flags.iter().all(|flag| flag.split('=').next() != name)
    }));
    arguments.extend(flags);
    carnet.run(&arguments)
}

fn shown(carnet: &Carnet, feed: &str) -> Value {
    serde_json::from_str(&carnet.ok(&["feed", "show", feed, "--output", "json"])).unwrap()
}

#[test]
fn a_feed_of_google_is_added_shown_and_changed() {
    let carnet = Carnet::new();
    let added = add(&carnet, &[&format!("--workload-identity-provider=https://iam.googleapis.com/{NAME}")]);
    assert_eq!(added.status, 0, "{added:?}");
    let feed: Value = serde_json::from_str(&added.stdout).unwrap();
    assert_eq!(feed["type"], "google-artifact-registry");
    assert_eq!(feed["workload_identity_provider"], NAME);
    assert_eq!(feed["audience"], format!("//iam.googleapis.com/{NAME}"));
    assert_eq!((&feed["alg"], &feed["lifetime"]), (&json!("ES256"), &json!(3600)));
    assert_eq!(feed.get("service_account"), None);

    carnet.ok(&["feed", "update", "default/a", "--service-account", ACCOUNT, "--lifetime", "12h"]);
    let feed = shown(&carnet, "default/a");
    assert_eq!((&feed["service_account"], &feed["lifetime"]), (&json!(ACCOUNT), &json!(43_200)));
    let table = carnet.ok(&["feed", "show", "default/a"]);
    assert!(table.contains(NAME) && table.contains(ACCOUNT) && table.contains("43200 s"), "{table}");

    let other = NAME.replace("issuer", "other");
    carnet.ok(&[
        "feed",
        "update",
        "default/a",
        "--no-service-account",
        "--workload-identity-provider",
        &other,
    ]);
    let feed = shown(&carnet, "default/a");
    assert_eq!(feed.get("service_account"), None);
    assert_eq!(feed["audience"], format!("//iam.googleapis.com/{other}"), "a default audience follows");

    let custom = format!("https://iam.googleapis.com/{other}");
    carnet.ok(&["feed", "update", "default/a", "--audience", &custom, "--alg", "RS256"]);
    let feed = shown(&carnet, "default/a");
    assert_eq!((&feed["audience"], &feed["alg"]), (&json!(custom), &json!("RS256")));
}

#[test]
fn each_refusal_names_the_field_and_the_rule() {
    let carnet = Carnet::new();
    let provider = |name: &str| format!("--workload-identity-provider={name}");
    let other_audience = format!("--audience=https://iam.googleapis.com/{}", NAME.replace("issuer", "other"));
    for (flags, words) in [
        (vec![provider(&NAME.replace("123456789012", "my-project"))], ["--workload", "number, not its id"]),
        (vec![provider("carnet/issuer")], ["--workload", "write projects/NUMBER/"]),
        (
            vec!["--service-account=pull@example.com".into()],
            ["--service-account", ".iam.gserviceaccount.com"],
        ),
        (vec!["--lifetime=13h".into()], ["--lifetime", "43200"]),
        (vec![other_audience], ["audience: ", "name different providers"]),
        (vec!["--registry=gcr.io.evil.example".into()], ["registry: ", "not one of Google's"]),
        (vec!["--registry=localhost:5000".into()], ["registry: ", "the endpoint sts must be given too"]),
        (
            vec![
                "--registry=localhost:5000".into(),
                "--endpoint=sts=http://localhost:1".into(),
                format!("--service-account={ACCOUNT}"),
            ],
            ["registry: ", "the endpoint iamcredentials must be given too"],
        ),
        (vec!["--endpoint=ecr=https://a.example".into()], ["\"ecr\"", "use sts or iamcredentials"]),
    ] {
        let output = add(&carnet, &flags.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!((output.status, output.stdout.as_str()), (2, ""), "{flags:?}: {output:?}");
        assert!(words.iter().all(|word| output.stderr.contains(word)), "{flags:?}: {}", output.stderr);
    }
    assert_eq!(add(&carnet, &[]).status, 0);
    let output = carnet.run(&["feed", "update", "default/a", "--role-arn", ROLE]);
    assert_eq!(output.status, 2, "{output:?}");
    assert!(
        output.stderr.contains("--role-arn: a feed of type google-artifact-registry has no such field"),
        "{output:?}"
    );
}

#[test]
fn without_a_service_account_a_credential_lives_as_long_as_the_token_and_is_handed_out_all_the_same() {
    let world = World::new("");
    let carnet = &world.issuer.carnet;
    let sts = format!("--endpoint=sts={}", world.sandbox.announced("/endpoints/google/sts"));
    let seconds = |response: &Value| -> i64 {
        let time = |name: &str| response[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        time("expires_at").as_second() - time("issued_at").as_second()
    };
    for (slug, lifetime, most) in [("default", None, 3600), ("short", Some("--token-lifetime=5m"), 300)] {
        let slug = format!("--slug={slug}");
        let made = add(carnet, &[&[slug.as_str(), sts.as_str()], lifetime.as_slice()].concat());
        assert_eq!(made.status, 0, "{made:?}");
        let feed: Value = serde_json::from_str(&made.stdout).unwrap();
        assert_eq!(feed["token_lifetime"], most);
    }
    let credential = |feed: &str, more: &[&str]| {
        carnet.run(&[&["feed", "credentials", feed, "--allow-loopback-endpoints"], more].concat())
    };
    for (feed, most) in [("default/default", 3600), ("default/short", 300)] {
        let printed = credential(feed, &[]);
        assert_eq!(printed.status, 0, "{printed:?}");
        // Less the five seconds by which `iat` is backdated, and the duration of the request.
        let lived = seconds(&serde_json::from_str(&printed.stdout).unwrap());
        assert!(lived <= most - 5 && lived > most / 2, "{feed}: {lived} s");
    }
    // A request for more than the token's lifetime is refused, with advice for this cloud only.
    let refused = credential("default/short", &["--min-remaining=20m"]);
    let message = &refused.stderr;
    assert!(
        refused.status == 1
            && message.contains("without a service account the credential ends with the token"),
        "{message}"
    );
    assert!(message.contains("token_lifetime") && !message.contains("session"), "{message}");
    let (viewer, wish) =
        (world.grant(&["--role=deployer", "--space=default"]), json!({"min_remaining_seconds": 1200}));
    let refused = world.credentials(&viewer, "default/short", &wish);
    assert_eq!(refused.status, 422, "{refused:?}");
    assert!(refused.json()["hint"].as_str().unwrap().contains("token_lifetime"), "{refused:?}");
    let credential = world.credentials(&viewer, "default/short", &json!({}));
    assert_eq!(credential.status, 200, "{credential:?}");
    // A feed whose credentials could never be handed out is refused.
    for (flags, words) in [
        (vec!["--slug=c", "--token-lifetime=10s"], "token_lifetime: without a service account"),
        (
            vec!["--slug=d", "--lifetime=5m", "--service-account", ACCOUNT],
            "lifetime: a credential of 300 s would never",
        ),
    ] {
        let refused = add(carnet, &flags);
        assert!(refused.status != 0 && refused.stderr.contains(words), "{refused:?}");
    }
}

#[test]
fn a_subject_that_is_too_long_for_google_is_refused_before_it_is_minted() {
    let carnet = Carnet::new();
    let added = add(&carnet, &["--subject-keys=space,project,environment,feed_id"]);
    assert_eq!(added.status, 0, "{added:?}");
    let context = |project: &str| ["--context".to_owned(), format!("project={project}")];
    let mint = |project: &str| {
        let [flag, value] = context(project);
        let issuer = ["--issuer", "https://issuer.example", "--context", "environment=live"];
        carnet.run(&[&["token", "mint", "default/a", &flag, &value], &issuer[..]].concat())
    };
    // 13 + 1 + 8 + project + 1 + 16 + 1 + 44 bytes.
    let good = mint(&"p".repeat(43));
    assert_eq!(good.status, 0, "{good:?}");
    let refused = mint(&"p".repeat(44));
    assert_eq!((refused.status, refused.stdout.as_str()), (1, ""), "{refused:?}");
    assert!(
        refused.stderr.contains("has 128 bytes, and the provider accepts at most 127"),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_feed_of_ecr_public_knows_its_registry_and_takes_roles_of_one_partition() {
    let carnet = Carnet::new();
    let add = ["feed", "add", "aws-ecr-public", "--space", "default", "--slug", "public", "--role-arn"];
    let refused = carnet.run(&[&add[..], &["arn:aws-cn:iam::123456789012:role/pull"]].concat());
    assert_eq!(refused.status, 2, "{refused:?}");
    assert!(
        refused.stderr.contains("role_arn: Amazon ECR Public accepts roles of partition aws"),
        "{refused:?}"
    );
    let refused = carnet.run(&[&add[..], &[ROLE, "--registry", "public.ecr.aws.evil.example"]].concat());
    assert!(refused.stderr.contains("registry: public.ecr.aws.evil.example is not"), "{refused:?}");

    carnet.ok(&[&add[..], &[ROLE]].concat());
    carnet.ok(&["feed", "update", "default/public", "--session-duration", "2h"]);
    let feed = shown(&carnet, "default/public");
    for (field, value) in [
        ("type", json!("aws-ecr-public")),
        ("registry", json!("public.ecr.aws")),
        ("audience", json!("sts.amazonaws.com")),
        ("role_arn", json!(ROLE)),
        ("session_duration", json!(7200)),
    ] {
        assert_eq!(feed[field], value, "{field}");
    }
}
