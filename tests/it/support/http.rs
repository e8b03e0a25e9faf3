//! HTTP/1.1 by hand, over plain TCP or TLS: the bytes on the wire are exactly those that a test wrote.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto};

use super::ca::Ca;

/// The timeout of a response.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

trait Stream: Read + Write {
    /// Half-closes the connection: nothing more will be written.
    fn finish(&mut self) {}
}
impl Stream for TcpStream {
    fn finish(&mut self) {
        // A peer that has closed already need not be told.
        let _ = self.shutdown(std::net::Shutdown::Write);
    }
}
impl Stream for UnixStream {}
impl Stream for StreamOwned<ClientConnection, TcpStream> {}

/// One connection, kept open as long as the server does.
pub(crate) struct Connection(BufReader<Box<dyn Stream>>);

/// A server's response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    /// In order, with lower-case names.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Connection {
    /// Connects to the address that `serve` announced as `listening`. For https, `ca` must have issued the
    /// certificate.
    pub(crate) fn to(listening: &str, ca: Option<&Ca>) -> Self {
        if let Some(path) = listening.strip_prefix("unix:") {
            let stream = UnixStream::connect(path).unwrap();
            stream.set_read_timeout(Some(ANSWERS_WITHIN)).unwrap();
            return Self(BufReader::new(Box::new(stream)));
        }
        let (scheme, address) = listening.split_once("://").unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(ANSWERS_WITHIN)).unwrap();
        Self(BufReader::new(match (scheme, ca) {
            ("http", _) => Box::new(stream),
            ("https", Some(ca)) => Box::new(StreamOwned::new(tls(ca), stream)),
            _ => panic!("{listening} needs a certificate authority"),
        }))
    }

    /// Writes `bytes` unchanged.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        // A server that refuses may close before it has read everything.
        let _ = self.0.get_mut().write_all(bytes);
        let _ = self.0.get_mut().flush();
    }

    /// Half-closes the connection, over plain TCP.
    pub(crate) fn finish(&mut self) {
        self.0.get_mut().finish();
    }

    /// Sends a request without a body; `headers` are complete lines with their line ends.
    pub(crate) fn request(&mut self, method: &str, path: &str, headers: &str) -> HttpResponse {
        self.write(format!("{method} {path} HTTP/1.1\r\nHost: carnet.test\r\n{headers}\r\n").as_bytes());
        self.response(method)
    }

    pub(crate) fn get(&mut self, path: &str) -> HttpResponse {
        self.request("GET", path, "")
    }

    /// Reads the response to one request of `method`.
    pub(crate) fn response(&mut self, method: &str) -> HttpResponse {
        self.try_answer(method).expect("the server closed the connection instead of answering")
    }

    /// The same; `None` if the server has closed the connection.
    pub(crate) fn try_answer(&mut self, method: &str) -> Option<HttpResponse> {
        let mut line = String::new();
        if !matches!(self.0.read_line(&mut line), Ok(1..)) {
            return None;
        }
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut response = HttpResponse { status, headers, body: String::new() };
        let length = response.header("content-length").map_or(0, |length| length.parse().unwrap());
        if method != "HEAD" && status != 304 {
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).unwrap();
            response.body = String::from_utf8(body).unwrap();
        }
        Some(response)
    }

    /// Reads everything until the server closes the connection.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset ends it, too.
        let _ = self.0.read_to_end(&mut rest);
        rest
    }

    /// Returns whether the server has closed the connection; waits until it closes or sends something.
    pub(crate) fn is_closed(&mut self) -> bool {
        !matches!(self.0.fill_buf(), Ok([_, ..]))
    }
}

impl HttpResponse {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found =
            self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let value = found.next();
        assert_eq!(found.next(), None, "{name} is given twice");
        value
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }
}

fn tls(ca: &Ca) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca.certificate()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap()
}
