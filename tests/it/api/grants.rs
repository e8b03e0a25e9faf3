//! Creating, using and ending grants through the API.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::api::world::{Api, Grant, World, refusal, success};
use crate::support::database;
use crate::support::process::wait_until;

/// Returns the grant that the API has just made.
#[track_caller]
fn made(response: &crate::support::http::HttpResponse) -> Grant {
    let made = success(response);
    assert_eq!(response.status, 201, "{response:?}");
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    Grant { id: text("id"), token: text("token") }
}

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a time")).parse().unwrap()
}

#[test]
fn no_grant_makes_a_wider_one_in_any_respect() {
    let world = World::new("");
    let maker = world.grant(&[
        "--role=admin",
        "--space=a",
        "--space=b",
        "--feed=prod-*",
        "--context=tenant=acme",
        "--context=project=*",
        "--repository=team/app",
        "--repository=team/web",
        "--action=pull",
        "--expires-in=10d",
    ]);
    // The widest grant that this admin can make.
    let widest = json!({
        "role": "admin", "name": "n", "spaces": ["a", "b"], "feeds": ["prod-*"],
        "context": {"tenant": "acme", "project": "*"},
        "repositories": ["team/app", "team/web"], "actions": ["pull"],
    });
    let with = |change: Value| {
        let mut body = widest.clone();
        for (name, value) in change.as_object().unwrap() {
            match value {
                Value::String(absent) if absent == "-" => body.as_object_mut().unwrap().remove(name),
                value => body.as_object_mut().unwrap().insert(name.clone(), value.clone()),
            };
        }
        world.api.post(&maker, "/grants", &body)
    };
    for narrower in [
        json!({}),
        json!({"role": "viewer"}),
        json!({"role": "deployer"}),
        json!({"spaces": ["b"]}),
        json!({"feeds": ["prod-eu-*", "prod-us"]}),
        json!({"context": {"tenant": "acme", "project": "shop"}}),
        json!({"context": {"tenant": "acme"}}),
        json!({"repositories": ["team/web"]}),
        json!({"expires_at": in_days(9)}),
    ] {
        let response = with(narrower.clone());
        assert_eq!(response.status, 201, "{narrower}: {response:?}");
    }
    for (wider, field) in [
        (json!({"spaces": ["a", "c"]}), "spaces"),
        (json!({"spaces": "-"}), "spaces"),
        (json!({"spaces": null}), "spaces"),
        (json!({"feeds": ["*"]}), "feeds"),
        (json!({"feeds": ["prod-eu", "dev"]}), "feeds"),
        (json!({"feeds": "-"}), "feeds"),
        (json!({"feeds": null}), "feeds"),
        (json!({"context": {"tenant": "other"}}), "context"),
        (json!({"context": {"tenant": "*"}}), "context"),
        (json!({"context": {"project": "*"}}), "context"),
        (json!({"context": "-"}), "context"),
        (json!({"repositories": ["team/app", "team/api"]}), "repositories"),
        (json!({"repositories": "-"}), "repositories"),
        (json!({"actions": ["push"]}), "actions"),
        (json!({"actions": ["pull", "push"]}), "actions"),
        (json!({"actions": "-"}), "actions"),
        (json!({"expires_at": in_days(11)}), "expires_at"),
        (json!({"expires_at": null}), "expires_at"),
    ] {
        let response = with(wider.clone());
        assert_eq!(refusal(&response), (403, "wider-grant".to_owned()), "{wider}");
        assert_eq!(response.json()["field"], field, "{wider}");
    }
    for role in ["viewer", "deployer"] {
        let other = world.grant(&["--role", role, "--space=a"]);
        let response =
            world.api.post(&other, "/grants", &json!({"role": role, "name": "n", "spaces": ["a"]}));
        assert_eq!(refusal(&response), (403, "forbidden".to_owned()), "{role}");
    }
}

fn in_days(days: i64) -> String {
    (now() + SignedDuration::from_hours(24 * days)).to_string()
}

#[expect(clippy::disallowed_methods, reason = "the servers under test use this machine's clock")]
fn now() -> Timestamp {
    Timestamp::now()
}

#[test]
fn a_grant_without_an_expiry_ends_with_its_makers_or_after_ninety_days() {
    let world = World::new("");
    let short = world.grant(&["--role=admin", "--expires-in=10d"]);
    let unending = world.grant(&["--role=admin", "--expires-in=never"]);
    let days = |of: &Grant, body: Value| {
        let made = success(&world.api.post(of, "/grants", &body));
        (!made["expires_at"].is_null()).then(|| {
            time(&made["expires_at"]).duration_since(time(&made["created_at"])).as_secs().saturating_add(600)
                / 3600
        })
    };
    let new = json!({"role": "viewer", "name": "n"});
    assert_eq!(days(&short, new.clone()), Some(240));
    assert_eq!(days(&unending, new), Some(90 * 24));
    assert_eq!(days(&unending, json!({"role": "viewer", "name": "n", "expires_at": null})), None);
    let list = success(&world.api.get(&unending, "/grants"));
    assert!(list.as_array().unwrap().iter().all(|grant| grant.get("token").is_none()), "{list}");
    assert!(!list.to_string().contains("carnet_"), "{list}");
}

