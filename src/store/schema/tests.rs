//! Tests of the schema check: changes that other programs make to a database.

use super::*;
use crate::store::master_key::MasterKey;
use crate::store::{IfMissing, Store, Trusted};
use crate::values::random::SecureRandom;

async fn opened(folder: &tempfile::TempDir) -> Result<Store, StoreError> {
    Store::open(&folder.path().join("carnet.db").into(), IfMissing::Create).await
}

/// Sets up a new database, and opens it for changes.
async fn running(folder: &tempfile::TempDir) -> Trusted {
    let master_key = MasterKey::generate(&SecureRandom::default()).unwrap();
    opened(folder).await.unwrap().set_up_new(&master_key).await
}

/// Changes the database as a program that does not know about carnet.
async fn execute(folder: &tempfile::TempDir, statements: &[&str]) {
    let url = format!("sqlite:{}", folder.path().join("carnet.db").display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    for statement in statements {
        let statement = sqlx::AssertSqlSafe((*statement).to_owned());
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
}

/// Returns the object because of which neither a start nor a running process accepts the database.
async fn refused(statement: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let running = running(&folder).await;
    drop(running.write().await.unwrap());
    execute(&folder, &[statement]).await;
    let of_running = running.write().await.err();
    let of_start = opened(&folder).await.err();
    let object = |error| match error {
        Some(StoreError::State(StateError::Schema { object, .. })) => object,
        other => panic!("{statement}: {other:?}"),
    };
    let (of_running, of_start) = (object(of_running), object(of_start));
    assert_eq!(of_running, of_start);
    of_start
}

#[tokio::test]
async fn a_change_that_statements_could_feel_is_refused_at_the_start_and_while_a_process_runs() {
    for (statement, object) in [
        (
            "CREATE TRIGGER x BEFORE INSERT ON audit BEGIN SELECT RAISE(IGNORE); END",
            r#"the trigger "x" was added"#,
        ),
        ("CREATE VIEW x AS SELECT 1", r#"the view "x" was added"#),
        ("CREATE UNIQUE INDEX x ON removed_subjects (space)", r#"the index "x" was added"#),
        ("DROP INDEX one_active_key", r#"the index "one_active_key" is missing"#),
        ("ALTER TABLE grants RENAME TO kept", r#"the index "grants_by_maker" was altered"#),
        ("ALTER TABLE grants ADD COLUMN x", r#"the table "grants" was altered"#),
    ] {
        assert_eq!(refused(statement).await, object);
    }
}

#[tokio::test]
async fn a_table_that_was_renamed_and_got_its_name_back_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let running = running(&folder).await;
    execute(&folder, &["ALTER TABLE grants RENAME TO kept", "ALTER TABLE kept RENAME TO grants"]).await;
    drop(running.write().await.unwrap());
    opened(&folder).await.unwrap();
}

#[tokio::test]
async fn tables_of_other_programs_are_accepted_with_their_indexes() {
    let folder = tempfile::tempdir().unwrap();
    let running = running(&folder).await;
    let theirs = [
        "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)",
        "CREATE UNIQUE INDEX theirs ON _litestream_seq (seq)",
        "ANALYZE",
    ];
    execute(&folder, &theirs).await;
    drop(running.write().await.unwrap());
    opened(&folder).await.unwrap();
}

#[tokio::test]
async fn a_newer_carnet_may_migrate_under_a_running_process_but_nobody_makes_a_trigger() {
    let folder = tempfile::tempdir().unwrap();
    let running = running(&folder).await;
    let newer = "INSERT INTO _sqlx_migrations SELECT 9999, description, installed_on, success, checksum, execution_time \
                 FROM _sqlx_migrations LIMIT 1";
    execute(&folder, &[newer, "ALTER TABLE grants ADD COLUMN x"]).await;
    drop(running.write().await.unwrap());
    execute(&folder, &["CREATE VIEW x AS SELECT 1"]).await;
    let error = running.write().await.unwrap_err();
    assert!(matches!(error, StoreError::State(StateError::Schema { .. })), "{error}");
}
