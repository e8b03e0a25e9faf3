//! Azurite, Microsoft's emulator of Azure Blob Storage.

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::process::{Process, clean_command, free_ports, on_free_ports};
use super::{in_package, installed_peer, system_peer};

/// The account of every Azurite.
pub(crate) const ACCOUNT: &str = "devstoreaccount1";

/// A running Azurite with in-memory storage.
pub(crate) struct Azurite {
    _process: Process,
    _folder: TempDir,
    /// `http://127.0.0.1:PORT`.
    pub(crate) endpoint: String,
}

impl Azurite {
    pub(crate) fn start() -> Self {
        on_free_ports(|| {
            let folder = tempfile::tempdir().unwrap();
            let [port] = free_ports();
            let mut process = Process::start(
                "Azurite",
                clean_command(system_peer("node"))
                    .env("HOME", folder.path())
                    .current_dir(folder.path())
                    .arg(installed_peer("node_modules/azurite/dist/src/blob/main.js"))
                    .args([
                        "--silent",
                        "--inMemoryPersistence",
                        "--disableTelemetry",
                        "--disableProductStyleUrl",
                    ])
                    // It may be older than the API version that the client requests.
                    .arg("--skipApiVersionCheck")
                    .arg(format!("--blobPort={port}")),
            );
            let ready = |process: &Process| process.stdout().contains("successfully listens").then_some(());
            process.wait_ready(Duration::from_secs(90), ready)?;
            Ok(Self { _process: process, _folder: folder, endpoint: format!("http://127.0.0.1:{port}") })
        })
    }

    /// Creates a container whose blobs everybody may read.
    pub(crate) fn make_public_container(&self, name: &str) {
        let mut command: Command = clean_command(system_peer("node"));
        let script = in_package("tests/peers/azure_container.mjs");
        let output = command.arg(script).args([&self.endpoint, name]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}
