//! Every documented route × every kind of caller × targets inside and outside their grant.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::world::{Api, Grant, World, refusal};
use crate::support::http::HttpResponse;
use crate::support::process::wait_until;

/// A feed that every column may see, unless its name says otherwise.
const HERE: [&str; 2] = ["here", "prod-eu"];
/// A feed in another space.
const ELSEWHERE: [&str; 2] = ["there", "prod-eu"];
/// Feeds that do not exist, in an existing space and in a missing one.
const NOWHERE: [[&str; 2]; 2] = [["here", "prod-none"], ["nowhere", "prod-eu"]];

/// The registry of [`HERE`]. The others are of [`ELSEWHERE`] and of no feed.
const REGISTRY_HERE: &str = "111111111111.dkr.ecr.eu-central-1.amazonaws.com";
const REGISTRY_ELSEWHERE: &str = "222222222222.dkr.ecr.eu-central-1.amazonaws.com";
const REGISTRY_NOWHERE: &str = "333333333333.dkr.ecr.eu-central-1.amazonaws.com";

/// The columns of [`TABLE`].
const CALLERS: [(&str, &[&str]); 9] = [
    ("admin", &["--role=admin", "--expires-in=never"]),
    ("admin of there", &["--role=admin", "--space=there", "--expires-in=never"]),
    ("viewer", &["--role=viewer"]),
    ("viewer of there", &["--role=viewer", "--space=there"]),
    ("admin of here's feeds dev", &["--role=admin", "--space=here", "--feed=dev"]),
    ("viewer of here's feeds dev", &["--role=viewer", "--space=here", "--feed=dev"]),
    ("deployer", &["--role=deployer", "--space=here", "--feed=prod-eu"]),
    ("deployer of dev", &["--role=deployer", "--space=here", "--feed=dev"]),
    ("deployer of prod-*", &["--role=deployer", "--space=here", "--feed=prod-*"]),
];

/// A route, and the status for each caller when the target is here, elsewhere or nowhere.
struct Row {
    route: &'static str,
    here: [u16; 9],
    elsewhere: [u16; 9],
    nowhere: [u16; 9],
}

