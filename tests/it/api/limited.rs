//! Changes of feeds by an admin with limits, and the information that they reveal about others.

use serde_json::{Value, json};

use crate::api::world::{Grant, ROLE, World, refusal, success};
use crate::support::http::HttpResponse;

/// Returns a separate registry for each number.
fn registry(number: u32) -> String {
    format!("{:012}.dkr.ecr.eu-central-1.amazonaws.com", 600_000_000_000_u64 + u64::from(number))
}

fn feed(slug: &str, number: u32, members: Value) -> Value {
    let mut new = json!({"slug": slug, "type": "aws-ecr", "registry": registry(number), "role_arn": ROLE});
    new.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    new
}

impl World {
    fn make(&self, by: &Grant, space: &str, new: &Value) -> HttpResponse {
        self.api.post(by, &format!("/spaces/{space}/feeds"), new)
    }

    /// Changes a row, bypassing carnet.
    fn write(&self, statement: &str) {
        assert_eq!(self.execute(statement.to_owned()), 1, "{statement}");
    }

    fn execute(&self, statement: String) -> u64 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            use sqlx::Connection as _;
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.issuer.carnet.database());
            let mut sql = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
            let changed =
                sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut sql).await.unwrap().rows_affected();
            sql.close().await.unwrap();
            changed
        })
    }

    /// Copies a feed of space `a` until it has `number` feeds.
    fn fill(&self, number: u32) {
        let statement = format!(
            "WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < {number}) \
             INSERT INTO feeds (id, version, space, slug, name, type, registry, audience, subject_keys, alg, token_lifetime, \
             settings, endpoints, created_at, updated_at) \
             SELECT printf('00000000-0000-4000-8000-%012d', i), version, space, 'copy-' || i, name, type, \
             registry, audience, subject_keys, alg, token_lifetime, settings, endpoints, created_at, updated_at \
             FROM feeds, n"
        );
        assert_eq!(self.execute(statement), u64::from(number) - 1);
        assert_eq!(self.execute(format!("UPDATE spaces SET feeds = {number} WHERE slug = 'a'")), 1);
        assert_eq!(self.execute(format!("UPDATE feed_counts SET feeds = {number}")), 1);
    }

    fn patch(&self, by: &Grant, path: &str, patch: &Value) -> HttpResponse {
        let (space, slug) = path.split_once('/').unwrap();
        self.api.call("PATCH", &format!("/spaces/{space}/feeds/{slug}"), Some(&by.token), Some(patch))
    }
}

#[track_caller]
fn refused(response: &HttpResponse, status: u16, kind: &str, field: &str) {
    assert_eq!(refusal(response), (status, kind.to_owned()), "{response:?}");
    assert_eq!(response.json()["field"], field, "{response:?}");
}

#[test]
fn an_admin_of_some_feeds_cannot_take_the_subject_of_another_feed() {
    let world = World::new("");
    let keys = json!(["space", "project"]);
    success(&world.make(&world.admin, "a", &feed("prod", 1, json!({ "subject_keys": keys }))));
    let limited = world.grant(&["--role=admin", "--feed=dev-*"]);
    for keys in [json!(["space", "project"]), json!(["space", "project?"]), json!(["space"])] {
        let made = world.make(&limited, "a", &feed("dev-a", 2, json!({ "subject_keys": keys })));
        refused(&made, 403, "forbidden", "subject_keys");
        // The error is the same when no feed has such a subject: it reveals nothing about feeds outside.
        let elsewhere = world.make(&limited, "b", &feed("dev-a", 2, json!({ "subject_keys": keys })));
        assert_eq!(elsewhere.json()["detail"], made.json()["detail"]);
    }
    success(&world.make(&limited, "a", &feed("dev-a", 2, json!({}))));
    refused(
        &world.patch(&limited, "a/dev-a", &json!({ "subject_keys": keys })),
        403,
        "forbidden",
        "subject_keys",
    );
    // Nor may it change a feed with such a subject, though it sees the feed.
    success(&world.make(&world.admin, "c", &feed("dev-shared", 3, json!({ "subject_keys": keys }))));
    refused(&world.patch(&limited, "c/dev-shared", &json!({"name": "n"})), 403, "forbidden", "subject_keys");
}

