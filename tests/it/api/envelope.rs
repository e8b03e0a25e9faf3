//! Properties of every response.

use serde_json::json;

use crate::api::world::{World, refusal, success};
use crate::support::http::HttpResponse;

fn allowed(response: &HttpResponse) -> Vec<String> {
    let mut methods: Vec<String> = response
        .header("allow")
        .unwrap_or_default()
        .split(',')
        .map(|method| method.trim().to_owned())
        .collect();
    methods.sort();
    methods
}

#[test]
fn a_request_has_its_own_id_or_the_clients_in_the_response_and_in_the_log() {
    let world = World::new("");
    let path = "/spaces/default/feeds/none";
    let ask = |header: &str| world.api.send("GET", path, Some(&world.admin.token), header, None);
    let named = |response: &HttpResponse| {
        assert_eq!(refusal(response), (404, "not-found".to_owned()));
        let name = response.header("x-request-id").unwrap().to_owned();
        assert_eq!(response.json()["request_id"], name.as_str());
        name
    };
    assert_eq!(named(&ask("X-Request-Id: ci-4711.a_B\r\n")), "ci-4711.a_B");
    for header in ["", "X-Request-Id: \r\n", "X-Request-Id: two words\r\n", "X-Request-Id: \"a\"\r\n"] {
        let name = named(&ask(header));
        assert_eq!(name.len(), 36, "{name} is a UUID");
    }
    let long = "x".repeat(65);
    let (one, other) = (named(&ask(&format!("X-Request-Id: {long}\r\n"))), named(&ask("")));
    assert!(one != long && one != other);
    let rows = success(&world.api.get(&world.admin, "/audit?kind=request&limit=1000"));
    let has = |name: &str| rows["records"].as_array().unwrap().iter().any(|row| row["request_id"] == name);
    // The first refusal of a kind is recorded in full; the others are counted.
    assert!(has("ci-4711.a_B") && !has(&one) && !has(&other), "{rows}");
    let unnamed = world.api.send("GET", "/grants/none", Some(&world.admin.token), "", None);
    let rows = success(&world.api.get(&world.admin, "/audit?kind=request&limit=1000"));
    let name = unnamed.header("x-request-id").unwrap();
    assert!(rows["records"].as_array().unwrap().iter().any(|row| row["request_id"] == name), "{rows}");
    let of_success = world.api.send("GET", "/audit", Some(&world.admin.token), "X-Request-Id: ok\r\n", None);
    assert_eq!((of_success.status, of_success.header("x-request-id")), (200, Some("ok")));
}

#[test]
fn responses_name_their_type_and_are_not_cacheable() {
    let world = World::new("");
    world.add_feed("default/a", &[]);
    let credential = world.credentials(&world.admin, "default/a", &json!({}));
    let grant = world.api.post(&world.admin, "/grants", &json!({"role": "admin", "name": "n"}));
    let list = world.api.get(&world.admin, "/spaces/default/feeds");
    for response in [&credential, &grant, &list] {
        success(response);
        assert_eq!(response.header("cache-control"), Some("no-store"), "{response:?}");
    }
    assert_eq!((credential.status, grant.status), (200, 201));
    let deleted = world.api.delete(&world.admin, "/spaces/default/feeds/a");
    assert_eq!((deleted.status, deleted.header("content-type"), deleted.body.as_str()), (204, None, ""));
}

