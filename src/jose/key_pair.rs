//! Key pairs: generated once, carried as PKCS #8, and parsed once into a [`Signer`].

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use p256::elliptic_curve::sec1::ToSec1Point;
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey};

use super::Algorithm;
use super::jwk::PublicKey;
use super::jws::Signer;
use crate::values::random::{Random, RandomnessUnavailable};
use crate::values::secret::SecretBytes;

/// The size of an RSA modulus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RsaBits {
    /// 2048 bits. Every verifier accepts it.
    #[default]
    Rsa2048,
    /// 3072 bits.
    Rsa3072,
    /// 4096 bits.
    Rsa4096,
}

impl RsaBits {
    /// The size in bits.
    #[must_use]
    pub fn bits(self) -> u16 {
        match self {
            Self::Rsa2048 => 2048,
            Self::Rsa3072 => 3072,
            Self::Rsa4096 => 4096,
        }
    }
}

/// The error for a modulus size that carnet does not offer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an RSA key has 2048, 3072 or 4096 bits")]
pub struct RsaBitsError;

impl TryFrom<u16> for RsaBits {
    type Error = RsaBitsError;

    fn try_from(bits: u16) -> Result<Self, Self::Error> {
        [Self::Rsa2048, Self::Rsa3072, Self::Rsa4096]
            .into_iter()
            .find(|size| size.bits() == bits)
            .ok_or(RsaBitsError)
    }
}

/// The reason why a key pair could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyPairError {
    /// No randomness is available.
    #[error(transparent)]
    Randomness(#[from] RandomnessUnavailable),
    /// The library could not generate the key.
    #[error("an {0} key could not be generated")]
    Generation(Algorithm),
    /// The private key is not a key of its algorithm, or its halves do not match.
    #[error("the private key is not a PKCS #8 key for {0}")]
    Malformed(Algorithm),
}

/// A private key as PKCS #8 (RFC 5958), which is what the store seals, with its public half.
///
/// Invariant: `public` is computed from `pkcs8`, never read from elsewhere.
#[derive(Debug, Clone)]
pub struct KeyPair {
    pkcs8: SecretBytes,
    public: PublicKey,
}

impl KeyPair {
    /// Generates a key. RSA takes 30 to 300 ms or more, so never call this on an async thread.
    pub fn generate(
        algorithm: Algorithm,
        rsa_bits: RsaBits,
        random: &dyn Random,
    ) -> Result<Self, KeyPairError> {
        let pkcs8 = match algorithm {
            Algorithm::Rs256 => generate_rsa(rsa_bits),
            Algorithm::Es256 => generate_p256(random),
        }?;
        Self::from_pkcs8(algorithm, pkcs8)
    }

    /// Reads a private key that was sealed before.
    pub fn from_pkcs8(algorithm: Algorithm, pkcs8: SecretBytes) -> Result<Self, KeyPairError> {
        let malformed = || KeyPairError::Malformed(algorithm);
        let public = match algorithm {
            Algorithm::Rs256 => {
                let pair = RsaKeyPair::from_pkcs8(pkcs8.reveal()).map_err(|_| malformed())?;
                PublicKey::Rsa {
                    n: pair.public_key().modulus().big_endian_without_leading_zero().to_vec(),
                    e: pair.public_key().exponent().big_endian_without_leading_zero().to_vec(),
                }
            }
            Algorithm::Es256 => {
                let key = p256::SecretKey::from_pkcs8_der(pkcs8.reveal()).map_err(|_| malformed())?;
                let point = key.public_key().to_sec1_point(false);
                match (point.x(), point.y()) {
                    (Some(x), Some(y)) => PublicKey::P256 { x: (*x).into(), y: (*y).into() },
                    _ => return Err(malformed()),
                }
            }
        };
        Ok(Self { pkcs8, public })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The private key, for sealing.
    #[must_use]
    pub fn pkcs8(&self) -> &SecretBytes {
        &self.pkcs8
    }

    /// Parses the key for signing. Call it once for each key, never for each token.
    pub fn signer(&self) -> Result<Signer, KeyPairError> {
        let algorithm = self.public.algorithm();
        let malformed = |_| KeyPairError::Malformed(algorithm);
        let kid = self.public.thumbprint();
        Ok(match algorithm {
            Algorithm::Rs256 => {
                Signer::rs256(kid, RsaKeyPair::from_pkcs8(self.pkcs8.reveal()).map_err(malformed)?)
            }
            Algorithm::Es256 => Signer::es256(
                kid,
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, self.pkcs8.reveal())
                    .map_err(malformed)?,
            ),
        })
    }
}

