//! The database: SQLite's own checks of the file, and the rows that the master key authenticates.

use super::{Finding, causes, listed};
use crate::audit::verify;
use crate::carnet::OpenError;
use crate::store::StoreError;
use crate::store::rewrap::ForgedRow;

const DATABASE: &str = "database";
const SIZE: &str = "database-size";
const INTEGRITY: &str = "database-integrity";
const REFERENCES: &str = "database-references";
const MASTER_KEY: &str = "master-key";
const KEY_ROWS: &str = "key-rows";
const MACS: &str = "row-macs";
const AUDIT_LOG: &str = "audit-log";

/// The size above which a database gets a warning: 10 GiB.
const LARGE: u64 = 10 << 30;

const RESTORE: &str =
    "stop the server, keep a copy of the database as it is, and restore the last sound backup";

/// Checks that the database could be opened.
#[must_use]
pub fn check_opened(opened: Result<(), &OpenError>) -> Finding {
    match opened {
        Ok(()) => Finding::ok(DATABASE, "opens"),
        Err(error) => Finding::failed(DATABASE, causes(error))
            .detail("Nothing in it could be checked, and no server starts on it.")
            .hint(RESTORE),
    }
}

/// Judges the size of the database's files. Most of it is the audit log, with about 600 bytes a row.
#[must_use]
pub fn check_size(bytes: Option<u64>) -> Finding {
    const MIB: u64 = 1024 * 1024;
    let Some(bytes) = bytes else {
        return Finding::warning(SIZE, "the size of the database cannot be determined");
    };
    let summary = format!("{} MiB", bytes.div_ceil(MIB));
    if bytes <= LARGE {
        return Finding::ok(SIZE, summary);
    }
    Finding::warning(SIZE, summary)
        .detail("Most of it is the audit log. A full disk stops minting, because no event can be recorded.")
        .hint(
            "`carnet serve --audit-retention 400d` removes old records; `carnet audit list --output jsonl` \
             shows which callers cause them",
        )
}

/// Reports the result of `PRAGMA integrity_check`.
#[must_use]
pub fn check_integrity(problems: Result<Vec<String>, StoreError>) -> Finding {
    sound(INTEGRITY, "SQLite finds the file sound", "SQLite finds the file broken", problems)
}

/// Reports the result of `PRAGMA foreign_key_check`.
#[must_use]
pub fn check_references(problems: Result<Vec<String>, StoreError>) -> Finding {
    sound(REFERENCES, "every reference has its row", "rows refer to rows that do not exist", problems)
}

fn sound(id: &'static str, good: &str, bad: &str, problems: Result<Vec<String>, StoreError>) -> Finding {
    match problems {
        Ok(problems) if problems.is_empty() => Finding::ok(id, good),
        Ok(problems) => Finding::failed(id, bad).detail(listed(&problems)).hint(RESTORE),
        Err(error) => Finding::failed(id, bad).detail(causes(&error)).hint(RESTORE),
    }
}

/// Checks that the master key opens the database.
#[must_use]
pub fn check_master_key(unlocked: Result<(), &OpenError>) -> Finding {
    match unlocked {
        Ok(()) => Finding::ok(MASTER_KEY, "opens this database"),
        Err(error) => Finding::failed(MASTER_KEY, causes(error))
            .detail(
                "Without it no server starts, no token is signed, and keys, grants and the audit log cannot \
                 be authenticated: they were not checked.",
            )
            .hint("--keys-dir or CARNET_MASTER_KEY_FILE names it; restore exactly that key from its backup"),
    }
}

/// Checks that carnet wrote every signing key's row.
#[must_use]
pub fn check_key_rows(read: Result<usize, &StoreError>) -> Finding {
    match read {
        Ok(keys) => Finding::ok(KEY_ROWS, format!("the MAC of {} is correct", super::count(keys, "key"))),
        Err(error) => Finding::failed(KEY_ROWS, causes(error))
            .detail("A row that fails its MAC is never published and stops every start.")
            .hint(
                "find out who wrote to the database; keep a copy as it is, then delete the row or restore a \
                 backup; if the master key may have leaked too, `carnet key rewrap --leaked` deletes it",
            ),
    }
}

/// Checks that carnet wrote every row that carries a MAC, in any table.
#[must_use]
pub fn check_macs(forged: Result<Vec<ForgedRow>, StoreError>) -> Finding {
    match forged {
        Ok(forged) if forged.is_empty() => Finding::ok(MACS, "every row with a MAC passes its check"),
        Ok(forged) => {
            let rows: Vec<String> = forged.iter().map(ToString::to_string).collect();
            Finding::failed(MACS, format!("carnet did not write {}", super::count(rows.len(), "row")))
                .detail(listed(&rows))
                .hint(
                    "find out who wrote to the database and revoke their write access; keep a copy as it is, then delete \
                     these rows",
                )
        }
        Err(error) => {
            Finding::failed(MACS, "rows cannot be authenticated").detail(causes(&error)).hint(RESTORE)
        }
    }
}

/// Checks that the audit log is unaltered.
#[must_use]
pub fn check_audit_log(verified: Result<&verify::Report, &StoreError>) -> Finding {
    let hint = "`carnet audit verify` lists everything; keep a copy of the database as it is, and compare with exports, \
                backups and the anchors in the server's logs";
    match verified {
        Ok(report) if report.is_clean() => {
            let rows = usize::try_from(report.rows).unwrap_or(usize::MAX);
            Finding::ok(AUDIT_LOG, format!("{} are as carnet wrote them", super::count(rows, "row")))
                .detail("Only an anchor shows whether the end was cut off: `carnet audit verify --anchor`.")
        }
        Ok(report) => {
            let problems: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
            Finding::failed(AUDIT_LOG, "the audit log was changed by something other than carnet")
                .detail(listed(&problems))
                .hint(hint)
        }
        Err(error) => {
            Finding::failed(AUDIT_LOG, "the audit log cannot be read").detail(causes(error)).hint(hint)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn a_large_database_is_a_warning_with_a_hint() {
        for (bytes, status, summary) in [
            (Some(1), Status::Ok, "1 MiB"),
            (Some(LARGE), Status::Ok, "10240 MiB"),
            (Some(LARGE + 1), Status::Warning, "10241 MiB"),
            (None, Status::Warning, "the size of the database cannot be determined"),
        ] {
            let finding = check_size(bytes);
            assert_eq!((finding.status, finding.summary.as_str()), (status, summary));
            assert_eq!(finding.hint.is_some(), bytes > Some(LARGE));
        }
    }
}
