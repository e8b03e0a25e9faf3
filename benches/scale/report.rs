//! The table that is printed.

use crate::side::Timed;
use crate::spread::Spread;

/// The printed table, and whether all limits held so far.
pub(crate) struct Report {
    is_within: bool,
}

impl Report {
    /// Prints the head of the table.
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!("{cores} cores, load {}\n", load.split(' ').next().unwrap_or("?"));
        println!("{:<52}{:>12}{:>12}{:>8}{:>16}{:>7}", "", "small", "large", "ratio", "10 % – 90 %", "limit");
        Self { is_within: true }
    }

    /// Prints the times of both and their ratio.
    pub(crate) fn compared(&mut self, name: &str, limit: Option<f64>, timed: Timed) {
        let ratio = timed.ratio();
        let milliseconds = |values: Vec<f64>| format!("{:.2} ms", Spread::of(values).median * 1e3);
        let verdict = self.verdict(limit.is_none_or(|limit| ratio.median <= limit));
        println!(
            "{name:<52}{:>12}{:>12}{:>8.2}{:>16}{:>7} {}",
            milliseconds(timed.small),
            milliseconds(timed.large),
            ratio.median,
            format!("{:.2} – {:.2}", ratio.low, ratio.high),
            limit.map_or("–".to_owned(), |limit| format!("{limit:.1}")),
            if limit.is_some() { verdict } else { "" },
        );
    }

    /// Prints parts of a core.
    pub(crate) fn idle(&mut self, name: &str, limit: f64, (small, large): (f64, f64)) {
        let verdict = self.verdict(large <= limit);
        let percent = |part: f64| format!("{:.2} %", part * 100.0);
        println!(
            "{name:<52}{:>12}{:>12}{:>8}{:>16}{:>7} {verdict}",
            percent(small),
            percent(large),
            "",
            "",
            percent(limit)
        );
    }

    fn verdict(&mut self, is_within: bool) -> &'static str {
        self.is_within &= is_within;
        if is_within { "" } else { "MISSED" }
    }

    /// Says whether every limit was met.
    pub(crate) fn print(self) -> bool {
        println!("\n{}", if self.is_within { "Every limit was met." } else { "Limits were missed." });
        self.is_within
    }
}