#[test]
fn a_subject_is_shared_only_by_an_admin_without_limits_on_request() {
    let world = World::new("");
    let of_space = world.grant(&["--role=admin", "--space=a"]);
    let keys = |keys: &[&str]| json!({ "subject_keys": keys });
    success(&world.make(&of_space, "a", &feed("one", 1, keys(&["space", "project", "tenant?"]))));
    let two = |members: Value| feed("two", 2, members);
    for other in
        [&["space", "project"][..], &["space", "project", "tenant"], &["space", "project?", "runbook?"]]
    {
        refused(&world.make(&world.admin, "a", &two(keys(other))), 409, "subject-shared", "subject_keys");
        let mut shared = keys(other);
        shared["share_subject"] = json!(true);
        refused(&world.make(&of_space, "a", &two(shared)), 409, "subject-shared", "subject_keys");
    }
    // Keys that no context makes equal do not conflict, and neither does another space.
    success(&world.make(&of_space, "a", &feed("three", 3, keys(&["space", "runbook"]))));
    success(&world.make(&world.admin, "b", &feed("one", 4, keys(&["space", "project"]))));
    let shared = json!({"subject_keys": ["space", "project"], "share_subject": true});
    let made = success(&world.make(&world.admin, "a", &two(shared)));
    assert!(made["notes"][0].as_str().unwrap().contains("the same subject as a/one"), "{made}");
    // The same for an update.
    success(&world.make(&of_space, "a", &feed("four", 5, json!({}))));
    let change = keys(&["space", "runbook"]);
    refused(&world.patch(&of_space, "a/four", &change), 409, "subject-shared", "subject_keys");
    refused(&world.patch(&world.admin, "a/four", &change), 409, "subject-shared", "subject_keys");
    // And on the command line.
    let update = |more: &[&str]| {
        let command = ["feed", "update", "a/four", "--subject-keys=space,runbook"];
        world.issuer.carnet.run(&[&command[..], more].concat())
    };
    let output = update(&[]);
    assert!(output.status == 1 && output.stderr.contains("--share-subject"), "{output:?}");
    let output = update(&["--share-subject"]);
    assert!(output.status == 0 && output.stderr.contains("the same subject as a/three"), "{output:?}");
}

#[test]
fn a_removed_or_former_subject_is_inherited_only_by_an_admin_without_limits_on_request() {
    let world = World::new("");
    let of_space = world.grant(&["--role=admin", "--space=a"]);
    let project = json!({"subject_keys": ["space", "project"]});
    success(&world.make(&of_space, "a", &feed("one", 1, project.clone())));
    assert_eq!(world.api.delete(&of_space, "/spaces/a/feeds/one").status, 204);
    // Another slug with the same keys.
    let two = |number, more: Value| {
        let mut new = feed("two", number, project.clone());
        new.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        new
    };
    for by in [&world.admin, &of_space] {
        refused(&world.make(by, "a", &two(2, json!({}))), 409, "slug-reused", "subject_keys");
    }
    refused(
        &world.make(&of_space, "a", &two(2, json!({"reuse_slug": true}))),
        409,
        "slug-reused",
        "subject_keys",
    );
    // A feed with other subjects inherits nothing, and cannot be changed into one that does.
    success(&world.make(&of_space, "a", &feed("two", 2, json!({}))));
    refused(&world.patch(&of_space, "a/two", &project), 409, "slug-reused", "subject_keys");
    let mut inherits = project.clone();
    inherits["reuse_slug"] = json!(true);
    let changed = success(&world.patch(&world.admin, "a/two", &inherits));
    assert!(changed["notes"][0].as_str().unwrap().contains("a/one"), "{changed}");
    // The subjects that a feed had before a change leave a mark as well; the feed may have its own former
    // subject again.
    let runbook = json!({"subject_keys": ["space", "runbook"]});
    success(&world.make(&of_space, "a", &feed("three", 3, runbook.clone())));
    success(&world.patch(&of_space, "a/three", &json!({"subject_keys": ["space", "feed"]})));
    let four = world.make(&of_space, "a", &feed("four", 4, runbook.clone()));
    refused(&four, 409, "slug-reused", "subject_keys");
    success(&world.patch(&of_space, "a/three", &runbook));
}

#[test]
fn a_full_space_takes_no_more_feeds_and_others_do() {
    let world = World::new("");
    success(&world.make(&world.admin, "a", &feed("one", 1, json!({}))));
    world.fill(50_000);
    let full = world.make(&world.admin, "a", &feed("two", 2, json!({})));
    assert_eq!(refusal(&full), (409, "limit-reached".to_owned()), "{full:?}");
    success(&world.make(&world.admin, "b", &feed("two", 2, json!({}))));
    assert_eq!(world.api.delete(&world.admin, "/spaces/a/feeds/copy-2").status, 204);
    success(&world.make(&world.admin, "a", &feed("two", 3, json!({}))));
}

