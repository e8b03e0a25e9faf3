//! The execution of fixes: carnet's own commands are run; the clouds' commands are interpreted and applied to
//! the sandbox's trust. An unknown command or flag fails the test.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::feed_check::cloud_calls;
use crate::feed_check::world::World;
use crate::support::carnet::Output;
use crate::support::process::clean_command;
use crate::support::system_peer;

/// The trust of a cloud.
#[derive(Clone, PartialEq)]
pub(crate) struct Trusted {
    pub(crate) issuer: String,
    /// In the format of the sandbox's configuration.
    pub(crate) config: Value,
    /// Further effects of commands, which the sandbox cannot represent.
    pub(crate) facts: Vec<String>,
}

impl Trusted {
    /// Returns whether no command has changed anything in the cloud.
    pub(crate) fn is_untouched(&self) -> bool {
        self.facts.is_empty()
    }
}

/// Replaces the clouds' commands by scripts that only record their arguments. They know one AWS role if the
/// file `role` exists; it contains the role's owner.
const STAND_IN: &str = r#"#!/bin/sh
{ printf '%s\0' "${0##*/}" "$@"; printf '\0'; } >> "$STATE/calls"
case "$*" in
  *get-caller-identity*) echo 123456789012 ;;
  *' get-role '* | 'iam get-role '*) cat "$STATE/role" ;;
  *tag-role*) echo "${*##*Value=}" > "$STATE/role" ;;
  *'cloud show'*) echo AzureCloud ;;
  *'account show'*) echo 8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c ;;
  *'query=roleAssignmentMode'*) echo LegacyRegistryPermissions ;;
  *'ad app show'* | *'acr show'* | *'projects describe'*) echo there ;;
  *describe* | *' get-'* | *' show '*) exit 1 ;;
esac
"#;

/// A shell that has only the commands of [`STAND_IN`] for the clouds.
struct Shell(tempfile::TempDir);

impl Shell {
    fn new() -> Self {
        let shell = Self(tempfile::tempdir().unwrap());
        let bin = shell.0.path().join("bin");
        fs::create_dir(&bin).unwrap();
        for name in ["aws", "az", "gcloud", "carnet", "timedatectl"] {
            let file = bin.join(name);
            fs::write(&file, STAND_IN).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        shell
    }

    fn run(&self, script: &str) -> Output {
        let path = format!("{}:/usr/bin:/bin", self.0.path().join("bin").display());
        let mut command = clean_command("sh");
        command.args(["-c", script]).env("PATH", path).env("STATE", self.0.path()).current_dir(self.0.path());
        Output::of(&mut command, b"")
    }

    /// Returns the words of every call since the last time.
    fn calls(&self) -> Vec<Vec<String>> {
        let file = self.0.path().join("calls");
        let recorded = fs::read_to_string(&file).unwrap_or_default();
        fs::write(&file, "").unwrap();
        let calls = recorded.split("\0\0").filter(|call| !call.is_empty());
        calls.map(|call| call.trim_matches('\0').split('\0').map(str::to_owned).collect()).collect()
    }
}

/// Returns the trust after `command`; `None` if the command was a check, which has passed.
pub(crate) fn carry_out(world: &mut World, feed: &str, command: &str, before: Trusted) -> Option<Trusted> {
    let shell = Shell::new();
    let output = shell.run(command);
    assert_eq!(output.status, 0, "{command}: {output:?}");
    let calls = shell.calls();
    let [words] = &calls[..] else { panic!("{command} is not one command") };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["carnet", "feed", "setup", ..] => Some(set_up(world, feed, &words[1..], before)),
        ["carnet", "feed", "check", ..] => {
            world.gate.forget();
            world.carnet.ok(&words[1..]);
            None
        }
        ["carnet", "serve", "--issuer", issuer] => {
            world.serve_own(issuer);
            Some(before)
        }
        ["carnet", ..] => {
            world.carnet.ok(&words[1..]);
            Some(before)
        }
        ["timedatectl", "set-ntp", "true"] => {
            world.carnet.turn_clock("+0");
            Some(before)
        }
        _ => {
            let mut after = before;
            cloud_calls::apply(&calls, &mut after);
            Some(after)
        }
    }
}

/// Runs a command that only reads and shows a response with `status`; or one that sets the clock, which was
/// right.
pub(crate) fn check(world: &mut World, command: &str, status: Option<u16>) {
    let Some(url) = command.strip_prefix("curl -i ") else {
        assert_eq!(command, "timedatectl set-ntp true");
        return world.carnet.turn_clock("+0");
    };
    let output = Output::of(clean_command(system_peer("curl")).args(["-si", url]), b"");
    assert_eq!(output.status, 0, "{command}: {output:?}");
    let shown = format!("HTTP/1.1 {}", status.map(|status| status.to_string()).unwrap_or_default());
    assert!(output.stdout.starts_with(&shown), "{command}: {output:?}");
}

/// Runs the script that `feed setup` prints.
fn set_up(world: &World, feed: &str, command: &[&str], before: Trusted) -> Trusted {
    // The registry on this machine is not one that can exist in Azure.
    if let Some(registry) = world.cloud.setup_registry {
        world.carnet.ok(&["feed", "update", feed, "--registry", registry]);
    }
    let script = world.carnet.ok(command);
    if world.cloud.setup_registry.is_some() {
        world.carnet.ok(&["feed", "update", feed, "--registry", &world.gate.host]);
    }
    let shell = Shell::new();
    let role = before.config["aws"]["roles"].is_array();
    if role {
        fs::write(shell.0.path().join("role"), "None\n").unwrap();
    }
    let mut output = shell.run(&script);
    if role {
        // The script leaves a role alone that something else created, and says how to hand it over to carnet.
        let tag = output.stderr.lines().find(|line| line.contains("aws iam tag-role")).map(str::trim);
        let tag = tag.unwrap_or_else(|| panic!("{output:?}"));
        assert_eq!(output.status, 1, "{output:?}");
        assert_eq!(shell.run(tag).status, 0);
        shell.calls();
        output = shell.run(&script);
    }
    assert_eq!(output.status, 0, "{output:?}\n{script}");
    let mut after = before;
    cloud_calls::apply(&shell.calls(), &mut after);
    after
}
