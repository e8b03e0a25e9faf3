//! Database and master key have leaked: an attacker inserts rows before, between and after the commands of
//! docs/keys.md, and none of these rows is honoured afterwards. The commands are read from that page.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use carnet::internals::carnet::{Config, MasterKeySource};
use carnet::internals::store::states::Witnesses;
use serde_json::Value;

use crate::key_cli::{PATIENCE, founded, json_of};
use crate::support::carnet::{Announced, Carnet};
use crate::support::database;
use crate::support::http::Connection;
use crate::support::keys::{self, jwks, list_all, published};
use crate::support::process::wait_until;

/// An attacker with a copy of the database and of the master key, who can write the database.
struct Thief {
    copy: Carnet,
}

/// Rows whose MACs are right under the leaked keys.
struct Forged {
    /// A retired key, whose private half the attacker has.
    kid: String,
    grant: String,
    token: String,
}

impl Thief {
    fn of(victim: &Carnet) -> Self {
        let copy = Carnet::new();
        database::run(&victim.database(), &format!("VACUUM INTO '{}'", copy.database().display()));
        fs::create_dir(copy.keys_dir()).unwrap();
        let key = copy.keys_dir().join("master.key");
        fs::copy(victim.keys_dir().join("master.key"), &key).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        // From here on, every key of the copy is the attacker's own.
        copy.ok(&["key", "revoke", "--all", "--yes"]);
        Self { copy }
    }

    /// Makes the rows with carnet, in the attacker's copy.
    fn forge(&self) -> Forged {
        let mint = || keys::kid(self.copy.ok(&["token", "mint", "default/es256"]).trim());
        let kid = mint();
        self.copy.ok(&["key", "rotate", "--force", "--yes", "--alg=ES256"]);
        assert_ne!(mint(), kid);
        let grant = json_of(&self.copy, &["grant", "create", "--role=admin", "--name=thief"]);
        let text = |name: &str| grant[name].as_str().unwrap().to_owned();
        Forged { kid, grant: text("id"), token: text("token") }
    }

    /// Makes a state that covers the victim's database, with the leaked keys.
    fn vouch(&self, victim: &Path) -> Result<(), Box<dyn std::error::Error>> {
        let keys = MasterKeySource::Folder(self.copy.keys_dir());
        let config = Config { state_file: None, ..Config::new(victim.to_owned().into(), keys) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let unlocked = carnet::internals::unlock(&config).await?;
            let (store, _) = unlocked.tolerate_state(&Witnesses::default())?;
            let mut write = store.write().await?;
            write.vouch_for_all_rows().await?;
            let settings = write.key_settings().await?;
            write.set_key_settings(&settings.policy, settings.rsa_bits).await?;
            write.commit().await?;
            store.close().await;
            Ok(())
        })
    }

    /// Copies the rows into the victim's database, replacing existing ones.
    fn plant(&self, forged: &Forged, victim: &Path) {
        for (table, name, id) in [("signing_keys", "kid", &forged.kid), ("grants", "id", &forged.grant)] {
            let from = self.copy.database();
            database::run_all(
                victim,
                &[
                    &format!("ATTACH '{}' AS thief", from.display()),
                    &format!(
                        "INSERT OR REPLACE INTO {table} SELECT * FROM thief.{table} WHERE {name} = '{id}'"
                    ),
                    "UPDATE key_state SET generation = generation + 1",
                ],
            );
        }
    }
}

fn status_with(server: &Announced, token: &str) -> u16 {
    let headers = format!("Authorization: Bearer {token}\r\n");
    Connection::to(server.announced("/listening"), None).request("GET", "/api/v1/grants", &headers).status
}

#[track_caller]
fn eventually(what: &str, holds: impl Fn() -> bool) {
    assert!(wait_until(PATIENCE, || holds().then_some(())).is_some(), "never: {what}");
}

/// Returns the commands of the section, in order: lines that begin with `carnet`, without comments.
fn documented() -> Vec<Vec<String>> {
    let text = include_str!("../../../docs/keys.md");
    let section = text.split("## Everything leaked, hour by hour").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let lines = section.lines().filter_map(|line| line.strip_prefix("carnet "));
    let words = |line: &str| -> Vec<String> {
        line.split(" #").next().unwrap().split_whitespace().map(ToOwned::to_owned).collect()
    };
    lines.map(words).collect()
}

