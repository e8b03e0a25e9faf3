//! Randomness as a parameter.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::rand::SystemRandom;
use jiff::Timestamp;
use uuid::Uuid;

/// A source of unpredictable bytes.
pub trait Random: Debug + Send + Sync {
    /// Fills `buffer`.
    ///
    /// # Errors
    ///
    /// [`RandomnessUnavailable`] if the source fails. The content of `buffer` is then unspecified.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomnessUnavailable>;
}

/// The operating system's randomness could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system returned no random bytes")]
pub struct RandomnessUnavailable;

/// aws-lc's generator, seeded by the operating system.
#[derive(Debug, Clone, Default)]
pub struct SecureRandom(SystemRandom);

impl Random for SecureRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomnessUnavailable> {
        aws_lc_rs::rand::SecureRandom::fill(&self.0, buffer).map_err(|_| RandomnessUnavailable)
    }
}

/// Returns a random (version 4) UUID, RFC 9562.
pub fn uuid(random: &dyn Random) -> Result<Uuid, RandomnessUnavailable> {
    let mut bytes = [0; 16];
    random.fill(&mut bytes)?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
}

/// The number of UUIDs whose bytes are drawn at once.
const DRAWN_AT_ONCE: usize = 64;

/// Makes UUIDs in quick succession. Draws bytes for many of them at once, because one call of the source
/// costs about as much as all claims of a token, and hardly more for many bytes than for few.
///
/// Only for names, never for secrets: unused bytes wait in memory, and a process that forks would use them
/// twice.
#[derive(Debug)]
pub struct Uuids {
    random: Arc<dyn Random>,
    drawn: Mutex<Vec<[u8; 16]>>,
}

impl Uuids {
    /// Returns a generator that draws from `random`.
    #[must_use]
    pub fn new(random: Arc<dyn Random>) -> Self {
        Self { random, drawn: Mutex::new(Vec::with_capacity(DRAWN_AT_ONCE)) }
    }

    /// Returns a random (version 4) UUID that this generator has not returned before.
    pub fn next(&self) -> Result<Uuid, RandomnessUnavailable> {
        Ok(uuid::Builder::from_random_bytes(self.draw()?).into_uuid())
    }

    /// Returns a UUID that begins with the time `now` and is otherwise random (version 7), so that an index
    /// of such names grows at its end. A time before 1970 becomes 1970.
    pub fn next_at(&self, now: Timestamp) -> Result<Uuid, RandomnessUnavailable> {
        let [random @ .., _, _, _, _, _, _] = self.draw()?;
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        Ok(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    fn draw(&self) -> Result<[u8; 16], RandomnessUnavailable> {
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        if drawn.is_empty() {
            let mut bytes = [[0; 16]; DRAWN_AT_ONCE];
            self.random.fill(bytes.as_flattened_mut())?;
            drawn.extend(bytes);
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
    fn uuids_of_a_time_begin_with_it_and_none_comes_twice() {
        let uuids = Uuids::new(Arc::new(SecureRandom::default()));
        let now: Timestamp = "2026-01-02T03:04:05.678Z".parse().unwrap();
        let given: HashSet<_> = (0..3 * DRAWN_AT_ONCE).map(|_| uuids.next_at(now).unwrap()).collect();
        assert_eq!(given.len(), 3 * DRAWN_AT_ONCE);
        for uuid in &given {
            assert_eq!(uuid.get_version(), Some(uuid::Version::SortRand));
            let (seconds, nanos) = uuid.get_timestamp().unwrap().to_unix();
            assert_eq!((seconds, nanos), (1_767_323_045, 678_000_000));
        }
        let later = uuids.next_at(now + jiff::SignedDuration::from_millis(1)).unwrap();
        assert!(given.iter().all(|uuid| *uuid < later));
        assert!(uuids.next_at(Timestamp::MIN).unwrap().to_string().starts_with("00000000-0000-7"));
    }

    #[test]
    fn no_uuid_is_made_without_randomness() {
        assert_eq!(Uuids::new(Arc::new(Broken)).next(), Err(RandomnessUnavailable));
    }
}
