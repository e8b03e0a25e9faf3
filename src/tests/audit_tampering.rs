//! An attacker with the database but without the master key cannot change the audit log unnoticed: every kind
//! of tampering is found, with its row.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use crate::audit::verify::{Problem, Report};
use crate::audit::{Anchor, Event, EventKind, Outcome};
use crate::audit_log::AuditLog;
use crate::carnet::{Config, MasterKeySource};
use crate::jose::Algorithm;
use crate::oidc::token::Presented;
use crate::store::{IfMissing, Trusted};
use crate::values::actor::Actor;
use crate::values::clock::SystemClock;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};
use tempfile::TempDir;
use uuid::Uuid;

/// The number of rows in the log.
const ROWS: i64 = 8;
/// The row to tamper with, unless another one is named.
const ROW: i64 = 4;

/// A log whose files are copied for each tampering.
struct Log {
    folder: TempDir,
    anchors: Vec<Anchor>,
}

async fn store(folder: &Path, if_missing: IfMissing) -> Trusted {
    let config = Config::new(folder.join("carnet.db").into(), MasterKeySource::Folder(folder.join("keys")));
    Config { if_missing, ..config }.open_trusted().await.unwrap()
}

/// An event with something in every column.
fn event(number: u128) -> Event {
    let presented = Presented {
        iss: "https://issuer.example".to_owned(),
        sub: format!("space:default:feed:prod-{number}"),
        aud: "sts.amazonaws.com".to_owned(),
        kid: "a-kid".to_owned(),
        alg: Algorithm::Es256,
    };
    let event = Event::new(EventKind::Exchange, Outcome::Refused, &Actor::grant(Uuid::from_u128(number)))
        .about_path(&"default/prod".parse().unwrap())
        .about_grant(Uuid::from_u128(1000 + number))
        .with_token(&presented, Uuid::from_u128(2000 + number))
        .with_client(Ipv4Addr::new(192, 0, 2, 1).into())
        .in_request(&format!("request {number}"))
        .upstream_request(&format!("upstream request {number}"))
        .detail(&format!("AccessDenied {number}"))
        .for_check()
        .counted(7);
    Event { feed_id: Some(Uuid::from_u128(3000 + number)), ..event }
}

impl Log {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), IfMissing::Create).await;
        let log = AuditLog::new(store.clone(), Arc::new(SystemClock::new()), Arc::default());
        let mut anchors = Vec::new();
        for number in 1..=ROWS {
            assert_eq!(log.record(event(number.try_into().unwrap())).await.unwrap(), number);
            anchors.push(store.audit_end().await.unwrap());
        }
        store.close().await;
        Self { folder, anchors }
    }

    /// Runs `statements` on a copy and returns the verification report.
    async fn tampered(&self, statements: &[&str], anchors: &[Anchor]) -> Report {
        let copy = tempfile::tempdir().unwrap();
        fs::create_dir(copy.path().join("keys")).unwrap();
        for file in ["carnet.db", "keys/master.key"] {
            fs::copy(self.folder.path().join(file), copy.path().join(file)).unwrap();
        }
        let options = SqliteConnectOptions::new().filename(copy.path().join("carnet.db"));
        let mut sql = SqliteConnection::connect_with(&options).await.unwrap();
        for statement in statements {
            let done = sqlx::query(sqlx::AssertSqlSafe((*statement).to_owned())).execute(&mut sql).await;
            assert!(done.unwrap().rows_affected() > 0 || statement.starts_with("ATTACH"), "{statement}");
        }
        sql.close().await.unwrap();
        let store = store(copy.path(), IfMissing::Refuse).await;
        let report = store.verify_audit(anchors).await.unwrap();
        store.close().await;
        report
    }

    /// Returns the rows that are found, each once.
    async fn found(&self, statements: &[&str], anchors: &[Anchor]) -> Vec<(i64, Problem)> {
        let report = self.tampered(statements, anchors).await;
        report.findings.iter().map(|finding| (finding.seq, finding.problem)).collect()
    }

    fn end(&self) -> Anchor {
        *self.anchors.last().unwrap()
    }
}

#[tokio::test]
async fn an_unchanged_log_verifies() {
    let log = Log::new().await;
    let report = log.tampered(&[], &log.anchors).await;
    assert_eq!((report.findings, report.rows, report.end), (vec![], ROWS as u64, log.end()));
}

