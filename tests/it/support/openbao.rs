//! OpenBao, whose JWT login caches a JWKS until a token names a key that is not in it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::{Process, clean_command, free_ports, on_free_ports};

const ROOT: &str = "root-token-of-a-test";

/// A running in-memory OpenBao that accepts tokens of one issuer, audience and subject.
pub(crate) struct OpenBao {
    _process: Process,
    _folder: TempDir,
    address: SocketAddr,
}

impl OpenBao {
    /// Starts it with trust in `issuer`, which serves plain HTTP.
    pub(crate) fn trusting(issuer: &str, audience: &str, subject: &str) -> Self {
        let bao = on_free_ports(Self::try_start);
        let set = |path: &str, body: Value| {
            let (status, response) = Self::post(bao.address, path, Some(ROOT), &body).unwrap();
            assert!(matches!(status, 200 | 204), "{path}: {status} {response}");
        };
        set("sys/auth/jwt", json!({"type": "jwt"}));
        let jwks = format!("{issuer}/.well-known/jwks");
        let algorithms = ["RS256", "ES256"];
        set(
            "auth/jwt/config",
            json!({"jwks_url": jwks, "bound_issuer": issuer, "jwt_supported_algs": algorithms}),
        );
        set(
            "auth/jwt/role/feed",
            json!({
                "role_type": "jwt", "user_claim": "sub", "bound_audiences": [audience], "bound_subject": subject,
                "token_policies": ["default"],
            }),
        );
        bao
    }

    fn try_start() -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let [port] = free_ports();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut process = Process::start(
            "OpenBao",
            clean_command(super::installed_peer("venv/bin/bao"))
                .env("HOME", folder.path())
                .current_dir(folder.path())
                .args(["server", "-dev", "-dev-no-store-token"])
                .arg(format!("-dev-root-token-id={ROOT}"))
                .arg(format!("-dev-listen-address={address}")),
        );
        process.wait_ready(Duration::from_secs(60), |_| {
            let response = super::process::http(address, "/v1/sys/health", None)?;
            response.contains("\"sealed\":false").then_some(())
        })?;
        Ok(Self { _process: process, _folder: folder, address })
    }

    /// Returns whether it accepts the token.
    pub(crate) fn accepts(&self, token: &str) -> bool {
        self.client().accepts(token)
    }

    /// Returns its login alone, for another thread.
    pub(crate) fn client(&self) -> Login {
        Login(self.address)
    }

    fn post(address: SocketAddr, path: &str, token: Option<&str>, body: &Value) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
        let body = body.to_string();
        let token = token.map(|token| format!("X-Vault-Token: {token}\r\n")).unwrap_or_default();
        let length = body.len();
        write!(
            stream,
            "POST /v1/{path} HTTP/1.0\r\nHost: {address}\r\n{token}Content-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
        .ok()?;
        let mut response = String::new();
        stream.read_to_string(&mut response).ok()?;
        let status = response.split(' ').nth(1)?.parse().ok()?;
        Some((status, response))
    }
}

/// OpenBao's login.
#[derive(Clone, Copy)]
pub(crate) struct Login(SocketAddr);

impl Login {
    /// Returns whether it accepts the token.
    pub(crate) fn accepts(self, token: &str) -> bool {
        let body = json!({"role": "feed", "jwt": token});
        let (status, response) = OpenBao::post(self.0, "auth/jwt/login", None, &body).unwrap();
        assert!(matches!(status, 200 | 400 | 403), "{response}");
        status == 200
    }
}
