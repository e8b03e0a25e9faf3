//! The table of rights in SECURITY.md: every cell is tried.

use serde_json::{Value, json};

use crate::api::world::{Grant, ROLE, World, success};
use crate::support::process::wait_until;

/// The columns of the table.
const CALLERS: [(&str, &[&str]); 9] = [
    ("deployer", &["--role=deployer", "--space=here", "--context=tenant=acme"]),
    ("viewer", &["--role=viewer"]),
    ("viewer of a space", &["--role=viewer", "--space=here"]),
    ("admin of a space", &["--role=admin", "--space=here"]),
    ("admin of feeds", &["--role=admin", "--feed=dev-*"]),
    ("admin of a context", &["--role=admin", "--context=tenant=acme"]),
    ("admin of repositories", &["--role=admin", "--repository=team/app", "--action=pull"]),
    ("admin for an hour", &["--role=admin", "--expires-in=1h"]),
    ("admin", &["--role=admin", "--expires-in=never"]),
];

/// The registry of a feed outside the limits of all limited callers.
const REGISTRY_ELSEWHERE: &str = "222222222222.dkr.ecr.eu-central-1.amazonaws.com";

/// Performs an act and returns whether the caller could.
type Act = fn(&mut Scene, &Grant) -> bool;

/// The rows of the table.
const ACTS: [(&str, Act); 28] = [
    ("read a feed", |scene, by| scene.can(by, "GET", "/spaces/here/feeds/dev-a", None)),
    ("read a feed elsewhere", |scene, by| scene.can(by, "GET", "/spaces/there/feeds/prod", None)),
    ("get a credential", |scene, by| scene.gets_credential(by, &json!({}))),
    ("get a credential of another context", |scene, by| {
        scene.gets_credential(by, &json!({"context": {"tenant": "other"}}))
    }),
    ("get a credential of another repository", |scene, by| {
        scene.gets_credential(by, &json!({"repositories": ["team/other"]}))
    }),
    ("make a feed", |scene, by| scene.makes_feed(by, json!({}))),
    ("make a feed whose subject names no feed", |scene, by| {
        let context = ["project", "runbook", "type", "environment"][scene.made % 4];
        let keys = match scene.made % 8 {
            0..4 => json!(["space", context]),
            _ => json!(["space", context, "tenant"]),
        };
        scene.makes_feed(by, json!({ "subject_keys": keys }))
    }),
    ("share another feed's subject", |scene, by| {
        let keys = json!(["space", "project", "type"]);
        scene.makes_feed(by, json!({"subject_keys": keys, "share_subject": true}))
    }),
    ("inherit a removed feed's subject", |scene, by| {
        let made = scene.makes_feed(by, json!({"slug": "dev-gone", "reuse_slug": true}));
        if made {
            scene.remove("dev-gone");
        }
        made
    }),
    ("have a second feed for a registry elsewhere", |scene, by| {
        scene.makes_feed(by, json!({"registry": REGISTRY_ELSEWHERE}))
    }),
    ("have a feed's JWKS uploaded", |scene, by| {
        let new = json!({
            "slug": "dev-uploaded", "type": "google-artifact-registry", "registry": "europe-docker.pkg.dev",
            "workload_identity_provider":
                "projects/1/locations/global/workloadIdentityPools/pool/providers/carnet",
            "jwks": "uploaded", "subject_keys": ["space", "feed_id"],
        });
        let made = scene.can(by, "POST", "/spaces/here/feeds", Some(&new));
        if made {
            scene.remove("dev-uploaded");
        }
        made
    }),
    ("have tokens addressed to carnet", |scene, by| {
        let audience = format!("{}/x", scene.world.issuer.url);
        scene.makes_feed(by, json!({ "audience": audience }))
    }),
    ("rename a feed", |scene, by| scene.changes(by, &json!({"name": "Images"}))),
    ("change a feed's subject", |scene, by| {
        scene.changes(by, &json!({"subject_keys": ["space", "project", "feed"]}))
    }),
    ("change a feed's endpoints", |scene, by| {
        scene.changes(by, &json!({"endpoints": {"sts": "http://127.0.0.1:9", "ecr": "http://127.0.0.1:9"}}))
    }),
    ("change a feed's registry", |scene, by| {
        let registry = scene.registry();
        scene.changes(by, &json!({ "registry": registry }))
    }),
    ("change a feed's audience", |scene, by| scene.changes(by, &json!({"audience": "another"}))),
    ("change a feed's role", |scene, by| {
        scene.changes(by, &json!({"role_arn": "arn:aws:iam::123456789012:role/other"}))
    }),
    ("remove a feed", |scene, by| {
        let path = scene.new_feed();
        scene.can(by, "DELETE", &path, None)
    }),
    ("make a grant", |scene, by| scene.makes_grant(by).is_some()),
    ("make a grant without limits", |scene, by| {
        let new = json!({"role": "admin", "name": "n", "expires_at": null});
        scene.can(by, "POST", "/grants", Some(&new))
    }),
    ("see a grant without limits", |scene, by| {
        let root = scene.world.admin.id.clone();
        let response = scene.world.api.get(by, "/grants");
        response.status == 200 && response.json().as_array().unwrap().iter().any(|grant| grant["id"] == root)
    }),
    ("revoke a grant without limits", |scene, by| {
        let new = json!({"role": "admin", "name": "n", "expires_at": null});
        let made = success(&scene.world.api.post(&scene.world.admin, "/grants", &new));
        scene.can(by, "DELETE", &format!("/grants/{}", made["id"].as_str().unwrap()), None)
    }),
    ("revoke a grant that it made", |scene, by| {
        scene.makes_grant(by).is_some_and(|id| scene.can(by, "DELETE", &format!("/grants/{id}"), None))
    }),
    ("list the signing keys", |scene, by| scene.can(by, "GET", "/signing-keys", None)),
    ("see which feed elsewhere keys wait for", |scene, by| {
        let response = scene.world.api.get(by, "/signing-keys");
        assert!(response.status != 200 || response.body.contains("\"waits_for\""), "{response:?}");
        response.body.contains("prod-uploaded")
    }),
    ("rotate or revoke signing keys", |scene, by| {
        let rotation = scene.world.api.call("POST", "/signing-keys/rotate", Some(&by.token), None);
        let path = format!("/signing-keys/{}/revoke", scene.kid);
        let revoked = scene.can(by, "POST", &path, None);
        // The prepared keys have just been published, so a permitted rotation fails because it is too early.
        assert_eq!(rotation.status, if revoked { 409 } else { 403 }, "{rotation:?}");
        revoked
    }),
    ("read audit rows of another space", |scene, by| {
        let response = scene.world.api.get(by, "/audit?space=there");
        response.status == 200 && response.json()["records"] != json!([])
    }),
];

