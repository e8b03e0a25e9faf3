//! The check that tables agree with their indexes.
//!
//! An index can be emptied, or pointed at other pages, without a trace in any definition. A statement that
//! goes by it then finds nothing: a revocation changes no row, without an error.

use sqlx::SqliteConnection;

use crate::store::{Store, StoreError};

/// The table whose check takes longest. Its rows are chained, so `audit verify` finds every change, and only
/// its indexes are left to be checked there.
const AUDIT: &str = "audit";

/// Tables that no start checks. Most grow with feeds, so that their check would make every start slower;
/// nothing is decided by `jwks_clients`. None of them is covered by states: an attacker could delete their rows
/// as well.
const LATER: [&str; 5] = ["feeds", "spaces", "removed_subjects", "confirmed_keys", "jwks_clients"];

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
        table != AUDIT && (self == Self::AllButAudit || !LATER.contains(&table))
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
    for table in tables {
        let problems: Vec<String> = sqlx::query_scalar(
            "SELECT integrity_check FROM pragma_integrity_check($1) WHERE integrity_check <> 'ok'",
        )
        .bind(*table)
        .fetch_all(&mut *connection)
        .await?;
        let of_index = problems.iter().find(|problem| !is_of_value(problem));
        // The check of a table with too many forged values does not reach its other rows.
        let unfinished = problems.first().filter(|_| problems.len() >= MAX_PROBLEMS);
        if let Some(problem) = of_index.or(unfinished) {
            return Ok(Some(((*table).to_owned(), problem.clone())));
        }
    }
    Ok(None)
}

/// Returns whether a value in a row is the problem. MACs judge those.
fn is_of_value(problem: &str) -> bool {
    problem.contains(" value in ") || problem.starts_with("CHECK constraint failed in ")
}
