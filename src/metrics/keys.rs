//! Metrics of signing keys, their rotation, and the clock.
//!
//! Ages and dates are computed at each scrape, from the current keys and clock.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::labels::{Label, LabelSet, Pairs, Series, labels};
use crate::jose::Algorithm;
use crate::signing_keys::policy::RotationPolicy;
use crate::signing_keys::publication::{KeyLocation, is_current, still_shown};
use crate::signing_keys::rotation::due_at;
use crate::signing_keys::{SigningKey, Stage, State, published};

labels! {
    /// The state of this machine's clock.
    pub ClockState is "state" {
        /// The clock is trusted.
        Steady = "steady",
        /// The clock has jumped forward. Keys do not rotate until the jump has held.
        Jumped = "jumped",
        /// The clock is behind the database's high-water time. Keys do not rotate, and no tokens are minted.
        Behind = "behind",
        /// The clock is so far ahead that an operator has to accept it. Keys do not rotate, and no tokens are
        /// minted.
        Ahead = "ahead",
    }
}

labels! {
    /// The outcome of bringing a copy of the documents up to date.
    pub PublicationOutcome is "outcome" {
        /// The copy was written after a change of the documents.
        Written = "written",
        /// The copy was written again, because another writer had changed it.
        Altered = "altered",
        /// The copy was not written: the target does not respond, or holds documents that are not ours.
        Failed = "failed",
    }
}

/// The state of keys and clock at one moment.
#[derive(Debug, Clone)]
pub struct KeyReading {
    /// The moment of the reading.
    pub now: Timestamp,
    /// All keys, whatever their state.
    pub keys: Vec<SigningKey>,
    /// The policy.
    pub policy: RotationPolicy,
    /// The time since the database last confirmed the key state.
    pub unconfirmed: Duration,
    /// The state of this machine's clock.
    pub clock: ClockState,
    /// `true` while destroyed private halves may still be in the database's files.
    pub erasure_pending: bool,
    /// The locations, besides the servers, where verifiers find keys.
    pub locations: Vec<KeyLocation>,
    /// The state of the database, if known.
    pub state: Option<StateReading>,
}

/// The state of the database.
#[derive(Debug, Clone, Copy)]
pub struct StateReading {
    /// The number of the last state.
    pub n: i64,
    /// `true` while the database is not trusted.
    pub refused: bool,
    /// `true` as long as nothing outside the database has proved that it is not an older one.
    pub unproved: bool,
    /// `true` while the state file cannot be written.
    pub file_failed: bool,
}

/// Metrics of the signing keys.
#[derive(Debug)]
pub struct Keys {
    reader: Reader,
    rotation_failures: Counter,
    publications: Series<(PublicationOutcome,), Counter>,
    consecutive_failures: Gauge,
}

impl Keys {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let reader = Reader::default();
        registry.register_collector(Box::new(reader.clone()));
        let rotation_failures = Counter::default();
        registry.register("rotation_failures", "Scheduled rotations that failed", rotation_failures.clone());
        let consecutive_failures = Gauge::default();
        registry.register(
            "rotation_consecutive_failures",
            "Scheduled rotations that failed since the last success",
            consecutive_failures.clone(),
        );
        let help = "Writes of copies of the documents, and failures";
        let publications = Series::register(registry, "publications", help, None, Counter::default);
        Self { reader, rotation_failures, publications, consecutive_failures }
    }

    /// Sets the function that each scrape reads from. It returns `None` if there is nothing left to read.
    /// Only the first call has an effect.
    pub fn read_with(&self, read: impl Fn() -> Option<KeyReading> + Send + Sync + 'static) {
        let _ = self.reader.0.set(Box::new(read));
    }

    /// Counts a scheduled rotation that failed.
    pub fn rotation_failed(&self) {
        self.rotation_failures.inc();
        self.consecutive_failures.inc();
    }

    /// Counts an attempt to bring a copy of the documents up to date.
    pub fn publication(&self, outcome: PublicationOutcome) {
        self.publications.at((outcome,)).inc();
    }

    /// Resets the number of consecutive failures.
    pub fn rotation_works(&self) {
        self.consecutive_failures.set(0);
    }
}

type Read = Box<dyn Fn() -> Option<KeyReading> + Send + Sync>;

/// The function to read from, shared by [`Keys`] and the registry.
#[derive(Clone, Default)]
struct Reader(Arc<OnceLock<Read>>);

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

