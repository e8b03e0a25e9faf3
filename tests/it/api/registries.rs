//! Requests for a credential by the registry's host, without a feed.

use serde_json::json;

use crate::api::world::{REGISTRY, World, refusal, success};

#[test]
fn a_registry_has_the_credential_of_the_one_feed_inside_the_grant() {
    let world = World::new("");
    for feed in ["a/one", "a/two", "b/one"] {
        world.add_feed(feed, &[]);
    }
    world.add_feed("c/only", &["--registry", "222222222222.dkr.ecr.eu-west-1.amazonaws.com"]);
    let path = format!("/registries/{REGISTRY}/credentials");
    let deployer = |limits: &[&str]| world.grant(&[&["--role=deployer"], limits].concat());

    let one = deployer(&["--space=a", "--feed=o*"]);
    let credential = success(&world.api.post(&one, &path, &json!({})));
    assert_eq!((&credential["feed"], &credential["registry"]), (&json!("a/one"), &json!(REGISTRY)));
    let same = success(&world.credentials(&one, "a/one", &json!({})));
    assert_eq!((&same["password"], &same["source"]), (&credential["password"], &json!("cache")));

    for (limits, feeds) in [
        (&["--space=a"][..], vec!["a/one", "a/two"]),
        (&["--space=a", "--space=b", "--feed=one"], vec!["a/one", "b/one"]),
        (&["--feed=*"], vec!["a/one", "a/two", "b/one"]),
    ] {
        let response = world.api.post(&deployer(limits), &path, &json!({}));
        assert_eq!(refusal(&response), (409, "several-feeds".to_owned()), "{limits:?}");
        assert_eq!(response.json()["feeds"], json!(feeds), "{limits:?}");
    }
    let none = deployer(&["--space=c"]);
    let response = world.api.post(&none, &path, &json!({}));
    assert_eq!(refusal(&response), (404, "not-found".to_owned()));
    assert!(!response.body.contains("a/") && !response.body.contains("b/"), "{}", response.body);
}

#[test]
fn a_registry_host_is_recognized_in_every_spelling() {
    let world = World::new("");
    world.add_feed("a/port", &["--registry", "127.0.0.1:5000"]);
    for (host, status) in [
        ("127.0.0.1:5000", 200),
        ("127.0.0.1%3A5000", 200),
        ("127.0.0.1", 404),
        ("127.0.0.1:5001", 404),
        ("127.0.0.1:5000%2F", 404),
        ("%00", 404),
        ("%FF", 404),
        ("..", 404),
        ("x@127.0.0.1:5000", 404),
    ] {
        let response = world.api.post(&world.admin, &format!("/registries/{host}/credentials"), &json!({}));
        assert_eq!(response.status, status, "{host}: {response:?}");
        if status == 404 {
            refusal(&response);
        }
    }
}
