//! Floods of viewers with expensive queries on a large log.

use crate::api::world::{Grant, World};
use crate::floods::beside::{Request, beside};
use crate::support::database;

/// Adds 500,000 rows, like some busy months. Their MACs are wrong, which readers do not check.
fn fill(world: &World) {
    let rows = "WITH RECURSIVE
            last AS (SELECT seq, at, mac FROM audit ORDER BY seq DESC LIMIT 1),
            numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < 500000)
        INSERT INTO audit (seq, at, kind, outcome, actor, space, feed, is_check, detail, count, mac)
        SELECT last.seq + number, last.at, 'credential', 'done', 'grant:' || number % 100, 'default',
            'feed' || number % 50, FALSE, 'cache', 1, last.mac
        FROM last, numbers ORDER BY number";
    database::execute(&world.issuer.carnet.database(), rows);
}

#[test]
fn readers_of_a_large_log_delay_no_other_caller() {
    let world = World::new("");
    fill(&world);
    let viewers: Vec<Grant> = (0..8).map(|_| world.grant(&["--role=viewer"])).collect();
    let paths = [
        "/audit?outcome=failed",
        "/audit?feed=nosuch",
        "/audit?since=2020-01-01T00:00:00Z",
        "/audit?since=2020-01-01T00:00:00Z&outcome=refused",
    ];
    beside(&world, |connection, number| {
        Request::get(
            &viewers[connection % viewers.len()],
            paths[(connection / viewers.len() + number) % paths.len()],
        )
    });
}