#[test]
fn an_unsupported_method_is_refused_with_the_list_of_methods() {
    let world = World::new("");
    for (method, path, methods) in [
        ("PUT", "/grants", vec!["DELETE", "GET", "HEAD", "POST"]),
        ("GET", "/grants/00000000-0000-4000-8000-000000000000", vec!["DELETE"]),
        ("POST", "/spaces/a/feeds/b", vec!["DELETE", "GET", "HEAD", "PATCH"]),
        ("GET", "/spaces/a/feeds/b/credentials", vec!["POST"]),
        ("OPTIONS", "/audit", vec!["GET", "HEAD"]),
        ("TRACE", "/signing-keys", vec!["GET", "HEAD"]),
        ("POST", "/openapi.json", vec!["GET", "HEAD"]),
    ] {
        let response = world.api.call(method, path, Some(&world.admin.token), None);
        assert_eq!(refusal(&response), (405, "method-not-allowed".to_owned()), "{method} {path}");
        assert_eq!(allowed(&response), methods, "{method} {path}");
        assert!(response.header("x-request-id").is_some(), "{method} {path}");
    }
    // A caller without a grant gets 401 before any other error.
    assert_eq!(refusal(&world.api.call("PUT", "/grants", None, None)).0, 401);
}

#[test]
fn an_unknown_path_is_refused_like_a_hidden_one() {
    let world = World::new("");
    for path in ["/", "/nothing", "/grants/", "/spaces/a/feeds/", "//audit", "/signing-keys/rotate/x"] {
        for method in ["GET", "POST", "DELETE"] {
            let response = world.api.call(method, path, None, None);
            assert_eq!(refusal(&response), (404, "not-found".to_owned()), "{method} {path}");
            assert!(response.header("x-request-id").is_some(), "{method} {path}");
        }
    }
}

#[test]
fn a_path_that_only_begins_like_the_api_is_none_of_its_own() {
    let world = World::new("");
    let get = |path: &str| world.api.connect().request("GET", path, "");
    for path in ["/api/v1", "/api/v1/", "/api/v1/x"] {
        assert_eq!(refusal(&get(path)), (404, "not-found".to_owned()), "{path}");
    }
    for path in ["/api/v1x", "/api/v10/audit", "/api"] {
        let response = get(path);
        assert_eq!((response.status, response.header("content-type")), (404, None), "{path}");
    }
}

#[test]
fn head_answers_as_get_does_without_the_body() {
    let world = World::new("");
    for (path, token) in [
        ("/signing-keys", Some(&world.admin)),
        ("/audit", Some(&world.admin)),
        ("/audit", None),
        ("/spaces/a/feeds/b", Some(&world.admin)),
        ("/openapi.json", None),
    ] {
        let token = token.map(|grant| grant.token.as_str());
        let ask = |method: &str| {
            let mut response = world.api.send(method, path, token, "X-Request-Id: same\r\n", None);
            // The refusals of this test make the log grow.
            response.headers.retain(|(name, _)| name != "date" && name != "content-length");
            response
        };
        let (get, head) = (ask("GET"), ask("HEAD"));
        assert!(!get.body.is_empty() && head.body.is_empty(), "{path}");
        assert_eq!((get.status, get.headers), (head.status, head.headers), "{path}");
    }
}

#[test]
fn metrics_are_for_this_machine_and_for_grants_that_may_read() {
    let world = World::new("");
    let viewer = world.grant(&["--role=viewer", "--space=a"]);
    let deployer = world.grant(&["--role=deployer", "--space=a"]);
    let ask = |headers: &str| world.api.connect().request("GET", "/metrics", headers);
    assert_eq!(ask("").status, 200);
    // A client behind a proxy is never local, regardless of the proxy's header.
    let proxied = "X-Forwarded-For: 127.0.0.1\r\n";
    let with = |token: &str| ask(&format!("{proxied}Authorization: Bearer {token}\r\n"));
    assert_eq!(refusal(&ask(proxied)), (401, "unauthorized".to_owned()));
    assert_eq!(refusal(&with(&deployer.token)), (403, "forbidden".to_owned()));
    let metrics = with(&viewer.token);
    assert_eq!(metrics.status, 200);
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(metrics.body.contains("\n# TYPE carnet_build_info gauge\n") && !metrics.body.contains("# EOF"));
    let open = ask("Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3\r\n");
    assert_eq!(
        open.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(open.body.contains("\n# TYPE carnet_build info\n") && open.body.ends_with("# EOF\n"));
    assert!(!metrics.body.contains(&viewer.id), "who asks is nobody's label");
}
