//! Checks the query plan of every statement in the source of the store: none scans a table that grows with
//! callers.

use std::path::{Path, PathBuf};

use sqlx::Row as _;

use super::audit::MAX_PAGE;
use super::{IfMissing, Store};

/// Tables whose number of rows has a limit that callers cannot raise.
const BOUNDED: [&str; 22] = [
    "audit_base",
    "audit_epochs",
    "audit_times",
    "feed_counts",
    // Up to 10,000 in all, independent of the caller.
    "grants",
    "issuer",
    "key_state",
    // One row for each user agent. Only the most frequent ones are kept.
    "jwks_clients",
    // Two rows for each revocation, removed once they are done.
    "nudges",
    // One row for each target that the operator has named, and for each of those the published keys: up to
    // eight for each algorithm.
    "publication_targets",
    "published_keys",
    "sealed_keys",
    "server_master_keys",
    // The schema itself, and what sqlx records of migrations: as long as the program says.
    "_sqlx_migrations",
    "sqlite_schema",
    // One key for each algorithm and rotation. A rotation needs a day to pass, or an admin without limits.
    "signing_keys",
    // Names inside statements: the grants made by a grant, the halves of the log, rows and marks up to a
    // limit, and `publication_targets`.
    "made",
    "next",
    "of_space",
    "of_name",
    "halves",
    "t",
];

/// Statements that may scan a table, each with the reason. `…` replaces the text omitted at one end.
const ALLOWED: &[(&str, &str)] = &[
    (
        "… FROM feeds ORDER BY space, slug",
        "`feed list` without a space, and what a recovery prints of each feed",
    ),
    (
        "SELECT id, space, slug, alg, settings FROM feeds WHERE has_uploaded_jwks = TRUE…",
        "an index of these alone",
    ),
    ("UPDATE confirmed_keys SET confirmed_at = $1 WHERE …", "`key clock --set-back` looks at every time"),
    ("DELETE FROM confirmed_keys", "a recovery, and nothing else, forgets all of them"),
    ("SELECT COUNT(*) FROM confirmed_keys NOT INDEXED", "a recovery counts all of them"),
    (
        "DELETE FROM confirmed_keys NOT INDEXED WHERE feed_id = $1",
        "a change of the JWKS of one feed: an index could hide a confirmation",
    ),
    ("SELECT COUNT(*) FROM removed_subjects NOT INDEXED", "a recovery after a leak"),
    ("… mac FROM removed_subjects NOT INDEXED", "`audit verify`, `doctor` and a rewrap look at every MAC"),
    ("DELETE FROM removed_subjects WHERE EXISTS …", "a recovery after a leak"),
    (
        "SELECT integrity_check FROM pragma_integrity_check($1)…",
        "at a start, only tables that do not grow with callers; all in recoveries; the log in `audit verify`",
    ),
    ("… pragma_foreign_key_list(s.name) AS f WHERE s.type = 'table' ORDER BY s.rowid", "the schema itself"),
    ("UPDATE removed_subjects SET subject_keys = '', mac = ''", "a recovery after a leak"),
];

/// Statements that are completed at run time, each with the test that covers the result.
const FINISHED_ELSEWHERE: &[(&str, &str)] = &[
    ("SELECT (SELECT seq FROM audit WHERE {range}…", FILTERS),
    ("SELECT {nearest}(seq) FROM ({reached}) AS reached", FILTERS),
    ("… FROM audit WHERE {within} {sorted}", FILTERS),
    ("SELECT seq FROM (SELECT seq FROM audit WHERE {range} AND {within} {sorted}) AS range", FILTERS),
    ("… IN (SELECT seq FROM ({found}) AS found {sorted}) ORDER BY seq {order}", FILTERS),
    (
        "INSERT INTO audit (…",
        "the_statement_that_appends_rows_names_no_value_and_has_a_bounded_number_of_them",
    ),
    ("… updated_at FROM feeds", LIMITS),
    ("SELECT id, version FROM feeds WHERE id IN (", LIMITS),
    ("SELECT slug FROM feeds WHERE space = ", LIMITS),
    ("SELECT space, slug FROM feeds WHERE registry = ", LIMITS),
    (
        "… FROM removed_subjects WHERE space = ",
        "none: both of its conditions have an index that begins with `space`",
    ),
    (
        "DELETE FROM signing_keys NOT INDEXED WHERE kid IS NULL OR kid NOT IN ({authentic})",
        "none: a recovery",
    ),
];
const FILTERS: &str = "every_filter_is_read_by_its_index_and_sorted_by_it";
const LIMITS: &str = "feeds_are_found_by_an_index_whatever_a_grant_is_limited_to";

