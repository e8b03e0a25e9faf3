//! Randomness, as a parameter.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

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

/// So many UUIDs are drawn at once.
const DRAWN_AT_ONCE: usize = 64;

/// Random UUIDs in quick succession, drawn from the source many at a time: a call of the source
/// costs about as much as all claims of a token, and hardly more for many bytes than for few.
///
/// For names alone, which are no secrets: those not yet given out wait in memory, and a process that
/// forks would give them out twice.
#[derive(Debug)]
pub struct Uuids {
    random: Arc<dyn Random>,
    drawn: Mutex<Vec<Uuid>>,
}

impl Uuids {
    /// UUIDs of `random`'s bytes.
    #[must_use]
    pub fn new(random: Arc<dyn Random>) -> Self {
        Self { random, drawn: Mutex::new(Vec::with_capacity(DRAWN_AT_ONCE)) }
    }

    /// A UUID that this has not given out before.
    ///
    /// # Errors
    ///
    /// [`RandomnessUnavailable`], from the source.
    pub fn next(&self) -> Result<Uuid, RandomnessUnavailable> {
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        if drawn.is_empty() {
            let mut bytes = [[0; 16]; DRAWN_AT_ONCE];
            self.random.fill(bytes.as_flattened_mut())?;
            drawn.extend(bytes.map(|bytes| uuid::Builder::from_random_bytes(bytes).into_uuid()));
        }
        drawn.pop().ok_or(RandomnessUnavailable)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[derive(Debug)]
    struct Broken;

    impl Random for Broken {
        fn fill(&self, _: &mut [u8]) -> Result<(), RandomnessUnavailable> {
            Err(RandomnessUnavailable)
        }
    }

    #[test]
    fn uuids_are_random_and_none_comes_twice() {
        let uuids = Uuids::new(Arc::new(SecureRandom::default()));
        let given: HashSet<_> = (0..3 * DRAWN_AT_ONCE + 1).map(|_| uuids.next().unwrap()).collect();
        assert_eq!(given.len(), 3 * DRAWN_AT_ONCE + 1);
        assert!(given.iter().all(|uuid| uuid.get_version() == Some(uuid::Version::Random)));
    }

    #[test]
    fn no_uuid_is_made_without_randomness() {
        assert_eq!(Uuids::new(Arc::new(Broken)).next(), Err(RandomnessUnavailable));
    }
}
