//! All operations of carnet with full logging: its output, its files and its secrets are collected.

use std::sync::mpsc::Receiver;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use carnet::internals::grant::GrantToken;
use carnet::internals::values::random::SecureRandom;
use serde_json::{Value, json};

use crate::no_secrets::secrets::Secrets;
use crate::support::ca::Ca;
use crate::support::carnet::{Announced, Carnet, Output};
use crate::support::collector::{Export, collector};
use crate::support::forward_proxy::ForwardProxy;
use crate::support::http::{Connection, HttpResponse};
use crate::support::process::{free_ports, on_free_ports};

const ROLE: &str = "arn:aws:iam::123456789012:role/pull";
const TENANT: &str = "8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c";
const APPLICATION: &str = "0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e";
const PROVIDER: &str = "projects/123456789012/locations/global/workloadIdentityPools/carnet/providers/carnet";
const ACCOUNT: &str = "pull@my-project.iam.gserviceaccount.com";
/// `carnet:proxy-password-of-nobody`.
const PROXY_LOGIN: &str = "Basic Y2FybmV0OnByb3h5LXBhc3N3b3JkLW9mLW5vYm9keQ==";
const PROXY_PASSWORD: &str = "proxy-password-of-nobody";
const COLLECTOR_PASSWORD: &str = "collector-password-of-nobody";

/// The trusted feeds, and in the same order the untrusted ones.
pub(crate) const TRUSTED: [&str; 4] = ["aws", "public", "azure", "google"];
pub(crate) const STRANGERS: [&str; 4] = ["aws-other", "public-other", "azure-other", "google-other"];

pub(crate) struct Life {
    pub(crate) carnet: Carnet,
    pub(crate) secrets: Secrets,
    /// Collected texts: source and content.
    pub(crate) said: Vec<(String, Vec<u8>)>,
    pub(crate) server: Announced,
    pub(crate) sandbox: Announced,
    pub(crate) ca: Ca,
    issuer: String,
    proxy: ForwardProxy,
    collector: String,
    exports: Receiver<Export>,
}

impl Life {
    pub(crate) fn begin() -> Self {
        let (proxy, (collector, exports)) = (ForwardProxy::start(Some(PROXY_LOGIN)), collector());
        let proxy_flag = format!("--proxy=http://carnet:{PROXY_PASSWORD}@{}", proxy.address);
        let collector = format!("--otlp-endpoint=http://{collector}");
        let (carnet, issuer, server) = on_free_ports(|| {
            let [port] = free_ports();
            let (carnet, issuer) = (Carnet::new(), format!("http://127.0.0.1:{port}"));
            let more = ["--log=trace", &proxy_flag, &collector];
            let server = carnet.serve(&issuer, &format!("127.0.0.1:{port}"), &more)?;
            Ok((carnet, issuer, server))
        });
        let trust = format!(
            "[[aws.roles]]\narn = \"{ROLE}\"\naudiences = [\"sts.amazonaws.com\"]\n\
             subjects = [\"space:default:feed:aws\", \"space:default:feed:public\"]\n\
             [[azure.applications]]\nclient_id = \"{APPLICATION}\"\nsubject = \"space:default:feed:azure\"\n\
             [[google.providers]]\nname = \"{PROVIDER}\"\nsubjects = [\"space:default:feed:google\"]\n\
             [[google.service_accounts]]\nemail = \"{ACCOUNT}\"\n"
        );
        let config = carnet.home().join("sandbox.toml");
        std::fs::write(&config, trust).unwrap();
        let mut command = carnet.bare_command();
        command.args(["sandbox", "--log=trace", "--issuer", &issuer, "--config"]).arg(config);
        let sandbox = Announced::of("carnet sandbox", &mut command);
        let (secrets, said, ca) = (Secrets::default(), Vec::new(), Ca::new());
        let mut life = Self { carnet, secrets, said, server, sandbox, ca, issuer, proxy, collector, exports };
        life.secrets.add("the proxy's password", PROXY_PASSWORD);
        life.secrets.add("the collector's password", COLLECTOR_PASSWORD);
        life.note_master_key("keys/master.key");
        life
    }

    /// Starts a server over TLS on the same database, which logs in JSON.
    pub(crate) fn serve_tls(&mut self) -> Announced {
        let (certificate, key) = (self.ca.server_certificate(), self.ca.server_key());
        let pem = std::fs::read_to_string(&key).unwrap();
        let lines: Vec<_> = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        self.secrets.add("the key of TLS", &lines.concat());
        let files = [certificate, key].map(|file| file.to_str().unwrap().to_owned());
        let more = ["--log=trace", "--log-format=json", "--tls-cert", &files[0], "--tls-key", &files[1]];
        self.carnet.serve(&self.issuer, "127.0.0.1:0", &more).unwrap_or_else(|failure| panic!("{failure}"))
    }

    pub(crate) fn note_master_key(&mut self, file: &str) {
        let text = std::fs::read_to_string(self.carnet.home().join(file)).unwrap();
        let (_, key) = text.trim().rsplit_once(':').unwrap();
        self.secrets.add("a master key", key);
        self.secrets.add_bytes("a master key, decoded", &URL_SAFE_NO_PAD.decode(key).unwrap());
    }

