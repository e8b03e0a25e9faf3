//! A proxy in front of a plain HTTP server that runs a test's code before it forwards the first write, so
//! that another writer is faster.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::recording_proxy::{Recorded, read_request};

/// A running proxy; it ends with the test's process.
pub(crate) struct RacingProxy {
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    responses: Arc<Mutex<Vec<(String, u16)>>>,
}

impl RacingProxy {
    /// Starts a proxy before the server at `upstream`; `first` runs before the first PUT arrives there.
    pub(crate) fn start(upstream: String, first: impl FnOnce() + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let responses = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&responses);
        std::thread::spawn(move || {
            let mut first = Some(first);
            for mut client in listener.incoming().flatten() {
                let Ok(request) = read_request(&mut BufReader::new(&client)) else { continue };
                if request.method == "PUT"
                    && let Some(first) = first.take()
                {
                    first();
                }
                let response = hand_on(&request, &upstream).unwrap();
                let status = String::from_utf8_lossy(&response[9..12]).parse().unwrap();
                kept.lock().unwrap().push((request.method, status));
                // The client may have disconnected.
                let _ = client.write_all(&response);
            }
        });
        Self { address, responses }
    }

    /// Returns the method and the response's status of each request, in order.
    pub(crate) fn responses(&self) -> Vec<(String, u16)> {
        self.responses.lock().unwrap().clone()
    }
}

/// Returns the response to the same request with the same `Host`, which may be signed.
fn hand_on(request: &Recorded, upstream: &str) -> std::io::Result<Vec<u8>> {
    let mut upstream = TcpStream::connect(upstream)?;
    write!(upstream, "{} {} HTTP/1.1\r\nConnection: close\r\n", request.method, request.target)?;
    for (name, value) in request.headers.iter().filter(|(name, _)| *name != "connection") {
        write!(upstream, "{name}: {value}\r\n")?;
    }
    write!(upstream, "\r\n{}", request.body)?;
    let mut response = Vec::new();
    upstream.read_to_end(&mut response)?;
    Ok(response)
}