#[test]
fn a_contradictory_request_for_a_grant_is_refused_by_member() {
    let world = World::new("");
    for (body, status, part) in [
        (json!({}), 400, "role"),
        (json!({"role": "viewer"}), 400, "name"),
        (json!({"role": "owner", "name": "n"}), 422, "role"),
        (json!({"role": "viewer", "name": ""}), 422, "name"),
        (json!({"role": "viewer", "name": "a\u{7}b"}), 422, "name"),
        (json!({"role": "viewer", "name": "n", "spaces": []}), 422, "spaces"),
        (json!({"role": "viewer", "name": "n", "spaces": ["A"]}), 422, "spaces"),
        (json!({"role": "viewer", "name": "n", "feeds": []}), 422, "feeds"),
        (json!({"role": "viewer", "name": "n", "feeds": ["a/b"]}), 422, "feeds"),
        (json!({"role": "viewer", "name": "n", "context": {"stage": "x"}}), 422, "context"),
        (json!({"role": "viewer", "name": "n", "repositories": []}), 422, "repositories"),
        (json!({"role": "viewer", "name": "n", "expires_at": "2020-01-01T00:00:00Z"}), 422, "expires_at"),
        (json!({"role": "viewer", "name": "n", "expires_at": "soon"}), 422, "expires_at"),
        (json!({"role": "viewer", "name": "n", "expires_in": "1d"}), 422, "expires_in"),
        // A deployer's grant must name its spaces or feeds.
        (json!({"role": "deployer", "name": "n"}), 422, "spaces"),
    ] {
        let response = world.api.post(&world.admin, "/grants", &body);
        let (refused, _) = refusal(&response);
        assert!([400, 422].contains(&status) && refused == status, "{body}: {response:?}");
        assert!(response.body.contains(part), "{body}: {response:?}");
    }
}

#[test]
fn a_revoked_grant_is_refused_at_once_by_every_server_and_its_own_holder_may_revoke_it() {
    let world = World::new("");
    world.add_feed("default/a", &[]);
    let other = world.issuer.carnet.serve(&world.issuer.url, "127.0.0.1:0", &[]).unwrap();
    let servers = [world.api.clone(), Api::of(&other)];
    for (here, there) in [(0, 1), (1, 0)] {
        let deployer = json!({"role": "deployer", "name": "n", "spaces": ["default"]});
        let grant = made(&servers[here].post(&world.admin, "/grants", &deployer));
        let ask =
            |server: &Api| server.post(&grant, "/spaces/default/feeds/a/credentials", &json!({})).status;
        // Both servers know the grant, have used it, and have a cached credential.
        assert_eq!((ask(&servers[there]), ask(&servers[here])), (200, 200));
        let path = format!("/grants/{}", grant.id);
        assert_eq!(servers[here].delete(&world.admin, &path).status, 204);
        assert_eq!((ask(&servers[there]), ask(&servers[here])), (401, 401));
        // Revoking again changes nothing.
        assert_eq!(servers[there].delete(&world.admin, &path).status, 204);
    }
    let admin = made(&world.api.post(&world.admin, "/grants", &json!({"role": "admin", "name": "n"})));
    assert_eq!(world.api.delete(&admin, &format!("/grants/{}", admin.id)).status, 204);
    assert_eq!(world.api.get(&admin, "/grants").status, 401);
    let unknown = world.api.delete(&world.admin, "/grants/00000000-0000-4000-8000-000000000000");
    assert_eq!(refusal(&unknown), (404, "not-found".to_owned()));
}

#[test]
fn the_time_of_last_use_appears_once_a_server_has_written_it() {
    let mut world = World::new("");
    let used = world.grant(&["--role=viewer"]);
    let unused = world.grant(&["--role=viewer"]);
    assert_eq!(world.api.get(&used, "/audit").status, 200);
    // Uses are written once a minute, and at shutdown.
    assert!(world.issuer.server.process.terminate(Duration::from_secs(30)));
    let again = world.issuer.carnet.serve(&world.issuer.url, "127.0.0.1:0", &[]).unwrap();
    let list = success(&Api::of(&again).get(&world.admin, "/grants"));
    let of = |id: &str| list.as_array().unwrap().iter().find(|grant| grant["id"] == id).unwrap();
    assert!(time(&of(&used.id)["last_used_at"]) >= time(&of(&used.id)["created_at"]), "{list}");
    assert!(of(&unused.id)["last_used_at"].is_null(), "{list}");
    assert_eq!(of(&unused.id)["state"], "valid");
}

#[test]
fn a_forged_row_is_logged_once_for_each_list() {
    let world = World::new("");
    let changed = world.grant(&["--role=viewer"]);
    let change = format!("UPDATE grants SET created_by = 'other' WHERE id = '{}'", changed.id);
    database::run(&world.issuer.carnet.database(), &change);
    success(&world.api.get(&world.admin, "/grants"));
    let count = || {
        let log = world.issuer.server.process.stderr();
        log.lines().filter(|line| line.contains("fails its MAC") && line.contains(&changed.id)).count()
    };
    assert!(wait_until(Duration::from_secs(10), || (count() > 0).then_some(())).is_some());
    assert_eq!(count(), 1);
}