struct Scene {
    world: World,
    /// A revoked key.
    kid: String,
    made: usize,
}

impl Scene {
    fn new() -> Self {
        let world = World::new("");
        world.add_feed("here/dev-a", &["--registry", "444444444444.dkr.ecr.eu-central-1.amazonaws.com"]);
        world.add_feed("there/prod", &["--registry", REGISTRY_ELSEWHERE]);
        let mut scene = Self { world, kid: String::new(), made: 0 };
        let root = scene.world.admin.clone();
        assert!(scene.makes_feed(&root, json!({"subject_keys": ["space", "project", "type"]})));
        assert!(scene.makes_feed(&root, json!({"slug": "dev-gone"})));
        scene.remove("dev-gone");
        let uploaded = json!({
            "slug": "prod-uploaded", "type": "google-artifact-registry", "registry": "us-docker.pkg.dev",
            "workload_identity_provider":
                "projects/1/locations/global/workloadIdentityPools/pool/providers/carnet",
            "jwks": "uploaded",
        });
        let rotated =
            scene.world.api.post(&root, "/signing-keys/rotate", &json!({"alg": "RS256", "force": true}));
        scene.kid = rotated.json()["retired"][0].as_str().unwrap().to_owned();
        let revoke = format!("/signing-keys/{}/revoke", scene.kid);
        assert!(scene.can(&root, "POST", &revoke, None));
        assert!(scene.can(&root, "POST", "/spaces/there/feeds", Some(&uploaded)));
        let waits = wait_until(std::time::Duration::from_secs(10), || {
            scene.world.api.get(&root, "/signing-keys").body.contains("prod-uploaded").then_some(())
        });
        waits.expect("keys wait for a feed whose JWKS is uploaded");
        scene
    }

