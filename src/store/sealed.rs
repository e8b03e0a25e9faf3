//! Sealing: authenticated encryption under the master key, and the MAC on key rows.
//!
//! AES-256-GCM with a random nonce. The associated data names what is sealed and for whom, so that
//! sealed bytes moved to another row, algorithm, purpose or issuer do not open. A key seals a few
//! values a month, far below the 2³² that a random 96-bit nonce allows.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::master_key::{MasterKey, MasterKeyId};
use crate::values::random::{Random, RandomnessUnavailable};
use crate::values::secret::SecretBytes;

/// Sealed bytes do not open, or something is not what it was when carnet wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Another master key sealed this.
    #[error("the master key in use is {in_use}, but {what} is sealed with {needed}")]
    OtherMasterKey {
        /// What should be opened.
        what: String,
        /// The master key that this process holds.
        in_use: MasterKeyId,
        /// The master key that is needed.
        needed: String,
    },
    /// The bytes were changed, or belong to something else.
    #[error("{what} does not open with the master key {in_use}: it was changed, or belongs elsewhere")]
    DoesNotOpen {
        /// What should be opened.
        what: String,
        /// The master key that this process holds.
        in_use: MasterKeyId,
    },
    /// A key row was not written by this issuer.
    #[error(
        "the row of signing key {kid} fails its MAC: it was inserted or changed by something other than carnet; it is not published"
    )]
    ForgedRow {
        /// The row's `kid` column.
        kid: String,
    },
    /// A retired key would stay published for longer than is possible.
    #[error(
        "the row of signing key {kid} would keep it published for longer than its retirement and its longest token \
         allow: something other than carnet wrote it; it is not published"
    )]
    Overstays {
        /// The row's `kid` column.
        kid: String,
    },
    /// There is no randomness for a nonce.
    #[error(transparent)]
    Randomness(#[from] RandomnessUnavailable),
    /// The library refused to seal.
    #[error("sealing failed")]
    Seal,
}

/// What is sealed: every field goes into the associated data.
#[derive(Debug, Clone, Copy)]
pub struct SealedFor<'a> {
    /// What the bytes are for, such as `signing-key`.
    pub purpose: &'a str,
    /// Which one, such as a `kid`.
    pub name: &'a str,
    /// The algorithm of a signing key, else empty.
    pub algorithm: &'a str,
    /// The issuer of a signing key, else empty.
    pub issuer: &'a str,
}

impl SealedFor<'_> {
    fn associated_data(&self, master_key: &MasterKeyId) -> Vec<u8> {
        joined(&[
            "carnet-sealed-1",
            self.purpose,
            self.name,
            self.algorithm,
            self.issuer,
            master_key.as_str(),
        ])
    }

    fn what(&self) -> String {
        format!("{} {}", self.purpose, self.name)
    }
}

/// Seals and opens under one master key.
#[derive(Debug)]
pub struct Sealer {
    id: MasterKeyId,
    key: LessSafeKey,
    /// Authenticates the state file, which is outside the database.
    state_file: RowMac,
}

impl Sealer {
    /// A sealer under `master_key`.
    ///
    /// # Errors
    ///
    /// [`SealError::Seal`] when the library refuses the key.
    pub fn new(master_key: &MasterKey) -> Result<Self, SealError> {
        let sealing_key = master_key.sealing_key();
        let key = UnboundKey::new(&AES_256_GCM, sealing_key.reveal()).map_err(|_| SealError::Seal)?;
        let state_file = RowMac::new(&master_key.state_file_key());
        Ok(Self { id: master_key.id().clone(), key: LessSafeKey::new(key), state_file })
    }

    /// The MAC of the state file, which the master key alone gives.
    pub(super) fn state_file(&self) -> &RowMac {
        &self.state_file
    }

    /// The master key's identifier, kept beside what it seals.
    #[must_use]
    pub fn master_key_id(&self) -> &MasterKeyId {
        &self.id
    }

    /// Seals `secret`; the result is base64 of nonce, ciphertext and tag.
    ///
    /// # Errors
    ///
    /// [`SealError`] when there is no randomness or the library refuses.
    pub fn seal(
        &self,
        what: SealedFor<'_>,
        secret: &SecretBytes,
        random: &dyn Random,
    ) -> Result<String, SealError> {
        let mut nonce = [0; NONCE_LEN];
        random.fill(&mut nonce)?;
        // Sealing in place would leave the clear bytes in a buffer that is reallocated for the tag.
        let mut sealed = vec![0; NONCE_LEN + secret.reveal().len()];
        sealed[..NONCE_LEN].copy_from_slice(&nonce);
        sealed[NONCE_LEN..].copy_from_slice(secret.reveal());
        let tag = self
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(what.associated_data(&self.id)),
                &mut sealed[NONCE_LEN..],
            )
            .map_err(|_| SealError::Seal)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(STANDARD_NO_PAD.encode(sealed))
    }

    /// Opens what [`Sealer::seal`] returned for the same thing.
    ///
    /// # Errors
    ///
    /// [`SealError::OtherMasterKey`] or [`SealError::DoesNotOpen`]; nothing of the content is revealed.
    pub fn open(
        &self,
        what: SealedFor<'_>,
        master_key_id: &str,
        sealed: &str,
    ) -> Result<SecretBytes, SealError> {
        if master_key_id != self.id.as_str() {
            return Err(SealError::OtherMasterKey {
                what: what.what(),
                in_use: self.id.clone(),
                needed: master_key_id.to_owned(),
            });
        }
        let refused = || SealError::DoesNotOpen { what: what.what(), in_use: self.id.clone() };
        let sealed = STANDARD_NO_PAD.decode(sealed).map_err(|_| refused())?;
        let (nonce, content) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(refused)?;
        let mut content = zeroize::Zeroizing::new(content.to_vec());
        let clear = self
            .key
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(what.associated_data(&self.id)),
                content.as_mut(),
            )
            .map_err(|_| refused())?;
        Ok(SecretBytes::new(clear.to_vec()))
    }
}

