//! The records of a check, and the check of an issuer that is not served.

use serde_json::Value;

use crate::check_support as snapshots;
use crate::feed_check::clouds::AWS;
use crate::feed_check::world::World;
use crate::support::carnet::Issuer;

/// Failures that are in no table, because this issuer has no gate.
pub(crate) const SHOWN: &[&str] = &["discovery-refused"];

#[test]
fn an_issuer_that_is_not_served_is_explained_and_fixed() {
    let mut issuer = Issuer::http();
    let carnet = &issuer.carnet;
    let world = World::new(&AWS);
    let [sts, ecr] = ["sts", "ecr"].map(|name| format!("--endpoint={name}={}/aws/{name}", world.url));
    let registry = format!("--registry={}", world.gate.host);
    let role = "--role-arn=arn:aws:iam::123456789012:role/pull";
    carnet.ok(&["feed", "add", "aws-ecr", "--space=default", "--slug=a", &registry, role, &sts, &ecr]);
    issuer.server.process.kill();

    let table = carnet.run(&["feed", "check", "default/a"]);
    let output = carnet.run(&["feed", "check", "default/a", "--output=json"]);
    let response: Value = serde_json::from_str(&output.stdout).unwrap();
    snapshots::compare("discovery-refused", &table.stdout, &response);
    let failed = &response["steps"][0];
    assert_eq!((&failed["step"], table.status, output.status), (&"discovery".into(), 1, 1), "{response:#}");
    let command = failed["causes"][0]["command"].as_str().unwrap();
    assert_eq!(command, format!("carnet serve --issuer {}", issuer.url));

    let listen = issuer.url.strip_prefix("http://").unwrap();
    let served = carnet.serve(command.rsplit(' ').next().unwrap(), listen, &[]).unwrap();
    let mut trusting = world;
    trusting.trust("", &issuer.url, 0);
    let output = carnet.run(&["feed", "check", "default/a"]);
    assert_eq!(output.status, 0, "{output:?}");
    drop(served);
}

#[test]
fn a_check_is_recorded_as_one() {
    let mut world = World::new(&AWS);
    world.add("a", &[]);
    world.response("default/a", &[]);
    let url = world.url.clone();
    world.trust("[[faults]]\nstep = 'sts:AssumeRoleWithWebIdentity'\nfault = 'propagating'", &url, 0);
    assert_eq!(world.check("default/a", &[]).status, 1);

    let listed: Value =
        serde_json::from_str(&world.carnet.ok(&["audit", "list", "--output=json"])).unwrap_or_default();
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
