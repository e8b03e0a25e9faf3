use serde_json::{Value, json};

use crate::support::carnet::Carnet;
use crate::{AWS, BASIC, ROLE, World, names, registry};

/// Runs a command that a cause names, as a shell would.
fn carry_out(carnet: &Carnet, command: &Value, more: &[&str]) -> String {
    let words: Vec<&str> = command.as_str().unwrap().split(' ').collect();
    assert_eq!(words[0], "carnet");
    carnet.ok(&[&words[1..], more].concat())
}

fn roles(subject: &str, audience: &str) -> String {
    format!("[[aws.roles]]\narn = \"{ROLE}\"\naudiences = [\"{audience}\"]\nsubjects = [\"{subject}\"]\n")
}

#[test]
fn trust_that_is_too_narrow_is_mended_by_what_the_setup_says() {
    let mut world = World::new(&AWS, "", &registry::start(AWS.login, BASIC), &[]);
    for (subject, audience, code) in [
        ("space:default:feed:b", "sts.amazonaws.com", "AccessDenied"),
        ("space:default:feed:a", "other", "InvalidIdentityToken"),
    ] {
        world.turn(&roles(subject, audience));
        let failed = world.failure(&[]);
        assert_eq!(
            (&failed["step"], &failed["upstream"]["code"]),
            (&json!("sts:AssumeRoleWithWebIdentity"), &json!(code))
        );

        let setup = carry_out(world.carnet(), &failed["causes"][0]["command"], &["--format=json"]);
        let setup: Value = serde_json::from_str(&setup).unwrap();
        let trust = &setup["role"]["AssumeRolePolicyDocument"]["Statement"][0]["Condition"]["StringEquals"];
        let condition = |claim: &str| {
            let (_, value) = trust.as_object().unwrap().iter().find(|(key, _)| key.ends_with(claim)).unwrap();
            value.as_str().unwrap().to_owned()
        };
        world.turn(&roles(&condition(":sub"), &condition(":aud")));
        let answer = world.check(&[]);
        assert_eq!(answer["ok"], true, "{code}: {answer:#}");
    }
}

#[test]
fn a_session_that_is_too_long_is_mended_by_the_command_that_is_named() {
    let registry = registry::start(AWS.login, BASIC);
    let world = World::new(&AWS, "", &registry, &["--session-duration=2h"]);
    let mut world = world;
    world.turn(&roles("space:default:feed:a", "sts.amazonaws.com"));
    let failed = world.failure(&[]);
    assert_eq!(failed["upstream"]["code"], "ValidationError", "{failed:#}");
    carry_out(world.carnet(), &failed["causes"][0]["command"], &[]);
    assert_eq!(world.check(&[])["ok"], true);
}

#[test]
fn a_subject_that_needs_more_context_is_refused_at_the_mint_with_the_flag_that_gives_it() {
    let registry = registry::start(AWS.login, BASIC);
    let world = World::new(&AWS, "", &registry, &["--subject-keys=space,feed,tenant"]);
    let answer = world.check(&[]);
    assert_eq!(names(&answer), ["discovery", "jwks", "mint"]);
    let command = answer["steps"][2]["causes"][0]["command"].as_str().unwrap();
    let command = json!(command.replace("VALUE", "acme"));
    carry_out(world.carnet(), &command, &[]);
}

#[test]
fn an_issuer_that_is_not_served_or_serves_other_keys_is_found_before_anything_is_minted() {
    let mut world = World::new(&AWS, "", &registry::start(AWS.login, BASIC), &[]);
    let url = world.issuer.url.clone();
    let listen = url.strip_prefix("http://").unwrap().to_owned();
    world.issuer.server.process.kill();
    let failed = world.failure(&[]);
    assert_eq!(failed["step"], "discovery", "{failed:#}");
    assert_eq!(failed["causes"][0]["command"], format!("carnet serve --issuer {url}"));

    // Somebody else's keys under the same URL.
    let stranger = Carnet::new();
    let mut other = stranger.serve(&url, &listen, &[]).unwrap();
    let failed = world.failure(&[]);
    assert_eq!(failed["step"], "jwks", "{failed:#}");
    assert_eq!(failed["presented"]["iss"], url);
    other.process.kill();

    let mended = world.carnet().serve(&url, &listen, &[]).unwrap();
    let answer = world.check(&[]);
    assert_eq!(answer["ok"], true, "{answer:#}");
    drop(mended);
    let warnings = answer["warnings"].to_string();
    assert!(warnings.contains("has port") && warnings.contains("not https"), "{warnings}");
}

#[test]
fn a_check_is_recorded_as_one_and_told_to_people_in_full() {
    let mut world = World::new(&AWS, "", &registry::start(AWS.login, BASIC), &[]);
    world.check(&[]);
    world.turn(&roles("space:default:feed:b", "sts.amazonaws.com"));
    let output = world.carnet().run(&["feed", "check", "default/a"]);
    assert_eq!(output.status, 1, "{output:?}");
    for part in [
        "sts:AssumeRoleWithWebIdentity  FAILED",
        "AccessDenied",
        "sub  space:default:feed:a",
        "1. the trust policy of",
        "carnet feed setup default/a",
        "warning: ",
    ] {
        assert!(output.stdout.contains(part), "no {part:?} in\n{}", output.stdout);
    }
    assert!(output.stderr.contains("step sts:AssumeRoleWithWebIdentity failed"), "{output:?}");

    let listed: Value =
        serde_json::from_str(&world.carnet().ok(&["audit", "list", "--output=json"])).unwrap_or_default();
    let rows: Vec<&Value> = listed.as_array().into_iter().flatten().collect();
    let of = |kind: &str| rows.iter().filter(move |row| row["kind"] == kind).collect::<Vec<_>>();
    assert_eq!(
        (of("token.mint").len(), of("exchange").len(), of("credential").len()),
        (2, 2, 0),
        "{listed:#}"
    );
    for row in of("token.mint").into_iter().chain(of("exchange")) {
        assert_eq!(row["is_check"], true, "{row:#}");
    }
}