#[tokio::test]
async fn a_change_of_any_column_is_found_in_its_row() {
    const VALUES: [(&str, &[&str]); 18] = [
        ("at", &["at + 1"]),
        ("kind", &["'credential'", "''"]),
        ("outcome", &["'done'"]),
        ("actor", &["'local:root'"]),
        ("space", &["'other'", "NULL", "''"]),
        ("feed", &["'other'", "NULL"]),
        ("feed_id", &["(SELECT feed_id FROM audit WHERE seq = 1)", "NULL", "upper(feed_id)"]),
        ("grant_id", &["(SELECT grant_id FROM audit WHERE seq = 1)", "NULL"]),
        ("jti", &["(SELECT jti FROM audit WHERE seq = 1)", "NULL"]),
        ("sub", &["sub || 'x'", "NULL"]),
        ("aud", &["'other'", "NULL"]),
        ("kid", &["'other'", "NULL", "x'612d6b6964'"]),
        ("request_id", &["'other'", "NULL"]),
        ("upstream_request_id", &["'other'", "NULL"]),
        ("client", &["'192.0.2.2'", "NULL"]),
        ("is_check", &["0"]),
        ("detail", &["detail || ' '", "NULL", "x'00'"]),
        ("count", &["1", "'many'", "7.5"]),
    ];
    let log = Log::new().await;
    for (column, values) in VALUES {
        for value in values {
            let statement = format!("UPDATE audit SET {column} = {value} WHERE seq = {ROW}");
            let found = log.found(&[&statement], &[]).await;
            assert_eq!(found, [(ROW, Problem::Changed)], "{column} = {value}");
        }
    }
    // Every column is covered, except sequence number and MAC, which follow below.
    let options = SqliteConnectOptions::new().filename(log.folder.path().join("carnet.db"));
    let mut sql = SqliteConnection::connect_with(&options).await.unwrap();
    let columns = "SELECT name FROM pragma_table_info('audit') WHERE name NOT IN ('seq', 'mac')";
    let columns: Vec<String> = sqlx::query_scalar(columns).fetch_all(&mut sql).await.unwrap();
    assert_eq!(columns, VALUES.map(|(column, _)| column));
}

#[tokio::test]
async fn each_other_kind_of_tampering_is_found_at_its_row() {
    const MOVE_UP: [&str; 2] =
        ["UPDATE audit SET seq = -seq WHERE seq > 4", "UPDATE audit SET seq = 1 - seq WHERE seq < 0"];
    const MOVE_DOWN: [&str; 2] =
        ["UPDATE audit SET seq = -seq WHERE seq > 4", "UPDATE audit SET seq = -1 - seq WHERE seq < 0"];
    const COPY: &str = "INSERT INTO audit SELECT 5, at, kind, outcome, actor, space, feed, feed_id, grant_id, jti, \
                        sub, aud, kid, request_id, upstream_request_id, client, is_check, detail, count, mac \
                        FROM audit WHERE seq = 4";
    let log = Log::new().await;
    let missing = |from, until| (from, Problem::Missing { until });
    type Expected = Vec<(i64, Problem)>;
    let table: [(&str, Vec<&str>, Expected); 16] = [
        (
            "another row's MAC",
            vec!["UPDATE audit SET mac = (SELECT mac FROM audit WHERE seq = 2) WHERE seq = 4"],
            vec![(4, Problem::MacChanged)],
        ),
        (
            "a MAC that is none",
            vec!["UPDATE audit SET mac = 'x' WHERE seq = 4"],
            vec![(4, Problem::MacChanged)],
        ),
        ("a row is removed", vec!["DELETE FROM audit WHERE seq = 4"], vec![missing(4, 4)]),
        (
            "rows are removed",
            vec!["DELETE FROM audit WHERE seq IN (3, 4, 6)"],
            vec![missing(3, 4), missing(6, 6)],
        ),
        ("the head is removed", vec!["DELETE FROM audit WHERE seq < 3"], vec![missing(1, 2)]),
        (
            "a row is removed and the gap closed",
            [
                &["DELETE FROM audit WHERE seq = 4", "UPDATE audit SET seq = 4 WHERE seq = 5"][..],
                &["UPDATE audit SET seq = seq - 1 WHERE seq > 5"],
            ]
            .concat(),
            vec![(4, Problem::Changed), (5, Problem::Changed), (6, Problem::Changed), (7, Problem::Changed)],
        ),
        (
            "two neighbours change places",
            vec![
                "UPDATE audit SET seq = 0 WHERE seq = 4",
                "UPDATE audit SET seq = 4 WHERE seq = 5",
                "UPDATE audit SET seq = 5 WHERE seq = 0",
            ],
            vec![(4, Problem::Changed), (5, Problem::Changed), (6, Problem::Changed)],
        ),
        (
            "two rows change what they say",
            vec!["UPDATE audit SET detail = 'AccessDenied ' || (9 - seq) WHERE seq IN (3, 6)"],
            vec![(3, Problem::Changed), (6, Problem::Changed)],
        ),
        (
            "a row is inserted",
            [&MOVE_UP[..], &[COPY]].concat(),
            (5..=9).map(|seq| (seq, Problem::Changed)).collect(),
        ),
        (
            "a row is put at the end",
            vec![
                "INSERT INTO audit SELECT 9, at, kind, outcome, actor, space, feed, feed_id, grant_id, jti, sub, aud, \
                 kid, request_id, upstream_request_id, client, is_check, detail, count, mac FROM audit WHERE seq = 8",
            ],
            vec![(9, Problem::Changed)],
        ),
        (
            "a row is put before the beginning",
            vec!["UPDATE audit SET seq = -3 WHERE seq = 8"],
            vec![(-3, Problem::BeforeBeginning)],
        ),
        ("the base row is removed", vec!["DELETE FROM audit_base"], vec![(0, Problem::Base)]),
        (
            "the head is cut off and the base moved there",
            vec![
                "UPDATE audit_base SET seq = 3, mac = (SELECT mac FROM audit WHERE seq = 3)",
                "DELETE FROM audit WHERE seq <= 3",
            ],
            vec![(3, Problem::Base)],
        ),
        (
            "with a MAC for the base taken from a row",
            vec![
                "UPDATE audit_base SET seq = 3, mac = (SELECT mac FROM audit WHERE seq = 3), \
                 tag = (SELECT mac FROM audit WHERE seq = 4)",
                "DELETE FROM audit WHERE seq <= 3",
            ],
            vec![(3, Problem::Base)],
        ),
        (
            "the base row's number alone",
            vec!["UPDATE audit_base SET seq = 1"],
            vec![(1, Problem::Base), (1, Problem::BeforeBeginning), (2, Problem::Changed)],
        ),
        ("the base row is no base row", vec!["UPDATE audit_base SET mac = 'x'"], vec![(0, Problem::Base)]),
    ];
    for (what, statements, expected) in table {
        assert_eq!(log.found(&statements, &[]).await, expected, "{what}");
    }
    // A gap that was closed by renumbering: every row that moved is found.
    let found = log.found(&[&["DELETE FROM audit WHERE seq = 4"][..], &MOVE_DOWN].concat(), &[]).await;
    assert_eq!(found.first(), Some(&(4, Problem::Changed)));
}

