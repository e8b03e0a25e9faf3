//! Tests of the schema check: changes that other programs make to a database.

use jiff::Timestamp;

use super::*;
use crate::audit::{Event, EventKind, KeyEventKind, Outcome};
use crate::store::master_key::MasterKey;
use crate::store::states::Witnesses;
use crate::store::{IfMissing, Store, Trusted};
use crate::values::actor::Actor;
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

/// Changes the schema's own table after `statements`, as SQLite never would.
async fn edit_schema(folder: &tempfile::TempDir, statements: &[&str]) {
    let version = schema_version(folder).await + 100;
    let version = format!("PRAGMA schema_version = {version}");
    let (first, edits) = statements.split_at(statements.len() - 1);
    let all = [first, &["PRAGMA writable_schema = ON"], edits, &[version.as_str()]].concat();
    execute(folder, &all).await;
}

async fn schema_version(folder: &tempfile::TempDir) -> i64 {
    let url = format!("sqlite:{}", folder.path().join("carnet.db").display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let version = sqlx::query_scalar("PRAGMA schema_version").fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    version
}

/// Returns the object because of which neither a start nor a running process accepts the database.
async fn refused(statements: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let running = running(&folder).await;
    drop(running.write().await.unwrap());
    match statements {
        [statement] => execute(&folder, &[statement]).await,
        several => edit_schema(&folder, several).await,
    }
    let of_running = running.write().await.err();
    let of_start = opened(&folder).await.err();
    let object = |error| match error {
        Some(StoreError::State(StateError::Schema { object, .. })) => object,
        other => panic!("{statements:?}: {other:?}"),
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
        ("ALTER TABLE grants RENAME TO kept", r#"the table "grants" is missing"#),
        ("ALTER TABLE grants ADD COLUMN x", r#"the table "grants" was altered"#),
    ] {
        assert_eq!(refused(&[statement]).await, object);
    }
}

const TRIGGER: &str = "CREATE TRIGGER x BEFORE INSERT ON audit BEGIN SELECT RAISE(IGNORE); END";

#[tokio::test]
async fn a_row_of_the_schema_that_only_sqlite_takes_for_an_object_is_refused_by_its_name() {
    for (statement, edit, object) in [
        (
            TRIGGER,
            "UPDATE sqlite_schema SET type = 'TRIGGER' WHERE name = 'x'",
            r#"the trigger "x" was added"#,
        ),
        (
            TRIGGER,
            "UPDATE sqlite_schema SET type = 'trigger' || char(0) || 'y' WHERE name = 'x'",
            r#"the trigger "x" was added"#,
        ),
        (
            TRIGGER,
            "UPDATE sqlite_schema SET type = CAST('Trigger' AS BLOB) WHERE name = 'x'",
            r#"the trigger "x" was added"#,
        ),
        (
            "CREATE VIEW x AS SELECT 1",
            "UPDATE sqlite_schema SET type = 'View' WHERE name = 'x'",
            r#"the view "x" was added"#,
        ),
        (
            "CREATE UNIQUE INDEX x ON removed_subjects (space)",
            "UPDATE sqlite_schema SET type = 'INDEX' WHERE name = 'x'",
            r#"the index "x" was added"#,
        ),
        (
            "CREATE UNIQUE INDEX x ON removed_subjects (space)",
            "UPDATE sqlite_schema SET tbl_name = 'Removed_Subjects' WHERE name = 'x'",
            r#"the index "x" was added"#,
        ),
        (
            "CREATE UNIQUE INDEX x ON removed_subjects (space)",
            "UPDATE sqlite_schema SET tbl_name = 'removed_subjects' || char(0) WHERE name = 'x'",
            r#"the index "x" was added"#,
        ),
        // Sets the pages of the index.
        (
            "CREATE TABLE x (a)",
            "INSERT INTO sqlite_schema SELECT 'index', 'ONE_ACTIVE_KEY', 'x', rootpage, NULL FROM sqlite_schema WHERE name = 'x'",
            r#"the index "ONE_ACTIVE_KEY" was added"#,
        ),
        (
            "CREATE TABLE x (a)",
            "INSERT INTO sqlite_schema SELECT 'index', 'sqlite_autoindex_grants_1', 'x', rootpage, NULL FROM sqlite_schema WHERE name = 'x'",
            r#"the index "sqlite_autoindex_grants_1" was added"#,
        ),
        (
            "CREATE TABLE x (a)",
            "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'grants') WHERE name = 'x'",
            r#"the table "x" has no pages of its own"#,
        ),
        (
            "CREATE TABLE x (a UNIQUE)",
            "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_x_1') \
             WHERE name = 'sqlite_autoindex_signing_keys_1'",
            r#"the index "sqlite_autoindex_x_1" has no pages of its own"#,
        ),
        (
            "CREATE TABLE x (a)",
            "UPDATE sqlite_schema SET sql = 'CREATE TABLE x (a)' || char(0) || 'y' WHERE name = 'x'",
            r#"the table "x" was added"#,
        ),
    ] {
        assert_eq!(refused(&[statement, edit]).await, object, "{edit}");
    }
}

#[tokio::test]
async fn a_difference_after_a_nul_or_in_a_row_without_a_definition_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    drop(opened(&folder).await.unwrap());
    execute(&folder, &["CREATE TABLE x (a UNIQUE)"]).await;
    let url = format!("sqlite:{}", folder.path().join("carnet.db").display());
    // The connection keeps the schema that it has parsed. SQLite would refuse some of these.
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("PRAGMA writable_schema = ON").execute(&mut connection).await.unwrap();
    let mut before: Vec<u8> = sqlx::query_scalar(TEXT).fetch_one(&mut connection).await.unwrap();
    for edit in [
        "UPDATE sqlite_schema SET type = type || char(0) || 'y' WHERE name = 'x'",
        "UPDATE sqlite_schema SET sql = sql || char(10) WHERE name = 'x'",
        "UPDATE sqlite_schema SET sql = sql || char(0) WHERE name = 'x'",
        "UPDATE sqlite_schema SET type = CAST(type AS BLOB) WHERE name = 'x'",
        "UPDATE sqlite_schema SET rootpage = rootpage + 1 WHERE name = 'sqlite_autoindex_grants_1'",
        "UPDATE sqlite_schema SET sql = '' WHERE name = 'sqlite_autoindex_x_1'",
        "INSERT INTO sqlite_schema VALUES ('index', 'one_active_key', 'x', 9, NULL)",
        "INSERT INTO sqlite_schema VALUES (NULL, NULL, NULL, NULL, NULL)",
    ] {
        sqlx::query(edit).execute(&mut connection).await.unwrap();
        let after: Vec<u8> = sqlx::query_scalar(TEXT).fetch_one(&mut connection).await.unwrap();
        assert_ne!(before, after, "{edit}");
        before = after;
    }
}

#[tokio::test]
async fn a_table_that_references_one_of_carnets_is_refused_by_its_name() {
    let object = refused(&["CREATE TABLE x (k REFERENCES Grants (id) ON DELETE RESTRICT)"]).await;
    assert_eq!(object, r#"the table "x" references a table of carnet's"#);
}

/// Makes a table with an empty index, and exchanges its pages with those of carnet's index.
async fn empty(folder: &tempfile::TempDir, index: &str, table: &str, columns: &str) {
    let index_of_table = format!("x_of_{table}");
    execute(
        folder,
        &[
            &format!("CREATE TABLE {table} ({columns})"),
            &format!("CREATE INDEX {index_of_table} ON {table} ({columns})"),
        ],
    )
    .await;
    let url = format!("sqlite:{}", folder.path().join("carnet.db").display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let mut edits = Vec::new();
    for (from, to) in [(index, index_of_table.as_str()), (index_of_table.as_str(), index)] {
        let root = "SELECT rootpage FROM sqlite_schema WHERE name = $1";
        let root: i64 = sqlx::query_scalar(root).bind(from).fetch_one(&mut connection).await.unwrap();
        edits.push(format!("UPDATE sqlite_schema SET rootpage = {root} WHERE name = '{to}'"));
    }
    connection.close().await.unwrap();
    edit_schema(folder, &["SELECT 1", "PRAGMA writable_schema = ON", &edits[0], &edits[1]]).await;
}

#[tokio::test]
async fn a_table_whose_index_was_emptied_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let running = running(&folder).await;
    let mut write = running.write().await.unwrap();
    let now = Timestamp::UNIX_EPOCH;
    let actor = Actor::server();
    write.record_key_event(KeyEventKind::Policy, None, "test", &actor, now).await.unwrap();
    write.commit().await.unwrap();
    empty(&folder, "key_events_by_event", "y", "event, seq").await;
    for error in [running.write().await.unwrap_err(), opened(&folder).await.unwrap_err()] {
        assert!(
            matches!(&error, StoreError::State(StateError::Indexes { table, .. }) if table == "key_events"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_recovery_finds_an_emptied_index_of_a_large_table_and_so_does_the_verification_of_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let running = running(&folder).await;
    let mut write = running.write().await.unwrap();
    write.check_indexes().await.unwrap();
    let actor = Actor::server();
    let event = Event::new(EventKind::FeedAdd, Outcome::Done, &actor);
    write.append_audit(Timestamp::UNIX_EPOCH, &[event]).await.unwrap();
    sqlx::query("INSERT INTO spaces (slug, name, created_at) VALUES ('acme', 'x', 1)")
        .execute(write.connection())
        .await
        .unwrap();
    write.commit().await.unwrap();
    assert_eq!(running.audit_index_problem().await.unwrap(), None);

    empty(&folder, "audit_by_actor", "y", "actor, seq").await;
    let problem = running.audit_index_problem().await.unwrap().unwrap();
    assert!(problem.contains("audit_by_actor"), "{problem}");
    // No start and no transaction checks these, and a recovery not the log.
    let mut write = running.write().await.unwrap();
    write.check_indexes().await.unwrap();
    drop(write);

    empty(&folder, "sqlite_autoindex_spaces_1", "z", "slug").await;
    let (recovery, _) = (*running).clone().tolerate_state(&Witnesses::default()).unwrap();
    let error = recovery.write().await.unwrap().begin_change().await.unwrap_err();
    assert!(
        matches!(&error, StoreError::State(StateError::Indexes { table, .. }) if table == "spaces"),
        "{error}"
    );
}

#[tokio::test]
async fn forged_values_are_left_to_macs_unless_there_are_too_many() {
    let folder = tempfile::tempdir().unwrap();
    let running = running(&folder).await;
    let ignore = "PRAGMA ignore_check_constraints = ON";
    let forge = "INSERT INTO signing_keys (kid, alg, public_jwk, prepared_at, longest_lifetime, mac) \
                 VALUES (random(), random(), '', 1, 1, '')";
    execute(&folder, &[ignore, forge, "CREATE TABLE y (a)"]).await;
    drop(running.write().await.unwrap());
    let mut many = vec![ignore];
    many.extend([forge; MANY]);
    many.push("CREATE TABLE z (a)");
    execute(&folder, &many).await;
    let error = running.write().await.unwrap_err();
    assert!(matches!(error, StoreError::State(StateError::Indexes { .. })), "{error}");
}

/// More than the problems at which SQLite ends its check of a table.
const MANY: usize = 120;

/// Removes a trigger, and leaves the schema's version number as it is.
const REMOVE: &str = "DELETE FROM sqlite_schema WHERE name = 'x'";

#[tokio::test]
async fn a_trigger_that_was_parsed_and_then_removed_never_runs() {
    let folder = tempfile::tempdir().unwrap();
    let running = running(&folder).await;
    drop(running.write().await.unwrap());
    execute(&folder, &[TRIGGER]).await;
    running.write().await.unwrap_err();
    let seen = format!("PRAGMA schema_version = {}", schema_version(&folder).await);
    execute(&folder, &["PRAGMA writable_schema = ON", REMOVE, &seen]).await;
    assert_eq!(appended(&running).await, 1);

    // A new connection may parse it before any transaction.
    execute(&folder, &[TRIGGER]).await;
    let mut connection = running.writer.acquire().await.unwrap();
    sqlx::query("SELECT 1 FROM audit").fetch_optional(&mut *connection).await.unwrap();
    connection.close().await.unwrap();
    let mut connection = running.writer.acquire().await.unwrap();
    sqlx::query("SELECT 1 FROM audit").fetch_optional(&mut *connection).await.unwrap();
    drop(connection);
    let seen = format!("PRAGMA schema_version = {}", schema_version(&folder).await);
    execute(&folder, &["PRAGMA writable_schema = ON", REMOVE, &seen]).await;
    assert_eq!(appended(&running).await, 2);
}

/// Appends a record to the log. Returns the number of records.
async fn appended(store: &Trusted) -> i64 {
    let mut write = store.write().await.unwrap();
    let actor = Actor::server();
    let event = Event::new(EventKind::FeedAdd, Outcome::Done, &actor);
    write.append_audit(Timestamp::UNIX_EPOCH, &[event]).await.unwrap();
    write.commit().await.unwrap();
    sqlx::query_scalar("SELECT count(*) FROM audit").fetch_one(&store.readers.lists).await.unwrap()
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
async fn a_process_changes_nothing_after_a_newer_carnet_has_migrated_and_nobody_makes_a_trigger() {
    let folder = tempfile::tempdir().unwrap();
    let running = running(&folder).await;
    let state = running.state_status().unwrap().state;
    let newer = "INSERT INTO _sqlx_migrations SELECT 9999, description, installed_on, success, checksum, execution_time \
                 FROM _sqlx_migrations LIMIT 1";
    // A migration need not change the schema.
    for statement in [newer, "ALTER TABLE grants ADD COLUMN x"] {
        execute(&folder, &[statement]).await;
        for error in
            [running.write().await.unwrap_err(), running.follow_state(Some(state)).await.unwrap_err()]
        {
            assert!(matches!(error, StoreError::State(StateError::Newer(_))), "{error}");
            assert!(error.to_string().starts_with("a newer version of carnet has migrated the database"));
        }
        running.believed().unwrap_err();
    }
    assert_eq!(running.audit_end().await.unwrap().seq, 0);
    execute(&folder, &["CREATE VIEW x AS SELECT 1"]).await;
    let error = running.write().await.unwrap_err();
    assert!(matches!(error, StoreError::State(StateError::Schema { .. })), "{error}");
}
