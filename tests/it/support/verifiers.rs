//! Relying parties in other languages: PyJWT and jose, each in a process with one JWKS cache.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::ca::Ca;
use super::process::clean_command;
use super::{in_package, installed_peer, system_peer};

/// A verifier that fetched the issuer's discovery document when it started.
pub(crate) struct Verifier {
    pub(crate) name: &'static str,
    child: Child,
    tokens: ChildStdin,
    verdicts: BufReader<ChildStdout>,
}

/// A verifier's result for one token.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// The claims, or the verifier's own name for the error.
    pub(crate) claims: Result<Value, String>,
    /// The number of times that this verifier has fetched the JWKS so far.
    pub(crate) fetches: u64,
    /// The time since the last fetch of the JWKS began.
    pub(crate) age: Duration,
}

impl Verifier {
    /// Starts PyJWT's `PyJWKClient`.
    pub(crate) fn pyjwt(issuer: &str, audience: &str, ca: &Ca) -> Self {
        Self::start("PyJWT", ca, &mut Self::pyjwt_command(issuer, audience, ca))
    }

    /// Starts jose's `createRemoteJWKSet`.
    pub(crate) fn jose(issuer: &str, audience: &str, ca: &Ca) -> Self {
        Self::start("jose", ca, &mut Self::jose_command(issuer, audience))
    }

    /// Starts jose's `createRemoteJWKSet` with a cache that is refreshed when it is `age` old, and at once
    /// for an unknown key.
    pub(crate) fn jose_for_unknown_keys(issuer: &str, audience: &str, ca: &Ca, age: Duration) -> Self {
        let mut command = Self::jose_command(issuer, audience);
        Self::start("jose", ca, command.arg(age.as_secs().to_string()).arg("0"))
    }

    /// Starts both, with a cache that is refreshed only when it is `age` old, for any key.
    pub(crate) fn caching(issuer: &str, audience: &str, ca: &Ca, age: Duration) -> [Self; 2] {
        let age = age.as_secs().to_string();
        [
            Self::start("PyJWT", ca, Self::pyjwt_command(issuer, audience, ca).arg(&age)),
            Self::start("jose", ca, Self::jose_command(issuer, audience).arg(&age)),
        ]
    }

    fn pyjwt_command(issuer: &str, audience: &str, ca: &Ca) -> Command {
        let mut command = clean_command(installed_peer("venv/bin/python"));
        command.arg(in_package("tests/peers/verify_pyjwt.py")).args([issuer, audience]).arg(ca.certificate());
        command
    }

    fn jose_command(issuer: &str, audience: &str) -> Command {
        let mut command = clean_command(system_peer("node"));
        command
            .arg(in_package("tests/peers/verify_jose.mjs"))
            .args([issuer, audience])
            .arg(installed_peer("node_modules"));
        command
    }

    fn start(name: &'static str, ca: &Ca, command: &mut Command) -> Self {
        let mut child = command
            .envs(ca.environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let tokens = child.stdin.take().unwrap();
        let verdicts = BufReader::new(child.stdout.take().unwrap());
        Self { name, child, tokens, verdicts }
    }

    /// Passes a compact token to its standard input and reads its result.
    pub(crate) fn verify(&mut self, token: &str) -> Verdict {
        let name = self.name;
        writeln!(self.tokens, "{token}").unwrap();
        let mut line = String::new();
        self.verdicts.read_line(&mut line).unwrap();
        let mut verdict: Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{name} said {line:?}: {error}"));
        let claims = match verdict["claims"].take() {
            Value::Null => Err(verdict["error"].as_str().unwrap().to_owned()),
            claims => Ok(claims),
        };
        let age = Duration::from_secs_f64(verdict["age"].as_f64().unwrap());
        Verdict { claims, fetches: verdict["fetches"].as_u64().unwrap(), age }
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