#[tokio::test]
async fn no_statement_goes_through_all_rows_of_a_table_that_grows_with_callers() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("carnet.db").into(), IfMissing::Create).await.unwrap();
    let (mut found, mut used) = (Vec::new(), Vec::new());
    let statements = statements();
    assert!(statements.len() > 100, "{} statements: the source is not where it was", statements.len());
    for (file, statement) in statements {
        let listed = ALLOWED.iter().chain(FINISHED_ELSEWHERE).find(|(text, _)| is_like(&statement, text));
        if let Some((text, _)) = listed {
            used.push(*text);
            continue;
        }
        let explained = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
        let plan = sqlx::query(explained).fetch_all(&store.readers.lists).await;
        let plan = plan.unwrap_or_else(|error| panic!("{file}: {statement}\n{error}"));
        let plan: Vec<String> = plan.iter().map(|step| step.get("detail")).collect();
        if plan.iter().any(|step| is_scan(step)) && !ends_at_its_limit(&statement, &plan) {
            found.push(format!("{file}: {statement}\n  {}", plan.join("\n  ")));
        }
    }
    assert!(found.is_empty(), "{} statements:\n{}", found.len(), found.join("\n"));
    for (text, _) in ALLOWED.iter().chain(FINISHED_ELSEWHERE) {
        assert!(used.contains(text), "no statement is like {text}: the list is longer than it needs to be");
    }
}

/// Compares a statement with a text that may omit its beginning or its end.
fn is_like(statement: &str, text: &str) -> bool {
    match (text.strip_prefix("… "), text.strip_suffix('…')) {
        (Some(end), _) => statement.ends_with(end),
        (None, Some(beginning)) => statement.starts_with(beginning),
        (None, None) => statement == text,
    }
}

/// Returns whether a step of a plan scans a table without a limit on its rows.
fn is_scan(step: &str) -> bool {
    let Some(scanned) = step.strip_prefix("SCAN ") else { return false };
    let table = scanned.split(' ').next().unwrap_or_default();
    !BOUNDED.contains(&table) && !scanned.contains("CONSTANT ROW")
}

/// Returns whether the plan reads rows in the requested order without sorting, so that the limit ends the
/// scan.
fn ends_at_its_limit(statement: &str, plan: &[String]) -> bool {
    let scans = statement.matches("FROM").count();
    let limits = statement.matches(" LIMIT ").count();
    !statement.contains("WHERE") && limits >= scans && !plan.iter().any(|step| step.contains("TEMP B-TREE"))
}

/// Returns every string in the source that begins as a statement does, with its file.
fn statements() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let mut found = Vec::new();
    for file in sources(&folder) {
        let text = std::fs::read_to_string(&file).unwrap();
        // The rest of the file is only for tests.
        let text = text.split("#[cfg(test)]\nimpl").next().unwrap_or_default();
        let name = file.strip_prefix(&folder).unwrap().display().to_string();
        for literal in literals(text) {
            let literal = literal
                .replace("{COLUMNS}", super::audit::COLUMNS)
                .replace("{MAX_PAGE}", &MAX_PAGE.to_string());
            let verb = literal.split(' ').next().unwrap_or_default();
            if ["SELECT", "WITH", "INSERT", "UPDATE", "DELETE"].contains(&verb) && literal.contains(' ') {
                found.push((name.clone(), literal));
            }
        }
    }
    found
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "tests" {
            continue;
        }
        if path.is_dir() {
            files.extend(sources(&path));
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Returns the string literals of a source, as the compiler reads them.
fn literals(source: &str) -> Vec<String> {
    let code: String = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect();
    let mut found = Vec::new();
    let mut rest = code.as_str();
    while let Some(start) = rest.find('"') {
        let is_character = rest[..start].ends_with('\'') && rest[start + 1..].starts_with('\'');
        rest = &rest[start + 1..];
        if is_character {
            continue;
        }
        let (mut literal, mut characters) = (String::new(), rest.char_indices());
        let mut end = rest.len();
        while let Some((position, character)) = characters.next() {
            match character {
                '"' => {
                    end = position + 1;
                    break;
                }
                '\\' => match characters.next() {
                    Some((after, '\n')) => {
                        let skipped = rest[after + 1..].len() - rest[after + 1..].trim_start().len();
                        for _ in 0..skipped {
                            characters.next();
                        }
                    }
                    Some((_, escaped)) => literal.push(escaped),
                    None => break,
                },
                other => literal.push(other),
            }
        }
        found.push(literal);
        rest = &rest[end..];
    }
    found
}

/// Shows that the checker can fail: one that cannot proves nothing.
#[test]
fn the_checker_reads_strings_as_the_compiler_does_and_knows_a_scan() {
    let source =
        "// \"SELECT no\"\nlet a = \"SELECT \\\n    one\"; let b = '\"'; let c = \"SELECT \\\"two\\\"\";";
    assert_eq!(literals(source), ["SELECT one", "SELECT \"two\""]);
    assert!(is_scan("SCAN feeds") && is_scan("SCAN audit USING COVERING INDEX audit_by_kind"));
    assert!(!is_scan("SEARCH feeds USING INDEX x (space=?)") && !is_scan("SCAN key_state"));
    assert!(is_like("SELECT a FROM b", "SELECT a…") && is_like("SELECT a FROM b", "… FROM b"));
    assert!(!is_like("SELECT a FROM b WHERE c", "… FROM b") && !is_like("SELECT a FROM b", "SELECT a"));
    let plan = ["SCAN audit".to_owned()];
    assert!(ends_at_its_limit("SELECT seq FROM audit ORDER BY seq LIMIT 1", &plan));
    assert!(!ends_at_its_limit("SELECT seq FROM audit WHERE detail = $1 ORDER BY seq LIMIT 1", &plan));
    assert!(!ends_at_its_limit("SELECT seq FROM audit", &plan));
}
