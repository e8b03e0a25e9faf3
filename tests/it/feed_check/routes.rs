use serde_json::{Value, json};

use crate::feed_check::clouds::AWS;
use crate::feed_check::world::World;
use crate::support::http::{Connection, HttpResponse};

fn grant(world: &World, role: &str) -> String {
    let token = world.carnet.ok(&["grant", "create", "--role", role, "--name", role, "--space=default"]);
    format!("Authorization: Bearer {}\r\n", token.trim_end())
}

fn get(world: &World, query: &str, grant: &str) -> HttpResponse {
    let listening = world.server.as_ref().unwrap().announced("/listening");
    let path = format!("/api/v1/spaces/default/feeds/{query}");
    Connection::to(listening, None).request("GET", &path, grant)
}

fn post(world: &World, path: &str, grant: &str, body: &str) -> HttpResponse {
    let mut connection = Connection::to(world.server.as_ref().unwrap().announced("/listening"), None);
    let length = body.len();
    let request = format!(
        "POST /api/v1/spaces/default/feeds/{path} HTTP/1.1\r\nHost: carnet.test\r\n{grant}Content-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    connection.write(request.as_bytes());
    connection.response("POST")
}

#[test]
fn the_setup_of_a_readable_feed_equals_the_command_lines() {
    let world = World::new(&AWS);
    world.add("a", &["--subject-keys=space,feed,tenant?"]);
    let (viewer, deployer) = (grant(&world, "viewer"), grant(&world, "deployer"));
    for format in ["cli", "terraform", "json"] {
        let response =
            get(&world, &format!("a/setup?format={format}&context.tenant=acme&action=pull,push"), &viewer);
        assert_eq!(response.status, 200, "{response:?}");
        let response = response.json();
        let flag = format!("--format={format}");
        let printed = world.carnet.ok(&[
            "feed",
            "setup",
            "default/a",
            &flag,
            "--context=tenant=acme",
            "--action=pull",
            "--action=push",
        ]);
        assert_eq!(response["format"], format);
        assert_eq!(response["trusted"]["subject"], "space:default:tenant:acme:feed:a");
        assert!(!response["notes"].as_array().unwrap().is_empty());
        match format {
            "json" => assert_eq!(response["content"], serde_json::from_str::<Value>(&printed).unwrap()),
            _ => assert_eq!(response["content"], printed),
        }
    }
    for (query, grant, status) in [
        ("a/setup", &deployer, 403),
        ("b/setup", &deployer, 403),
        ("b/setup", &viewer, 404),
        ("a/setup", &String::new(), 401),
        ("a/setup?colour=red", &viewer, 400),
        ("a/setup?format=xml", &viewer, 400),
        ("a/setup?context.tenant=Acme", &viewer, 422),
        ("a/setup?repository=A*", &viewer, 422),
        ("a/setup?action=fly", &viewer, 422),
        ("a/setup?identity=managed", &viewer, 422),
    ] {
        let response = get(&world, query, grant);
        assert_eq!(response.status, status, "{query}: {response:?}");
        assert!(response.header("content-type").unwrap().starts_with("application/problem+json"), "{query}");
    }
}

#[test]
fn a_check_needs_an_admin_and_returns_the_command_lines_output() {
    let world = World::new(&AWS);
    world.add("a", &[]);
    let admin = grant(&world, "admin");
    for (role, status) in [("viewer", 403), ("deployer", 403)] {
        assert_eq!(post(&world, "a/check", &grant(&world, role), "").status, status, "{role}");
    }
    assert_eq!(post(&world, "b/check", &admin, "").status, 404);
    assert_eq!(post(&world, "a/check", &admin, r#"{"colour":"red"}"#).status, 422);
    assert_eq!(post(&world, "a/check", &admin, r#"{"image":"A B"}"#).status, 422);

    let response = post(&world, "a/check", &admin, r#"{"image":"app:v1"}"#);
    assert_eq!(response.status, 200, "{response:?}");
    let without_time = |mut response: Value| {
        for step in response["steps"].as_array_mut().unwrap() {
            step["duration_ms"] = json!(0);
            if step["step"] == "mint" {
                step["detail"] = json!("");
            }
        }
        response
    };
    assert_eq!(
        without_time(response.json()),
        without_time(world.response("default/a", &["--image=app:v1".to_owned()]))
    );
    assert!(!response.body.contains("hunter2"));
}
