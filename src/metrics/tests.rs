use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use http::{Method, StatusCode};
use jiff::Timestamp;
use proptest::prelude::*;

use super::buckets::SECONDS;
use super::labels::Label;
use super::*;
use crate::feed::FeedType;
use crate::jose::Algorithm;
use crate::jose::key_pair::{KeyPair, RsaBits};
use crate::signing_keys::policy::RotationPolicy;
use crate::signing_keys::{SigningKey, Stage};
use crate::values::clock::SimulatedClock;
use crate::values::random::SecureRandom;

const DAY: i64 = 24 * 3600;

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap()
}

/// An active key that has signed for ten days, and a prepared key that is one day old.
fn reading(now: Timestamp) -> KeyReading {
    let key = |days: i64, stage| SigningKey {
        public: KeyPair::generate(Algorithm::Es256, RsaBits::default(), &SecureRandom::default())
            .unwrap()
            .public()
            .clone(),
        prepared_at: Timestamp::from_second(now.as_second() - days * DAY).unwrap(),
        published_at: Some(Timestamp::from_second(now.as_second() - days * DAY).unwrap()),
        longest_lifetime: Duration::ZERO,
        stage,
    };
    let activated_at = Timestamp::from_second(now.as_second() - 10 * DAY).unwrap();
    KeyReading {
        now,
        keys: vec![key(40, Stage::Active { activated_at }), key(1, Stage::Prepared)],
        policy: RotationPolicy::default(),
        unconfirmed: Duration::from_millis(250),
        clock: ClockState::Steady,
        erasure_pending: true,
        state: Some(StateReading { n: 7, refused: false, unproved: true, file_failed: false }),
        locations: Vec::new(),
    }
}

/// Metrics in which each metric has at least one sample.
fn touched() -> Metrics {
    let metrics = Metrics::new();
    metrics.keys.read_with(|| Some(reading(now())));
    metrics.server.answered(Some("/metrics"), &Method::GET, StatusCode::OK, Duration::from_millis(2));
    metrics.server.certificate_served(Listener::Main, now());
    metrics
}

/// The lines of samples, without comments.
fn samples(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#')).collect()
}

/// The names of the metrics, as queries write them.
fn names(text: &str) -> BTreeSet<&str> {
    samples(text)
        .into_iter()
        .filter_map(|line| line.split(['{', ' ']).next())
        .filter(|name| !name.ends_with("_bucket") && !name.ends_with("_count") && !name.ends_with("_sum"))
        .chain(text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" histogram")))
        .collect()
}

