//! `carnet key rotate`.

use clap::Args;
use jiff::Timestamp;

use crate::carnet::Carnet;
use crate::cli::failure::Failure;
use crate::cli::{confirm, output, times};
use crate::issuer::KeySet;
use crate::jose::Algorithm;
use crate::jose::jwk::Kid;
use crate::signing_keys::rotation::{Change, RotationRequest, safe_at};
use crate::signing_keys::{self, SigningKey};

#[derive(Debug, Args)]
pub(in crate::cli) struct Rotate {
    /// Only the key of this algorithm [default: RS256 and ES256]
    #[arg(long, value_name = "ALG")]
    alg: Option<Algorithm>,
    /// Promote even a key that has not been published for long enough
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    confirm: confirm::Confirmation,
}

pub(super) async fn run(carnet: &Carnet, arguments: Rotate) -> Result<(), Failure> {
    let algorithms = arguments.alg.map_or_else(|| Algorithm::ALL.to_vec(), |algorithm| vec![algorithm]);
    let key_set = carnet.issuer().key_set();
    let seen = key_set.active_kids();
    if arguments.force
        && let Some(consequence) = consequence_of_force(&key_set, &algorithms, carnet.clock().now())
    {
        arguments.confirm.confirm(&consequence)?;
    }
    let request = RotationRequest { algorithms, seen, force: arguments.force };
    let rotation = carnet.rotator().rotate(&request, &super::actor()).await?;
    if rotation.changes.is_empty() {
        output::note("Already rotated: somebody else has just rotated these keys.");
        return Ok(());
    }
    carnet.issuer().refresh().await?;
    for change in &rotation.changes {
        if let Change::Rotate { algorithm, retire, promote } = change {
            output::note(&account(*algorithm, retire, promote, &carnet.issuer().key_set()));
        }
    }
    super::tell_erasure(carnet).await
}

/// What breaks, for whom, until when; nothing if every prepared key is old enough.
fn consequence_of_force(key_set: &KeySet, algorithms: &[Algorithm], now: Timestamp) -> Option<String> {
    let policy = &key_set.settings.policy;
    let too_young: Vec<String> = algorithms
        .iter()
        .filter_map(|algorithm| signing_keys::prepared(&key_set.keys, *algorithm))
        .filter(|key| safe_at(key, policy) > now)
        .map(|key| {
            format!(
                "The prepared {} key {} has been published since {} only. A verifier whose key set is older refuses \
                 every new {} token until it fetches again: at the latest {} ({}).",
                key.algorithm(),
                key.kid(),
                key.prepared_at,
                key.algorithm(),
                times::relative(safe_at(key, policy), now),
                safe_at(key, policy),
            )
        })
        .collect();
    (!too_young.is_empty()).then(|| too_young.join("\n"))
}

fn account(algorithm: Algorithm, retired: &Kid, promoted: &Kid, key_set: &KeySet) -> String {
    let until = key_set.keys.iter().find(|key| key.kid() == *retired).and_then(SigningKey::published_until);
    let until = until.map(|time| time.to_string()).unwrap_or_default();
    format!(
        "{algorithm}: {promoted} signs from now on. {retired} verifies until {until}; its private half is destroyed."
    )
}
