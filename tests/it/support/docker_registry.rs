//! Debian's docker-registry with a password, and skopeo, which pushes to it and pulls from it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;
use tempfile::TempDir;

use super::ca::Ca;
use super::carnet::Output;
use super::process::{Process, clean_command};

/// A running registry on TLS with one user.
pub(crate) struct DockerRegistry {
    _process: Process,
    folder: TempDir,
    /// `localhost:PORT`.
    pub(crate) host: String,
}

impl DockerRegistry {
    /// Starts a registry that accepts `user` with `password`.
    pub(crate) fn start(ca: &Ca, user: &str, password: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        write_htpasswd(&file("htpasswd"), user, password);
        // JSON is valid YAML.
        let config = json!({
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": file("data")}},
            "http": {"addr": "127.0.0.1:0", "secret": "unused-in-tests",
                "tls": {"certificate": ca.server_certificate(), "key": ca.server_key()}},
            "auth": {"htpasswd": {"realm": "registry", "path": file("htpasswd")}},
        });
        fs::write(file("config.yml"), config.to_string()).unwrap();
        // skopeo trusts the authorities in a folder, in files named *.crt.
        fs::create_dir(file("certs.d")).unwrap();
        fs::copy(ca.certificate(), file("certs.d/ca.crt")).unwrap();

        let mut process = Process::start(
            "docker-registry",
            clean_command(super::system_peer("docker-registry")).arg("serve").arg(file("config.yml")),
        );
        let host = process
            .wait_ready(Duration::from_secs(60), |process| {
                let log = process.stderr();
                let (_, rest) = log.split_once("listening on 127.0.0.1:")?;
                let (port, _) = rest.split_once(',')?;
                Some(format!("localhost:{port}"))
            })
            .unwrap_or_else(|failure| panic!("{failure}"));
        Self { _process: process, folder, host }
    }

    /// Pushes the image in the OCI layout at `layout` as `name`, with the credentials of `auth_file`.
    pub(crate) fn push(&self, layout: &Path, name: &str, auth_file: &Path) -> Output {
        let image = format!("docker://{}/{name}", self.host);
        let layout = format!("oci:{}:latest", layout.display());
        self.skopeo(&[
            "copy",
            "--preserve-digests",
            "--dest-cert-dir",
            &self.certs(),
            "--dest-authfile",
            text(auth_file),
            &layout,
            &image,
        ])
    }

    /// Pulls `name` into the folder `to`, with the credentials of `auth_file` or without any.
    pub(crate) fn pull(&self, name: &str, auth_file: Option<&Path>, to: &Path) -> Output {
        let image = format!("docker://{}/{name}", self.host);
        let to = format!("dir:{}", to.display());
        let certs = self.certs();
        let credentials = match auth_file {
            Some(file) => vec!["--src-authfile", text(file)],
            None => vec!["--src-no-creds"],
        };
        self.skopeo(&[&["copy", "--src-cert-dir", &certs], &credentials[..], &[&image, &to]].concat())
    }

    fn certs(&self) -> String {
        text(&self.folder.path().join("certs.d")).to_owned()
    }

    fn skopeo(&self, arguments: &[&str]) -> Output {
        let output = clean_command(super::system_peer("skopeo"))
            .env("HOME", self.folder.path())
            .env("XDG_RUNTIME_DIR", self.folder.path())
            // Signatures of images are not under test.
            .arg("--insecure-policy")
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Output {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Writes the password file with the real `htpasswd`, which reads the password from its standard input.
fn write_htpasswd(file: &Path, user: &str, password: &str) {
    let mut htpasswd = clean_command(super::system_peer("htpasswd"))
        .arg("-Bci")
        .arg(file)
        .arg(user)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    htpasswd.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    assert!(htpasswd.wait().unwrap().success(), "htpasswd failed");
}

/// Creates an OCI image with one layer below `folder`, with the single file `name` of the given content.
pub(crate) fn one_layer_image(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
    let layout = folder.join("image");
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    let blob = |media_type: &str, bytes: &[u8]| {
        let hash = sha256(bytes);
        fs::write(layout.join("blobs/sha256").join(&hash), bytes).unwrap();
        json!({"mediaType": media_type, "digest": format!("sha256:{hash}"), "size": bytes.len()})
    };
    let tar = tar(name, content);
    let layer = blob("application/vnd.oci.image.layer.v1.tar", &tar);
    let config = json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&tar))]}});
    let config = blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": [layer]});
    let mut manifest = blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    fs::write(layout.join("index.json"), json!({"schemaVersion": 2, "manifests": [manifest]}).to_string())
        .unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    layout
}

/// Returns a tar archive of one regular file (POSIX.1-1988 `ustar` header).
fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut field = |at: usize, value: &str| header[at..at + value.len()].copy_from_slice(value.as_bytes());
    field(0, name);
    field(100, "0000644\0");
    field(108, "0000000\0");
    field(116, "0000000\0");
    field(124, &format!("{:011o}\0", content.len()));
    field(136, "00000000000\0");
    // The checksum is computed with its own field blank.
    field(148, "        ");
    field(156, "0");
    field(257, "ustar\0");
    field(263, "00");
    let sum: u32 = header.iter().copied().map(u32::from).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());

    let mut archive = [&header, content].concat();
    // The file is padded to whole blocks, and two empty blocks end the archive.
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    archive
}

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
