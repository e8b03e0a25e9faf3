//! The keys, signers and documents of one moment, as one value.

use std::sync::Arc;

use jiff::Timestamp;

use crate::jose::Algorithm;
use crate::jose::jwk::{Kid, PublicKey};
use crate::jose::jws::Signer;
use crate::oidc::metadata::Documents;
use crate::signing_keys::publication::{self, Generation, KeyLocation};
use crate::signing_keys::{self, SigningKey, Stage, State};
use crate::store::StoreError;
use crate::store::issuer::KeySettings;
use crate::store::keyring::Keyring;
use crate::store::sealed::SealError;
use crate::store::signing_keys::StoredKeys;
use crate::store::vault::Vault;

/// Keys, signers and documents that belong together.
#[derive(Debug)]
pub struct KeySet {
    /// The policy and the generation that they were read with.
    pub settings: KeySettings,
    /// All keys, oldest first.
    pub keys: Vec<SigningKey>,
    /// The locations, besides the servers, where verifiers find keys.
    pub locations: Vec<KeyLocation>,
    /// The generation of the published keys.
    pub edition: Generation,
    /// The identifiers of the keys in the JWKS.
    pub kids: Vec<Kid>,
    /// The public documents.
    pub documents: Arc<Documents>,
    /// The symmetric keys of the epoch in which all of this was read.
    pub keyring: Arc<Keyring>,
    /// The active key of each algorithm, in the order of [`Algorithm::ALL`]; `None` if it is sealed with a
    /// master key that this process does not have.
    pub(super) signers: [Option<Signer>; Algorithm::ALL.len()],
    /// The first copy of the documents that does not show the active key, in the same order.
    unshown: [Option<String>; Algorithm::ALL.len()],
    /// The time when a key leaves the JWKS without any event.
    pub(super) stale_at: Option<Timestamp>,
}

/// The reason why the key state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyStateError {
    /// The key state cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An algorithm has no active key.
    #[error("there is no active {0} key")]
    NoActiveKey(Algorithm),
    /// The documents cannot be serialised.
    #[error("the public documents could not be serialised")]
    Documents(#[from] serde_json::Error),
}

impl KeySet {
    /// Builds the key set of `stored`. Keeps a signer of `before` instead of parsing its key again.
    pub(super) fn of(
        vault: &Vault,
        stored: &StoredKeys,
        now: Timestamp,
        before: Option<&Self>,
    ) -> Result<Self, KeyStateError> {
        let keys = stored.public();
        let signer = |algorithm: Algorithm| -> Result<Option<Signer>, KeyStateError> {
            let active = stored
                .keys
                .iter()
                .find(|stored| stored.key.algorithm() == algorithm && stored.key.state(now) == State::Active)
                .ok_or(KeyStateError::NoActiveKey(algorithm))?;
            let kept = before.and_then(|before| before.signer(algorithm));
            if let Some(kept) = kept.filter(|signer| *signer.kid() == active.key.kid()) {
                return Ok(Some(kept.clone()));
            }
            match vault.signer(active, &stored.keyring) {
                // Publishing must continue, above all after a revocation. Only minting stops.
                Err(StoreError::Seal(error @ SealError::OtherMasterKey { .. })) if before.is_some() => {
                    tracing::error!(%error, %algorithm, "nothing is minted with this algorithm");
                    Ok(None)
                }
                opened => opened?.ok_or(KeyStateError::NoActiveKey(algorithm)).map(Some),
            }
        };
        let [rs256, es256] = Algorithm::ALL;
        let signers = [signer(rs256)?, signer(es256)?];
        let published = signing_keys::published(&keys, now);
        let has_retired = |key: &SigningKey| matches!(key.stage, Stage::Retired { .. });
        let retired = keys.iter().filter(|key| has_retired(key)).count();
        let kept = published.iter().filter(|key| has_retired(key)).count();
        let pruned = i64::try_from(retired - kept).unwrap_or(i64::MAX);
        let max_age = stored.settings.policy.jwks_max_age();
        let kids = published.iter().map(|key| key.kid()).collect();
        let published = published.into_iter().map(|key| &key.public);
        let documents = Documents::new(vault.issuer(), published, &Algorithm::ALL, max_age)?;
        Ok(Self {
            settings: stored.settings,
            documents: Arc::new(documents),
            keyring: Arc::clone(&stored.keyring),
            signers,
            stale_at: signing_keys::next_pruning(&keys, now),
            edition: Generation { keys: stored.settings.generation, pruned },
            kids,
            unshown: Algorithm::ALL.map(|algorithm| first_unshown(&keys, &stored.locations, algorithm)),
            locations: stored.locations.clone(),
            keys,
        })
    }

    /// The active key of `algorithm`, if this process can decrypt it.
    #[must_use]
    pub fn signer(&self, algorithm: Algorithm) -> Option<&Signer> {
        match algorithm {
            Algorithm::Rs256 => self.signers[0].as_ref(),
            Algorithm::Es256 => self.signers[1].as_ref(),
        }
    }

    /// The name of a copy of the documents that does not show the active key of `algorithm`, if there is one.
    #[must_use]
    pub fn unshown(&self, algorithm: Algorithm) -> Option<&str> {
        match algorithm {
            Algorithm::Rs256 => self.unshown[0].as_deref(),
            Algorithm::Es256 => self.unshown[1].as_deref(),
        }
    }

    /// The active keys, one for each algorithm.
    #[must_use]
    pub fn active_kids(&self) -> Vec<Kid> {
        Algorithm::ALL
            .into_iter()
            .filter_map(|algorithm| signing_keys::active(&self.keys, algorithm))
            .map(SigningKey::kid)
            .collect()
    }

    /// The public halves published at `now`.
    #[must_use]
    pub fn published(&self, now: Timestamp) -> Vec<PublicKey> {
        signing_keys::published(&self.keys, now).into_iter().map(|key| key.public.clone()).collect()
    }
}

fn first_unshown(keys: &[SigningKey], locations: &[KeyLocation], algorithm: Algorithm) -> Option<String> {
    let missing_at = publication::missing_at(signing_keys::active(keys, algorithm)?, locations);
    missing_at.into_iter().find(|location| location.is_copy()).map(|location| location.name.clone())
}