/// Every word of `text` that begins with `carnet_`, without the suffixes of a histogram's series.
fn mentioned(text: &str) -> BTreeSet<&str> {
    let starts = text.match_indices("carnet_").map(|(at, _)| at);
    let starts = starts.filter(|at| !text[..*at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_'));
    starts
        .map(|at| {
            let end = text[at..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let name = &text[at..end.map_or(text.len(), |end| at + end)];
            ["_bucket", "_count", "_sum"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
        })
        .collect()
}

fn file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn every_metric_is_documented_and_every_documented_one_exists() {
    let text = touched().encode();
    let documented = file("docs/metrics.md");
    // In each row of the tables, the metric's name comes first.
    let rows = documented.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let rows: BTreeSet<&str> = rows.filter(|name| name.starts_with("carnet_")).collect();
    assert_eq!(rows, names(&text));
}

#[test]
fn every_label_and_every_one_of_its_values_is_documented() {
    let documented = file("docs/metrics.md");
    let known = |word: &str| documented.contains(&format!("`{word}`"));
    fn values<L: Label>() -> impl Iterator<Item = &'static str> {
        [L::NAME].into_iter().chain(L::ALL.iter().map(|label| label.text()))
    }
    let words = values::<Algorithm>()
        .chain(values::<FeedType>())
        .chain(values::<MintOutcome>())
        .chain(values::<ExchangeOutcome>())
        .chain(values::<CredentialOutcome>())
        .chain(values::<crate::signing_keys::State>())
        .chain(values::<ClockState>())
        .chain(values::<Limit>())
        .chain(values::<GrantOutcome>())
        .chain(values::<Listener>());
    let missing: Vec<_> = words.filter(|word| !known(word)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn dashboard_and_alerts_name_metrics_that_exist_and_the_dashboard_shows_them_all() {
    let text = touched().encode();
    let names = names(&text);
    let dashboard = file("docs/grafana/carnet.json");
    let parsed: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    assert!(parsed["panels"].as_array().unwrap().len() > 10);
    let alerts = file("docs/prometheus/alerts.yml");
    for (what, used) in [("dashboard", mentioned(&dashboard)), ("alerts", mentioned(&alerts))] {
        assert!(used.is_subset(&names), "{what}: {:?}", used.difference(&names).collect::<Vec<_>>());
    }
    let shown = mentioned(&dashboard);
    assert!(names.is_subset(&shown), "not shown: {:?}", names.difference(&shown).collect::<Vec<_>>());
}

#[test]
fn dashboard_and_alerts_select_label_values_that_exist() {
    let text = touched().encode();
    let pairs = |text: &str| -> BTreeSet<String> {
        // `name="value"`, `name!="value"` or `name=~"one|another"`; in JSON the quotes are escaped.
        let text = text.replace("\\\"", "\"").replace("=~\"", "=\"").replace("!=\"", "=\"");
        let parts: Vec<&str> = text.split("=\"").collect();
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let named = parts.windows(2).filter_map(|two| {
            let name = two[0].rsplit(|c: char| !word(c)).next()?;
            Some((name, two[1].split('"').next()?))
        });
        named
            .flat_map(|(name, values)| values.split('|').map(move |value| format!("{name}={value}")))
            .collect()
    };
    let known = pairs(&text);
    for path in ["docs/grafana/carnet.json", "docs/prometheus/alerts.yml"] {
        let used = pairs(&file(path));
        // Labels that the scraper adds, and Grafana's own variables, are not ours.
        let ours = |pair: &&String| !pair.starts_with("job=") && !pair.contains('$');
        let unknown: Vec<_> = used.iter().filter(ours).filter(|pair| !known.contains(*pair)).collect();
        assert!(unknown.is_empty(), "{path}: {unknown:?}");
    }
}

#[test]
fn counters_of_events_that_have_not_happened_are_zero() {
    let text = Metrics::new().encode();
    for line in [
        r#"carnet_tokens_minted_total{alg="ES256",outcome="minted"} 0"#,
        r#"carnet_exchanges_total{provider="azure-acr",outcome="refused"} 0"#,
        "carnet_audit_write_failures_total 0",
    ] {
        assert!(samples(&text).contains(&line), "{line}\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn key_metrics_follow_the_keys_and_the_clock_at_the_time_of_the_scrape() {
    let text = touched().encode();
    for line in [
        r#"carnet_signing_keys{alg="ES256",state="active"} 1.0"#,
        r#"carnet_signing_keys{alg="ES256",state="retired"} 0.0"#,
        r#"carnet_signing_keys{alg="RS256",state="active"} 0.0"#,
        r#"carnet_signing_key_age_seconds{alg="ES256",state="active"} 864000.0"#,
        r#"carnet_signing_key_age_seconds{alg="ES256",state="prepared"} 86400.0"#,
        // Keys rotate every 30 days by default.
        r#"carnet_rotation_due_seconds{alg="ES256"} 1728000.0"#,
        "carnet_key_state_unconfirmed_seconds 0.25",
        r#"carnet_clock_state{state="steady"} 1.0"#,
        r#"carnet_clock_state{state="behind"} 0.0"#,
        "carnet_erasure_pending 1.0",
        "carnet_publications_behind 0.0",
    ] {
        assert!(samples(&text).contains(&line), "{line}\n{text}");
    }
    // Without a reading there are no metrics of keys.
    let gone = Metrics::new();
    gone.keys.read_with(|| None);
    assert!(!gone.encode().contains("carnet_signing_key"));
}

#[test]
fn an_overdue_rotation_is_negative_and_waits_for_propagation() {
    let mut reading = reading(now());
    let due = |reading: &KeyReading| {
        let reading = reading.clone();
        let metrics = Metrics::new();
        metrics.keys.read_with(move || Some(reading.clone()));
        let text = metrics.encode();
        let line = text.lines().find(|line| line.starts_with("carnet_rotation_due_seconds{")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    reading.now = Timestamp::from_second(now().as_second() + 21 * DAY).unwrap();
    assert_eq!(due(&reading), -86400.0);
    // A key that was prepared at this moment signs only after 24 hours of publication.
    reading.keys[1].published_at = Some(reading.now);
    assert_eq!(due(&reading), 86400.0);
    // While it is unknown when a copy will show the key, only the age of the active key counts.
    reading.keys[1].published_at = None;
    assert_eq!(due(&reading), -86400.0);
}

#[test]
fn an_attempt_is_counted_once_however_it_ends() {
    let (metrics, clock) = (Metrics::new(), SimulatedClock::at(now()));
    let attempt = metrics.issuance.attempt(FeedType::AwsEcr, &clock);
    assert!(metrics.encode().contains("carnet_exchanges_in_progress{provider=\"aws-ecr\"} 1\n"));
    clock.advance(Duration::from_millis(300));
    attempt.end(ExchangeOutcome::Ok);
    drop(metrics.issuance.attempt(FeedType::AwsEcr, &clock));
    let text = metrics.encode();
    for line in [
        r#"carnet_exchanges_total{provider="aws-ecr",outcome="ok"} 1"#,
        r#"carnet_exchanges_total{provider="aws-ecr",outcome="abandoned"} 1"#,
        r#"carnet_exchanges_in_progress{provider="aws-ecr"} 0"#,
        r#"carnet_exchange_duration_seconds_bucket{le="0.25",provider="aws-ecr"} 1"#,
        r#"carnet_exchange_duration_seconds_count{provider="aws-ecr"} 2"#,
        r#"carnet_exchange_duration_seconds_sum{provider="aws-ecr"} 0.3"#,
    ] {
        assert!(samples(&text).contains(&line), "{line}\n{text}");
    }
}

/// The maximum number of series: those of every enum, and of every route, method and status.
fn most_series() -> usize {
    let routes = routes::ROUTES.len() + 1;
    let (methods, statuses, series_of_a_histogram) = (8, 5, SECONDS.len() + 3);
    samples(&touched().encode()).len() + routes * methods * statuses + routes * series_of_a_histogram
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// For any requests, there are no more series than the source has label values.
    #[test]
    fn no_request_adds_a_label_value(
        requests in prop::collection::vec(("[ -~]{0,40}", "[A-Z]{1,12}", 100_u16..1000), 1..200)
    ) {
        let metrics = touched();
        for (path, method, status) in &requests {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let status = StatusCode::from_u16(*status).unwrap();
            for route in routes::ROUTES.iter().copied().chain([path.as_str()]) {
                metrics.server.answered(Some(route), &method, status, Duration::from_millis(1));
            }
        }
        let text = metrics.encode();
        prop_assert!(samples(&text).len() <= most_series());
        for (path, _, _) in &requests {
            let label = format!("route=\"{path}\"");
            prop_assert!(!text.contains(&label) || path == routes::OTHER);
        }
    }
}

#[test]
fn the_text_grows_with_the_digits_of_its_numbers_only() {
    let (metrics, clock) = (touched(), SimulatedClock::at(now()));
    let scrape = |rounds: usize| {
        for round in 0..rounds {
            metrics.issuance.minted(Algorithm::Rs256, MintOutcome::Minted);
            metrics.issuance.attempt(FeedType::AzureAcr, &clock).end(ExchangeOutcome::Refused);
            metrics.issuance.answered(FeedType::AzureAcr, CredentialOutcome::Failed);
            metrics.issuance.remembers(round);
            metrics.issuance.jwks_fetched();
            metrics.audit.queued();
            metrics.audit.written(1, Duration::from_millis(3));
            metrics.audit.left_queue(1);
            metrics.keys.rotation_failed();
            metrics.server.limited(Limit::Grant);
            metrics.server.grant_checked(GrantOutcome::Accepted);
        }
        samples(&metrics.encode()).len()
    };
    let once = scrape(1);
    assert_eq!(scrape(5_000), once);
    assert!(once < 1_000, "{once} series in a server that has answered next to nothing");
}
