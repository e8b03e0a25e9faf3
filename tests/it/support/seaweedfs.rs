//! SeaweedFS, whose STS fetches the issuer's discovery and JWKS over TLS and verifies the token: the peer
//! that proves that third-party software trusts carnet's tokens.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::ca::Ca;
use super::process::{Process, clean_command, free_ports, http, on_free_ports};

/// The role that SeaweedFS allows a trusted token to assume.
pub(crate) const ROLE_ARN: &str = "arn:aws:iam::000000000000:role/FeedRole";

/// SeaweedFS's trust: exactly this issuer, audience and subject.
pub(crate) struct Trust<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) audience: &'a str,
    pub(crate) subject: &'a str,
    /// The certificate of the CA that issued the issuer's certificate.
    pub(crate) ca: &'a Path,
}

/// The access key and the secret key of its administrator, and of a read-only user.
pub(crate) const ADMINISTRATOR: [&str; 2] = ["admin", "the-administrator-of-these-tests"];
pub(crate) const READER: [&str; 2] = ["reader", "who-may-read-and-list-and-not-write"];

/// A running SeaweedFS, with an STS.
pub(crate) struct SeaweedFs {
    process: Process,
    _folder: TempDir,
    address: SocketAddr,
    sockets: Vec<String>,
}

impl SeaweedFs {
    pub(crate) fn start(trust: &Trust<'_>) -> Self {
        Self::start_where(trust, &json!({"StringEquals": {"oidc:sub": trust.subject}}))
    }

    /// The same, with a trust policy of this condition.
    pub(crate) fn start_where(trust: &Trust<'_>, condition: &Value) -> Self {
        on_free_ports(|| Self::try_start(trust, condition))
    }

    /// Starts one that is used only as an object store.
    pub(crate) fn store() -> Self {
        let ca = Ca::new();
        let issuer = "https://issuer.example";
        Self::start(&Trust { issuer, audience: "nobody", subject: "nobody", ca: &ca.certificate() })
    }

    /// Returns the address of its S3 and its STS, `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Returns the URL of its STS.
    pub(crate) fn sts(&self) -> String {
        format!("http://{}", self.address)
    }

    fn try_start(trust: &Trust<'_>, condition: &Value) -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        std::fs::create_dir(file("data")).unwrap();
        std::fs::write(file("s3.json"), identities().to_string()).unwrap();
        std::fs::write(file("iam.json"), iam(trust, condition).to_string()).unwrap();

        let [master, volume, filer, s3, master_grpc, volume_grpc, filer_grpc, s3_grpc] = free_ports();
        let process = Process::start(
            "SeaweedFS",
            clean_command(super::installed_peer("venv/bin/weed"))
                .env("HOME", folder.path())
                .current_dir(folder.path())
                .args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"])
                .arg(format!("-dir={}", file("data").display()))
                .args([format!("-master.port={master}"), format!("-master.port.grpc={master_grpc}")])
                .args([format!("-volume.port={volume}"), format!("-volume.port.grpc={volume_grpc}")])
                .arg("-volume.preStopSeconds=0")
                .args(["-filer", "-filer.localSocket=filer.sock"])
                .args([format!("-filer.port={filer}"), format!("-filer.port.grpc={filer_grpc}")])
                .args(["-s3", "-s3.localSocket=s3.sock", "-s3.port.iceberg=0", "-s3.port.lance=0"])
                .args([format!("-s3.port={s3}"), format!("-s3.port.grpc={s3_grpc}")])
                .args(["-s3.config=s3.json", "-s3.iam.config=iam.json"]),
        );
        let sockets =
            [("master", master_grpc), ("volume", volume_grpc), ("filer", filer_grpc), ("s3", s3_grpc)]
                .map(|(part, port)| format!("/tmp/seaweedfs-{part}-grpc-{port}.sock"));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, s3));
        let mut seaweedfs = Self { process, _folder: folder, address, sockets: sockets.into() };

        // It is ready once its STS responds to a request without a token.
        let form = "Action=AssumeRoleWithWebIdentity&Version=2011-06-15";
        seaweedfs.process.wait_ready(Duration::from_secs(90), |_| {
            http(address, "/", Some(form)).filter(|response| response.contains("<ErrorResponse"))
        })?;
        Ok(seaweedfs)
    }
}

impl Drop for SeaweedFs {
    fn drop(&mut self) {
        // A clean shutdown would take ten seconds, for data that is discarded; after a kill, these sockets
        // remain, in a folder that cannot be configured.
        self.process.kill();
        for socket in &self.sockets {
            let _ = std::fs::remove_file(socket);
        }
    }
}

/// It serves no S3 without an administrator.
fn identities() -> Value {
    let identity = |[key, secret]: [&str; 2], actions: &[&str]| json!({"name": key, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions});
    json!({"identities": [identity(ADMINISTRATOR, &["Admin"]), identity(READER, &["Read", "List"])]})
}

fn iam(trust: &Trust<'_>, condition: &Value) -> Value {
    json!({
        // Signs SeaweedFS's own session tokens, which are used only in this test.
        "sts": {"tokenDuration": "1h", "maxSessionLength": "12h", "issuer": "seaweedfs-sts",
            "signingKey": "c2lnbnMgb25seSB0aGlzIHRlc3QncyBzZXNzaW9ucyE="},
        "providers": [{"name": "feed", "type": "oidc", "enabled": true,
            "config": {"issuer": trust.issuer, "clientId": trust.audience, "tlsCaCert": trust.ca}}],
        "policy": {"defaultEffect": "Deny", "storeType": "memory"},
        "roles": [{"roleName": "FeedRole", "roleArn": ROLE_ARN, "attachedPolicies": ["Read"],
            "trustPolicy": {"Version": "2012-10-17", "Statement": [{
                "Effect": "Allow", "Principal": {"Federated": "feed"}, "Action": ["sts:AssumeRoleWithWebIdentity"],
                "Condition": condition}]}}],
        "policies": [{"name": "Read", "document": {"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Action": ["s3:Get*"], "Resource": ["arn:aws:s3:::*/*"]}]}}],
    })
}