/// Verification need not find a row whose sequence number is not an integer, because none can be written.
#[tokio::test]
async fn the_database_accepts_only_rows_with_a_sequence_number() {
    let log = Log::new().await;
    let options = SqliteConnectOptions::new().filename(log.folder.path().join("carnet.db"));
    let mut sql = SqliteConnection::connect_with(&options).await.unwrap();
    for place in ["'last'", "x'08'", "8.5", "NULL"] {
        let statement = format!("UPDATE audit SET seq = {place} WHERE seq = 8");
        let refused = sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut sql).await;
        assert!(refused.is_err(), "{place}");
    }
    sql.close().await.unwrap();
    assert_eq!(log.found(&[], &[]).await, []);
}

#[tokio::test]
async fn a_cut_tail_is_found_by_an_anchor_alone() {
    let log = Log::new().await;
    let cut = ["DELETE FROM audit WHERE seq > 5"];
    assert_eq!(log.found(&cut, &[]).await, []);
    assert_eq!(log.found(&cut, &log.anchors[..5]).await, []);
    assert_eq!(log.found(&cut, &[log.anchors[2], log.end()]).await, [(8, Problem::CutOff { last: 5 })]);
    assert_eq!(log.found(&["DELETE FROM audit"], &[log.end()]).await, [(8, Problem::CutOff { last: 0 })]);
}

#[tokio::test]
async fn a_log_that_was_cut_and_written_again_does_not_agree_with_its_anchors() {
    let log = Log::new().await;
    let options = SqliteConnectOptions::new().filename(log.folder.path().join("carnet.db"));
    let mut sql = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query("DELETE FROM audit WHERE seq > 5").execute(&mut sql).await.unwrap();
    sql.close().await.unwrap();
    // carnet itself, which has the key, continues after the end of the log.
    let store = store(log.folder.path(), IfMissing::Refuse).await;
    let again = AuditLog::new(store.clone(), Arc::new(SystemClock::new()), Arc::default());
    for number in 6..=9 {
        again.record(event(100 + number)).await.unwrap();
    }
    let report = store.verify_audit(&[log.anchors[4], log.anchors[6]]).await.unwrap();
    let found: Vec<_> = report.findings.iter().map(|finding| (finding.seq, finding.problem)).collect();
    assert_eq!(found, [(7, Problem::NotAnchored)]);
}

#[tokio::test]
async fn rows_of_another_database_are_found() {
    let (log, other) = (Log::new().await, Log::new().await);
    let attach = format!("ATTACH '{}' AS other", other.folder.path().join("carnet.db").display());
    let copy = "INSERT OR REPLACE INTO main.audit SELECT * FROM other.audit WHERE seq = 4";
    // Its MAC was copied with it, so the row after it fails, too.
    let found = log.found(&[&attach, copy], &[]).await;
    assert_eq!(found, [(4, Problem::Changed), (5, Problem::Changed)]);
    let all = [
        &attach,
        "INSERT OR REPLACE INTO main.audit SELECT * FROM other.audit",
        "INSERT OR REPLACE INTO main.audit_base SELECT * FROM other.audit_base",
    ];
    let report = log.tampered(&all, &[]).await;
    assert_eq!((report.findings[0].seq, report.findings[0].problem), (0, Problem::Base));
}
