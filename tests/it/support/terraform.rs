//! Terraform with Amazon's provider. `scripts/peers --missing` skips the tests that need them on a machine
//! without them, and says so.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::carnet::Output;
use super::process::clean_command;
use super::system_peer;

/// Terraform.
pub(crate) struct Terraform(PathBuf);

impl Terraform {
    /// Returns the installed Terraform.
    ///
    /// # Panics If it is not installed.
    pub(crate) fn installed() -> Self {
        Self(system_peer("terraform"))
    }

    /// Returns `terraform ARGUMENTS` in `folder`, without its check for updates.
    pub(crate) fn command(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = clean_command(&self.0);
        command
            .current_dir(folder)
            .env("HOME", folder)
            .env("CHECKPOINT_DISABLE", "1")
            .env("TF_IN_AUTOMATION", "1")
            .args(arguments);
        command
    }

    pub(crate) fn run(&self, folder: &Path, arguments: &[&str]) -> Output {
        Output::of(&mut self.command(folder, arguments), b"")
    }

    /// Prepares `folder` with the provider `hashicorp/NAME`.
    pub(crate) fn init(&self, folder: &Path, name: &str) {
        let plugins =
            plugins(name).unwrap_or_else(|| panic!("no copy of Terraform's provider hashicorp/{name}"));
        let plugins = format!("-plugin-dir={}", plugins.display());
        let output = self.run(folder, &["init", "-no-color", "-input=false", &plugins]);
        assert_eq!(output.status, 0, "{output:?}");
    }
}

/// Returns the folder of provider copies that has `hashicorp/NAME`: the one named by
/// `CARNET_TERRAFORM_PLUGINS`, one that Terraform searches itself, or a separate folder below `/opt`.
fn plugins(name: &str) -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".terraform.d/plugins"));
    let named = std::env::var_os("CARNET_TERRAFORM_PLUGINS").map(PathBuf::from);
    let usual = ["/usr/local/share/terraform/plugins", "/usr/share/terraform/plugins"].map(PathBuf::from);
    let below_opt = std::fs::read_dir("/opt").into_iter().flatten().flatten().map(|entry| entry.path());
    named
        .into_iter()
        .chain(home)
        .chain(usual)
        .chain(below_opt)
        .find(|folder| folder.join("registry.terraform.io/hashicorp").join(name).is_dir())
}
