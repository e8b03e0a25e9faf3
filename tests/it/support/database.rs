//! A carnet's database, accessed from outside by plain SQL.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};

/// Runs `work` on a connection to an existing database file.
fn on<T>(database: &Path, work: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime
        .block_on(async {
            let options = SqliteConnectOptions::new().filename(database);
            let mut connection = SqliteConnection::connect_with(&options).await?;
            let result = work(&mut connection).await?;
            connection.close().await?;
            Ok::<_, sqlx::Error>(result)
        })
        .unwrap()
}

/// Runs one statement.
pub(crate) fn execute(database: &Path, statement: &'static str) {
    on(database, async |connection| sqlx::query(statement).execute(connection).await);
}

/// Runs one statement built by a test.
pub(crate) fn run(database: &Path, statement: &str) {
    run_all(database, &[statement]);
}

/// Runs several statements on one connection.
pub(crate) fn run_all(database: &Path, statements: &[&str]) {
    on(database, async |connection| {
        for statement in statements {
            sqlx::query(sqlx::AssertSqlSafe((*statement).to_owned())).execute(&mut *connection).await?;
        }
        Ok(())
    });
}

/// Exchanges the pages of an index with those of an empty one, as SQLite never would.
pub(crate) fn empty_index(database: &Path, index: &str) {
    let pair = format!("name IN ('{index}', 'empty_{index}')");
    let statements = [
        format!("CREATE TABLE other_{index} (a)"),
        format!("CREATE INDEX empty_{index} ON other_{index} (a)"),
        format!("CREATE TEMP TABLE roots AS SELECT name, rootpage FROM sqlite_schema WHERE {pair}"),
        "PRAGMA writable_schema = ON".to_owned(),
        format!(
            "UPDATE sqlite_schema SET rootpage = \
             (SELECT rootpage FROM roots WHERE roots.name <> sqlite_schema.name) WHERE {pair}"
        ),
        // Every connection parses the schema again.
        format!("PRAGMA schema_version = {}", 100_000 + index.len()),
    ];
    run_all(database, &statements.each_ref().map(String::as_str));
}

/// Returns the single text column of a query.
pub(crate) fn texts(database: &Path, query: &'static str) -> Vec<String> {
    on(database, async |connection| sqlx::query_scalar(query).fetch_all(connection).await)
}

/// Returns the whole content of the database as text, for comparisons.
pub(crate) fn dump(database: &Path) -> String {
    dump_but(database, &[])
}

/// The same without the audit log and its time index.
pub(crate) fn dump_but_audit(database: &Path) -> String {
    dump_but(database, &["audit", "audit_times"])
}

fn dump_but(database: &Path, left_out: &[&str]) -> String {
    on(database, async |connection| {
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name",
        )
        .fetch_all(&mut *connection)
        .await?;
        let mut dump = String::new();
        for table in tables.into_iter().filter(|table| !left_out.contains(&table.as_str())) {
            let columns: String = sqlx::query_scalar(
                "SELECT group_concat('quote(' || name || ')', '|| ''|'' ||') FROM pragma_table_info($1)",
            )
            .bind(&table)
            .fetch_one(&mut *connection)
            .await?;
            let rows = format!("SELECT {columns} FROM {table} ORDER BY 1");
            let rows: Vec<String> =
                sqlx::query_scalar(sqlx::AssertSqlSafe(rows)).fetch_all(&mut *connection).await?;
            dump.push_str(&format!("{table}\n{}\n", rows.join("\n")));
        }
        Ok(dump)
    })
}
