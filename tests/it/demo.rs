//! `carnet demo`: the whole exchange on one machine, in order; a failing step makes the command fail.

use std::fs;

use crate::support::carnet::{Carnet, Output};

#[test]
fn the_demo_tells_the_whole_chain_and_leaves_nothing_behind() {
    let carnet = Carnet::new();
    let folder = carnet.home().join("tmp");
    fs::create_dir(&folder).unwrap();
    let output = Output::of(carnet.bare_command().arg("demo").env("TMPDIR", &folder), b"");
    assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{}", output.stdout);

    let account = &output.stdout;
    let mut read_until = 0;
    for step in [
        "  issuer      http://127.0.0.1:",
        "  JWKS        http://127.0.0.1:",
        "  STS         http://127.0.0.1:",
        "  trusts      aud=sts.amazonaws.com sub=space:default:feed:prod",
        "  trusts      aud=sts.amazonaws.com sub=space:default:feed:public",
        "  Entra       http://127.0.0.1:",
        "  trusts      aud=api://AzureADTokenExchange sub=space:default:feed:azure",
        "  IAM         http://127.0.0.1:",
        "  trusts      aud=//iam.googleapis.com/projects/",
        "  feed        default/prod",
        "  token       sub=space:default:feed:prod aud=sts.amazonaws.com",
        "  signed by   kid=",
        "  username    AWS",
        "  expires at  ",
        "  feed        default/public",
        "  registry    public.ecr.aws",
        "  username    AWS",
        "  feed        default/azure",
        "  token       sub=space:default:feed:azure aud=api://AzureADTokenExchange",
        "alg=RS256",
        "  username    00000000-0000-0000-0000-000000000000",
        "  expires at  ",
        "  feed        default/google",
        "  token       sub=space:default:feed:google aud=//iam.googleapis.com/projects/",
        "alg=ES256",
        "  username    oauth2accesstoken",
        "  expires at  ",
        "  API         http://127.0.0.1:",
        "  grant       deployer of space default",
        "  source      exchange",
        "  username    AWS",
        "  source      cache",
        "  refused     elsewhere/prod: urn:carnet:problem:not-found",
        "A rotation",
        "  signs now   kid=",
        "  published   6 keys",
        "  accepted    kid=",
        "A credential again",
        "  signed by   kid=",
        "  username    AWS",
        "  token       sub=space:default:feed:other aud=sts.amazonaws.com",
        "  code        AccessDenied",
        "  hint        ",
        "Done: every step did what it should.",
    ] {
        let at = account[read_until..].find(step);
        read_until +=
            at.unwrap_or_else(|| panic!("{step:?} is not told, or not in order:\n{account}")) + step.len();
    }

    let kids: Vec<&str> = account
        .lines()
        .filter(|line| line.contains("signed by   kid=") && line.ends_with("alg=ES256"))
        .map(|line| line.trim().split(['=', ' ']).find(|word| word.len() == 43).unwrap())
        .collect();
    assert!(kids.len() >= 2 && kids.first() != kids.last(), "the rotation changed no key: {kids:?}");
    assert!(account.contains(&format!("accepted    kid={}", kids[0])), "{account}");

    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "the demo's folder is left behind");
    assert_eq!(fs::read_dir(carnet.home()).unwrap().count(), 1, "the demo wrote beside its folder");
}

#[test]
fn a_step_that_fails_makes_the_demo_fail() {
    let carnet = Carnet::new();
    let file = carnet.home().join("tmp");
    fs::write(&file, "").unwrap();
    let output = Output::of(carnet.bare_command().arg("demo").env("TMPDIR", &file), b"");
    assert_eq!(output.status, 1, "{}", output.stdout);
    assert!(output.stderr.starts_with("error: "), "{}", output.stderr);
    assert!(!output.stdout.contains("Done"), "{}", output.stdout);
}

/// The output is the purpose of the demo: the command must fail if it cannot be written.
#[test]
fn a_closed_output_is_a_failure() {
    let carnet = Carnet::new();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output =
        carnet.bare_command().arg("demo").env("TMPDIR", carnet.home()).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("stdout cannot be written"), "{stderr}");
    assert_eq!(fs::read_dir(carnet.home()).unwrap().count(), 0, "the demo's folder is left behind");
}
