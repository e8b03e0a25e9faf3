//! Servers that accept the request and never respond, at each step. A check waits ten seconds for each, so
//! all run concurrently here.

use crate::feed_check::cases::{CASE, Case, Fix, run};
use crate::feed_check::clouds::{AWS, AWS_PUBLIC, AZURE, Cloud, GOOGLE};
use crate::feed_check::gate::{Act, Rule, rule};
use crate::feed_check::world::World;

const SILENT: &[Rule] = &[rule("//127.0.0.2/", Act::Silence)];

const fn slow(
    cloud: &'static Cloud,
    name: &'static str,
    step: &'static str,
    feed: &'static [&'static str],
) -> Case {
    let rules = SILENT;
    Case {
        name,
        cloud,
        step,
        feed,
        rules,
        cause: "is slow, or a firewall drops",
        fix: Fix::Way("allow connections to the endpoint"),
        ..CASE
    }
}

const ISSUER: Fix = Fix::Way("allow connections to the issuer");
const REGISTRY: Fix = Fix::Way("allow connections to the registry");

pub(crate) const SLOW: &[Case] = &[
    Case {
        rules: &[rule("/.well-known/openid", Act::Silence)],
        fix: ISSUER,
        ..slow(&AWS, "slow-discovery", "discovery", &[])
    },
    Case {
        rules: &[rule("/.well-known/jwks", Act::Silence)],
        fix: ISSUER,
        ..slow(&AWS, "slow-jwks", "jwks", &[])
    },
    slow(
        &AWS,
        "slow-aws-sts",
        "sts:AssumeRoleWithWebIdentity",
        &["--endpoint=sts=http://{other-host}/aws/sts"],
    ),
    slow(&AWS, "slow-aws-ecr", "ecr:GetAuthorizationToken", &["--endpoint=ecr=http://{other-host}/aws/ecr"]),
    slow(
        &AWS_PUBLIC,
        "slow-aws-ecr-public",
        "ecr-public:GetAuthorizationToken",
        &["--endpoint=ecr=http://{other-host}/aws/ecr"],
    ),
    slow(
        &AZURE,
        "slow-azure-entra",
        "entra:token",
        &["--endpoint=authority=http://{other-host}/azure/entra"],
    ),
    slow(&AZURE, "slow-azure-acr", "acr:exchange", &["--endpoint=registry=http://{other-host}/azure/acr"]),
    Case {
        check: &["--repository=app"],
        rules: &[rule("/azure/acr/oauth2/token", Act::Silence)],
        ..slow(&AZURE, "slow-azure-acr-token", "acr:token", &[])
    },
    slow(&GOOGLE, "slow-google-sts", "sts:token", &["--endpoint=sts=http://{other-host}/google/sts"]),
    slow(
        &GOOGLE,
        "slow-google-account",
        "iamcredentials:generateAccessToken",
        &["--endpoint=iamcredentials=http://{other-host}/google/iamcredentials"],
    ),
    Case {
        // The certificate is trusted, so that TLS is not the failure.
        check: &["--ca-file={ca}"],
        rules: &[rule("/v2/", Act::Silence)],
        fix: REGISTRY,
        ..slow(&AWS, "slow-registry", "registry", &[])
    },
    Case {
        check: &["--image=app:v1"],
        rules: &[rule("/v2/app/manifests/", Act::Silence)],
        fix: REGISTRY,
        ..slow(&AWS, "slow-pull", "pull", &[])
    },
];

#[test]
fn a_silent_server_is_reported_at_every_step() {
    std::thread::scope(|scope| {
        for case in SLOW {
            scope.spawn(move || {
                let mut world = World::new(case.cloud);
                world.add("a", &[]);
                run(&mut world, case);
            });
        }
    });
}
