//! One database, two servers on it, a sandbox that trusts them, and the issuer's documents on a port that
//! survives.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::carnet::{Announced, Carnet};
use crate::support::http::Connection;

/// The paths of the public documents.
const DOCUMENTS: [&str; 2] = ["/.well-known/openid-configuration", "/.well-known/jwks"];
/// Flags that disable the rate limits, so that the load reaches the audit log.
const NO_LIMITS: [&str; 4] =
    ["--grant-rate=100000", "--grant-burst=100000", "--address-rate=100000", "--address-burst=100000"];

/// The working feeds, as paths of the API.
pub(crate) const FEEDS: [&str; 2] = ["default/feeds/aws", "default/feeds/azure"];

pub(crate) struct World {
    pub(crate) carnet: Carnet,
    pub(crate) sandbox: Announced,
    issuer: String,
}

impl World {
    /// Starts the world with the first server.
    pub(crate) fn new() -> (Self, Announced) {
        let (carnet, documents) = (Carnet::new(), Documents::listen());
        let issuer = documents.issuer.clone();
        let server = start(&carnet, &issuer);
        documents.copy_of(&server);
        let sandbox = carnet.sandbox(&issuer, "");
        add_feeds(&carnet, &sandbox);
        (Self { carnet, sandbox, issuer }, server)
    }

    pub(crate) fn serve(&self) -> Announced {
        start(&self.carnet, &self.issuer)
    }

    /// Returns the command line that starts a server as [`World::serve`] does.
    pub(crate) fn serve_arguments(&self) -> Vec<String> {
        let own = ["serve", "--issuer", &self.issuer, "--listen=127.0.0.1:0"];
        own.iter().chain(&NO_LIMITS).map(|argument| (*argument).to_owned()).collect()
    }

    /// Returns the token of a new grant that may get credentials for any tenant.
    pub(crate) fn deployer(&self) -> String {
        let arguments =
            ["grant", "create", "--role=deployer", "--space=default", "--context=tenant=*", "--output=json"];
        let made: Value = serde_json::from_str(&self.carnet.ok(&arguments)).unwrap();
        made["token"].as_str().unwrap().to_owned()
    }
}

/// Returns `127.0.0.1:PORT` of a server.
pub(crate) fn address(server: &Announced) -> String {
    server.announced("/listening").strip_prefix("http://").unwrap().to_owned()
}

fn start(carnet: &Carnet, issuer: &str) -> Announced {
    carnet.serve(issuer, "127.0.0.1:0", &NO_LIMITS).unwrap_or_else(|failure| panic!("{failure}"))
}

fn add_feeds(carnet: &Carnet, sandbox: &Announced) {
    let endpoint = |name: &str, of: &str| {
        format!("--endpoint={name}={}", sandbox.announced(&format!("/endpoints/{of}/{name}")))
    };
    carnet.ok(&[
        "feed",
        "add",
        "aws-ecr",
        "--space=default",
        "--slug=aws",
        "--registry=123456789012.dkr.ecr.eu-central-1.amazonaws.com",
        "--role-arn=arn:aws:iam::123456789012:role/pull",
        &endpoint("sts", "aws"),
        &endpoint("ecr", "aws"),
    ]);
    carnet.ok(&[
        "feed",
        "add",
        "azure-acr",
        "--space=default",
        "--slug=azure",
        "--registry=images.azurecr.io",
        "--tenant-id=8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c",
        "--client-id=0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e",
        &endpoint("authority", "azure"),
        &endpoint("registry", "azure"),
    ]);
}

/// A copy of the public documents, so that exchanges work while servers are dead, on a port of its own.
struct Documents {
    issuer: String,
    by_path: Arc<Mutex<HashMap<String, String>>>,
}

impl Documents {
    fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let by_path = Arc::default();
        let documents = Self { issuer, by_path: Arc::clone(&by_path) };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A client that has disconnected gets no response.
                let _ = response(client, &by_path);
            }
        });
        documents
    }

    /// Copies the documents of `server`. Keys live for weeks, so the copy stays valid.
    fn copy_of(&self, server: &Announced) {
        let mut connection = Connection::to(server.announced("/listening"), None);
        for path in DOCUMENTS {
            self.by_path.lock().unwrap().insert(path.to_owned(), connection.get(path).body);
        }
    }
}

fn response(client: TcpStream, by_path: &Mutex<HashMap<String, String>>) -> std::io::Result<()> {
    let mut client = BufReader::new(client);
    let (mut first, mut line) = (String::new(), String::new());
    client.read_line(&mut first)?;
    while client.read_line(&mut line)? > 2 {
        line.clear();
    }
    let path = first.split(' ').nth(1).unwrap_or_default();
    let body = by_path.lock().unwrap().get(path).cloned().unwrap_or_default();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: ";
    write!(client.get_mut(), "{head}{}\r\n\r\n{body}", body.len())
}