/// Runs one of the documented commands, with its placeholders filled in.
fn follow(victim: &Carnet, command: &[String], keep: &str) -> crate::support::carnet::Output {
    let fill = |word: &String| word.replace("GRANT-ID", keep);
    let mut words: Vec<String> = command.iter().map(fill).collect();
    if words.iter().any(|word| word == "rewrap") {
        words.push("--yes".to_owned());
    }
    if words[0] == "doctor" {
        words.push("--output=json".to_owned());
    }
    victim.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Returns whether a failed check names `what`.
fn doctor_names(output: &crate::support::carnet::Output, what: &str) -> bool {
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    findings.iter().any(|finding| finding["status"] == "failed" && finding.to_string().contains(what))
}

#[test]
fn the_documented_recovery_accepts_no_row_of_a_thief_of_database_and_master_key() {
    let victim = founded("+0");
    keys::add_feeds(&victim, &[]);
    let server = keys::serve(&victim);
    let make = |name: &str| json_of(&victim, &["grant", "create", "--role=admin", "--name", name]);
    let (kept, revoked) = (make("kept"), make("revoked"));
    let text = |grant: &Value, name: &str| grant[name].as_str().unwrap().to_owned();
    let thief = Thief::of(&victim);
    let (before, between, after) = (thief.forge(), thief.forge(), thief.forge());

    // Rows inserted before the recovery are honoured: nothing distinguishes them from carnet's own.
    thief.plant(&before, &victim.database());
    thief.vouch(&victim.database()).unwrap();
    eventually("the forged key is published", || published(&jwks(&server)).contains(&before.kid));
    eventually("the forged grant is honoured", || status_with(&server, &before.token) == 200);
    let ours: Vec<String> = list_all(&victim).iter().map(|key| text(key, "kid")).collect();

    let commands = documented();
    let rewrap = commands.iter().position(|command| command.iter().any(|word| word == "--leaked")).unwrap();
    let keep = text(&kept, "id");
    for command in &commands[..rewrap] {
        let output = follow(&victim, command, &keep);
        assert_eq!(output.status, 0, "{command:?}: {}", output.stderr);
    }
    thief.plant(&between, &victim.database());
    thief.vouch(&victim.database()).unwrap();
    eventually("the second forged key is published", || published(&jwks(&server)).contains(&between.kid));

    let output = follow(&victim, &commands[rewrap], &keep);
    assert_eq!(output.status, 0, "{}", output.stderr);
    for text in ["kept", "token_sha256", &before.grant, &between.grant, &text(&revoked, "id")] {
        assert!(output.stderr.contains(text), "should tell {text}: {}", output.stderr);
    }
    for text in ["feed default/es256", "role_arn: arn:aws:iam::123456789012:role/pull", "endpoints:"] {
        assert!(output.stdout.contains(text), "should print {text}: {}", output.stdout);
    }
    let unbelieved = |what: &str, forged: &Forged| {
        eventually(what, || {
            let jwks = jwks(&server);
            let gone = ours.iter().chain([&forged.kid]).all(|kid| !published(&jwks).contains(kid));
            gone && published(&jwks).len() == 4
        });
        for token in [&forged.token, &text(&revoked, "token")] {
            // 503 if the server has detected the change of the database.
            assert!(matches!(status_with(&server, token), 401 | 503), "{what}");
        }
    };
    unbelieved("what was put in before is gone", &before);
    unbelieved("what was put in between is gone", &between);
    assert_eq!(status_with(&server, &before.token), 401);
    assert_eq!(status_with(&server, &text(&kept, "token")), 200, "the kept grant");
    for command in &commands[rewrap + 1..] {
        let output = follow(&victim, command, &keep);
        // The issuer's URL leads nowhere here, so `doctor` has findings, but not about rows.
        let clean = !["key-rows", "grant-rows", "audit-log"]
            .iter()
            .any(|id| output.stdout.contains(&format!("\"id\": \"{id}\",\n      \"status\": \"failed\"")));
        assert!(clean && (output.status == 0 || command[0] == "doctor"), "{command:?}: {}", output.stderr);
    }

    // After the recovery: rows with MACs of the old keys, added or replacing carnet's own.
    for forged in [&after, &before] {
        thief.plant(forged, &victim.database());
        assert!(thief.vouch(&victim.database()).is_err(), "the keys that have leaked vouch for rows");
        unbelieved("what is put in afterwards is not published", forged);
        assert_eq!(victim.run(&["key", "list"]).status, 1, "a command starts on a forged key row");
        let verified = victim.run(&["audit", "verify"]);
        assert_eq!(verified.status, 1);
        let doctor = victim.run(&["doctor", "--output=json"]);
        for row in [&forged.kid, &forged.grant] {
            assert!(verified.stdout.contains(row.as_str()), "audit verify names {row}: {}", verified.stdout);
            assert!(doctor_names(&doctor, row), "doctor names {row}: {}", doctor.stdout);
        }
        if std::ptr::eq(forged, &after) {
            for (table, name, id) in [("signing_keys", "kid", &forged.kid), ("grants", "id", &forged.grant)] {
                database::run(&victim.database(), &format!("DELETE FROM {table} WHERE {name} = '{id}'"));
            }
        } else {
            // A row of carnet's own is gone: recover again.
            let again = ["key", "rewrap", "--leaked", "--yes", "--new-key-file=again.key", "--keep", &keep];
            victim.ok(&again);
        }
        victim.ok(&["audit", "verify"]);
        keys::assert_invariants(&keys::list(&victim));
        let kept = text(&kept, "token");
        eventually("the server goes on", || status_with(&server, &kept) == 200);
    }

    // The leaked keys open nothing any more.
    database::run_all(
        &victim.database(),
        &[
            &format!("ATTACH '{}' AS thief", thief.copy.database().display()),
            "INSERT OR REPLACE INTO sealed_keys SELECT * FROM thief.sealed_keys",
            "UPDATE key_state SET epoch = 1, generation = generation + 1",
        ],
    );
    let refused = victim.run(&["key", "list"]);
    assert_eq!(refused.status, 1);
    assert!(refused.stderr.contains("master key"), "{}", refused.stderr);
    assert_eq!(status_with(&server, &text(&kept, "token")), 503);
    assert_eq!(published(&jwks(&server)).len(), 4);
}

#[test]
fn a_leaked_key_does_not_replace_itself_and_a_recovery_can_be_repeated() {
    let carnet = founded("+0");
    let before = list_all(&carnet);
    // The history of keys carries no MAC: a forged event of a recovery to the present key changes nothing.
    database::run(
        &carnet.database(),
        "INSERT INTO key_events (seq, at, event, reason, actor) \
         SELECT 1000, 0, 'rewrap', 'leaked: to ' || MAX(master_key_id), 'local:root' FROM sealed_keys",
    );
    let same = format!("--new-key-file={}", carnet.keys_dir().join("master.key").display());
    let refused = carnet.run(&["key", "rewrap", "--leaked", "--yes", &same]);
    assert_eq!(refused.status, 1);
    assert!(refused.stderr.contains("cannot replace itself"), "{}", refused.stderr);
    assert_eq!(list_all(&carnet), before);
    for text in ["new ones are in their place", "had been done already"] {
        let output = carnet.run(&["key", "rewrap", "--leaked", "--yes", "--new-key-file=new.key"]);
        assert_eq!(output.status, 0, "{}", output.stderr);
        assert!(output.stderr.contains(text), "should tell {text}: {}", output.stderr);
    }
    let after = list_all(&carnet);
    let active = |keys: &[Value]| keys.iter().filter(|key| key["state"] == "active").count();
    assert_eq!((active(&after), after.len()), (2, before.len() + 4));
    let names = fs::read_dir(carnet.keys_dir()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".key"));
    names.sort();
    assert!(names.len() == 2 && names[0].starts_with("leaked-") && names[1] == "master.key", "{names:?}");
}

