//! The check that tables agree with their indexes.
//!
//! An index can be emptied, or pointed at other pages, without a trace in any definition. A statement that
//! goes by it then finds nothing: a revocation changes no row, without an error.

use sqlx::SqliteConnection;

use super::check_indexes;
use crate::store::{ReadTransaction, Store, StoreError};

/// The table whose check takes longest. Its rows are chained, so `audit verify` finds every change, and only
/// its indexes are left to be checked there.
const AUDIT: &str = "audit";

/// Tables that grow with feeds, so that their check would make every start slower. None of them is covered by
/// states: an attacker could delete their rows as well.
const GROWING: [&str; 4] = ["feeds", "spaces", "removed_subjects", "confirmed_keys"];

/// The number of problems of a table at which SQLite ends its check.
const MAX_PROBLEMS: usize = 100;

/// The tables to be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Those whose check takes milliseconds, for every start.
    Small,
    /// All except the audit log, for recoveries.
    AllButAudit,
}

impl Scope {
    pub(super) fn has(self, table: &str) -> bool {
        table != AUDIT && (self == Self::AllButAudit || !GROWING.contains(&table))
    }
}

impl ReadTransaction {
    /// Checks that all tables except the audit log agree with their indexes. Called by what must not be fooled
    /// before it changes anything.
    ///
    /// # Errors
    ///
    /// [`StateError::Indexes`](crate::store::states::StateError::Indexes) names the first table that does not.
    pub async fn check_indexes(&mut self) -> Result<(), StoreError> {
        let url = self.url.clone();
        check_indexes(&url, self.connection(), Scope::AllButAudit).await
    }
}

impl Store {
    /// Returns the first problem of the audit log's indexes. With a million rows this takes a minute.
    pub async fn audit_index_problem(&self) -> Result<Option<String>, StoreError> {
        let mut connection = self.readers.lists.acquire().await?;
        Ok(index_problem(&mut connection, &[AUDIT]).await?.map(|(_, problem)| problem))
    }
}

/// Returns the first of the tables that does not agree with its indexes, and the problem as SQLite says it.
pub(super) async fn index_problem(
    connection: &mut SqliteConnection,
    tables: &[&str],
) -> Result<Option<(String, String)>, StoreError> {
    let names: Vec<String> = tables.iter().map(|table| format!("'{table}'")).collect();
    let query = format!(
        "SELECT s.name, c.integrity_check FROM sqlite_schema AS s, pragma_integrity_check(s.name) AS c \
         WHERE s.type = 'table' AND s.name IN ({}) AND c.integrity_check <> 'ok'",
        names.join(", ")
    );
    let problems: Vec<(String, String)> =
        sqlx::query_as(sqlx::AssertSqlSafe(query)).fetch_all(connection).await?;
    let of_index = problems.iter().find(|(_, problem)| !is_of_value(problem));
    // The check of a table that has too many forged values did not reach its other rows.
    let unfinished = problems
        .iter()
        .find(|(table, _)| problems.iter().filter(|(other, _)| other == table).count() >= MAX_PROBLEMS);
    Ok(of_index.or(unfinished).cloned())
}

/// Returns whether a value in a row is the problem. MACs judge those.
fn is_of_value(problem: &str) -> bool {
    problem.contains(" value in ") || problem.starts_with("CHECK constraint failed in ")
}
