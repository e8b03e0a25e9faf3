//! `carnet key rotate`.

use clap::Args;
use jiff::Timestamp;

use crate::carnet::Carnet;
use crate::cli::failure::CommandFailure;
use crate::cli::{confirm, output, times};
use crate::issuer::KeySet;
use crate::issuer::rotator::RotationError;
use crate::jose::Algorithm;
use crate::jose::jwk::Kid;
use crate::signing_keys::publication::missing_at;
use crate::signing_keys::rotation::{Change, RotationRefusal, RotationRequest, is_safe, safe_at};
use crate::signing_keys::{self, SigningKey};

#[derive(Debug, Args)]
pub(in crate::cli) struct Rotate {
    /// Only the key of this algorithm [default: RS256 and ES256]
    #[arg(long, value_name = "ALG")]
    alg: Option<Algorithm>,
    /// Promote a key even if it has not been published for long enough
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    confirm: confirm::Confirmation,
}

pub(super) async fn run(carnet: &Carnet, arguments: Rotate) -> Result<(), CommandFailure> {
    let algorithms = arguments.alg.map_or_else(|| Algorithm::ALL.to_vec(), |algorithm| vec![algorithm]);
    let key_set = carnet.issuer().key_set();
    let seen = key_set.active_kids();
    if arguments.force
        && let Some(consequence) = consequence_of_force(&key_set, &algorithms, carnet.clock().now())
    {
        arguments.confirm.confirm(&consequence)?;
    }
    let request = RotationRequest { algorithms, seen, force: arguments.force };
    let rotation = carnet.rotator().rotate(&request, &super::actor()).await;
    let rotation = rotation.map_err(|error| refused(error, &key_set))?;
    if rotation.changes.is_empty() {
        output::note("Already rotated: another request has just rotated these keys.");
        return Ok(());
    }
    carnet.issuer().refresh().await?;
    for change in &rotation.changes {
        if let Change::Rotate { algorithm, retire, promote } = change {
            output::note(&account(*algorithm, retire, promote, &carnet.issuer().key_set()));
        }
    }
    super::report_erasure(carnet).await
}

/// Creates the failure of a rotation. If the key is not published everywhere, its hint names the missing
/// targets and feeds.
fn refused(error: RotationError, key_set: &KeySet) -> CommandFailure {
    let RotationError::Refused(RotationRefusal::Unpublished { kid, .. }) = &error else {
        return error.into();
    };
    let Some(key) = key_set.keys.iter().find(|key| key.kid() == *kid) else { return error.into() };
    let missing = missing_at(key, &key_set.locations);
    let mut hint = format!("it waits for {}", super::names(&missing));
    if let Some(given) = missing.iter().find(|location| !location.is_copy()) {
        hint += &format!(
            ": upload the JWKS as `carnet {}` prints, then run `carnet feed confirm-jwks {kid}`",
            given.name.replacen("feed ", "feed setup ", 1)
        );
    }
    hint += "; --force promotes it anyway, and first shows what breaks";
    CommandFailure::from(error).hint(hint)
}

/// Describes the effect of `--force` on verifiers, and its end. Returns `None` if every prepared key has been
/// published for long enough.
fn consequence_of_force(key_set: &KeySet, algorithms: &[Algorithm], now: Timestamp) -> Option<String> {
    let policy = &key_set.settings.policy;
    let too_young: Vec<String> = algorithms
        .iter()
        .filter_map(|algorithm| signing_keys::prepared(&key_set.keys, *algorithm))
        .filter(|key| !is_safe(key, policy, now))
        .map(|key| match (key.published_at, safe_at(key, policy)) {
            (Some(published_at), Some(safe_at)) => format!(
                "The prepared {} key {} has been published since {published_at} only. A verifier whose key set is \
                 older refuses every new {} token until it fetches again: at the latest {} ({safe_at}).",
                key.algorithm(),
                key.kid(),
                key.algorithm(),
                times::relative(safe_at, now),
            ),
            _ => unpublished(key, key_set),
        })
        .collect();
    (!too_young.is_empty()).then(|| too_young.join("\n"))
}

/// Describes the effect of signing with a key that is not published everywhere.
fn unpublished(key: &SigningKey, key_set: &KeySet) -> String {
    let (copies, given): (Vec<_>, Vec<_>) =
        missing_at(key, &key_set.locations).into_iter().partition(|location| location.is_copy());
    let mut text = format!("The prepared {} key {} is not published everywhere.", key.algorithm(), key.kid());
    if !copies.is_empty() {
        text += &format!(
            " No {} token is minted before {} shows it, and then a verifier whose key set is older refuses new ones \
             until it fetches again.",
            key.algorithm(),
            super::names(&copies)
        );
    }
    if !given.is_empty() {
        text += &format!(
            " New tokens of {} are refused until the JWKS is uploaded there again.",
            super::names(&given)
        );
    }
    text
}

fn account(algorithm: Algorithm, retired: &Kid, promoted: &Kid, key_set: &KeySet) -> String {
    let until = key_set.keys.iter().find(|key| key.kid() == *retired).and_then(SigningKey::published_until);
    let until = until.map(|time| time.to_string()).unwrap_or_default();
    format!(
        "{algorithm}: {promoted} signs from now on. {retired} verifies until {until}; its private key is \
         destroyed."
    )
}
