//! The check that the schema is the one that the migrations make.
//!
//! A user who can write the database can also add a trigger or a view, or alter a table. Then a statement
//! succeeds and does something else: a revocation changes no row, the log does not get a record. Neither MACs
//! nor states show that. So no process opens or changes a database whose schema something other than carnet
//! has changed, and a running server stops trusting it.
//!
//! Additional tables are accepted, because they do not change what carnet's own statements do, and replication
//! tools keep theirs in the same file.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::OnceCell;

use super::StoreError;
use super::database_file::{MIGRATIONS, newest_migration};
use super::database_url::DatabaseUrl;
use super::states::StateError;
use crate::values::excerpt::excerpt;

/// The table in which sqlx records the migrations. Its definition belongs to sqlx.
const OF_SQLX: &str = "_sqlx_migrations";

/// The objects of the schema that the migrations make.
static EXPECTED: OnceCell<Vec<Object>> = OnceCell::const_new();

/// A table, index, trigger or view. The indexes that SQLite makes for constraints are left out: the table's
/// definition determines them.
#[derive(Debug, sqlx::FromRow)]
struct Object {
    kind: String,
    name: String,
    /// The table that it belongs to.
    of: String,
    definition: String,
}

impl Object {
    fn is(&self, other: &Self) -> bool {
        self.kind == other.kind && self.name == other.name
    }

    /// Returns whether both are defined alike. SQLite puts a table's name into quotes when the table gets
    /// that name later, in its own definition and in those that refer to it.
    fn is_same(&self, other: &Self, tables: &[&str]) -> bool {
        let plain = |definition: &str| {
            tables
                .iter()
                .fold(definition.to_owned(), |text, table| text.replace(&format!("\"{table}\""), table))
        };
        self.is(other) && self.of == other.of && plain(&self.definition) == plain(&other.definition)
    }
}

/// An object of the schema that is not what carnet made.
#[derive(Debug)]
struct ForeignObject {
    kind: String,
    name: String,
    change: &'static str,
}

impl fmt::Display for ForeignObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} {} {}", self.kind, excerpt(&self.name), self.change)
    }
}

/// The schema that a store has checked last. Comparing with it is all that the usual check does.
#[derive(Debug, Default)]
pub(super) struct CheckedSchema(ArcSwapOption<String>);

impl CheckedSchema {
    /// Checks the schema that a transaction on `connection` sees.
    ///
    /// # Errors
    ///
    /// [`StateError::Schema`] names the first object that is not carnet's.
    pub(super) async fn check(
        &self,
        url: &DatabaseUrl,
        connection: &mut SqliteConnection,
    ) -> Result<(), StoreError> {
        let text: Option<String> = sqlx::query_scalar(
            "SELECT group_concat(object, char(10)) FROM (SELECT type || ' ' || name || ' ' || tbl_name || ' ' || sql AS object \
             FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type, name) AS t",
        )
        .fetch_one(&mut *connection)
        .await?;
        if text.is_some() && self.0.load().as_deref() == text.as_ref() {
            return Ok(());
        }
        let found = objects(connection).await?;
        if let Some(object) = foreign(expected().await?, &found)
            && !(object.is_of_a_newer_carnet() && is_newer(connection).await?)
        {
            return Err(StateError::Schema { database: url.clone(), object: object.to_string() }.into());
        }
        self.0.store(text.map(Arc::new));
        Ok(())
    }
}

impl ForeignObject {
    /// Returns whether a migration of a newer version could have made this difference. No version makes
    /// triggers or views.
    fn is_of_a_newer_carnet(&self) -> bool {
        !is_forbidden(&self.kind)
    }
}

/// Returns whether carnet never makes such objects.
fn is_forbidden(kind: &str) -> bool {
    matches!(kind, "trigger" | "view")
}

/// Returns whether a newer version has migrated the database while this process runs.
async fn is_newer(connection: &mut SqliteConnection) -> Result<bool, StoreError> {
    let latest: Option<i64> =
        sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(connection).await?;
    Ok(latest > Some(newest_migration()))
}

/// Returns the objects of a database's schema.
async fn objects(connection: &mut SqliteConnection) -> Result<Vec<Object>, StoreError> {
    let objects = sqlx::query_as(
        "SELECT type AS kind, name, tbl_name AS of, sql AS definition FROM sqlite_schema WHERE sql IS NOT NULL \
         ORDER BY type, name",
    );
    Ok(objects.fetch_all(connection).await?)
}

/// Returns the objects that the migrations make, by applying them to an empty database in memory.
async fn expected() -> Result<&'static [Object], StoreError> {
    let expected = EXPECTED.get_or_try_init(|| async {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await?;
        MIGRATIONS.run_direct(None, &mut connection, false).await.map_err(sqlx::Error::from)?;
        let made = objects(&mut connection).await?;
        connection.close().await?;
        Ok::<_, StoreError>(made)
    });
    Ok(expected.await?)
}

/// Returns the first difference that could change what carnet's statements do.
fn foreign(expected: &[Object], found: &[Object]) -> Option<ForeignObject> {
    let named = |object: &Object, change| {
        let (kind, name) = (object.kind.clone(), object.name.clone());
        Some(ForeignObject { kind, name, change })
    };
    let is_table = |object: &&Object| object.kind == "table";
    let tables: Vec<&str> = expected.iter().filter(is_table).map(|object| object.name.as_str()).collect();
    for object in found {
        let is_expected = expected.iter().any(|own| own.is(object));
        let is_index =
            object.kind == "index" && tables.iter().any(|table| table.eq_ignore_ascii_case(&object.of));
        if !is_expected && (is_forbidden(&object.kind) || is_index) {
            return named(object, "was added");
        }
    }
    for own in expected.iter().filter(|own| own.name != OF_SQLX) {
        match found.iter().find(|object| object.is(own)) {
            None => return named(own, "is missing"),
            Some(object) if !object.is_same(own, &tables) => return named(own, "was altered"),
            Some(_) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
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
}
