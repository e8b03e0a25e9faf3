//! `carnet doctor`: the findings for a healthy issuer and for each kind of problem.

mod at_rest;
mod public;
mod stranger;

use std::time::Duration;

use crate::support::carnet::{Announced, Carnet, Output};
use crate::support::keys;
use serde_json::Value;

/// Far longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const FAILED: i32 = 1;
const USAGE: i32 = 2;

/// The findings, in order.
#[derive(Debug)]
struct Found {
    status: i32,
    report: Value,
}

impl Found {
    /// Runs `carnet doctor MORE`.
    #[track_caller]
    fn of(carnet: &Carnet, more: &[&str]) -> Self {
        let Output { status, stdout, stderr } = carnet.run(&[&["doctor", "--output=json"], more].concat());
        let report: Value =
            serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}:\n{stdout}{stderr}"));
        assert_eq!(report["ok"], status == 0, "{stdout}{stderr}");
        Self { status, report }
    }

    fn findings(&self) -> &[Value] {
        self.report["findings"].as_array().unwrap()
    }

    fn ids(&self) -> Vec<&str> {
        self.findings().iter().map(|finding| finding["id"].as_str().unwrap()).collect()
    }

    fn get(&self, id: &str) -> Option<&Value> {
        self.findings().iter().find(|finding| finding["id"] == id)
    }

    /// Asserts that `id` has this status and text, with a hint, and that the exit code matches.
    #[track_caller]
    fn assert(&self, id: &str, status: &str, words: &str) {
        let finding = self.get(id).unwrap_or_else(|| panic!("no {id} in {:#?}", self.report));
        assert_eq!(finding["status"], status, "{:#?}", self.report);
        let text = format!("{}\n{}", finding["summary"], finding["detail"]);
        assert!(text.contains(words), "should say {words:?}: {finding:#}");
        if status != "ok" {
            assert!(finding["hint"].is_string() && finding["detail"].is_string(), "{finding:#}");
        }
        if status == "failed" {
            assert_eq!(self.status, FAILED);
        }
    }

    /// Returns the findings that are not `ok`.
    fn complaints(&self) -> Vec<(&str, &str)> {
        self.findings()
            .iter()
            .map(|finding| (finding["id"].as_str().unwrap(), finding["status"].as_str().unwrap()))
            .filter(|(_, status)| *status != "ok")
            .collect()
    }
}

/// Returns an issuer at [`keys::ISSUER`] with its first keys, made by a clock that is off by `clock`, without
/// a server.
fn founded(clock: &'static str) -> Carnet {
    let carnet = Carnet::with_clock_off_by(clock);
    stop(keys::serve(&carnet));
    carnet
}

fn stop(mut server: Announced) {
    server.process.ask_to_stop();
    assert!(server.process.wait_for_end(PATIENCE).expect("the server does not stop").success());
}
