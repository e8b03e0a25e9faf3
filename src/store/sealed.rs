//! Sealing: authenticated encryption under the master key, and the MACs of rows.
//!
//! AES-256-GCM with a random nonce. The associated data names the sealed value and its use, so that sealed
//! bytes moved to another row, algorithm, purpose or issuer do not open. A key seals a few values a month,
//! far below the limit of 2³² for random 96-bit nonces.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::master_key::{MasterKey, MasterKeyId};
use crate::values::random::{Random, RandomnessUnavailable};
use crate::values::secret::SecretBytes;

/// Sealed bytes do not open, or carnet did not write a row as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Another master key sealed the bytes.
    #[error("the master key in use is {in_use}, but {what} is sealed with {needed}")]
    OtherMasterKey {
        /// The value to be opened.
        what: String,
        /// The master key that this process holds.
        in_use: MasterKeyId,
        /// The identifier of the master key that sealed the bytes.
        needed: String,
    },
    /// The bytes were changed, or were sealed for another use.
    #[error(
        "{what} does not open with the master key {in_use}: it was changed, or belongs to another row or \
         database"
    )]
    DoesNotOpen {
        /// The value to be opened.
        what: String,
        /// The master key that this process holds.
        in_use: MasterKeyId,
    },
    /// The row of a signing key fails its MAC: carnet did not write it.
    #[error(
        "the row of signing key {kid} fails its MAC: it was inserted or changed by something other than carnet; it is not published"
    )]
    ForgedRow {
        /// The row's `kid` column.
        kid: String,
    },
    /// A retired key would stay published for longer than its retirement and its longest token allow.
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
    /// The cryptographic library refused to seal.
    #[error("sealing failed")]
    Seal,
}

/// The name and use of sealed bytes. Every field goes into the associated data.
#[derive(Debug, Clone, Copy)]
pub struct SealedFor<'a> {
    /// The purpose of the bytes, such as `signing-key`.
    pub purpose: &'a str,
    /// The name of the value, such as a `kid`.
    pub name: &'a str,
    /// The algorithm of a signing key; empty for other values.
    pub algorithm: &'a str,
    /// The issuer of a signing key; empty for other values.
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

/// Seals and opens values under one master key.
#[derive(Debug)]
pub struct Sealer {
    id: MasterKeyId,
    key: LessSafeKey,
    /// Authenticates the state file, which is outside the database.
    state_file: RowMac,
}

impl Sealer {
    /// Returns a sealer under `master_key`.
    pub fn new(master_key: &MasterKey) -> Result<Self, SealError> {
        let sealing_key = master_key.sealing_key();
        let key = UnboundKey::new(&AES_256_GCM, sealing_key.reveal()).map_err(|_| SealError::Seal)?;
        let state_file = RowMac::new(&master_key.state_file_key());
        Ok(Self { id: master_key.id().clone(), key: LessSafeKey::new(key), state_file })
    }

    /// Returns the MAC of the state file, whose key depends on the master key alone.
    pub(super) fn state_file(&self) -> &RowMac {
        &self.state_file
    }

    /// Returns the master key's identifier, which is stored beside each sealed value.
    #[must_use]
    pub fn master_key_id(&self) -> &MasterKeyId {
        &self.id
    }

    /// Seals `secret`. The result is base64 of nonce, ciphertext and tag.
    pub fn seal(
        &self,
        what: SealedFor<'_>,
        secret: &SecretBytes,
        random: &dyn Random,
    ) -> Result<String, SealError> {
        let mut nonce = [0; NONCE_LEN];
        random.fill(&mut nonce)?;
        // Appending the tag in place would reallocate the buffer and leave the clear bytes in the old one.
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

    /// Opens a value that [`Sealer::seal`] returned for the same name and use.
    ///
    /// # Errors
    ///
    /// [`SealError::OtherMasterKey`] or [`SealError::DoesNotOpen`]; neither reveals anything of the content.
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

/// The key that authenticates rows of one purpose; see [`super::keyring::Purpose`]. The first column names
/// the table, so that a row of one table never passes for a row of another.
#[derive(Debug, Clone)]
pub struct RowMac(hmac::Key);

impl RowMac {
    /// Returns a MAC under `key`.
    #[must_use]
    pub fn new(key: &SecretBytes) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.reveal()))
    }

    /// Returns the MAC of a row's columns, in base64.
    #[must_use]
    pub fn tag(&self, columns: &[&str]) -> String {
        STANDARD_NO_PAD.encode(hmac::sign(&self.0, &joined(columns)))
    }

    /// Returns whether `tag` is the MAC of `columns`. The comparison takes the same time for every wrong tag.
    #[must_use]
    pub fn verifies(&self, columns: &[&str], tag: &str) -> bool {
        STANDARD_NO_PAD.decode(tag).is_ok_and(|tag| hmac::verify(&self.0, &joined(columns), &tag).is_ok())
    }
}

/// Encodes fields as one byte string, each preceded by its length, so that no other list of fields gives the
/// same bytes.
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
    fn sealed_bytes_open_only_for_the_same_purpose() {
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