#[test]
fn a_forged_key_row_that_stops_every_start_does_not_stop_the_recovery() {
    let carnet = founded("+0");
    database::run(
        &carnet.database(),
        "UPDATE signing_keys SET prepared_at = prepared_at - 1 WHERE alg = 'ES256'",
    );
    assert_eq!(carnet.run(&["key", "list"]).status, 1);
    let output = carnet.run(&["key", "rewrap", "--leaked", "--yes", "--new-key-file=new.key"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(output.stderr.contains("failed its MAC"), "{}", output.stderr);
    keys::assert_invariants(&keys::list(&carnet));
    carnet.ok(&["audit", "verify"]);
}

#[test]
fn a_grant_that_is_not_authentic_is_not_kept_and_nothing_changes() {
    let carnet = founded("+0");
    let grant = json_of(&carnet, &["grant", "create", "--role=admin", "--name=changed"]);
    database::run(&carnet.database(), "UPDATE grants SET created_by = 'other'");
    let dump = database::dump(&carnet.database());
    let keep = format!("--keep={}", grant["id"].as_str().unwrap());
    let refused = carnet.run(&["key", "rewrap", "--leaked", "--yes", "--new-key-file=new.key", &keep]);
    assert_eq!(refused.status, 1);
    assert!(refused.stderr.contains("no authentic grant"), "{}", refused.stderr);
    assert_eq!(database::dump(&carnet.database()), dump);
}
