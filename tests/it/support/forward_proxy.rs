//! A forward proxy for plain HTTP: it records requests, their senders and the responses, and forwards the
//! requests. It opens no tunnels; the refusal of a tunnel is configurable.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::recording_proxy::{Recorded, read_request};

/// A running proxy; it ends with the test's process.
pub(crate) struct ForwardProxy {
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    requests: Arc<Mutex<Vec<Recorded>>>,
    responses: Arc<Mutex<Vec<String>>>,
}

impl ForwardProxy {
    /// Starts a proxy that serves only clients that send `authorization`, if it is given.
    pub(crate) fn start(authorization: Option<&'static str>) -> Self {
        Self::answering(authorization, "HTTP/1.1 501 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    }

    /// The same, with these bytes as the response to `CONNECT`.
    pub(crate) fn answering(authorization: Option<&'static str>, tunnel: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let responses = Arc::new(Mutex::new(Vec::new()));
        let proxy = Self { address, requests: Arc::clone(&requests), responses: Arc::clone(&responses) };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if let Err(error) = serve(client, authorization, tunnel, &requests, &responses) {
                    eprintln!("forward proxy: {error}");
                }
            }
        });
        proxy
    }

    /// Returns the requests since the last call, in order.
    pub(crate) fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }

    /// Returns the complete responses of upstream servers since the last call.
    pub(crate) fn take_answers(&self) -> Vec<String> {
        std::mem::take(&mut self.responses.lock().unwrap())
    }
}

fn serve(
    mut client: TcpStream,
    authorization: Option<&str>,
    tunnel: &str,
    requests: &Mutex<Vec<Recorded>>,
    responses: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let request = read_request(&mut BufReader::new(client.try_clone()?))?;
    requests.lock().unwrap().push(request.clone());
    let given = request.headers.get("proxy-authorization").map(String::as_str);
    if request.method == "CONNECT" {
        return client.write_all(tunnel.as_bytes());
    }
    let target = request.target.strip_prefix("http://").and_then(|rest| rest.split_once('/'));
    let Some((host, path)) = target.filter(|_| authorization.is_none() || given == authorization) else {
        let status = if target.is_none() { "501 x" } else { "407 x" };
        return write!(client, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let mut upstream = TcpStream::connect(host)?;
    write!(upstream, "{} /{path} HTTP/1.1\r\nConnection: close\r\n", request.method)?;
    let dropped = ["connection", "proxy-authorization"];
    for (name, value) in request.headers.iter().filter(|(name, _)| !dropped.contains(&name.as_str())) {
        write!(upstream, "{name}: {value}\r\n")?;
    }
    write!(upstream, "\r\n{}", request.body)?;
    let mut response = Vec::new();
    upstream.read_to_end(&mut response)?;
    responses.lock().unwrap().push(String::from_utf8_lossy(&response).into_owned());
    client.write_all(&response)
}
