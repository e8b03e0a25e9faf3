//! `carnet key policy`.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::carnet::Carnet;
use crate::cli::failure::CommandFailure;
use crate::cli::output::{self, Format};
use crate::jose::key_pair::RsaBits;
use crate::signing_keys::policy::RotationPolicy;
use crate::values::duration;

#[derive(Debug, Args)]
pub(in crate::cli) struct Policy {
    /// The time that a key signs before the next one takes over
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    rotate_every: Option<Duration>,
    /// The time that a key is published before it signs
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    propagation: Option<Duration>,
    /// The maximum lifetime of a token
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    max_token_lifetime: Option<Duration>,
    /// The maximum difference between clocks
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    leeway: Option<Duration>,
    /// The max-age of the public documents
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    jwks_max_age: Option<Duration>,
    /// The size of new RSA keys: 2048, 3072 or 4096
    #[arg(long, value_name = "BITS", value_parser = rsa_bits)]
    rsa_bits: Option<RsaBits>,
    #[command(flatten)]
    output: output::OutputOptions,
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    policy: RotationPolicy,
    rsa_bits: u16,
}

pub(super) async fn run(carnet: &Carnet, arguments: Policy) -> Result<(), CommandFailure> {
    let settings = carnet.issuer().key_set().settings;
    let mut durations = settings.policy.durations();
    let changes = [
        (&mut durations.rotate_every, arguments.rotate_every),
        (&mut durations.propagation, arguments.propagation),
        (&mut durations.max_token_lifetime, arguments.max_token_lifetime),
        (&mut durations.leeway, arguments.leeway),
        (&mut durations.jwks_max_age, arguments.jwks_max_age),
    ];
    for (duration, change) in changes {
        *duration = change.unwrap_or(*duration);
    }
    let policy = RotationPolicy::new(durations).map_err(|error| CommandFailure::usage(error.to_string()))?;
    let rsa_bits = arguments.rsa_bits.unwrap_or(settings.rsa_bits);
    if (policy, rsa_bits) != (settings.policy, settings.rsa_bits) {
        carnet.rotator().set_policy(&policy, rsa_bits, &super::actor()).await?;
        output::note(
            "Changed. Running servers use it within a second; no key leaves the JWKS earlier because of it.",
        );
    }
    let shown = Shown { policy, rsa_bits: rsa_bits.bits() };
    match arguments.output.output {
        Format::Json => output::json(&shown),
        Format::Table => output::pairs(&[
            ("rotate-every", words(policy.rotate_every())),
            ("propagation", words(policy.propagation())),
            ("max-token-lifetime", words(policy.max_token_lifetime())),
            ("leeway", words(policy.leeway())),
            ("jwks-max-age", words(policy.jwks_max_age())),
            ("rsa-bits", rsa_bits.bits().to_string()),
        ]),
    }
}

/// Formats a duration in its largest whole unit, as the flags accept it.
fn words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    match units.into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit)) {
        Some((unit, letter)) => format!("{}{letter}", seconds / unit),
        None => format!("{seconds}s"),
    }
}

fn rsa_bits(text: &str) -> Result<RsaBits, String> {
    let bits: u16 = text.parse().unwrap_or_default();
    RsaBits::try_from(bits).map_err(|error| error.to_string())
}
