//! A server that terminates TLS, records each request, and responds itself or forwards the request to a plain
//! HTTP server.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned, crypto};

use super::ca::Ca;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) method: String,
    /// With its query.
    pub(crate) target: String,
    /// The names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Recorded {
    /// Returns the fields of its form.
    pub(crate) fn form(&self) -> BTreeMap<String, String> {
        url::form_urlencoded::parse(self.body.as_bytes()).into_owned().collect()
    }
}

/// The treatment of a request.
pub(crate) enum Way {
    /// This server responds itself.
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: String },
    /// The request is forwarded to this URL, which is plain HTTP.
    On(String),
}

/// A running proxy; it ends with the test's process.
pub(crate) struct RecordingProxy {
    /// `https://localhost:PORT`.
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<Recorded>>>,
}

impl RecordingProxy {
    /// Starts a proxy with the certificate of `ca` for `localhost`. `way` gets the proxy's own URL.
    pub(crate) fn start(ca: &Ca, way: impl Fn(&str, &Recorded) -> Way + Send + 'static) -> Self {
        let certificate = CertificateDer::from_pem_file(ca.server_certificate()).unwrap();
        let key = PrivateKeyDer::from_pem_file(ca.server_key()).unwrap();
        let tls = ServerConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let tls = Arc::new(tls);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let proxy = Self { url: url.clone(), requests: Arc::clone(&requests) };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let connection = ServerConnection::new(Arc::clone(&tls)).unwrap();
                let mut client = BufReader::new(StreamOwned::new(connection, client));
                let Ok(request) = read_request(&mut client) else { continue };
                requests.lock().unwrap().push(request.clone());
                let served = match way(&url, &request) {
                    Way::Answer { status, headers, body } => {
                        response(client.get_mut(), status, &headers, &body)
                    }
                    Way::On(to) => hand_on(client.get_mut(), &request, &to),
                };
                if let Err(error) = served {
                    eprintln!("recording proxy: {error}");
                }
            }
        });
        proxy
    }

    /// Returns the requests since the last call, in order.
    pub(crate) fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

pub(crate) fn read_request(from: &mut impl BufRead) -> std::io::Result<Recorded> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(std::io::Error::other("no request"));
    };
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(Ok(0), |length| length.parse());
    let mut body = vec![0; length.map_err(std::io::Error::other)?];
    from.read_exact(&mut body)?;
    let body = String::from_utf8(body).map_err(std::io::Error::other)?;
    Ok(Recorded { method, target, headers, body })
}

fn response(
    to: &mut impl Write,
    status: u16,
    headers: &[(&'static str, String)],
    body: &str,
) -> std::io::Result<()> {
    write!(to, "HTTP/1.1 {status} Status\r\nContent-Length: {}\r\nConnection: close\r\n", body.len())?;
    for (name, value) in headers {
        write!(to, "{name}: {value}\r\n")?;
    }
    write!(to, "\r\n{body}")?;
    to.flush()
}

/// Forwards the request with its headers, and returns the response to the client.
fn hand_on(client: &mut impl Write, request: &Recorded, to: &str) -> std::io::Result<()> {
    let (authority, path) = to.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut upstream = TcpStream::connect(authority)?;
    write!(upstream, "{} /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n", request.method)?;
    for (name, value) in request.headers.iter().filter(|(name, _)| *name != "host" && *name != "connection") {
        write!(upstream, "{name}: {value}\r\n")?;
    }
    write!(upstream, "\r\n{}", request.body)?;
    let mut response = Vec::new();
    upstream.read_to_end(&mut response)?;
    client.write_all(&response)?;
    client.flush()
}
