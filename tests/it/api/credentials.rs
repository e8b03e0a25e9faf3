//! Credentials: their source, their lifetime, and the errors when there are none.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::json;

use crate::api::world::{World, credentials_of, refusal, success};

#[test]
fn a_credential_comes_with_all_that_a_deployment_needs_and_once_more_from_memory() {
    let world = World::new("[aws]\npassword = 'only-for-tests'\ncredential_lifetime = 1800");
    world.add_feed("default/a", &[]);
    let deployer = world.grant(&["--role=deployer", "--space=default"]);
    let first = success(&world.credentials(&deployer, "default/a", &json!({})));
    for (member, value) in [
        ("feed", "default/a"),
        ("registry", crate::api::world::REGISTRY),
        ("username", "AWS"),
        ("password", "only-for-tests"),
        ("source", "exchange"),
    ] {
        assert_eq!(first[member], value, "{first}");
    }
    let time = |member: &str| first[member].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let life = time("expires_at").duration_since(time("issued_at")).as_secs();
    assert!((1700..=1801).contains(&life), "{life}");
    // A request without a body is the same request.
    let again = world.api.call("POST", &credentials_of("default/a"), Some(&deployer.token), None);
    let again = success(&again);
    assert_eq!((&again["source"], &again["jti"]), (&json!("cache"), &first["jti"]));
}

#[test]
fn an_unattainable_lifetime_is_refused_with_the_attainable_one() {
    let world = World::new("[aws]\ncredential_lifetime = 1800");
    world.add_feed("default/a", &[]);
    let ask = |seconds: i64| {
        world.credentials(&world.admin, "default/a", &json!({"min_remaining_seconds": seconds}))
    };
    assert_eq!(ask(1200).status, 200);
    let response = ask(3600);
    assert_eq!(refusal(&response), (422, "min-remaining-unattainable".to_owned()));
    let problem = response.json();
    assert_eq!(problem["field"], "min_remaining_seconds");
    let observed = problem["life_observed_seconds"].as_u64().unwrap();
    assert!((1700..=1800).contains(&observed), "{problem}");
    for seconds in [-1, 43201, 1 << 40] {
        let response = ask(seconds);
        assert_eq!(refusal(&response), (422, "invalid-field".to_owned()), "{seconds}");
        assert_eq!(response.json()["field"], "min_remaining_seconds");
    }
    assert_eq!(ask(0).status, 200);
}

#[test]
fn a_providers_refusal_has_its_message_the_presented_claims_and_a_hint() {
    let role = crate::api::world::ROLE;
    let world = World::new(&format!(
        "[[aws.roles]]\narn = '{role}'\naudiences = ['sts.amazonaws.com']\nsubjects = ['space:other:*']\n"
    ));
    world.add_feed("default/a", &[]);
    let response = world.credentials(&world.admin, "default/a", &json!({}));
    assert_eq!(refusal(&response), (502, "upstream-refused".to_owned()));
    let problem = response.json();
    let upstream = &problem["upstream"];
    assert_eq!(
        (&upstream["provider"], &upstream["step"], &upstream["status"], &upstream["code"]),
        (&json!("aws"), &json!("sts:AssumeRoleWithWebIdentity"), &json!(403), &json!("AccessDenied")),
        "{problem}"
    );
    assert!(upstream["message"].is_string() && upstream["request_id"].is_string(), "{problem}");
    let presented = &problem["presented"];
    assert_eq!(
        (&presented["iss"], &presented["sub"], &presented["aud"], &presented["alg"]),
        (
            &json!(world.issuer.url),
            &json!("space:default:feed:a"),
            &json!("sts.amazonaws.com"),
            &json!("ES256")
        ),
        "{problem}"
    );
    let keys = success(&world.api.get(&world.admin, "/signing-keys"));
    let kid = keys.as_array().unwrap().iter().find(|key| key["alg"] == "ES256" && key["state"] == "active");
    assert_eq!(presented["kid"], kid.unwrap()["kid"]);
    assert!(problem["hint"].as_str().unwrap().contains("trust policy"), "{problem}");
    assert!(!response.body.contains("eyJ"), "a token is in {}", response.body);
}

#[test]
fn a_feed_that_is_changed_or_removed_is_not_served_from_memory() {
    let world = World::new("");
    world.add_feed("default/a", &[]);
    let first = success(&world.credentials(&world.admin, "default/a", &json!({})));
    let path = "/spaces/default/feeds/a";
    let patch = json!({"session_duration": 900});
    let changed = world.api.call("PATCH", path, Some(&world.admin.token), Some(&patch));
    assert_eq!(success(&changed)["version"], 2);
    let second = success(&world.credentials(&world.admin, "default/a", &json!({})));
    assert_eq!(second["source"], "exchange");
    assert_ne!(first["jti"], second["jti"]);
    assert_eq!(world.api.delete(&world.admin, path).status, 204);
    let gone = world.credentials(&world.admin, "default/a", &json!({}));
    assert_eq!(refusal(&gone), (404, "not-found".to_owned()));
}