#[test]
fn a_registry_that_many_feeds_have_is_answered_with_the_first_hundred_of_them() {
    let world = World::new("");
    success(&world.make(&world.admin, "a", &feed("one", 1, json!({}))));
    world.fill(1_000);
    let path = format!("/registries/{}/credentials", registry(1));
    let several = |deployer: &Grant| {
        let response = world.api.post(deployer, &path, &json!({}));
        assert_eq!(refusal(&response), (409, "several-feeds".to_owned()), "{response:?}");
        let problem = response.json();
        let said = problem["detail"].as_str().unwrap().contains("the first 100 are listed");
        (problem["feeds"].as_array().unwrap().len(), said)
    };
    let of_space = world.grant(&["--role=deployer", "--space=a"]);
    let of_feeds = world.grant(&["--role=deployer", "--feed=copy-99*", "--feed=one"]);
    assert_eq!(several(&of_space), (100, true));
    // The copies 99 and 990 to 999, and the original feed.
    assert_eq!(several(&of_feeds), (12, false));
    let nothing = world.grant(&["--role=deployer", "--feed=other-*"]);
    assert_eq!(world.api.post(&nothing, &path, &json!({})).status, 404);
}

/// Returns every choice of `space` and others of the keys, each required, optional or absent, that requires
/// one of `required`.
fn choices(required: &[&str], others: &[&str]) -> Vec<Value> {
    let mut choices = vec![Vec::new()];
    for key in ["project", "runbook", "tenant", "environment", "type"] {
        choices = choices
            .into_iter()
            .flat_map(|chosen: Vec<String>| {
                let with = |text: String| [&chosen[..], &[text]].concat();
                [chosen.clone(), with(key.to_owned()), with(format!("{key}?"))]
            })
            .collect();
    }
    choices.retain(|chosen| chosen.iter().any(|key| required.contains(&key.as_str())));
    let all = |chosen: Vec<String>| {
        json!(
            [
                &["space".to_owned()],
                &chosen[..],
                &others.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>()
            ]
            .concat()
        )
    };
    choices.into_iter().map(all).collect()
}

#[test]
fn no_number_of_newer_former_subjects_hides_an_older_one() {
    let world = World::new("");
    let of_space = world.grant(&["--role=admin", "--space=a"]);
    // Removed long ago: a subject shared by all feeds, and one of this name.
    for (slug, keys) in
        [("other", json!(["space", "project"])), ("busy", json!(["space", "project", "feed"]))]
    {
        success(&world.make(&world.admin, "a", &feed(slug, 1, json!({ "subject_keys": keys }))));
        assert_eq!(world.api.delete(&world.admin, &format!("/spaces/a/feeds/{slug}")).status, 204);
    }
    for (others, last, field) in [
        (&["feed"][..], json!(["space", "project?", "tenant?", "feed"]), "slug"),
        (&[], json!(["space", "project?", "tenant?"]), "subject_keys"),
    ] {
        let choices = choices(&["runbook", "environment"], others);
        assert!(choices.len() > 110, "{}", choices.len());
        let first = feed("busy", 2, json!({ "subject_keys": choices[0] }));
        success(&world.make(&world.admin, "a", &first));
        for keys in &choices[1..111] {
            success(&world.patch(&world.admin, "a/busy", &json!({ "subject_keys": keys })));
        }
        for by in [&world.admin, &of_space] {
            let response = world.patch(by, "a/busy", &json!({ "subject_keys": last }));
            refused(&response, 409, "slug-reused", field);
        }
        // Nor may another name, if the subject does not name the feed.
        if others.is_empty() {
            let response = world.make(&of_space, "a", &feed("fresh", 3, json!({ "subject_keys": last })));
            refused(&response, 409, "slug-reused", "subject_keys");
        }
        assert_eq!(world.api.delete(&world.admin, "/spaces/a/feeds/busy").status, 204);
    }
}