const TABLE: &[Row] = &[
    Row {
        route: "GET /spaces/{space}/feeds",
        here: [200, 404, 200, 404, 200, 200, 403, 403, 403],
        elsewhere: [200, 200, 200, 200, 404, 404, 403, 403, 403],
        // For a missing space, a caller without limits gets an empty list of feeds.
        nowhere: [200, 404, 200, 404, 404, 404, 403, 403, 403],
    },
    Row {
        route: "POST /spaces/{space}/feeds",
        here: [201, 404, 403, 403, 422, 403, 403, 403, 403],
        elsewhere: [201, 201, 403, 403, 404, 403, 403, 403, 403],
        nowhere: [201, 404, 403, 403, 404, 403, 403, 403, 403],
    },
    Row {
        route: "GET /spaces/{space}/feeds/{feed}",
        here: [200, 404, 200, 404, 404, 404, 403, 403, 403],
        elsewhere: [200, 200, 200, 200, 404, 404, 403, 403, 403],
        nowhere: [404, 404, 404, 404, 404, 404, 403, 403, 403],
    },
    Row {
        route: "PATCH /spaces/{space}/feeds/{feed}",
        here: [200, 404, 403, 403, 404, 403, 403, 403, 403],
        elsewhere: [200, 200, 403, 403, 404, 403, 403, 403, 403],
        nowhere: [404, 404, 403, 403, 404, 403, 403, 403, 403],
    },
    Row {
        route: "DELETE /spaces/{space}/feeds/{feed}",
        here: [204, 404, 403, 403, 404, 403, 403, 403, 403],
        elsewhere: [204, 204, 403, 403, 404, 403, 403, 403, 403],
        nowhere: [404, 404, 403, 403, 404, 403, 403, 403, 403],
    },
    Row {
        route: "GET /spaces/{space}/feeds/{feed}/setup",
        here: [200, 404, 200, 404, 404, 404, 403, 403, 403],
        elsewhere: [200, 200, 200, 200, 404, 404, 403, 403, 403],
        nowhere: [404, 404, 404, 404, 404, 404, 403, 403, 403],
    },
    Row {
        route: "POST /spaces/{space}/feeds/{feed}/check",
        here: [200, 404, 403, 403, 404, 403, 403, 403, 403],
        elsewhere: [200, 200, 403, 403, 404, 403, 403, 403, 403],
        nowhere: [404, 404, 403, 403, 404, 403, 403, 403, 403],
    },
    Row {
        route: "POST /spaces/{space}/feeds/{feed}/credentials",
        here: [200, 404, 403, 403, 404, 403, 200, 404, 200],
        elsewhere: [200, 200, 403, 403, 404, 403, 404, 404, 404],
        nowhere: [404, 404, 403, 403, 404, 403, 404, 404, 404],
    },
    Row {
        route: "POST /registries/{host}/credentials",
        here: [200, 404, 403, 403, 404, 403, 200, 404, 200],
        elsewhere: [200, 200, 403, 403, 404, 403, 404, 404, 404],
        nowhere: [404, 404, 403, 403, 404, 403, 404, 404, 404],
    },
    Row {
        route: "GET /signing-keys",
        here: [200, 200, 200, 200, 200, 200, 403, 403, 403],
        elsewhere: [200, 200, 200, 200, 200, 200, 403, 403, 403],
        nowhere: [200, 200, 200, 200, 200, 200, 403, 403, 403],
    },
    // The prepared keys have just been published: for callers who may rotate, it is too early.
    Row {
        route: "POST /signing-keys/rotate",
        here: [409, 403, 403, 403, 403, 403, 403, 403, 403],
        elsewhere: [409, 403, 403, 403, 403, 403, 403, 403, 403],
        nowhere: [409, 403, 403, 403, 403, 403, 403, 403, 403],
    },
    // Here: a key that is already revoked. There are no keys elsewhere.
    Row {
        route: "POST /signing-keys/{kid}/revoke",
        here: [200, 403, 403, 403, 403, 403, 403, 403, 403],
        elsewhere: [404, 403, 403, 403, 403, 403, 403, 403, 403],
        nowhere: [404, 403, 403, 403, 403, 403, 403, 403, 403],
    },
    Row {
        route: "GET /grants",
        here: [200, 200, 403, 403, 200, 403, 403, 403, 403],
        elsewhere: [200, 200, 403, 403, 200, 403, 403, 403, 403],
        nowhere: [200, 200, 403, 403, 200, 403, 403, 403, 403],
    },
    // A grant for the feeds prod-* of the space; for a space that the caller does not see, it is still too
    // wide.
    Row {
        route: "POST /grants",
        here: [201, 403, 403, 403, 403, 403, 403, 403, 403],
        elsewhere: [201, 201, 403, 403, 403, 403, 403, 403, 403],
        nowhere: [201, 403, 403, 403, 403, 403, 403, 403, 403],
    },
    Row {
        route: "DELETE /grants/{id}",
        here: [204, 404, 403, 403, 404, 403, 403, 403, 403],
        elsewhere: [204, 204, 403, 403, 404, 403, 403, 403, 403],
        nowhere: [404, 404, 403, 403, 404, 403, 403, 403, 403],
    },
    Row {
        route: "DELETE /grants",
        here: [200, 404, 403, 403, 404, 403, 403, 403, 403],
        elsewhere: [200, 200, 403, 403, 404, 403, 403, 403, 403],
        nowhere: [404, 404, 403, 403, 404, 403, 403, 403, 403],
    },
    Row {
        route: "GET /audit",
        here: [200, 200, 200, 200, 200, 200, 403, 403, 403],
        elsewhere: [200, 200, 200, 200, 200, 200, 403, 403, 403],
        nowhere: [200, 200, 200, 200, 200, 200, 403, 403, 403],
    },
];

#[derive(Clone, Copy, PartialEq, Debug)]
enum Target {
    Here,
    Elsewhere,
    Nowhere(usize),
}

const TARGETS: [Target; 4] = [Target::Here, Target::Elsewhere, Target::Nowhere(0), Target::Nowhere(1)];

impl Target {
    fn feed(self) -> [&'static str; 2] {
        match self {
            Self::Here => HERE,
            Self::Elsewhere => ELSEWHERE,
            Self::Nowhere(which) => NOWHERE[which],
        }
    }
}

struct Scene {
    world: World,
    /// A revoked key.
    kid: String,
    made: usize,
}

impl Scene {
    fn new() -> Self {
        let world = World::new("");
        world.add_feed("here/prod-eu", &["--registry", REGISTRY_HERE]);
        world.add_feed("here/dev", &["--registry", "444444444444.dkr.ecr.eu-central-1.amazonaws.com"]);
        world.add_feed("there/prod-eu", &["--registry", REGISTRY_ELSEWHERE]);
        let rotated =
            world.api.post(&world.admin, "/signing-keys/rotate", &json!({"alg": "ES256", "force": true}));
        let kid = rotated.json()["retired"][0].as_str().unwrap().to_owned();
        let revoked =
            world.api.call("POST", &format!("/signing-keys/{kid}/revoke"), Some(&world.admin.token), None);
        assert_eq!(revoked.status, 200, "{revoked:?}");
        Self { world, kid, made: 0 }
    }

