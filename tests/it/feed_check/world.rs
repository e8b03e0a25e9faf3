//! An issuer, feeds of one cloud, and the servers behind their gate.

use std::sync::Arc;

use carnet::internals::sandbox::{Sandbox, SandboxConfig};
use carnet::internals::values::clock::{Clock as _, SimulatedClock, SystemClock};
use carnet::internals::values::random::SecureRandom;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::feed_check::clouds::Cloud;
use crate::feed_check::gate::Gate;
use crate::support::ca::Ca;
use crate::support::carnet::{Announced, Carnet, Output};

/// An address where nothing listens until [the path is opened](World::put_right).
const CLOSED: &str = "127.0.0.3";

pub(crate) struct World {
    pub(crate) cloud: &'static Cloud,
    pub(crate) carnet: Carnet,
    pub(crate) server: Option<Announced>,
    pub(crate) gate: Gate,
    /// The issuer URL, which is also the base URL of the sandboxes.
    pub(crate) url: String,
    pub(crate) ca: Ca,
    runtime: Runtime,
    sandboxes: Vec<JoinHandle<()>>,
}

impl World {
    pub(crate) fn new(cloud: &'static Cloud) -> Self {
        Self::of(cloud, Carnet::new())
    }

    pub(crate) fn of(cloud: &'static Cloud, carnet: Carnet) -> Self {
        let ca = Ca::new();
        let gate = Gate::open(&ca);
        let url = format!("http://{}", gate.host);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let mut world = Self {
            cloud,
            carnet,
            server: None,
            gate,
            url,
            ca,
            runtime: runtime.unwrap(),
            sandboxes: Vec::new(),
        };
        world.gate.behind().login = cloud.login;
        let carnet = std::mem::replace(&mut world.carnet, Carnet::new());
        world.serve(&carnet, &world.url.clone());
        world.carnet = carnet;
        world.trust("", &world.url.clone(), 0);
        world
    }

    /// Serves `issuer` with `carnet` behind the gate, in place of the previous server.
    pub(crate) fn serve(&mut self, carnet: &Carnet, issuer: &str) {
        let server = carnet.serve(issuer, "127.0.0.1:0", &[]).unwrap_or_else(|failure| panic!("{failure}"));
        let at = server.announced("/listening").strip_prefix("http://").unwrap().to_owned();
        self.gate.behind().issuer = Some(at);
        self.server = Some(server);
    }

    /// Serves with this world's own carnet.
    pub(crate) fn serve_own(&mut self, issuer: &str) {
        let carnet = std::mem::replace(&mut self.carnet, Carnet::new());
        self.serve(&carnet, issuer);
        self.carnet = carnet;
    }

    /// Replaces the sandbox of the cloud.
    pub(crate) fn trust(&mut self, config: &str, issuer: &str, clock_off_by: i64) {
        let config: Value = toml::from_str(config).unwrap_or_else(|error| panic!("{error}\n{config}"));
        self.trust_as(config, issuer, clock_off_by);
    }

    pub(crate) fn trust_as(&mut self, config: Value, issuer: &str, clock_off_by: i64) {
        for sandbox in self.sandboxes.drain(..) {
            sandbox.abort();
        }
        let sandbox = self.sandbox(config, issuer, clock_off_by);
        self.gate.behind().sandbox = Some(sandbox);
    }

    /// Starts another sandbox, which only shows faults.
    pub(crate) fn faulty(&mut self, config: &str) {
        let sandbox = self.sandbox(toml::from_str(config).unwrap(), &self.url.clone(), 0);
        self.gate.behind().faulty = Some(sandbox);
    }

    /// Removes all faults of the network and of the sandbox.
    pub(crate) fn put_right(&mut self, is_closed: bool) {
        self.gate.behind().rules = &[];
        self.trust("", &self.url.clone(), 0);
        if is_closed {
            self.gate.open_at(CLOSED);
        }
    }

    fn sandbox(&mut self, mut config: Value, issuer: &str, clock_off_by: i64) -> std::net::SocketAddr {
        let (table, name, password) = self.cloud.password;
        if config[table][name].is_null() {
            config[table][name] = password.into();
        }
        let config: SandboxConfig =
            serde_json::from_value(config.clone()).unwrap_or_else(|error| panic!("{error}: {config:#}"));
        let clock: Arc<dyn carnet::internals::values::clock::Clock> = match clock_off_by {
            0 => Arc::new(SystemClock::new()),
            seconds => {
                let now = SystemClock::new().now();
                Arc::new(SimulatedClock::at(now + jiff::SignedDuration::from_secs(seconds)))
            }
        };
        let random = Arc::new(SecureRandom::default());
        let sandbox = Sandbox::new(issuer.parse().unwrap(), config, None, clock, random).unwrap();
        let listener = self.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let serving = async move { sandbox.serve(listener, std::future::pending()).await.unwrap() };
        self.sandboxes.push(self.runtime.spawn(serving));
        address
    }

    /// Adds the feed `default/SLUG`; `flags` replace the cloud's own.
    pub(crate) fn add(&self, slug: &str, flags: &[&str]) {
        let mut arguments: Vec<String> =
            ["feed", "add", self.cloud.kind, "--space=default", "--slug", slug].map(str::to_owned).into();
        let flags: Vec<String> = flags.iter().map(|flag| self.filled(flag)).collect();
        let own = self.cloud.flags.iter().map(|flag| self.filled(flag));
        let is_given = |flag: &String| {
            // `--endpoint=sts=…` is compared by the endpoint's name, too.
            let name = match flag.strip_prefix("--endpoint=") {
                Some(endpoint) => flag.len() - endpoint.len() + endpoint.find('=').unwrap(),
                None => flag.find('=').unwrap(),
            };
            flags.iter().any(|given| given.starts_with(&flag[..=name]))
        };
        arguments.extend(own.filter(|flag| !is_given(flag)));
        arguments.extend(flags.iter().cloned());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.carnet.ok(&arguments);
    }

    /// Fills this world's names into the text of a case.
    pub(crate) fn filled(&self, text: &str) -> String {
        let port = self.gate.host.split_once(':').unwrap().1;
        text.replace("{url}", &self.url)
            .replace("{host}", &self.gate.host)
            .replace("{tls}", &format!("https://localhost:{port}"))
            .replace("{local-host}", &format!("localhost:{port}"))
            .replace("{other-host}", &format!("127.0.0.2:{port}"))
            .replace("{closed}", &format!("{CLOSED}:{port}"))
            .replace("{tls-other-name}", &format!("https://127.0.0.2:{port}"))
            .replace("{ca}", self.ca.certificate().to_str().unwrap())
    }

    /// Runs `feed check FEED`.
    pub(crate) fn check(&self, feed: &str, more: &[String]) -> Output {
        self.gate.forget();
        let mut arguments = vec!["feed", "check", feed];
        arguments.extend(more.iter().map(String::as_str));
        let output = self.carnet.run(&arguments);
        for secret in ["hunter2", self.cloud.password.2, self.cloud.login] {
            assert!(!output.stdout.contains(secret) && !output.stderr.contains(secret), "{output:?}");
        }
        output
    }

    /// Runs it and returns its JSON.
    pub(crate) fn response(&self, feed: &str, more: &[String]) -> Value {
        let output = self.check(feed, &[more, &["--output=json".to_owned()]].concat());
        let response: Value =
            serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        assert_eq!(output.status, i32::from(response["ok"] == false), "{output:?}");
        response
    }
}
