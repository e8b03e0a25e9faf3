//! `carnet key`: output, effects and refusals of each command, as text and as JSON.

mod clock;
mod leaked;
mod list;
mod nudge;
mod policy;
mod revoke;
mod rotate;

use std::time::Duration;

use crate::support::carnet::{Announced, Carnet, Output};
use crate::support::keys;
use serde_json::Value;

/// Far longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const USAGE: i32 = 2;

/// Returns an issuer with its first keys, made by a clock that is off by `clock`, without a server.
fn founded(clock: &'static str) -> Carnet {
    let carnet = Carnet::with_clock_off_by(clock);
    stop(keys::serve(&carnet));
    carnet
}

fn stop(mut server: Announced) {
    server.process.ask_to_stop();
    assert!(server.process.wait_for_end(PATIENCE).expect("the server does not stop").success());
}

fn json_of(carnet: &Carnet, arguments: &[&str]) -> Value {
    serde_json::from_str(&carnet.ok(&[arguments, &["--output=json"]].concat())).unwrap()
}

/// Returns keys, policy and history: the state that a refused command must not change.
fn state(carnet: &Carnet) -> [Value; 3] {
    [&["key", "list", "--all"][..], &["key", "policy"], &["key", "list", "--history"]]
        .map(|command| json_of(carnet, command))
}

/// Returns the rows of a table, each as its cells.
fn rows(table: &str) -> Vec<Vec<&str>> {
    fn cells(line: &str) -> Vec<&str> {
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
    }
    table.lines().skip(1).map(cells).collect()
}

#[track_caller]
fn assert_noted(output: &Output, texts: &[&str]) {
    assert_eq!((output.status, output.stdout.as_str()), (0, ""), "{}", output.stderr);
    for words in texts {
        assert!(output.stderr.contains(words), "should tell {words:?}:\n{}", output.stderr);
    }
}

#[track_caller]
fn assert_refused(output: &Output, status: i32, texts: &[&str]) {
    assert_eq!((output.status, output.stdout.as_str()), (status, ""), "{}", output.stderr);
    for words in texts {
        assert!(output.stderr.contains(words), "should say {words:?}:\n{}", output.stderr);
    }
}