#[test]
fn an_admin_with_limits_leaves_a_bounded_number_of_former_subjects() {
    let world = World::new("");
    let of_space = world.grant(&["--role=admin", "--space=a"]);
    let choices = choices(&["runbook"], &["feed"]);
    success(&world.make(&of_space, "a", &feed("busy", 1, json!({ "subject_keys": choices[0] }))));
    for keys in &choices[1..33] {
        success(&world.patch(&of_space, "a/busy", &json!({ "subject_keys": keys })));
    }
    let before = success(&world.api.get(&of_space, "/spaces/a/feeds/busy"));
    let full = world.patch(&of_space, "a/busy", &json!({ "subject_keys": choices[33] }));
    assert_eq!(refusal(&full), (409, "limit-reached".to_owned()), "{full:?}");
    let kept = world.api.delete(&of_space, "/spaces/a/feeds/busy");
    assert_eq!(refusal(&kept), (409, "limit-reached".to_owned()), "{kept:?}");
    assert_eq!(success(&world.api.get(&of_space, "/spaces/a/feeds/busy")), before);
    // A subject with an existing mark leaves no second one, and other names are not affected.
    success(&world.patch(&of_space, "a/busy", &json!({"name": "Images"})));
    success(&world.make(&of_space, "a", &feed("calm", 2, json!({}))));
    assert_eq!(world.api.delete(&of_space, "/spaces/a/feeds/calm").status, 204);
    // An admin without limits is not limited.
    success(&world.patch(&world.admin, "a/busy", &json!({ "subject_keys": choices[33] })));
    assert_eq!(world.api.delete(&world.admin, "/spaces/a/feeds/busy").status, 204);
}

#[test]
fn a_changed_row_of_a_removed_subject_counts_for_every_subject_and_is_named() {
    let world = World::new("");
    success(&world.make(&world.admin, "a", &feed("one", 1, json!({}))));
    assert_eq!(world.api.delete(&world.admin, "/spaces/a/feeds/one").status, 204);
    let again = feed("one", 1, json!({"subject_keys": ["space", "runbook", "feed"]}));
    let verify = || world.issuer.carnet.run(&["audit", "verify"]);
    // Other keys give other subjects.
    success(&world.make(&world.admin, "a", &again));
    assert_eq!(world.api.delete(&world.admin, "/spaces/a/feeds/one").status, 204);
    world.write("DELETE FROM removed_subjects WHERE subject_keys = 'space,runbook,feed'");
    assert_eq!(verify().status, 0);
    world.write("UPDATE removed_subjects SET subject_keys = 'space,tenant,feed'");
    refused(&world.make(&world.admin, "a", &again), 409, "slug-reused", "slug");
    let named = verify();
    assert!(named.status == 1 && format!("{named:?}").contains("removed_subjects"), "{named:?}");
    // A mark of an earlier version has no keys, and counts in the same way.
    world.write("UPDATE removed_subjects SET subject_keys = '', mac = ''");
    refused(&world.make(&world.admin, "a", &again), 409, "slug-reused", "slug");
    assert_eq!(verify().status, 0);
}

#[test]
fn an_admin_with_limited_context_or_repositories_cannot_circumvent_that_with_a_feed() {
    let world = World::new("");
    let elsewhere = "arn:aws:iam::123456789012:role/other";
    success(&world.make(
        &world.admin,
        "a",
        &feed("prod", 1, json!({"subject_keys": ["space", "feed", "tenant"]})),
    ));
    for limits in [&["--context=tenant=acme"][..], &["--repository=team/app"], &["--action=pull"]] {
        let limited = world.grant(&[&["--role=admin", "--space=a"], limits].concat());
        refused(&world.make(&limited, "a", &feed("mine", 2, json!({}))), 403, "forbidden", "slug");
        for (field, patch) in [
            ("subject_keys", json!({"subject_keys": ["space", "feed"]})),
            ("endpoints", json!({"endpoints": {"sts": "https://sts.example"}})),
            ("registry", json!({"registry": registry(3)})),
            ("audience", json!({"audience": "other"})),
            ("role_arn", json!({"role_arn": elsewhere})),
            ("session_duration", json!({"session_duration": 900})),
        ] {
            let response = world.patch(&limited, "a/prod", &patch);
            refused(&response, 403, "forbidden", field);
        }
        success(&world.patch(&limited, "a/prod", &json!({"name": "Images", "token_lifetime": 300})));
    }
}