#[test]
fn feeds_are_made_shown_changed_and_removed() {
    let world = World::new("");
    let new = json!({
        "slug": "g", "type": "google-artifact-registry", "registry": "europe-docker.pkg.dev",
        "workload_identity_provider":
            "projects/1/locations/global/workloadIdentityPools/pool/providers/carnet",
        "service_account": "pull@my-project.iam.gserviceaccount.com", "lifetime": 600,
    });
    let made = success(&world.api.post(&world.admin, "/spaces/new/feeds", &new));
    assert_eq!(
        (&made["space"], &made["version"], &made["lifetime"]),
        (&json!("new"), &json!(1), &json!(600))
    );
    let path = "/spaces/new/feeds/g";
    assert_eq!(success(&world.api.get(&world.admin, path)), made);
    let again = world.api.post(&world.admin, "/spaces/new/feeds", &new);
    assert_eq!((refusal(&again), &again.json()["field"]), ((409, "exists".to_owned()), &json!("slug")));
    let patch = |body| world.api.call("PATCH", path, Some(&world.admin.token), Some(&body));
    let without = success(&patch(json!({"service_account": null, "name": "Images"})));
    assert!(without.get("service_account").is_none() && without["name"] == "Images", "{without}");
    for (body, field) in [
        (json!({"role_arn": crate::api::world::ROLE}), "role_arn"),
        (json!({"registry": "registry.example"}), "registry"),
        (json!({"alg": "none"}), "alg"),
        (json!({"subject_keys": ["feed"]}), "subject_keys"),
        (json!({"token_lifetime": 0}), "token_lifetime"),
        (json!({"slug": "other"}), "slug"),
        (json!({"lifetime": 0}), "lifetime"),
    ] {
        let response = patch(body.clone());
        assert!([400, 422].contains(&refusal(&response).0), "{body}: {response:?}");
        assert!(response.body.contains(field), "{body}: {response:?}");
    }
    assert_eq!(world.api.delete(&world.admin, path).status, 204);
    let reused = world.api.post(&world.admin, "/spaces/new/feeds", &new);
    assert_eq!(refusal(&reused), (409, "slug-reused".to_owned()));
    let mut accepted = new.clone();
    accepted["reuse_slug"] = json!(true);
    let accepted = success(&world.api.post(&world.admin, "/spaces/new/feeds", &accepted));
    assert_ne!(accepted["id"], made["id"]);
}

/// Starts a listener that sends these bytes on each connection.
fn answering(response: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(response);
        }
    });
    url
}

#[test]
fn a_limited_grant_learns_nothing_about_the_server_at_an_endpoint() {
    let world = World::new("");
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let silent = answering(b"");
    let tls = silent.replace("http://127.0.0.1", "https://localhost");
    let page = answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\nsecret");
    let other = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret");
    let endpoints = [("closed", closed), ("silent", silent), ("tls", tls), ("page", page), ("other", other)];
    for (slug, endpoint) in &endpoints {
        let (slug, sts) = (format!("--slug={slug}"), format!("--endpoint=sts={endpoint}"));
        let fields = ["--space=default", &slug, &sts, "--registry", crate::api::world::REGISTRY];
        let role = ["--role-arn", crate::api::world::ROLE];
        world.issuer.carnet.ok(&[&["feed", "add", "aws-ecr"], &fields[..], &role].concat());
    }
    let limited = world.grant(&["--role=admin", "--space=default"]);
    let outcome_of = |slug: &str, endpoint: &str| {
        let host = endpoint.split('/').nth(2).unwrap();
        let path = format!("default/{slug}");
        let response = world.credentials(&limited, &path, &json!({}));
        let mut problem = response.json();
        problem["request_id"] = json!("");
        let check = format!("/spaces/default/feeds/{slug}/check");
        let checked = success(&world.api.call("POST", &check, Some(&limited.token), None));
        let mut step = checked["steps"].as_array().unwrap().last().unwrap().clone();
        step["duration_ms"] = json!(0);
        step["presented"]["sub"] = json!("");
        let problem = problem.to_string().replace(&path, "FEED");
        let rows = success(&world.api.call(
            "GET",
            &format!("/audit?space=default&feed={slug}&kind=exchange"),
            Some(&limited.token),
            None,
        ));
        let rows = rows["records"].as_array().unwrap().iter().map(|row| {
            let detail = row["detail"].as_str().unwrap();
            // A caller who may see the feed learns its host, and nothing about what listens there.
            assert!(
                detail.starts_with(&format!(
                    "asked ecr at api.ecr.eu-central-1.amazonaws.com, sts at {host}: "
                )),
                "{row}"
            );
            format!("{} {}", row["outcome"], detail.replace(host, "HOST"))
        });
        (problem, step.to_string(), rows.collect::<BTreeSet<_>>())
    };
    let outcome_of: Vec<_> = std::thread::scope(|scope| {
        let outcome_of = &outcome_of;
        let asked: Vec<_> = endpoints
            .iter()
            .map(|(slug, endpoint)| scope.spawn(move || outcome_of(slug, endpoint)))
            .collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    for other in &outcome_of[1..] {
        assert_eq!(&outcome_of[0], other);
    }
    let (problem, step, rows) = &outcome_of[0];
    for text in [problem, step, rows.first().unwrap()] {
        assert!(text.contains("does not respond as the provider does") && !text.contains("secret"), "{text}");
    }
    // A caller without limits sees all of it.
    let full = world.credentials(&world.admin, "default/page", &json!({})).json().to_string();
    assert!(full.contains("secret") && full.contains("404"), "{full}");
    assert!(
        world.issuer.server.process.stderr().contains("secret"),
        "{}",
        world.issuer.server.process.stderr()
    );
}
