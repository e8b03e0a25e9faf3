//! The progress on a terminal while a check runs.

use crate::feed_check::clouds::AWS;
use crate::feed_check::world::World;
use crate::support::carnet::Output;
use crate::support::system_peer;

/// Runs `feed check` on a pseudo-terminal, with util-linux's `script`.
fn on_a_terminal(world: &World) -> Output {
    let check = world.carnet.command(&["feed", "check", "default/a"]);
    let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_str().unwrap());
    let line: Vec<String> = [check.get_program()].into_iter().chain(check.get_args()).map(quoted).collect();
    let mut script = world.carnet.bare_command();
    script.arg(system_peer("script")).args(["-qec", &line.join(" "), "/dev/null"]);
    // `env` runs the command after it: `bare_command` has set up everything else.
    let mut command = crate::support::process::clean_command("env");
    command.args(script.get_args()).current_dir(world.carnet.home()).env("HOME", world.carnet.home());
    Output::of(&mut command, b"")
}

#[test]
fn a_terminal_shows_the_beginning_and_the_result_of_each_step() {
    let mut world = World::new(&AWS);
    world.add("a", &[]);
    for (config, last, outcome) in [
        ("", "registry", "ok"),
        (
            "[[faults]]\nstep = 'ecr:GetAuthorizationToken'\nfault = 'throttled'",
            "ecr:GetAuthorizationToken",
            "FAILED",
        ),
    ] {
        let url = world.url.clone();
        world.trust(config, &url, 0);
        world.gate.forget();
        let output = on_a_terminal(&world);
        assert_eq!(output.status, i32::from(outcome == "FAILED"), "{output:?}");
        let shown = crate::check_support::steady(&output.stdout);
        let steps = [
            "discovery",
            "jwks",
            "mint",
            "sts:AssumeRoleWithWebIdentity",
            "ecr:GetAuthorizationToken",
            "registry",
        ];
        let until = steps.iter().position(|step| *step == last).unwrap();
        let mut expected = String::new();
        for step in &steps[..=until] {
            let outcome = if *step == last { outcome } else { "ok" };
            // The step begins; then its line is cleared and shows the result.
            expected += &format!("{step} …\r\u{1b}[2K{step} {outcome} (TIME ms)\r\n");
        }
        assert!(shown.starts_with(&expected), "{shown:?}\nis not\n{expected:?}");
        assert!(shown[expected.len()..].trim_start().starts_with("STEP "), "{shown:?}");
    }
}

#[test]
fn progress_is_shown_only_on_a_terminal() {
    let world = World::new(&AWS);
    world.add("a", &[]);
    let output = world.check("default/a", &[]);
    assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{output:?}");
    assert!(!output.stdout.contains('\u{1b}'), "{output:?}");
}