fn generate_rsa(bits: RsaBits) -> Result<SecretBytes, KeyPairError> {
    let size = match bits {
        RsaBits::Rsa2048 => KeySize::Rsa2048,
        RsaBits::Rsa3072 => KeySize::Rsa3072,
        RsaBits::Rsa4096 => KeySize::Rsa4096,
    };
    let pair = RsaKeyPair::generate(size).map_err(|_| KeyPairError::Generation(Algorithm::Rs256))?;
    let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| KeyPairError::Generation(Algorithm::Rs256))?;
    Ok(SecretBytes::new(der.as_ref().to_vec()))
}

fn generate_p256(random: &dyn Random) -> Result<SecretBytes, KeyPairError> {
    let mut scalar = zeroize::Zeroizing::new([0; 32]);
    // Rejection sampling: a candidate is outside 1..n with a chance of 2⁻³², so a source of which eight
    // candidates in a row are outside is broken.
    for _ in 0..8 {
        random.fill(scalar.as_mut())?;
        if let Ok(key) = p256::SecretKey::from_slice(scalar.as_ref()) {
            let der = key.to_pkcs8_der().map_err(|_| KeyPairError::Generation(Algorithm::Es256))?;
            return Ok(SecretBytes::new(der.as_bytes().to_vec()));
        }
    }
    Err(KeyPairError::Generation(Algorithm::Es256))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::random::SecureRandom;

    #[derive(Debug)]
    struct Zeros;

    impl Random for Zeros {
        fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomnessUnavailable> {
            buffer.fill(0);
            Ok(())
        }
    }

    #[test]
    fn a_sealed_key_reads_back_as_the_same_key() {
        for algorithm in Algorithm::ALL {
            let made = KeyPair::generate(algorithm, RsaBits::Rsa2048, &SecureRandom::default()).unwrap();
            let read = KeyPair::from_pkcs8(algorithm, made.pkcs8().clone()).unwrap();
            assert_eq!(read.public(), made.public());
            assert_eq!(read.public().algorithm(), algorithm);
        }
    }

    #[test]
    fn a_key_of_one_algorithm_is_refused_for_the_other() {
        for (algorithm, other) in [(Algorithm::Rs256, Algorithm::Es256), (Algorithm::Es256, Algorithm::Rs256)]
        {
            let made = KeyPair::generate(algorithm, RsaBits::Rsa2048, &SecureRandom::default()).unwrap();
            assert!(KeyPair::from_pkcs8(other, made.pkcs8().clone()).is_err());
        }
    }

    #[test]
    fn a_broken_random_source_makes_no_key() {
        assert!(matches!(
            KeyPair::generate(Algorithm::Es256, RsaBits::Rsa2048, &Zeros),
            Err(KeyPairError::Generation(Algorithm::Es256))
        ));
    }

    #[test]
    fn debug_shows_no_private_byte() {
        let made = KeyPair::generate(Algorithm::Es256, RsaBits::Rsa2048, &SecureRandom::default()).unwrap();
        assert!(format!("{made:?}").contains("pkcs8: SecretBytes(…)"));
        assert!(format!("{:?}", made.signer().unwrap()).starts_with("Signer"));
    }
}
