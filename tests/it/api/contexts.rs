//! The context of a request, the grant's rules for it, and the context that the cloud receives.

use serde_json::json;

use crate::api::world::{World, refusal, success};

const KEYS: &str = "--subject-keys=space,project?,tenant?,environment?,feed";

/// Returns the configuration of a sandbox whose role trusts these subjects and no others.
fn trusting(subjects: &[&str]) -> String {
    let role = crate::api::world::ROLE;
    format!("[[aws.roles]]\narn = '{role}'\naudiences = ['sts.amazonaws.com']\nsubjects = {subjects:?}\n")
}

#[test]
fn a_grant_fixes_opens_and_closes_keys_and_the_subject_follows() {
    let subjects = [
        "space:default:tenant:acme:feed:a",
        "space:default:project:shop:tenant:acme:feed:a",
        "space:default:project:shop:feed:a",
        "space:default:feed:a",
    ];
    let world = World::new(&trusting(&subjects));
    world.add_feed("default/a", &[KEYS]);
    let deployer =
        |context: &[&str]| world.grant(&[&["--role=deployer", "--space=default"], context].concat());
    let fixed = deployer(&["--context=tenant=acme", "--context=project=*"]);
    let closed = deployer(&[]);
    let open = deployer(&["--context=tenant=*", "--context=project=*"]);
    for (who, grant, context, subject) in [
        ("fixed", &fixed, json!({}), subjects[0]),
        ("fixed", &fixed, json!({"tenant": "acme"}), subjects[0]),
        ("fixed", &fixed, json!({"project": "shop"}), subjects[1]),
        ("closed", &closed, json!({}), subjects[3]),
        ("open", &open, json!({}), subjects[3]),
        ("open", &open, json!({"project": "shop"}), subjects[2]),
        ("open", &open, json!({"tenant": "acme", "project": "shop"}), subjects[1]),
        ("admin", &world.admin, json!({"tenant": "acme"}), subjects[0]),
    ] {
        let response = world.credentials(grant, "default/a", &json!({"context": context}));
        assert_eq!(response.status, 200, "{who} {context}: {response:?}");
        assert_eq!(world.subject_of(&success(&response)), subject, "{who} {context}");
    }
    for (who, grant, context, field) in [
        ("fixed", &fixed, json!({"tenant": "other"}), "context.tenant"),
        ("fixed", &fixed, json!({"environment": "prod"}), "context.environment"),
        ("closed", &closed, json!({"tenant": "acme"}), "context.tenant"),
        ("closed", &closed, json!({"type": "x"}), "context.type"),
        ("open", &open, json!({"tenant": "acme", "runbook": "r"}), "context.runbook"),
    ] {
        let response = world.credentials(grant, "default/a", &json!({"context": context}));
        assert_eq!(refusal(&response), (403, "context-refused".to_owned()), "{who} {context}");
        assert_eq!(response.json()["field"], field, "{who} {context}");
    }
    // The sandbox trusts no other tenant: its response proves that the logged subject arrived there.
    let response = world.credentials(&open, "default/a", &json!({"context": {"tenant": "other"}}));
    assert_eq!(refusal(&response), (502, "upstream-refused".to_owned()));
    assert_eq!(response.json()["presented"]["sub"], "space:default:tenant:other:feed:a");
}

#[test]
fn a_feed_that_needs_context_names_the_key_that_the_request_lacks() {
    let world = World::new("");
    world.add_feed("default/a", &["--subject-keys=space,project,environment,feed"]);
    let deployer = world.grant(&[
        "--role=deployer",
        "--space=default",
        "--context=project=*",
        "--context=environment=prod",
    ]);
    let response = world.credentials(&deployer, "default/a", &json!({}));
    assert_eq!(refusal(&response), (422, "missing-context".to_owned()));
    assert_eq!(response.json()["field"], "context.project");
    let response = world.credentials(&deployer, "default/a", &json!({"context": {"project": "shop"}}));
    let credential = success(&response);
    assert_eq!(world.subject_of(&credential), "space:default:project:shop:environment:prod:feed:a");
    let closed = world.grant(&["--role=deployer", "--space=default"]);
    let response = world.credentials(&closed, "default/a", &json!({}));
    assert_eq!(response.json()["field"], "context.project");
}

#[test]
fn repositories_and_actions_can_only_be_narrowed() {
    let world = World::new("");
    world.add_feed("default/a", &[]);
    let limited = world.grant(&[
        "--role=deployer",
        "--space=default",
        "--repository=team/app",
        "--repository=team/web",
        "--action=pull",
    ]);
    for (request, expected) in [
        (json!({}), None),
        (json!({"repositories": ["team/app"]}), None),
        (json!({"repositories": ["team/app", "team/web"], "actions": ["pull"]}), None),
        (json!({"repositories": ["team/other"]}), Some("repositories")),
        (json!({"repositories": ["team"]}), Some("repositories")),
        (json!({"actions": ["push"]}), Some("actions")),
        (json!({"repositories": []}), Some("repositories")),
        (json!({"actions": []}), Some("actions")),
    ] {
        let response = world.credentials(&limited, "default/a", &request);
        let Some(field) = expected else {
            assert_eq!(response.status, 200, "{request}: {response:?}");
            continue;
        };
        assert_eq!(refusal(&response), (422, "scope-refused".to_owned()), "{request}");
        assert_eq!(response.json()["field"], field, "{request}");
    }
    // If a list lies partly outside the grant, the part inside is granted, as for a request of that part.
    let ask = |request| success(&world.credentials(&limited, "default/a", &request))["password"].clone();
    let beyond = json!({"repositories": ["team/app", "team/other"], "actions": ["pull", "push"]});
    assert_eq!(ask(beyond), ask(json!({"repositories": ["team/app"]})));
    // The scope of one request does not affect the next.
    let all = success(&world.credentials(&world.admin, "default/a", &json!({})));
    // The maximum is sixteen, in a request and in a new grant.
    let names = |count: usize| (0..count).map(|n| format!("r{n}")).collect::<Vec<_>>();
    success(&world.credentials(&world.admin, "default/a", &json!({"repositories": names(16)})));
    let refused = world.credentials(&world.admin, "default/a", &json!({"repositories": names(17)}));
    assert_eq!(refusal(&refused), (422, "scope-refused".to_owned()));
    assert_eq!(refused.json()["field"], "repositories", "{refused:?}");
    let grant = json!({"name": "x", "role": "deployer", "spaces": ["default"], "repositories": names(17)});
    let refused = world.api.post(&world.admin, "/grants", &grant);
    assert_eq!((refused.status, &refused.json()["field"]), (422, &json!("repositories")), "{refused:?}");

    let one = success(&world.credentials(&world.admin, "default/a", &json!({"repositories": ["x"]})));
    assert_ne!(all["password"], one["password"]);
}
