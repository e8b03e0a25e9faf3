//! Prometheus with carnet's metrics and alert rules: its linter, its unit tests of rules, and a real scrape.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use carnet::internals::Parts as _;
use carnet::internals::feed::scope::Scope;
use carnet::internals::metrics::{Listener, Metrics, TextFormat};
use carnet::internals::oidc::subject::Context;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::in_process::InProcess;
use crate::support::process::{Process, clean_command, free_ports, http, on_free_ports, wait_until};
use crate::support::{in_package, system_peer};

const RULES: &str = "docs/prometheus/alerts.yml";
const WITHIN: Duration = Duration::from_secs(60);

/// Runs promtool, which must succeed.
fn promtool(arguments: &[&str], stdin: &str) {
    let mut child = clean_command(system_peer("promtool"))
        .args(arguments)
        .current_dir(in_package(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "promtool {arguments:?}\n{said}");
    // The linter reports most findings without failing.
    assert!(arguments != ["check", "metrics"] || said.is_empty(), "{said}");
}

/// Returns the metrics of an issuer that has done something of every kind.
async fn busy() -> (InProcess, Arc<Metrics>) {
    let world = InProcess::start().await;
    let (broker, context, everything) =
        (world.carnet.broker().unwrap(), Context::default(), Scope::default());
    broker.credential(&world.trusted, &context, &everything, None).await.unwrap();
    broker.credential(&world.stranger, &context, &everything, None).await.unwrap_err();
    let metrics = Arc::clone(world.carnet.metrics());
    metrics.audit.written(3, Duration::from_millis(4));
    let took = Duration::from_millis(7);
    metrics.server.answered(Some("/api/v1/grants/{id}"), &Method::DELETE, StatusCode::NO_CONTENT, took);
    let tomorrow = world.carnet.clock().now() + jiff::SignedDuration::from_hours(24);
    metrics.server.certificate_served(Listener::Main, tomorrow);
    (world, metrics)
}

#[test]
fn promtool_accepts_the_alert_rules_and_they_fire_exactly_when_they_should() {
    promtool(&["check", "rules", RULES], "");
    promtool(&["test", "rules", "tests/peers/alerts_test.yml"], "");
}

#[tokio::test]
async fn promtool_finds_no_fault_with_the_metrics() {
    let (_world, metrics) = busy().await;
    promtool(&["check", "metrics"], &metrics.encode_as(TextFormat::Prometheus));
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_every_metric_and_evaluates_every_rule() {
    let (_world, metrics) = busy().await;
    let target = answer_scrapes(Arc::clone(&metrics));
    let checked = tokio::task::spawn_blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let (_prometheus, address) = prometheus(folder.path(), target);
        let names: Vec<String> = metrics
            .encode()
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split(['{', ' ']).next().unwrap().to_owned())
            .collect();
        assert!(names.len() > 100);
        // Each metric was scraped under a name that Prometheus accepts.
        let known = wait_until(WITHIN, || {
            let known = ask(address, "/api/v1/label/__name__/values")?;
            let known: Vec<String> = serde_json::from_value(known["data"].clone()).ok()?;
            names.iter().all(|name| known.contains(name)).then_some(known)
        });
        let known = known.expect("not every metric was scraped");
        // No metric of carnet's has another name, as would happen if the format were misread.
        assert!(known.iter().filter(|name| name.starts_with("carnet_")).all(|name| names.contains(name)));

        let target = &ask(address, "/api/v1/targets").unwrap()["data"]["activeTargets"][0];
        assert_eq!((&target["health"], &target["lastError"]), (&"up".into(), &"".into()), "{target}");
        let metadata = ask(address, "/api/v1/metadata?metric=carnet_exchange_duration_seconds").unwrap();
        let metadata = &metadata["data"]["carnet_exchange_duration_seconds"][0];
        assert_eq!((&metadata["type"], &metadata["unit"]), (&"histogram".into(), &"seconds".into()));

        // Prometheus evaluates the rules at intervals after its start: the last ones after the scrape.
        let rules = || Some(ask(address, "/api/v1/rules")?["data"]["groups"][0]["rules"].as_array()?.clone());
        let woken = |rules: &[Value]| -> Vec<String> {
            let woken = rules.iter().filter(|rule| rule["state"] != "inactive");
            woken.map(|rule| rule["name"].as_str().unwrap().to_owned()).collect()
        };
        let expected = ["CarnetCertificateExpiresSoon"];
        let as_expected = wait_until(WITHIN, || {
            let rules = rules()?;
            let all_work = rules.iter().all(|rule| rule["health"] == "ok");
            (all_work && woken(&rules) == expected).then_some(())
        });
        assert!(as_expected.is_some(), "{:?}", rules());
    });
    checked.await.unwrap();
}

/// Starts a server that responds to every request with the metrics.
fn answer_scrapes(metrics: Arc<Metrics>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // The request arrives in one piece; its content does not matter.
            let _ = stream.read(&mut [0; 4096]);
            let (body, head) = (metrics.encode(), "HTTP/1.1 200 OK\r\nConnection: close\r\n");
            let length = body.len();
            let _ = write!(
                stream,
                "{head}Content-Type: {}\r\nContent-Length: {length}\r\n\r\n{body}",
                TextFormat::OpenMetrics.content_type()
            );
        }
    });
    address
}

/// Starts a Prometheus that scrapes `target` with carnet's rules.
fn prometheus(folder: &Path, target: SocketAddr) -> (Process, SocketAddr) {
    // JSON is valid YAML.
    let config = json!({
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [in_package(RULES)],
        "scrape_configs": [{"job_name": "carnet", "static_configs": [{"targets": [target.to_string()]}]}],
    });
    std::fs::write(folder.join("prometheus.yml"), config.to_string()).unwrap();
    on_free_ports(|| {
        let [port] = free_ports();
        let address: SocketAddr = ([127, 0, 0, 1], port).into();
        let mut process = Process::start(
            "prometheus",
            clean_command(system_peer("prometheus"))
                .current_dir(folder)
                .arg("--config.file=prometheus.yml")
                .arg("--storage.tsdb.path=data")
                .arg(format!("--web.listen-address={address}")),
        );
        process.wait_ready(WITHIN, |_| http(address, "/-/ready", None)?.contains(" 200 ").then_some(()))?;
        Ok((process, address))
    })
}

/// Returns a response of Prometheus's API.
fn ask(address: SocketAddr, path: &str) -> Option<Value> {
    let response = http(address, path, None)?;
    let (_, body) = response.split_once("\r\n\r\n")?;
    serde_json::from_str(body).ok()
}