#[test]
fn a_limited_admin_makes_no_second_feed_for_a_registry_outside_its_limits() {
    let world = World::new("");
    success(&world.make(&world.admin, "a", &feed("prod", 1, json!({}))));
    let limited = world.grant(&["--role=admin", "--space=b"]);
    let second = world.make(&limited, "b", &feed("one", 1, json!({})));
    refused(&second, 403, "forbidden", "registry");
    assert!(!second.body.contains("a/prod"), "{second:?}");
    success(&world.make(&limited, "b", &feed("one", 2, json!({}))));
    refused(&world.patch(&limited, "b/one", &json!({"registry": registry(1)})), 403, "forbidden", "registry");
    // Inside its limits it may, and the response tells an admin without limits.
    success(&world.make(&limited, "b", &feed("two", 2, json!({}))));
    let made = success(&world.make(&world.admin, "b", &feed("three", 1, json!({}))));
    assert!(made["notes"][0].as_str().unwrap().contains("a/prod"), "{made}");
}

#[test]
fn no_feed_is_addressed_to_carnet_itself() {
    let world = World::new("");
    let url = &world.issuer.url;
    success(&world.make(&world.admin, "a", &feed("prod", 1, json!({}))));
    for audience in [url.clone(), format!("{url}/"), format!("{url}/api"), url.replace("http://", "HTTP://")]
    {
        let members = json!({ "audience": audience });
        let made = world.make(&world.admin, "a", &feed("own", 2, members.clone()));
        refused(&made, 422, "invalid-field", "audience");
        refused(&world.patch(&world.admin, "a/prod", &members), 422, "invalid-field", "audience");
    }
}

#[test]
fn a_limited_admin_sees_and_revokes_no_grant_that_its_own_does_not_cover() {
    let world = World::new("");
    let others = [
        &["--role=viewer", "--space=a", "--expires-in=30d"][..],
        &["--role=viewer", "--space=a", "--feed=prod", "--expires-in=30d"],
        &["--role=deployer", "--space=a", "--feed=dev-x", "--context=tenant=other", "--expires-in=30d"],
        &["--role=deployer", "--space=a", "--feed=dev-x", "--context=tenant=acme", "--action=pull"],
        &["--role=deployer", "--space=a", "--feed=dev-x", "--context=tenant=acme", "--expires-in=30d"],
    ]
    .map(|arguments| world.grant(arguments));
    let limited = world.grant(&[
        "--role=admin",
        "--space=a",
        "--feed=dev-*",
        "--context=tenant=acme",
        "--action=pull",
        "--expires-in=40d",
    ]);
    let of = |by: &Grant| -> Vec<String> {
        let list = success(&world.api.get(by, "/grants"));
        list.as_array().unwrap().iter().map(|grant| grant["id"].as_str().unwrap().to_owned()).collect()
    };
    let body = json!({
        "role": "deployer", "name": "n", "spaces": ["a"], "feeds": ["dev-y"], "context": {"tenant": "acme"},
        "actions": ["pull"],
    });
    let made = success(&world.api.post(&limited, "/grants", &body))["id"].as_str().unwrap().to_owned();
    assert_eq!(of(&limited), [limited.id.clone(), made.clone()]);
    for hidden in others.iter().chain([&world.admin]) {
        for path in [format!("/grants/{}", hidden.id), format!("/grants?made_by={}", hidden.id)] {
            let response = world.api.delete(&limited, &path);
            assert_eq!(refusal(&response), (404, "not-found".to_owned()), "{path}");
        }
    }
    assert_eq!(of(&world.admin).len(), others.len() + 3);
    assert_eq!(world.api.delete(&limited, &format!("/grants/{made}")).status, 204);
}

#[test]
fn a_feed_outside_the_grant_is_answered_404_without_a_read() {
    let world = World::new("");
    world.add_feed("a/prod", &[]);
    let deployer = world.grant(&["--role=deployer", "--space=b"]);
    let viewer = world.grant(&["--role=viewer", "--space=a", "--feed=dev"]);
    // Reading an unreadable row would give an error, so a 404 proves that the row was not read.
    world.write("UPDATE feeds SET settings = 'none' WHERE slug = 'prod'");
    let path = format!("/registries/{}/credentials", crate::api::world::REGISTRY);
    assert_eq!(refusal(&world.api.post(&deployer, &path, &json!({}))), (404, "not-found".to_owned()));
    assert_eq!(success(&world.api.get(&viewer, "/spaces/a/feeds")), json!([]));
    assert_eq!(world.api.post(&world.admin, &path, &json!({})).status, 503);
}
