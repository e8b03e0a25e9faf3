//! The output of `feed setup`, checked by the programs for its languages.

use carnet::internals::setup::Format;
use serde_json::Value;

use crate::setup_support::{CASES, Case, HOSTILE_NAMES};
use crate::support::carnet::Output;
use crate::support::process::clean_command;
use crate::support::system_peer;
use crate::support::terraform::Terraform;

/// Returns every case, and every case with every hostile name.
fn cases() -> impl Iterator<Item = Case<'static>> {
    CASES.iter().flat_map(|case| {
        let hostile = HOSTILE_NAMES.iter().map(|name| Case { display_name: name, ..*case });
        std::iter::once(*case).chain(hostile)
    })
}

fn shellcheck<'a>(cases: impl Iterator<Item = Case<'a>>, arguments: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = clean_command(system_peer("shellcheck"));
    command.arg("--norc").args(arguments).current_dir(folder.path());
    for (index, case) in cases.enumerate() {
        let file = format!("{}-{index}.sh", case.name);
        std::fs::write(folder.path().join(&file), case.render(Format::Cli) + "\n").unwrap();
        command.arg(file);
    }
    let Output { status, stdout, stderr } = Output::of(&mut command, b"");
    assert_eq!(status, 0, "{stdout}{stderr}");
}

#[test]
fn shellcheck_has_no_finding_in_any_script() {
    shellcheck(CASES.iter().copied(), &[]);
    // These two warn about `$(` and `\` in single quotes, which are intended.
    shellcheck(cases(), &["--exclude=SC2016,SC1003"]);
}

#[test]
fn terraform_would_change_no_formatting() {
    let terraform = Terraform::installed();
    let folder = tempfile::tempdir().unwrap();
    for (index, case) in cases().enumerate() {
        let file = folder.path().join(format!("{}-{index}.tf", case.name));
        std::fs::write(file, case.render(Format::Terraform) + "\n").unwrap();
    }
    let output = terraform.run(folder.path(), &["fmt", "-check", "-diff", "-no-color"]);
    assert_eq!((output.status, &*output.stdout), (0, ""), "{}", output.stderr);
}

#[test]
fn terraform_accepts_the_configurations_for_aws() {
    let terraform = Terraform::installed();
    for name in ["aws-ecr", "aws-ecr-cn", "aws-ecr-public"] {
        let folder = tempfile::tempdir().unwrap();
        let case = Case { display_name: HOSTILE_NAMES[2], ..*Case::named(name) };
        std::fs::write(folder.path().join("main.tf"), case.render(Format::Terraform)).unwrap();
        terraform.init(folder.path(), "aws");
        let output = terraform.run(folder.path(), &["validate", "-no-color"]);
        assert_eq!(output.status, 0, "{name}: {output:?}");
    }
}

/// The same quoting as in the configurations, read back as Terraform parsed it.
#[test]
fn terraform_reads_hostile_strings_as_they_are() {
    let terraform = Terraform::installed();
    let folder = tempfile::tempdir().unwrap();
    let audiences =
        ["${file(\"/etc/passwd\")}", "$${a} %%{b} $$${c}", "a\"b\\c\\n'%{if true}x%{endif}", "ü 日本 {{}}"];
    let mut configuration = String::new();
    for (index, audience) in audiences.into_iter().enumerate() {
        let case = Case { audience: Some(audience), ..*Case::named("azure-app") };
        let rendered = case.render(Format::Terraform);
        let line = rendered.lines().find(|line| line.trim_start().starts_with("audiences")).unwrap();
        let (_, list) = line.split_once('=').unwrap();
        configuration += &format!("output \"o{index}\" {{\n  value = {list}\n}}\n");
    }
    std::fs::write(folder.path().join("main.tf"), configuration).unwrap();
    let applied = terraform.run(folder.path(), &["apply", "-auto-approve", "-no-color", "-input=false"]);
    assert_eq!(applied.status, 0, "{applied:?}");
    let outputs = terraform.run(folder.path(), &["output", "-json"]);
    let outputs: Value = serde_json::from_str(&outputs.stdout).unwrap();
    for (index, audience) in audiences.into_iter().enumerate() {
        assert_eq!(outputs[format!("o{index}")]["value"][0], audience);
    }
}
