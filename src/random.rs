//! Randomness, as a parameter.

use std::fmt::Debug;

use aws_lc_rs::rand::SystemRandom;
use uuid::Uuid;

/// A source of unpredictable bytes.
pub trait Random: Debug + Send + Sync {
    /// Fills `buffer`.
    ///
    /// # Errors
    ///
    /// [`RandomnessUnavailable`] when the source has none to give; the buffer is then unspecified.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomnessUnavailable>;
}

/// The operating system's randomness could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct RandomnessUnavailable;

/// aws-lc's generator, seeded by the operating system.
#[derive(Debug, Clone, Default)]
pub struct SecureRandom(SystemRandom);

impl Random for SecureRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomnessUnavailable> {
        aws_lc_rs::rand::SecureRandom::fill(&self.0, buffer).map_err(|_| RandomnessUnavailable)
    }
}

/// A random (version 4) UUID, RFC 9562.
///
/// # Errors
///
/// [`RandomnessUnavailable`], from the source.
pub fn uuid(random: &dyn Random) -> Result<Uuid, RandomnessUnavailable> {
    let mut bytes = [0; 16];
    random.fill(&mut bytes)?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
}
