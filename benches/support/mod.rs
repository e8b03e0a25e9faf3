//! Shared by the benchmarks: an issuer to measure, ratios with their spread, and the report.

mod spread;

use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;

use carnet::internals::Parts as _;
use carnet::internals::carnet::{Carnet, Config, MasterKeySource};
use carnet::internals::issuer::Issuer;
use carnet::internals::store::IfMissing;
use tempfile::TempDir;

pub(crate) use self::spread::Spread;

/// A benchmark that cannot run says why.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// An issuer as `serve` opens it, in a folder that is removed afterwards.
pub(crate) struct TemporaryIssuer {
    pub(crate) carnet: Carnet,
    /// Removed when dropped.
    _folder: TempDir,
}

impl TemporaryIssuer {
    /// Makes the database, the master key and the first signing keys.
    pub(crate) async fn open() -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let database = format!("sqlite:{}", folder.path().join("carnet.db").display()).parse()?;
        let master_key = MasterKeySource::Folder(folder.path().join("keys"));
        let config = Config {
            if_missing: IfMissing::Create,
            issuer: Some("https://issuer.example".parse()?),
            ..Config::new(database, master_key)
        };
        Ok(Self { carnet: Carnet::open(config).await?, _folder: folder })
    }

    /// Returns the issuer, which signs and publishes.
    pub(crate) fn issuer(&self) -> &Arc<Issuer> {
        self.carnet.issuer()
    }
}

/// One comparison: carnet's rate divided by another's.
pub(crate) struct Row {
    /// The name of the comparison.
    pub(crate) name: String,
    /// carnet's figure, with its unit.
    pub(crate) ours: String,
    /// The other's figure, with its unit.
    pub(crate) theirs: String,
    /// The ratio of the rates, of every round.
    pub(crate) ratio: Spread,
    /// The least ratio that is good enough; none for what is there to look at.
    pub(crate) to_reach: Option<f64>,
}

/// The rows as a table, under a title and the facts of the machine.
pub(crate) fn report(title: &str, rows: &[Row]) -> Outcome<String> {
    let mut text = format!("\n{title}\n{}\n\n", machine());
    let mut line = |columns: [&str; 7]| {
        let [name, ours, theirs, ratio, spread, to_reach, verdict] = columns;
        writeln!(text, "{name:<34}{ours:>12}{theirs:>12}{ratio:>8}{spread:>16}{to_reach:>10}  {verdict}")
    };
    line(["", "carnet", "other", "ratio", "10 % – 90 %", "to reach", ""])?;
    for Row { name, ours, theirs, ratio: Spread { median, low, high }, to_reach } in rows {
        let verdict = match to_reach {
            Some(to_reach) if median >= to_reach => "reached",
            Some(_) => "MISSED",
            None => "",
        };
        let to_reach = to_reach.map_or("–".to_owned(), |least| format!("{least:.2}"));
        let (ratio, spread) = (format!("{median:.3}"), format!("{low:.3} – {high:.3}"));
        line([name, ours, theirs, &ratio, &spread, &to_reach, verdict])?;
    }
    Ok(text)
}

/// Processor, cores and load: what a ratio may depend on.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?");
    let model = model.map_or("unknown processor", |(_, name)| name.trim());
    format!("{cores} cores of {model}, load {load}")
}