    /// Returns a registry that no feed has.
    fn registry(&mut self) -> String {
        self.made += 1;
        format!("{:012}.dkr.ecr.eu-central-1.amazonaws.com", 500_000_000_000 + self.made)
    }

    fn can(&self, by: &Grant, method: &str, path: &str, body: Option<&Value>) -> bool {
        let response = self.world.api.call(method, path, Some(&by.token), body);
        assert!(response.status < 500 && response.status != 401, "{method} {path}: {response:?}");
        (200..300).contains(&response.status)
    }

    fn gets_credential(&self, by: &Grant, request: &Value) -> bool {
        self.can(by, "POST", "/spaces/here/feeds/dev-a/credentials", Some(request))
    }

    /// Returns whether the caller can make a feed `dev-…` of the space here, with these additional members.
    fn makes_feed(&mut self, by: &Grant, members: Value) -> bool {
        let registry = self.registry();
        let mut new = json!({
            "slug": format!("dev-{}", self.made), "type": "aws-ecr", "registry": registry, "role_arn": ROLE,
        });
        new.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        self.can(by, "POST", "/spaces/here/feeds", Some(&new))
    }

    /// Returns a new, unchanged feed.
    fn new_feed(&mut self) -> String {
        let root = self.world.admin.clone();
        assert!(self.makes_feed(&root, json!({})));
        format!("/spaces/here/feeds/dev-{}", self.made)
    }

    fn changes(&mut self, by: &Grant, patch: &Value) -> bool {
        let path = self.new_feed();
        self.can(by, "PATCH", &path, Some(patch))
    }

    fn remove(&self, slug: &str) {
        assert!(self.can(&self.world.admin, "DELETE", &format!("/spaces/here/feeds/{slug}"), None));
    }

    /// Makes a grant by the caller, narrower than any of [`CALLERS`], and returns its id.
    fn makes_grant(&self, by: &Grant) -> Option<String> {
        let new = json!({
            "role": "deployer", "name": "n", "spaces": ["here"], "feeds": ["dev-a"], "context": {"tenant": "acme"},
            "repositories": ["team/app"], "actions": ["pull"],
        });
        let response = self.world.api.post(by, "/grants", &new);
        (response.status == 201).then(|| response.json()["id"].as_str().unwrap().to_owned())
    }
}

/// Returns the table in SECURITY.md: the columns, and each row with its act and cells.
fn documented() -> (Vec<String>, Vec<(String, Vec<String>)>) {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/SECURITY.md")).unwrap();
    let (_, table) = text.split_once("<!-- rights -->").expect("the table's beginning is marked");
    let (table, _) = table.split_once("<!-- end of rights -->").expect("the table's end is marked");
    let mut rows = table.lines().filter(|line| line.starts_with('|')).map(|line| {
        let cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
        cells.collect::<Vec<_>>()
    });
    let heading = rows.next().unwrap();
    let rows = rows.skip(1).map(|mut row| (row.remove(0), row)).collect();
    (heading[1..].to_vec(), rows)
}

#[test]
fn every_cell_of_the_table_in_security_md_is_true() {
    let (columns, rows) = documented();
    assert_eq!(columns, CALLERS.map(|(name, _)| name), "the columns");
    let acts: Vec<&str> = rows.iter().map(|(act, _)| act.as_str()).collect();
    assert_eq!(acts, ACTS.map(|(name, _)| name), "the rows");
    let mut scene = Scene::new();
    let callers = CALLERS.map(|(name, arguments)| (name, scene.world.grant(arguments)));
    let mut wrong = Vec::new();
    for ((name, act), (_, cells)) in ACTS.iter().zip(&rows) {
        for ((caller, grant), cell) in callers.iter().zip(cells) {
            let can = if act(&mut scene, grant) { "yes" } else { "no" };
            if can != cell {
                wrong.push(format!("rights: {name}, {caller}: the table says {cell}, and it was {can}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