    /// Runs a command with full logging. Collects its log and returns its output.
    pub(crate) fn run(&mut self, arguments: &[&str]) -> Output {
        let proxy = format!("http://carnet:{PROXY_PASSWORD}@{}", self.proxy.address);
        let mut command = self.carnet.command(arguments);
        command.env("CARNET_LOG", "trace").env("CARNET_PROXY", proxy).arg(&self.collector);
        command.env("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization={COLLECTOR_PASSWORD}"));
        let output = Output::of(&mut command, b"");
        self.say(&format!("stderr of {}", arguments.join(" ")), output.stderr.as_bytes());
        output
    }

    /// Runs a command that prints no secret.
    pub(crate) fn cli(&mut self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status, 0, "carnet {}\n{}", arguments.join(" "), output.stdout);
        self.say(&format!("stdout of {}", arguments.join(" ")), output.stdout.as_bytes());
        output.stdout
    }

    pub(crate) fn say(&mut self, by: &str, what: &[u8]) {
        self.said.push((by.to_owned(), what.to_owned()));
    }

    /// Calls the API with a grant's token; the response must contain no secret.
    pub(crate) fn ask(&mut self, grant: &str, method: &str, path: &str, body: &str) -> HttpResponse {
        let response = request(&mut self.connection(), grant, method, path, body);
        self.say(&format!("answer to {method} {path}"), whole(&response).as_bytes());
        response
    }

    /// The same for a response that is meant to contain a secret, which is collected.
    pub(crate) fn ask_secret(&mut self, grant: &str, path: &str, body: &str) -> Value {
        let response = request(&mut self.connection(), grant, "POST", path, body);
        assert!(matches!(response.status, 200 | 201), "{path}: {response:?}");
        let json = response.json();
        let known = self.secrets.all.len();
        self.secrets.add_members("the API's answer", &json);
        assert!(self.secrets.all.len() > known || json["source"] == "cache", "{path} answered no secret");
        json
    }

    pub(crate) fn connection(&self) -> Connection {
        Connection::to(self.server.announced("/listening"), None)
    }

    /// Adds feeds of every type, one that the clouds trust and one that they do not.
    pub(crate) fn add_feeds(&mut self) {
        let endpoint = |name: &str, of: &str| {
            format!("--endpoint={name}={}", self.sandbox.announced(&format!("/endpoints/{of}/{name}")))
        };
        let aws = [endpoint("sts", "aws"), endpoint("ecr", "aws"), format!("--role-arn={ROLE}")];
        let azure = [
            endpoint("authority", "azure"),
            endpoint("registry", "azure"),
            format!("--tenant-id={TENANT}"),
            format!("--client-id={APPLICATION}"),
        ];
        let google = [
            endpoint("sts", "google"),
            endpoint("iamcredentials", "google"),
            format!("--workload-identity-provider={PROVIDER}"),
            format!("--service-account={ACCOUNT}"),
        ];
        let kinds = [
            ("aws-ecr", "123456789012.dkr.ecr.eu-central-1.amazonaws.com", &aws[..]),
            ("aws-ecr-public", "public.ecr.aws", &aws[..]),
            ("azure-acr", "images.azurecr.io", &azure[..]),
            ("google-artifact-registry", "europe-west1-docker.pkg.dev", &google[..]),
        ];
        for slugs in [TRUSTED, STRANGERS] {
            for ((kind, registry, fields), slug) in kinds.iter().zip(slugs) {
                let (slug, registry) = (format!("--slug={slug}"), format!("--registry={registry}"));
                let mut arguments = vec!["feed", "add", kind, "--space=default", &slug, &registry];
                arguments.extend(fields.iter().map(String::as_str));
                self.cli(&arguments);
            }
        }
    }

    /// Makes a grant on the command line; returns its identifier and its token.
    pub(crate) fn grant(&mut self, role: &str) -> (String, String) {
        let output = self.run(&["grant", "create", &format!("--role={role}"), "--output=json"]);
        let made: Value = serde_json::from_str(&output.stdout).unwrap();
        let [id, token] = ["id", "token"].map(|member| made[member].as_str().unwrap().to_owned());
        self.note_grant(&token);
        (id, token)
    }

    /// Collects a grant's token and its random part.
    pub(crate) fn note_grant(&mut self, token: &str) {
        self.secrets.add("a grant's token", token);
        self.secrets.add("a grant's random part", &token[29..72]);
    }

    /// Returns a well-formed token of no grant.
    pub(crate) fn stranger(&mut self) -> String {
        let token = GrantToken::generate(uuid::Uuid::from_u128(7), &SecureRandom::default()).unwrap();
        self.note_grant(token.reveal());
        token.reveal().to_owned()
    }

    /// Collects the traffic of the proxy and of the collector.
    pub(crate) fn gather(&mut self) {
        for request in self.proxy.take() {
            self.secrets.add_tokens("a token on its way", &request.body);
            for header in ["x-amz-security-token", "authorization"] {
                let Some(value) = request.headers.get(header) else { continue };
                // A SigV4 signature is valid for one request only.
                if !value.starts_with("AWS4-HMAC-SHA256") {
                    self.secrets.add("a header on its way", value.trim_start_matches("Bearer "));
                }
            }
        }
        for response in self.proxy.take_answers() {
            self.secrets.add_answer(&response);
        }
        let exports: Vec<_> = self.exports.try_iter().collect();
        for export in exports {
            self.say("an export of traces", &export.body);
        }
    }
}

pub(crate) fn request(
    to: &mut Connection,
    grant: &str,
    method: &str,
    path: &str,
    body: &str,
) -> HttpResponse {
    to.write(
        format!(
            "{method} {path} HTTP/1.1\r\nHost: carnet.test\r\nAuthorization: Bearer {grant}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .as_bytes(),
    );
    to.response(method)
}

/// Returns a response with its headers.
pub(crate) fn whole(response: &HttpResponse) -> String {
    json!({ "headers": response.headers }).to_string() + "\n" + &response.body
}