/// The key that authenticates rows of one purpose; see [`super::keyring::Purpose`]. The first column that is
/// given names the table, so that no row passes for one of another table.
#[derive(Debug, Clone)]
pub struct RowMac(hmac::Key);

impl RowMac {
    /// A MAC under `key`.
    #[must_use]
    pub fn new(key: &SecretBytes) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.reveal()))
    }

    /// The MAC of a row's columns, base64.
    #[must_use]
    pub fn tag(&self, columns: &[&str]) -> String {
        STANDARD_NO_PAD.encode(hmac::sign(&self.0, &joined(columns)))
    }

    /// Whether `tag` is the MAC of `columns`; takes the same time for every wrong one.
    #[must_use]
    pub fn verifies(&self, columns: &[&str], tag: &str) -> bool {
        STANDARD_NO_PAD.decode(tag).is_ok_and(|tag| hmac::verify(&self.0, &joined(columns), &tag).is_ok())
    }
}

/// Fields as one byte string that no other list of fields gives: each is preceded by its length.
fn joined(fields: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in fields {
        bytes.extend_from_slice(&(field.len() as u64).to_be_bytes());
        bytes.extend_from_slice(field.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::random::SecureRandom;

    const SIGNING_KEY: SealedFor<'static> =
        SealedFor { purpose: "signing-key", name: "kid", algorithm: "ES256", issuer: "https://a.example" };

    fn sealer() -> Sealer {
        Sealer::new(&MasterKey::generate(&SecureRandom::default()).unwrap()).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_for_the_same_thing_only() {
        let sealer = sealer();
        let secret = SecretBytes::new(b"private".to_vec());
        let sealed = sealer.seal(SIGNING_KEY, &secret, &SecureRandom::default()).unwrap();
        let id = sealer.master_key_id().as_str();
        assert_eq!(sealer.open(SIGNING_KEY, id, &sealed).unwrap().reveal(), b"private");
        for moved in [
            SealedFor { purpose: "other", ..SIGNING_KEY },
            SealedFor { name: "other", ..SIGNING_KEY },
            SealedFor { algorithm: "RS256", ..SIGNING_KEY },
            SealedFor { issuer: "https://b.example", ..SIGNING_KEY },
        ] {
            assert!(matches!(sealer.open(moved, id, &sealed), Err(SealError::DoesNotOpen { .. })));
        }
    }

    #[test]
    fn another_master_key_is_named_not_tried() {
        let (ours, theirs) = (sealer(), sealer());
        let sealed = ours.seal(SIGNING_KEY, &SecretBytes::new(vec![1]), &SecureRandom::default()).unwrap();
        let error = theirs.open(SIGNING_KEY, ours.master_key_id().as_str(), &sealed).unwrap_err();
        assert!(matches!(error, SealError::OtherMasterKey { .. }));
    }

    #[test]
    fn a_changed_byte_does_not_open() {
        let sealer = sealer();
        let sealed =
            sealer.seal(SIGNING_KEY, &SecretBytes::new(vec![7; 40]), &SecureRandom::default()).unwrap();
        for position in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[position] = if changed[position] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(
                sealer.open(SIGNING_KEY, sealer.master_key_id().as_str(), &changed).is_err(),
                "{position}"
            );
        }
    }

    #[test]
    fn sealing_twice_gives_different_bytes() {
        let sealer = sealer();
        let secret = SecretBytes::new(vec![1, 2, 3]);
        let seal = || sealer.seal(SIGNING_KEY, &secret, &SecureRandom::default()).unwrap();
        assert_ne!(seal(), seal());
    }

    #[test]
    fn the_mac_tells_columns_apart_that_read_the_same_in_a_row() {
        let mac = RowMac::new(&SecretBytes::new(vec![1; 32]));
        let tag = mac.tag(&["ab", "c"]);
        assert!(mac.verifies(&["ab", "c"], &tag));
        assert!(!mac.verifies(&["a", "bc"], &tag));
        assert!(!mac.verifies(&["ab", "c"], ""));
    }
}
