//! Feeds of type `azure-acr` on the command line: output, changes, and refusals with their reasons.

use crate::support::carnet::Carnet;
use serde_json::{Value, json};

const TENANT: &str = "8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c";
const CLIENT: &str = "0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e";

/// Returns `feed add azure-acr` with valid fields, except those in `flags`, written `--flag=value`.
fn add(flags: &[&str]) -> Vec<String> {
    let good = [
        ("--space", "default"),
        ("--slug", "a"),
        ("--registry", "images.azurecr.io"),
        ("--tenant-id", TENANT),
        ("--client-id", CLIENT),
    ];
    let mut arguments = ["feed", "add", "azure-acr"].map(ToOwned::to_owned).to_vec();
    for (flag, value) in good {
        if !flags.iter().any(|given| given.starts_with(&format!("{flag}="))) {
            arguments.push(format!("{flag}={value}"));
        }
    }
    arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
    arguments
}

fn run(carnet: &Carnet, arguments: &[String]) -> crate::support::carnet::Output {
    carnet.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_feed_of_azure_is_added_shown_and_changed() {
    let carnet = Carnet::new();
    let added = run(&carnet, &add(&["--output=json", &format!("--tenant-id={}", TENANT.to_uppercase())]));
    assert_eq!(added.status, 0, "{added:?}");
    let feed: Value = serde_json::from_str(&added.stdout).unwrap();
    for (field, value) in [
        ("type", "azure-acr"),
        ("tenant_id", TENANT),
        ("client_id", CLIENT),
        ("audience", "api://AzureADTokenExchange"),
        ("alg", "RS256"),
    ] {
        assert_eq!(feed[field], json!(value), "{field}");
    }
    let shown = carnet.ok(&["feed", "show", "default/a"]);
    assert!(shown.contains(TENANT) && shown.contains(CLIENT), "{shown}");

    let other = "11111111-2222-4333-8444-555555555555";
    carnet.ok(&["feed", "update", "default/a", "--client-id", other, "--audience", "api://mine"]);
    let feed: Value =
        serde_json::from_str(&carnet.ok(&["feed", "show", "default/a", "--output", "json"])).unwrap();
    assert_eq!((&feed["client_id"], &feed["tenant_id"]), (&json!(other), &json!(TENANT)));
    assert_eq!((&feed["audience"], &feed["version"]), (&json!("api://mine"), &json!(2)));
}

#[test]
fn each_refusal_names_the_field_and_the_rule() {
    let carnet = Carnet::new();
    carnet.ok(&add(&["--slug=old"]).iter().map(String::as_str).collect::<Vec<_>>());
    for (flag, words) in [
        ("--alg=ES256", ["alg: use RS256, not ES256", "Entra"]),
        ("--tenant-id=contoso.onmicrosoft.com", ["--tenant-id", "write the UUID"]),
        ("--client-id=00000000-0000-0000-0000-000000000000", ["--client-id", "write the UUID"]),
        ("--registry=images.azurecr.io.evil.example", ["registry: ", "does not end in a domain of ACR"]),
        ("--registry=images.azurecr.io:443", ["registry: ", "it has a port"]),
        ("--registry=localhost:5000", ["registry: ", "the endpoint authority must be given too"]),
        ("--endpoint=sts=https://a.example", ["\"sts\"", "use authority or registry"]),
        ("--endpoint=authority=https://login.chinacloudapi.cn", ["endpoint authority", "China cloud"]),
    ] {
        let output = run(&carnet, &add(&[flag]));
        assert_eq!((output.status, output.stdout.as_str()), (2, ""), "{flag}: {output:?}");
        assert!(words.iter().all(|word| output.stderr.contains(word)), "{flag}: {}", output.stderr);
    }
    for (flag, value) in [("--role-arn", "arn:aws:iam::123456789012:role/pull"), ("--session-duration", "1h")]
    {
        let output = carnet.run(&["feed", "update", "default/old", flag, value]);
        assert_eq!(output.status, 2, "{output:?}");
        assert!(
            output.stderr.contains(&format!("{flag}: a feed of type azure-acr has no such field")),
            "{output:?}"
        );
    }
    let list: Value = serde_json::from_str(&carnet.ok(&["feed", "list", "--output", "json"])).unwrap();
    assert_eq!((list.as_array().unwrap().len(), &list[0]["version"]), (1, &json!(1)), "{list}");
}
