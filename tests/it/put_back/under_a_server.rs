//! A running server whose database is replaced: it continues to serve its own documents, and mints and
//! changes nothing.

use std::fs;

use crate::put_back::{
    Carnet, Copy, Grant, active, founded, get, grant, readyz, revoke_grant, revoke_key, stop,
    wait_until_ready_is,
};
use crate::support::carnet::Announced;
use crate::support::keys;

fn sql(carnet: &Carnet, statements: &str) {
    use sqlx::Connection as _;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(carnet.database());
        let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
}

/// An issuer with a valid grant, a revoked grant, a revoked key, and an earlier copy.
struct World {
    carnet: Carnet,
    server: Announced,
    admin: Grant,
    revoked: Grant,
    kid: String,
    before: Copy,
    jwks: String,
}

impl World {
    fn new() -> Self {
        let carnet = founded();
        let (admin, revoked) = (grant(&carnet, &[]), grant(&carnet, &[]));
        let kid = active(&carnet);
        let before = Copy::of(&carnet);
        let server = keys::serve(&carnet);
        revoke_grant(&carnet, &revoked);
        revoke_key(&carnet, &kid);
        wait_until_ready_is(&server, 200);
        let jwks = crate::support::process::wait_until(crate::put_back::PATIENCE, || {
            Some(keys::jwks(&server)).filter(|jwks| !jwks.contains(&kid))
        });
        let jwks = jwks.expect("the key stays published");
        assert_eq!(get(&server, &admin, "/api/v1/signing-keys").status, 200);
        Self { carnet, server, admin, revoked, kid, before, jwks }
    }

    /// Asserts that nothing revoked works again, and that the documents stay the same.
    #[track_caller]
    fn assert_nothing_comes_back(&self) {
        assert_ne!(get(&self.server, &self.revoked, "/api/v1/signing-keys").status, 200);
        assert_eq!(keys::jwks(&self.server), self.jwks);
    }

    /// Asserts that nothing is handed out and nothing can be changed.
    #[track_caller]
    fn assert_stopped(&self) {
        let response = wait_until_ready_is(&self.server, 503).json();
        assert_ne!(response["checks"]["state"]["refused"], serde_json::Value::Null, "{response}");
        assert_eq!(get(&self.server, &self.admin, "/api/v1/signing-keys").status, 503);
        self.assert_nothing_comes_back();
        assert!(!self.jwks.contains(&self.kid));
    }
}

#[test]
fn a_revoked_grant_with_a_restored_row_is_refused_at_once_and_others_are_not() {
    let world = World::new();
    let put_back = format!(
        "ATTACH '{}' AS old; REPLACE INTO grants SELECT * FROM old.grants",
        world.before.file().display()
    );
    sql(&world.carnet, &put_back);
    for _ in 0..10 {
        assert_eq!(get(&world.server, &world.revoked, "/api/v1/signing-keys").status, 401);
        assert_eq!(get(&world.server, &world.admin, "/api/v1/signing-keys").status, 200);
    }
    // Nor does another change restore it, here or in another process.
    let made = world.carnet.run(&["grant", "create", "--role=admin"]);
    assert_eq!(made.status, 1, "{}", made.stdout);
    let header = format!("Authorization: Bearer {}\r\n", world.admin.token);
    let mut connection = crate::put_back::Connection::to(world.server.announced("/listening"), None);
    let rotated =
        connection.request("POST", "/api/v1/signing-keys/rotate", &format!("{header}Content-Length: 0\r\n"));
    assert_ne!(rotated.status, 500, "{}", rotated.body);
    assert_eq!(get(&world.server, &world.revoked, "/api/v1/signing-keys").status, 401);
}

#[test]
fn a_revoked_key_with_a_restored_row_is_not_published() {
    let world = World::new();
    let put_back = format!(
        "ATTACH '{}' AS old; DELETE FROM signing_keys; INSERT INTO signing_keys SELECT * FROM old.signing_keys; \
         UPDATE key_state SET generation = generation + 1",
        world.before.file().display()
    );
    sql(&world.carnet, &put_back);
    wait_until_ready_is(&world.server, 503);
    assert_eq!(keys::jwks(&world.server), world.jwks);
}

#[test]
fn a_replaced_database_file_stops_minting_and_not_the_documents() {
    let world = World::new();
    let new = world.carnet.home().join("old.db");
    fs::copy(world.before.file(), &new).unwrap();
    fs::rename(&new, world.carnet.database()).unwrap();
    world.assert_stopped();
    let response = readyz(&world.server).json();
    assert!(response["checks"]["state"]["refused"].as_str().unwrap().contains("was replaced"), "{response}");
}

#[test]
fn older_content_written_into_the_database_stops_minting_and_not_the_documents() {
    let world = World::new();
    let old = world.before.file();
    let tables = ["signing_keys", "grants", "states", "sealed_keys", "key_state"];
    let copies: Vec<String> = tables
        .iter()
        .map(|table| format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM old.{table};"))
        .collect();
    let statements = format!("ATTACH '{}' AS old; BEGIN; {} COMMIT", old.display(), copies.join(" "));
    sql(&world.carnet, &statements);
    world.assert_stopped();
}

#[test]
fn two_servers_follow_each_other_and_the_file_has_the_last_state() {
    let carnet = founded();
    let servers = [keys::serve(&carnet), keys::serve(&carnet)];
    let made: Vec<Grant> = (0..6).map(|_| grant(&carnet, &[])).collect();
    for held in &made {
        for server in &servers {
            assert_eq!(get(server, held, "/api/v1/signing-keys").status, 200);
        }
        revoke_grant(&carnet, held);
        for server in &servers {
            assert_eq!(get(server, held, "/api/v1/signing-keys").status, 401);
        }
    }
    for server in servers {
        assert_eq!(readyz(&server).status, 200);
        stop(server);
    }
    crate::put_back::assert_starts(&carnet);
}

#[test]
fn a_trigger_that_is_added_stops_a_running_server_until_it_is_gone() {
    let world = World::new();
    // Without a check, the log would lose every record from here on, and would verify.
    sql(&world.carnet, "CREATE TRIGGER hollow BEFORE INSERT ON audit BEGIN SELECT RAISE(IGNORE); END");
    world.assert_stopped();
    let response = readyz(&world.server).json();
    let refused = response["checks"]["state"]["refused"].as_str().unwrap();
    assert!(refused.contains("the trigger \"hollow\" was added"), "{refused}");
    sql(&world.carnet, "DROP TRIGGER hollow");
    wait_until_ready_is(&world.server, 200);
    assert_eq!(get(&world.server, &world.admin, "/api/v1/signing-keys").status, 200);
}
