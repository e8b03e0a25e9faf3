//! A large database beside a small one: 100,000 feeds and 1,000,000 rows of the audit log beside 10 and 200.
//!
//! Two real servers run at once and are asked in turns over a connection that stays open, so that the machine's noise
//! falls on both. Reported are ratios of medians; the processor time of an idle server and the time of a start are
//! measured likewise. Fails if a limit is missed, when it is run by `cargo bench`; a number of rows as an argument, as
//! in `cargo bench --bench scale -- 50000`, makes a smaller trial.

#![expect(clippy::print_stdout, reason = "the report is what a benchmark is run for")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "set-up that fails should end the benchmark where it stands"
)]

#[path = "scale/fill.rs"]
mod fill;
#[path = "scale/report.rs"]
mod report;
#[path = "scale/side.rs"]
mod side;
#[path = "support/spread.rs"]
mod spread;
#[path = "../tests/it/support/mod.rs"]
mod support;
#[path = "../tests/it/api/world.rs"]
#[allow(dead_code, reason = "a benchmark uses a part")]
mod world;

use std::process::ExitCode;
use std::time::Duration;

use self::fill::Size;
use self::report::Report;
use self::side::{Request, Side, Timed};
use self::spread::Spread;

const SMALL: Size = Size { feeds: 10, rows: 200, actors: 5 };
const LARGE: Size = Size { feeds: 100_000, rows: 1_000_000, actors: 1000 };

/// Rounds of each request, and requests to each server in a round.
const ROUNDS: usize = 21;
const ASKED: usize = 25;

/// The time for which idle servers are watched.
const IDLE: Duration = Duration::from_secs(30);

/// The number of starts of each server.
const STARTS: usize = 9;

/// The largest ratio of a page, a look-up by registry and a start, and the largest part of a core for an idle server.
const PAGE: f64 = 1.5;
const LOOKUP: f64 = 1.2;
const START: f64 = 1.5;
const BUSY: f64 = 0.01;

fn main() -> ExitCode {
    let rows = std::env::args().skip(1).find_map(|argument| argument.parse::<usize>().ok());
    let large = rows.map_or(LARGE, |rows| Size { feeds: rows.div_ceil(10).max(2000), rows, ..LARGE });
    println!(
        "\nscale: {} feeds and {} rows beside {} and {}",
        large.feeds, large.rows, SMALL.feeds, SMALL.rows
    );
    let (mut small, mut large) = (Side::filled(SMALL), Side::filled(large));
    let mut report = Report::new();

    for request in side::requests() {
        report.compared(&request.name, request.limit, asked(&small, &large, &request));
    }
    let (idle_small, idle_large) = side::idle(&small, &large, IDLE);
    report.idle("idle, part of a core", BUSY, (idle_small, idle_large));
    report.compared("start", Some(START), started(&mut small, &mut large));
    let run = |side: &Side, arguments: &[&str]| side.run(arguments);
    for (name, limit, rounds, arguments) in [
        ("key list, as a command", Some(START), STARTS, &["key", "list"][..]),
        ("audit list, as a command", Some(START), STARTS, &["audit", "list", "--limit=10"]),
        // Verifies every row of the log: that takes its time.
        ("doctor, with the whole log verified", None, 3, &["doctor", "--allow-private"]),
    ] {
        report.compared(name, limit, in_turns(rounds, || run(&small, arguments), || run(&large, arguments)));
    }
    if report.print() || !std::env::args().any(|argument| argument == "--bench") {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The times of one request, in rounds.
fn asked(small: &Side, large: &Side, of: &Request) -> Timed {
    // A connection of its own for each round: a thread of the server that sleeps beside another one's makes answers from
    // memory take twice as long on one connection as on the next. The first round makes caches warm.
    in_turns(ROUNDS + 1, || small.ask(of).median_of(ASKED), || large.ask(of).median_of(ASKED)).without_first()
}

fn started(small: &mut Side, large: &mut Side) -> Timed {
    in_turns(STARTS, || small.restart(), || large.restart())
}

/// Measures both in each round; either goes first as often as the other.
fn in_turns(rounds: usize, mut small: impl FnMut() -> f64, mut large: impl FnMut() -> f64) -> Timed {
    let mut timed = Timed::default();
    for round in 0..rounds {
        let (one, other) = if round % 2 == 0 {
            let one = small();
            (one, large())
        } else {
            let other = large();
            (small(), other)
        };
        timed.small.push(one);
        timed.large.push(other);
    }
    timed
}

impl Timed {
    fn without_first(mut self) -> Self {
        self.small.remove(0);
        self.large.remove(0);
        self
    }

    /// Of each round.
    fn ratio(&self) -> Spread {
        Spread::of(self.small.iter().zip(&self.large).map(|(small, large)| large / small).collect())
    }
}
