//! An STS endpoint that passes the token of each request to a verifier, and responds with its verdict.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::process::wait_until;

/// Far longer than a nudge takes.
const PATIENCE: Duration = Duration::from_secs(30);

const REFUSAL: &str = "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
                       <Code>AccessDenied</Code><Message>Not authorized</Message></Error></ErrorResponse>";

/// A stand-in for `AssumeRoleWithWebIdentity` that refuses everything and records the verifier's result.
pub(crate) struct Relay {
    address: SocketAddr,
    tokens: Arc<Mutex<Vec<String>>>,
}

impl Relay {
    /// Starts a relay that passes each token to `verifier` before it responds.
    pub(crate) fn to(verifier: impl Fn(&str) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let tokens = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&tokens);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                if let Some(token) = token(&stream) {
                    verifier(&token);
                    seen.lock().unwrap().push(token);
                }
                let _ = write!(
                    stream,
                    "HTTP/1.1 403 Forbidden\r\nContent-Type: text/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n\
                     {REFUSAL}",
                    REFUSAL.len()
                );
            }
        });
        Self { address, tokens }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the tokens that the verifier has seen so far.
    pub(crate) fn tokens(&self) -> Vec<String> {
        self.tokens.lock().unwrap().clone()
    }

    /// Waits until this many tokens have arrived.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: usize) -> Vec<String> {
        let come = wait_until(PATIENCE, || Some(self.tokens()).filter(|tokens| tokens.len() >= count));
        come.unwrap_or_else(|| panic!("{} of {count} tokens came", self.tokens().len()))
    }
}

fn token(stream: &TcpStream) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut form = url::form_urlencoded::parse(&body);
    form.find(|(name, _)| name == "WebIdentityToken").map(|(_, token)| token.into_owned())
}
