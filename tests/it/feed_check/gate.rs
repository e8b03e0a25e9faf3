//! One port for all requests of a check: to the issuer, the clouds and the registry. Each request is
//! forwarded to its server, or fails as in a faulty network; the responses are recorded.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned, crypto};

use crate::feed_check::registry;
use crate::support::ca::Ca;
use crate::support::recording_proxy::{Recorded, read_request};

/// An act for requests whose path begins with this, after the first `skip`. A path that begins with `//HOST/`
/// applies to requests to this host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    pub(crate) path: &'static str,
    pub(crate) skip: usize,
    pub(crate) act: Act,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    /// A response: status line, further header lines with their line ends, body.
    Answer(&'static str, &'static str, &'static str),
    /// These bytes, then the end of the connection.
    Bytes(&'static str),
    /// A response of 2 MiB.
    Long,
    /// No response, until the client closes.
    Silence,
}

pub(crate) const fn rule(path: &'static str, act: Act) -> Rule {
    Rule { path, skip: 0, act }
}

/// Applies `act` to all requests but the first: carnet's own comes first, the cloud's after it.
pub(crate) const fn second(path: &'static str, act: Act) -> Rule {
    Rule { path, skip: 1, act }
}

/// A JWKS with one key, which is not carnet's.
pub(crate) const OTHER_JWKS: Act = Act::Answer(
    "200 OK",
    "Content-Type: application/json\r\n",
    r#"{"keys":[{"kty":"EC","use":"sig","alg":"ES256","kid":"other","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#,
);

/// The servers behind the gate.
#[derive(Default)]
pub(crate) struct Behind {
    /// The server of the issuer's documents.
    pub(crate) issuer: Option<String>,
    pub(crate) sandbox: Option<SocketAddr>,
    /// Another sandbox, below `/faulty`.
    pub(crate) faulty: Option<SocketAddr>,
    /// The registry's login, in base64.
    pub(crate) login: &'static str,
    pub(crate) rules: &'static [Rule],
    seen: Vec<usize>,
    /// Path and response, in order.
    responses: Vec<(String, Vec<u8>)>,
}

/// A running gate; it ends with the test's process.
#[derive(Clone)]
pub(crate) struct Gate {
    /// `127.0.0.1:PORT`.
    pub(crate) host: String,
    tls: Arc<ServerConfig>,
    behind: Arc<Mutex<Behind>>,
}

impl Gate {
    /// Opens a gate that also speaks TLS, with the certificate of `ca` for `localhost` and `127.0.0.1`, not
    /// for `127.0.0.2`, which has the same port.
    pub(crate) fn open(ca: &Ca) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let gate = Self { host, tls: tls(ca), behind: Arc::default() };
        gate.listen(listener);
        gate.open_at("127.0.0.2");
        gate
    }

    /// Opens the same port on another address of this machine, which has refused connections until then.
    pub(crate) fn open_at(&self, address: &str) {
        let port = self.host.split_once(':').unwrap().1;
        self.listen(TcpListener::bind(format!("{address}:{port}")).unwrap());
    }

    fn listen(&self, listener: TcpListener) {
        let shared = self.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let gate = shared.clone();
                // A client that disconnects is not an error.
                std::thread::spawn(move || gate.receive(client));
            }
        });
    }

    pub(crate) fn behind(&self) -> MutexGuard<'_, Behind> {
        self.behind.lock().unwrap()
    }

    /// Clears the recorded responses before the next check.
    pub(crate) fn forget(&self) {
        let mut behind = self.behind();
        behind.seen = vec![0; behind.rules.len()];
        behind.responses.clear();
    }

    /// Returns the last response with one of the issuer's documents, or, without `is_document`, the last other one.
    pub(crate) fn last_answer(&self, is_document: bool) -> Option<String> {
        let behind = self.behind();
        let mut responses = behind.responses.iter().rev();
        let found = responses.find(|(path, _)| path.starts_with("/.well-known") == is_document);
        found.map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned())
    }

    fn receive(&self, client: TcpStream) -> std::io::Result<()> {
        let mut first = [0];
        client.peek(&mut first)?;
        if first != [0x16] {
            return self.serve(BufReader::new(client));
        }
        // Clients of a registry try TLS first. This one has TLS for `localhost` alone.
        let connection = ServerConnection::new(Arc::clone(&self.tls)).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(connection, client);
        stream.conn.complete_io(&mut stream.sock)?;
        self.serve(BufReader::new(stream))
    }

    fn serve(&self, mut client: BufReader<impl Read + Write>) -> std::io::Result<()> {
        let request = read_request(&mut client)?;
        let host = request.headers.get("host").and_then(|host| host.split(':').next()).unwrap_or_default();
        let response = match self.met(&request.target, &format!("//{host}{}", request.target)) {
            Some(Act::Silence) => {
                // The client closes the connection at its timeout.
                let _ = client.get_mut().read(&mut [0]);
                return Ok(());
            }
            Some(Act::Bytes(bytes)) => bytes.as_bytes().to_vec(),
            Some(Act::Long) => response("200 OK", "", &" ".repeat(2 << 20)),
            Some(Act::Answer(status, headers, body)) => response(status, headers, body),
            None => self.handed_on(&request)?,
        };
        self.behind().responses.push((request.target, response.clone()));
        client.get_mut().write_all(&response)?;
        client.get_mut().flush()
    }

    fn met(&self, path: &str, with_host: &str) -> Option<Act> {
        let mut behind = self.behind();
        let Behind { rules, seen, .. } = &mut *behind;
        seen.resize(rules.len(), 0);
        for (rule, seen) in rules.iter().zip(seen) {
            if path.starts_with(rule.path) || with_host.starts_with(rule.path) {
                *seen += 1;
                if *seen > rule.skip {
                    return Some(rule.act);
                }
            }
        }
        None
    }

    fn handed_on(&self, request: &Recorded) -> std::io::Result<Vec<u8>> {
        let path = request.target.as_str();
        let (to, path) = {
            let behind = self.behind();
            if path.starts_with("/v2/") {
                return Ok(registry::response(path, request.headers.get("authorization"), behind.login));
            }
            match path.strip_prefix("/faulty") {
                Some(path) => (behind.faulty.map(|to| to.to_string()), path.to_owned()),
                None if path.starts_with("/.well-known/") => (behind.issuer.clone(), path.to_owned()),
                None => (behind.sandbox.map(|to| to.to_string()), path.to_owned()),
            }
        };
        // Responds like a proxy whose server is down.
        let Some(to) = to else { return Ok(response("502 Bad Gateway", "", "<html>Bad Gateway</html>")) };
        let mut upstream = TcpStream::connect(to)?;
        write!(upstream, "{} {path} HTTP/1.1\r\nConnection: close\r\n", request.method)?;
        for (name, value) in request.headers.iter().filter(|(name, _)| *name != "connection") {
            write!(upstream, "{name}: {value}\r\n")?;
        }
        write!(upstream, "\r\n{}", request.body)?;
        let mut response = Vec::new();
        upstream.read_to_end(&mut response)?;
        Ok(response)
    }
}

/// Returns a complete response.
pub(crate) fn response(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}

fn tls(ca: &Ca) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_file(ca.server_certificate()).unwrap();
    let key = PrivateKeyDer::from_pem_file(ca.server_key()).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth();
    Arc::new(builder.with_single_cert(vec![certificate], key).unwrap())
}
