//! The JWKS to upload to a provider, for an issuer that Google cannot reach.

use jiff::Timestamp;

use crate::feed::Feed;
use crate::feed::google::JwksSource;
use crate::jose::Algorithm;
use crate::jose::jwk::{Kid, PublicKey, jwk_set};
use crate::setup::SetupError;
use crate::signing_keys::{self, SigningKey, State};

/// The maximum number of keys in an uploaded JWKS.
const MAX_UPLOADED_KEYS: usize = 8;

/// The keys to upload: those published at one moment.
#[derive(Debug, Clone)]
pub struct KeysToUpload {
    /// The public halves.
    pub keys: Vec<PublicKey>,
    /// The prepared keys among them. They sign next and must be confirmed after the upload.
    pub prepared: Vec<(Algorithm, Kid)>,
}

impl KeysToUpload {
    /// Returns the keys among `keys` that are published at `now`.
    #[must_use]
    pub fn of(keys: &[SigningKey], now: Timestamp) -> Self {
        let published = signing_keys::published(keys, now);
        let prepared = published.iter().filter(|key| key.state(now) == State::Prepared);
        Self {
            prepared: prepared.map(|key| (key.algorithm(), key.kid())).collect(),
            keys: published.iter().map(|key| key.public.clone()).collect(),
        }
    }

    /// Returns the JWKS file. Its keys have only the members that Google accepts.
    pub(super) fn jwks(&self) -> Result<String, SetupError> {
        match self.keys.len() {
            count if count > MAX_UPLOADED_KEYS => {
                Err(SetupError::TooManyKeys { count, limit: MAX_UPLOADED_KEYS })
            }
            _ => Ok(jwk_set(&self.keys)),
        }
    }

    /// Returns the notes for the person who uploads: conditions, and the steps after the upload.
    pub(super) fn notes(&self, feed: &Feed) -> Vec<String> {
        let (path, alg) = (feed.path(), feed.alg);
        let kid = self.prepared.iter().find(|(of, _)| *of == alg);
        let kid = kid.map_or("KID", |(_, kid)| kid.as_str());
        let then = match feed.provider.jwks() {
            JwksSource::Uploaded => format!(
                "Once it is uploaded, run: carnet feed confirm-jwks {kid} {path}. Scheduled rotation of \
                 {alg} waits for that."
            ),
            JwksSource::Fetched => format!(
                "The feed is not set to an uploaded JWKS, so no rotation waits for the upload. Run: carnet \
                 feed update {path} --jwks uploaded; and once the JWKS is uploaded: carnet feed confirm-jwks \
                 {kid} {path}."
            ),
        };
        vec![
            "Google will not fetch this issuer's keys: after every rotation, upload them again while the new \
             key is prepared, or Google refuses tokens once it signs."
                .to_owned(),
            then,
        ]
    }
}
