//! An issuer that serves its API, a sandbox for its feeds, and callers.

use serde_json::Value;

use crate::support::carnet::{Announced, Carnet, Issuer};
use crate::support::http::{Connection, HttpResponse};

pub(crate) const REGISTRY: &str = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";
pub(crate) const ROLE: &str = "arn:aws:iam::123456789012:role/pull";

/// A grant and its token.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) id: String,
    pub(crate) token: String,
}

/// A server's API, called over a new connection each time.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) listening: String,
}

/// An issuer, a sandbox, and an admin without limits.
pub(crate) struct World {
    pub(crate) issuer: Issuer,
    pub(crate) sandbox: Announced,
    pub(crate) api: Api,
    pub(crate) admin: Grant,
}

impl World {
    /// Starts the world with a sandbox of this configuration, in TOML.
    pub(crate) fn new(sandbox: &str) -> Self {
        let issuer = Issuer::http();
        let sandbox = issuer.carnet.sandbox(&issuer.url, sandbox);
        let api = Api::of(&issuer.server);
        let admin = grant(&issuer.carnet, &["--role=admin", "--expires-in=never"]);
        Self { issuer, sandbox, api, admin }
    }

    /// Adds `SPACE/SLUG`, an AWS feed at the sandbox, on the command line.
    pub(crate) fn add_feed(&self, path: &str, more: &[&str]) {
        let (space, slug) = path.split_once('/').unwrap();
        let endpoint = |name: &str| {
            format!("--endpoint={name}={}", self.sandbox.announced(&format!("/endpoints/aws/{name}")))
        };
        let (sts, ecr) = (endpoint("sts"), endpoint("ecr"));
        let common = ["feed", "add", "aws-ecr", "--space", space, "--slug", slug, "--role-arn", ROLE];
        let registry: &[&str] = if more.contains(&"--registry") { &[] } else { &["--registry", REGISTRY] };
        self.issuer.carnet.ok(&[&common[..], &[&sts, &ecr], registry, more].concat());
    }

    /// Makes a grant on the command line.
    pub(crate) fn grant(&self, arguments: &[&str]) -> Grant {
        grant(&self.issuer.carnet, arguments)
    }

    /// Requests a credential of `SPACE/FEED`.
    #[track_caller]
    pub(crate) fn credentials(&self, of: &Grant, feed: &str, request: &Value) -> HttpResponse {
        self.api.post(of, &credentials_of(feed), request)
    }

    /// Returns the `sub` of the token that was traded for a credential, from the audit log.
    #[track_caller]
    pub(crate) fn subject_of(&self, credential: &Value) -> String {
        let jti = credential["jti"].as_str().unwrap();
        let page = self.api.get(&self.admin, &format!("/audit?kind=token.mint&jti={jti}")).json();
        page["records"][0]["sub"].as_str().unwrap_or_else(|| panic!("{page}")).to_owned()
    }
}

/// Returns the route of a feed's credentials.
pub(crate) fn credentials_of(feed: &str) -> String {
    let (space, slug) = feed.split_once('/').unwrap();
    format!("/spaces/{space}/feeds/{slug}/credentials")
}

/// Makes a grant on the command line.
pub(crate) fn grant(carnet: &Carnet, arguments: &[&str]) -> Grant {
    let made = carnet.ok(&[&["grant", "create", "--output=json"], arguments].concat());
    let made: Value = serde_json::from_str(&made).unwrap();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    Grant { id: text("id"), token: text("token") }
}

impl Api {
    pub(crate) fn of(server: &Announced) -> Self {
        Self { listening: server.announced("/listening").to_owned() }
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::to(&self.listening, None)
    }

    /// Sends a request below `/api/v1`; `headers` are complete lines with their line ends.
    #[track_caller]
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        headers: &str,
        body: Option<&[u8]>,
    ) -> HttpResponse {
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let length = body.map(|body| format!("Content-Length: {}\r\n", body.len())).unwrap_or_default();
        let head =
            format!("{method} /api/v1{path} HTTP/1.1\r\nHost: carnet.test\r\n{token}{headers}{length}\r\n");
        let mut connection = self.connect();
        connection.write(&[head.as_bytes(), body.unwrap_or_default()].concat());
        connection.response(method)
    }

    /// Sends JSON, if there is any.
    #[track_caller]
    pub(crate) fn call(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> HttpResponse {
        let body = body.map(Value::to_string);
        let headers = if body.is_some() { "Content-Type: application/json\r\n" } else { "" };
        self.send(method, path, token, headers, body.as_ref().map(String::as_bytes))
    }

    #[track_caller]
    pub(crate) fn get(&self, of: &Grant, path: &str) -> HttpResponse {
        self.call("GET", path, Some(&of.token), None)
    }

    #[track_caller]
    pub(crate) fn post(&self, of: &Grant, path: &str, body: &Value) -> HttpResponse {
        self.call("POST", path, Some(&of.token), Some(body))
    }

    #[track_caller]
    pub(crate) fn delete(&self, of: &Grant, path: &str) -> HttpResponse {
        self.call("DELETE", path, Some(&of.token), None)
    }
}

/// Returns the status of an error, and its name after `urn:carnet:problem:`.
#[track_caller]
pub(crate) fn refusal(response: &HttpResponse) -> (u16, String) {
    assert_eq!(response.header("content-type"), Some("application/problem+json"), "{response:?}");
    let problem = response.json();
    assert_eq!(problem["status"], response.status, "{problem}");
    let kind = problem["type"].as_str().and_then(|kind| kind.strip_prefix("urn:carnet:problem:"));
    (response.status, kind.unwrap_or_else(|| panic!("{problem}")).to_owned())
}

/// Returns the body of a success.
#[track_caller]
pub(crate) fn success(response: &HttpResponse) -> Value {
    assert!((200..300).contains(&response.status), "{response:?}");
    assert_eq!(response.header("content-type"), Some("application/json"), "{response:?}");
    response.json()
}
