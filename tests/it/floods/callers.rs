//! Floods of callers: a deployer that invents contexts and scopes, one that is refused, and strangers.

use serde_json::json;

use crate::api::world::{REGISTRY, ROLE, World, credentials_of, success};
use crate::floods::beside::{Request, beside, beside_connections};

#[test]
fn invented_contexts_and_scopes_delay_no_other_caller() {
    let world = World::new("");
    world.add_feed("default/other", &[]);
    let hostile = world.grant(&["--role=deployer", "--space=default", "--context=tenant=*"]);
    let answered = beside(&world, |connection, number| {
        let feed = credentials_of(["default/own", "default/other"][connection % 2]);
        let tenant = format!("t{connection}-{number}");
        let repository = |n: usize| format!("{:0>200}", format!("{connection}/{number}/{n}"));
        let repositories: Vec<String> = match connection % 4 {
            // As many as a body can hold, and as many as a request may name.
            0 => (0..280).map(repository).collect(),
            1 => (0..16).map(|n| format!("r{number}/{n}")).collect(),
            _ => vec![format!("r{number}")],
        };
        Request::post(
            &hostile,
            &feed,
            &json!({ "context": { "tenant": tenant }, "repositories": repositories }),
        )
    });
    let memory = world.issuer.server.process.resident_bytes();
    assert!(memory < 400 << 20, "{} MiB after {answered} requests", memory >> 20);
}

/// One deployer's feeds hang, with more exchanges than may run at one provider; the others' feeds have the
/// same provider.
#[test]
fn hanging_exchanges_delay_no_other_caller() {
    let world = World::new("");
    let hole = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = |name: &str| format!("--endpoint={name}=http://{}/", hole.local_addr().unwrap());
    let (sts, ecr) = (endpoint("sts"), endpoint("ecr"));
    for number in 0..8 {
        let slug = format!("--slug=hangs{number}");
        let (registry, role) = (format!("--registry={REGISTRY}"), format!("--role-arn={ROLE}"));
        let add = ["feed", "add", "aws-ecr", "--space=default", &slug, &registry, &role, &sts, &ecr];
        world.issuer.carnet.ok(&add);
    }
    let hostile = world.grant(&["--role=deployer", "--space=default", "--context=tenant=*"]);
    beside_connections(&world, 256, |connection, number| {
        let feed = credentials_of(&format!("default/hangs{}", connection % 8));
        let tenant = format!("t{connection}-{number}");
        Request::post(&hostile, &feed, &json!({ "context": { "tenant": tenant } }))
    });
}

#[test]
fn refusals_of_a_grant_delay_no_other_caller_and_fill_no_log() {
    let world = World::new("");
    let viewer = world.grant(&["--role=viewer"]);
    let path = credentials_of("default/own");
    let answered = beside(&world, |_, number| {
        Request::post(&viewer, if number % 2 == 0 { &path } else { "/signing-keys/rotate" }, &json!({}))
    });
    let page = success(&world.api.get(&world.admin, &format!("/audit?actor=grant:{}&limit=1000", viewer.id)));
    let rows = page["records"].as_array().unwrap().len();
    // Two rows for each route, reason and minute, and as many for its rate.
    assert!((1..=32).contains(&rows), "{rows} rows of {answered} refusals");
}

#[test]
fn strangers_behind_an_unnamed_proxy_delay_no_other_caller() {
    let world = World::new("");
    let lookalike = {
        let token = world.grant(&["--role=viewer"]);
        // A revoked token: well-formed, and useless.
        assert_eq!(world.api.delete(&world.admin, &format!("/grants/{}", token.id)).status, 204);
        token
    };
    let garbage = crate::api::world::Grant { id: String::new(), token: "garbage".to_owned() };
    beside(&world, |connection, number| {
        let grant = if number % 2 == 0 { &lookalike } else { &garbage };
        let mut request = Request::get(grant, "/audit");
        request.headers += &format!("X-Forwarded-For: 192.0.2.{}\r\n", connection % 200);
        request
    });
    let log = world.issuer.server.process.stderr();
    assert!(log.lines().count() < 100, "{log}");
}