    /// Returns the request for `target` on `route`, with a new target if the route consumes it.
    fn request(&mut self, route: &str, target: Target) -> (String, String, Option<Value>) {
        let (method, template) = route.split_once(' ').unwrap();
        let [space, feed] = target.feed();
        let host = match target {
            Target::Here => REGISTRY_HERE,
            Target::Elsewhere => REGISTRY_ELSEWHERE,
            Target::Nowhere(_) => REGISTRY_NOWHERE,
        };
        let path = template
            .replace("{space}", space)
            .replace("{feed}", feed)
            .replace("{host}", host)
            .replace("{kid}", if target == Target::Here { &self.kid } else { "none" });
        let path = if path.contains("{id}") { path.replace("{id}", &self.grant_in(target)) } else { path };
        let path = if route == "DELETE /grants" {
            format!("{path}?made_by={}", self.grant_in(target))
        } else {
            path
        };
        self.made += 1;
        let body = match route {
            "POST /spaces/{space}/feeds" => Some(json!({
                "slug": format!("prod-{}", self.made), "type": "aws-ecr", "registry": crate::api::world::REGISTRY,
                "role_arn": crate::api::world::ROLE,
            })),
            "PATCH /spaces/{space}/feeds/{feed}" => Some(json!({"name": format!("name {}", self.made)})),
            "POST /grants" => Some(json!({
                "role": "viewer", "name": "n", "spaces": [space], "feeds": ["prod-*"], "context": {},
            })),
            _ => None,
        };
        (method.to_owned(), path, body)
    }

    /// Returns a grant whose space is the target's.
    fn grant_in(&self, target: Target) -> String {
        if let Target::Nowhere(which) = target {
            let unknown = ["00000000-0000-4000-8000-000000000000", "00000000-0000-4000-8000-000000000001"];
            return unknown[which].to_owned();
        }
        let body = json!({"role": "viewer", "name": "n", "spaces": [target.feed()[0]]});
        let made = self.world.api.post(&self.world.admin, "/grants", &body);
        made.json()["id"].as_str().unwrap().to_owned()
    }

    /// Restores what a call removed.
    fn restore(&self, route: &str, target: Target) {
        if route.starts_with("DELETE /spaces") {
            let registry = if target == Target::Here { REGISTRY_HERE } else { REGISTRY_ELSEWHERE };
            let [space, feed] = target.feed();
            self.world.add_feed(&format!("{space}/{feed}"), &["--registry", registry, "--reuse-slug"]);
        }
    }
}

/// Gives all requests of one caller the same request id, so that responses can be compared whole.
fn call(
    api: &Api,
    token: Option<&str>,
    (method, path, body): &(String, String, Option<Value>),
) -> HttpResponse {
    let body = body.as_ref().map(Value::to_string);
    let headers = "X-Request-Id: same\r\nContent-Type: application/json\r\n";
    let mut response = api.send(method, path, token, headers, Some(body.unwrap_or_default().as_bytes()));
    response.headers.retain(|(name, _)| name != "date");
    response
}

fn names_a_space_alone(route: &str) -> bool {
    route.ends_with("/spaces/{space}/feeds") || route == "POST /grants"
}

fn problem_of(route: &str, status: u16) -> &'static str {
    match (route, status) {
        (_, 401) => "unauthorized",
        ("POST /grants", 403) => "forbidden wider-grant",
        (_, 403) => "forbidden",
        (_, 404) => "not-found",
        ("POST /signing-keys/rotate", 409) => "rotation-refused",
        (_, 422) => "invalid-field",
        _ => panic!("no refusal is meant to have status {status}"),
    }
}

