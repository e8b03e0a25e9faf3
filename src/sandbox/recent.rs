//! The most recent values that a stand-in has issued.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// The maximum number of entries. The oldest are dropped first.
const MAX_ENTRIES: usize = 10_000;

/// Values by the key that a client later presents.
#[derive(Debug)]
pub(super) struct Recent<T>(Mutex<Entries<T>>);

#[derive(Debug)]
struct Entries<T> {
    by_key: HashMap<String, T>,
    /// Each key of `by_key` exactly once.
    oldest_first: VecDeque<String>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(Mutex::new(Entries { by_key: HashMap::new(), oldest_first: VecDeque::new() }))
    }
}

impl<T: Clone> Recent<T> {
    /// Stores `value`. Replaces the value under the same key.
    pub(super) fn remember(&self, key: String, value: T) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.by_key.insert(key.clone(), value).is_some() {
            return;
        }
        entries.oldest_first.push_back(key);
        if entries.oldest_first.len() > MAX_ENTRIES
            && let Some(oldest) = entries.oldest_first.pop_front()
        {
            entries.by_key.remove(&oldest);
        }
    }

    pub(super) fn find(&self, key: &str) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_key.get(key).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_the_oldest_entry_goes_first() {
        let recent = Recent::default();
        for number in 0..=MAX_ENTRIES {
            recent.remember(number.to_string(), number);
            // A key that is stored again stays one entry.
            recent.remember("1".to_owned(), number);
        }
        let entries = recent.0.lock().unwrap();
        assert_eq!((entries.by_key.len(), entries.oldest_first.len()), (MAX_ENTRIES, MAX_ENTRIES));
        drop(entries);
        assert_eq!((recent.find("0"), recent.find("1")), (None, Some(MAX_ENTRIES)));
    }
}