impl Collector for Reader {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let reading = self.0.get().and_then(|read| read());
        reading.map_or(Ok(()), |reading| reading.encode(encoder))
    }
}

impl KeyReading {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> fmt::Result {
        let Self { now, keys, policy, unconfirmed, clock, erasure_pending, locations, state } = self;
        let published = published(keys, *now);
        let count = |(alg, state): (Algorithm, State)| {
            published.iter().filter(|key| key.algorithm() == alg && key.state(*now) == state).count()
        };
        let counts = <(Algorithm, State)>::all();
        let counts = counts.into_iter().map(|labels| (labels.pairs(), whole(count(labels))));
        gauges(&mut to, "signing_keys", "Published keys", None, counts)?;

        let ages = published.iter().filter_map(|key| {
            let labels = (key.algorithm(), key.state(*now));
            Some((labels.pairs(), seconds(*now, entered(key)?)))
        });
        let help = "Time since the key was prepared, or activated";
        gauges(&mut to, "signing_key_age", help, Some(&Unit::Seconds), ages)?;

        let due = Algorithm::ALL.into_iter().filter_map(|alg| {
            let due = due_at(keys, policy, alg)?;
            Some(((alg,).pairs(), seconds(due, *now)))
        });
        let help = "Time until the active key is due to be replaced; negative if it is overdue";
        gauges(&mut to, "rotation_due", help, Some(&Unit::Seconds), due)?;

        let help = "Time since the database last confirmed the key state";
        let value = unconfirmed.as_secs_f64();
        gauges(&mut to, "key_state_unconfirmed", help, Some(&Unit::Seconds), [(Pairs::new(), value)])?;

        let states = ClockState::ALL.iter();
        let states = states.map(|state| (vec![state.pair()], f64::from(u8::from(state == clock))));
        gauges(&mut to, "clock_state", "1 for the present opinion of this machine's clock", None, states)?;

        let help = "1 while destroyed private keys may be left in the database's files";
        let value = f64::from(u8::from(*erasure_pending));
        gauges(&mut to, "erasure_pending", help, None, [(Pairs::new(), value)])?;

        if let Some(StateReading { n, refused, unproved, file_failed }) = *state {
            let flag = |is_set: bool| f64::from(u8::from(is_set));
            let help = "1 while the database is rejected: it was replaced by an older one, or altered";
            gauges(&mut to, "database_state_refused", help, None, [(Pairs::new(), flag(refused))])?;
            let help = "1 as long as nothing outside the database has proved that it is not an older one";
            gauges(&mut to, "database_state_unproved", help, None, [(Pairs::new(), flag(unproved))])?;
            let help = "1 while the state file cannot be written";
            gauges(&mut to, "state_file_failed", help, None, [(Pairs::new(), flag(file_failed))])?;
            let help = "The number of the last state of the database";
            let n = u32::try_from(n).unwrap_or(u32::MAX).into();
            gauges(&mut to, "database_state", help, None, [(Pairs::new(), n)])?;
        }

        let kids: Vec<_> = published.iter().map(|key| key.kid()).collect();
        let copies: Vec<&KeyLocation> = locations.iter().filter(|location| location.is_copy()).collect();
        let behind = copies.iter().filter(|location| !is_current(&kids, location)).count();
        let still = copies.iter().map(|location| still_shown(keys, location).len()).sum();
        for (name, help, value) in [
            ("publication_targets", "Copies of the documents for which keys wait", copies.len()),
            ("publications_behind", "Copies that differ from the published documents", behind),
            ("revoked_keys_still_published", "Revoked keys that copies still show, counted at each", still),
        ] {
            gauges(&mut to, name, help, None, [(Pairs::new(), whole(value))])?;
        }
        Ok(())
    }
}

/// The time when a key with a private half entered its state.
fn entered(key: &SigningKey) -> Option<Timestamp> {
    match key.stage {
        Stage::Prepared => Some(key.prepared_at),
        Stage::Active { activated_at } => Some(activated_at),
        Stage::Retired { .. } | Stage::Revoked { .. } => None,
    }
}

/// The seconds from `from` to `to`; negative if `to` is earlier.
fn seconds(to: Timestamp, from: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

fn whole(count: usize) -> f64 {
    u32::try_from(count).unwrap_or(u32::MAX).into()
}

fn gauges(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    values: impl IntoIterator<Item = (Pairs, f64)>,
) -> fmt::Result {
    let mut metric = to.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    for (labels, value) in values {
        if labels.is_empty() {
            return metric.encode_gauge(&value);
        }
        metric.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}
