//! The table that is printed.

use crate::side::Timed;

/// The median, and the range that eight of ten values lie in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let at = |percent: usize| {
            let index = values.len().saturating_sub(1) * percent / 100;
            values.get(index).copied().unwrap_or(f64::NAN)
        };
        Self { low: at(10), median: at(50), high: at(90) }
    }
}

/// What was measured so far.
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
