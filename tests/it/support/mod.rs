//! Shared helpers of the integration tests: a temporary CA, a carnet with its own database, and the
//! third-party programs (peers) that it is tested against. Used with `#[path = "../support/mod.rs"] mod
//! support;`.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "set-up that fails should fail the test where it stands, and say why"
)]

pub(crate) mod azurite;
pub(crate) mod ca;
pub(crate) mod carnet;
pub(crate) mod collector;
pub(crate) mod database;
pub(crate) mod dice;
pub(crate) mod docker_registry;
pub(crate) mod forward_proxy;
pub(crate) mod http;
pub(crate) mod in_process;
pub(crate) mod keys;
pub(crate) mod moto;
pub(crate) mod needles;
pub(crate) mod openbao;
pub(crate) mod process;
pub(crate) mod racing_proxy;
pub(crate) mod recording_proxy;
pub(crate) mod relay;
pub(crate) mod seaweedfs;
pub(crate) mod snapshots;
pub(crate) mod terraform;
pub(crate) mod verifiers;

use std::path::PathBuf;

/// Advice for a missing peer; a test never skips because of it.
const INSTALL: &str = "run ./scripts/test, which installs it";

/// Returns the user who runs the tests, as the audit log names them.
pub(crate) fn local_actor() -> String {
    let named = std::process::Command::new("id").arg("-un").output().unwrap();
    format!("local:{}", String::from_utf8(named.stdout).unwrap().trim())
}

/// Returns the path of a file below the package's root.
pub(crate) fn in_package(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Returns the path of a peer that `scripts/peers` installs: below `CARNET_PEERS`, by default in the user's
/// cache folder.
///
/// # Panics If it is not installed.
pub(crate) fn installed_peer(path: &str) -> PathBuf {
    let folder = std::env::var_os("CARNET_PEERS").map(PathBuf::from).unwrap_or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"));
        cache.join("carnet/peers")
    });
    let file = folder.join(path);
    assert!(file.exists(), "{} is not installed: {INSTALL}", file.display());
    file
}

/// Returns the path of a peer from a Debian package, searched along `PATH`.
///
/// # Panics If it is not installed.
pub(crate) fn system_peer(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: {INSTALL}"))
}
