//! Terraform, where the machine has it, with Amazon's provider, where it has that. A test that needs either
//! says in plain sight that it was skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::carnet::Output;
use super::process::clean_command;

/// Terraform on this machine.
pub(crate) struct Terraform(PathBuf);

impl Terraform {
    /// Terraform, or a line on stderr that names the test that goes without.
    pub(crate) fn or_skip(test: &str) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found =
            std::env::split_paths(&path).map(|folder| folder.join("terraform")).find(|file| file.is_file());
        if found.is_none() {
            eprintln!("SKIPPED: {test}: terraform is not on this machine");
        }
        found.map(Self)
    }

    /// `terraform ARGUMENTS` in `folder`, which asks nobody on the network for news.
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

    /// Prepares `folder` with the provider `hashicorp/NAME`; else says that the test was skipped.
    pub(crate) fn init_or_skip(&self, folder: &Path, name: &str, test: &str) -> bool {
        let Some(plugins) = plugins(name) else {
            eprintln!("SKIPPED: {test}: this machine has no copy of Terraform's provider hashicorp/{name}");
            return false;
        };
        let plugins = format!("-plugin-dir={}", plugins.display());
        let output = self.run(folder, &["init", "-no-color", "-input=false", &plugins]);
        assert_eq!(output.status, 0, "{output:?}");
        true
    }
}

/// The folder of provider copies that has `hashicorp/NAME`: one that `CARNET_TERRAFORM_PLUGINS` names, one of
/// those that Terraform looks into by itself, or a folder of its own below `/opt`.
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