#[test]
fn every_route_responds_according_to_the_callers_grant_and_hides_the_rest() {
    let mut scene = Scene::new();
    let callers = CALLERS.map(|(name, arguments)| (name, scene.world.grant(arguments)));
    for Row { route, here, elsewhere, nowhere } in TABLE {
        // Admins come last, because they change what the others look up.
        for (column, (name, grant)) in callers.iter().enumerate().rev() {
            let mut hidden: Option<HttpResponse> = None;
            for target in TARGETS {
                let expected = match target {
                    Target::Here => here[column],
                    Target::Elsewhere => elsewhere[column],
                    // If the route names no feed, this is the space here.
                    Target::Nowhere(0) if names_a_space_alone(route) => here[column],
                    Target::Nowhere(_) => nowhere[column],
                };
                let request = scene.request(route, target);
                let response = call(&scene.world.api, Some(&grant.token), &request);
                let what = format!("{route} as {name}, {target:?}: {response:?}");
                assert_eq!(response.status, expected, "{what}");
                assert_eq!(response.header("cache-control"), Some("no-store"), "{what}");
                assert_eq!(response.header("x-request-id"), Some("same"), "{what}");
                if expected < 300 {
                    if expected == 204 {
                        scene.restore(route, target);
                    }
                    continue;
                }
                let (_, kind) = refusal(&response);
                assert!(problem_of(route, expected).split(' ').any(|known| known == kind), "{what}");
                if expected == 404 {
                    assert_eq!(hidden.get_or_insert_with(|| response.clone()), &response, "{what}");
                }
            }
        }
    }
}

#[test]
fn a_caller_without_a_valid_grant_learns_nothing_from_any_route() {
    let mut scene = Scene::new();
    let Scene { world, .. } = &scene;
    let revoked = world.grant(&["--role=admin"]);
    world.issuer.carnet.ok(&["grant", "revoke", &revoked.id, "--yes"]);
    let expired = world.grant(&["--role=admin", "--expires-in=1s"]);
    let ended = wait_until(Duration::from_secs(30), || {
        (world.api.get(&expired, "/audit").status == 401).then_some(())
    });
    ended.expect("a grant of one second ends");
    let mut mistyped = world.admin.token.clone();
    mistyped.replace_range(40..41, if &mistyped[40..41] == "a" { "b" } else { "a" });
    let of_nobody = "carnet_".to_owned() + &"0".repeat(71);
    let long = "x".repeat(10_000);
    let tokens = [
        None,
        Some(""),
        Some("garbage"),
        Some(&revoked.token),
        Some(&expired.token),
        Some(&mistyped),
        Some(&of_nobody),
        Some(&long),
    ];
    let tokens = tokens.map(|token| token.map(ToOwned::to_owned));
    let mut first: Option<HttpResponse> = None;
    for Row { route, .. } in TABLE {
        for target in TARGETS {
            let request = scene.request(route, target);
            for token in &tokens {
                let response = call(&scene.world.api, token.as_deref(), &request);
                let what = format!("{route}, {target:?}, {token:?}: {response:?}");
                assert_eq!(refusal(&response), (401, "unauthorized".to_owned()), "{what}");
                assert_eq!(response.header("www-authenticate"), Some("Bearer realm=\"carnet\""), "{what}");
                assert_eq!(first.get_or_insert_with(|| response.clone()), &response, "{what}");
            }
        }
    }
}

#[test]
fn every_documented_route_has_a_row() {
    let world = World::new("");
    let document = world.api.call("GET", "/openapi.json", None, None).json();
    let documented: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().iter().filter(|(_, of)| of["operationId"].is_string());
            methods.map(move |(method, _)| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let rows: BTreeSet<String> = TABLE.iter().map(|row| row.route.to_owned()).collect();
    assert_eq!(rows, documented);
    assert_eq!(rows.len(), TABLE.len(), "a row is there twice");
}

#[test]
fn lists_have_exactly_the_rows_inside_the_grant() {
    let world = World::new("");
    for feed in ["here/prod-eu", "here/dev", "there/prod-eu"] {
        world.add_feed(feed, &[]);
    }
    let listed = |of: &Grant, path: &str, member: &str| -> Vec<String> {
        let response = world.api.get(of, path).json();
        let items = response.as_array().unwrap_or_else(|| panic!("{response}")).iter();
        items.map(|item| item[member].as_str().unwrap().to_owned()).collect()
    };
    let limited = world.grant(&["--role=admin", "--space=here", "--feed=prod-*"]);
    assert_eq!(listed(&limited, "/spaces/here/feeds", "slug"), ["prod-eu"]);
    assert_eq!(listed(&world.admin, "/spaces/here/feeds", "slug"), ["dev", "prod-eu"]);
    assert_eq!(listed(&limited, "/grants", "id"), std::slice::from_ref(&limited.id));
    let elsewhere = world.grant(&["--role=viewer", "--space=there"]);
    let all = listed(&world.admin, "/grants", "id");
    assert_eq!(all, [&world.admin.id, &limited.id, &elsewhere.id].map(Clone::clone));
}
