//! Evidence of the clients that fetch the JWKS: counted in memory, written at intervals.
//!
//! Evidence is for information and never decides anything. User agents are unverified claims, so their number
//! and length are bounded, and none of them causes a write of its own.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use jiff::Timestamp;

use crate::store::jwks_clients::{Fetches, JwksClient};
use crate::values::pasted::cleared;

/// The maximum number of user agents counted separately between two writes; further ones are counted
/// together.
const MAX_CLIENTS: usize = 256;
/// The maximum length of a user agent; the rest is cut off.
const MAX_NAME: usize = 120;
/// The number of fetches after which a client keeps its entry while strangers flood the table.
const REGULAR_FETCHES: u64 = 3;
/// The time without a fetch after which a client is not regular any more.
const REGULAR_WITHIN: Duration = Duration::from_secs(7 * 24 * 3600);
const OTHERS: &[u8] = b"(other user agents)";
const UNNAMED: &[u8] = b"(no user agent)";

/// The fetches that this process has counted and not yet written.
#[derive(Debug, Default)]
pub struct Evidence {
    clients: Mutex<HashMap<Box<[u8]>, Counted>>,
}

#[derive(Debug, Clone, Copy)]
struct Counted {
    first: Timestamp,
    last: Timestamp,
    generation: i64,
    unwritten: u64,
    ever: u64,
}

impl Evidence {
    /// Counts a fetch of the JWKS of `generation` at `now`.
    pub fn count(&self, user_agent: Option<&HeaderValue>, generation: i64, now: Timestamp) {
        let name = user_agent.map_or(UNNAMED, HeaderValue::as_bytes);
        let name = &name[..name.len().min(MAX_NAME)];
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let name = if clients.len() >= MAX_CLIENTS && !clients.contains_key(name) { OTHERS } else { name };
        if let Some(client) = clients.get_mut(name) {
            client.last = now;
            client.generation = generation;
            client.unwritten += 1;
            client.ever += 1;
        } else {
            clients.insert(name.into(), Counted { first: now, last: now, generation, unwritten: 1, ever: 1 });
        }
    }

    /// Returns the fetches counted since the last call. Clients that return regularly keep their entries.
    #[must_use]
    pub fn take(&self) -> Vec<Fetches> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = clients.iter().filter(|(_, client)| client.unwritten > 0);
        let taken = counted
            .map(|(name, client)| Fetches {
                user_agent: printable(name),
                first: client.first,
                last: client.last,
                count: client.unwritten,
                generation: client.generation,
            })
            .collect();
        clients.retain(|_, client| client.ever >= REGULAR_FETCHES);
        if clients.len() >= MAX_CLIENTS / 2 {
            // There are too many regular clients; all of them start again.
            clients.clear();
        }
        for client in clients.values_mut() {
            (client.unwritten, client.first) = (0, client.last);
        }
        taken
    }

    /// Adds fetches back that could not be written. The number of clients stays bounded.
    pub fn put_back(&self, fetches: Vec<Fetches>) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        for Fetches { user_agent, first, last, count, generation } in fetches {
            let known = clients.keys().find(|name| printable(name) == user_agent).cloned();
            let has_room = clients.len() < MAX_CLIENTS;
            let name = known.unwrap_or_else(|| if has_room { user_agent.as_bytes() } else { OTHERS }.into());
            let before = Counted { first, last, generation, unwritten: 0, ever: 0 };
            let client = clients.entry(name).or_insert(before);
            client.first = client.first.min(first);
            if client.last < last {
                (client.last, client.generation) = (last, generation);
            }
            client.unwritten += count;
            client.ever += count;
        }
    }
}

/// Formats a user agent so that it is safe to store and to show on a terminal.
fn printable(name: &[u8]) -> String {
    let text: String =
        name.iter().map(|byte| if (b' '..=b'~').contains(byte) { char::from(*byte) } else { '?' }).collect();
    cleared(&text).into_owned()
}

/// Returns whether a client has fetched repeatedly and still does.
#[must_use]
pub fn is_regular(client: &JwksClient, max_age: Duration, now: Timestamp) -> bool {
    let since =
        |from: Timestamp, to: Timestamp| Duration::try_from(to.duration_since(from)).unwrap_or_default();
    client.fetches >= i64::try_from(REGULAR_FETCHES).unwrap_or(i64::MAX)
        && since(client.first_fetched_at, client.last_fetched_at) >= max_age
        && since(client.last_fetched_at, now) <= REGULAR_WITHIN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    #[test]
    fn fetches_of_one_client_are_one_row() {
        let evidence = Evidence::default();
        for second in 0..5 {
            evidence.count(Some(&HeaderValue::from_static("aws")), 7, at(second));
        }
        let taken = evidence.take();
        assert_eq!(
            taken,
            [Fetches { user_agent: "aws".into(), first: at(0), last: at(4), count: 5, generation: 7 }]
        );
        assert!(evidence.take().is_empty());
    }

    #[test]
    fn a_flood_of_user_agents_is_bounded_and_displaces_no_regular_client() {
        let evidence = Evidence::default();
        for second in 0..3 {
            evidence.count(Some(&HeaderValue::from_static("aws")), 1, at(second));
        }
        assert_eq!(evidence.take().len(), 1);
        for number in 0..10_000 {
            evidence.count(Some(&HeaderValue::from_str(&format!("flood-{number}")).unwrap()), 1, at(10));
        }
        evidence.count(Some(&HeaderValue::from_static("aws")), 1, at(11));
        let taken = evidence.take();
        assert!(taken.len() <= MAX_CLIENTS + 1);
        assert!(taken.iter().any(|fetches| fetches.user_agent == "aws" && fetches.count == 1));
        assert_eq!(taken.iter().map(|fetches| fetches.count).sum::<u64>(), 10_001);
    }

    #[test]
    fn fetches_that_are_put_back_are_counted_with_those_since() {
        let evidence = Evidence::default();
        let (aws, odd) = (HeaderValue::from_static("aws"), HeaderValue::from_bytes(b"\xff").unwrap());
        for (client, generation, second) in [(&aws, 1, 0), (&odd, 1, 1), (&aws, 2, 2), (&aws, 2, 3)] {
            evidence.count(Some(client), generation, at(second));
        }
        let taken = evidence.take();
        evidence.count(Some(&odd), 3, at(4));
        evidence.put_back(taken);
        let mut taken = evidence.take();
        taken.sort_by_key(|fetches| fetches.last);
        let fetches = |user_agent: &str, first, last, count, generation| Fetches {
            user_agent: user_agent.into(),
            first: at(first),
            last: at(last),
            count,
            generation,
        };
        assert_eq!(taken, [fetches("aws", 0, 3, 3, 2), fetches("?", 1, 4, 2, 3)]);
    }

    #[test]
    fn fetches_that_are_put_back_again_and_again_are_bounded_and_none_is_lost() {
        let evidence = Evidence::default();
        for round in 0..5 {
            for number in 0..1000 {
                let name = format!("flood-{round}-{number}");
                evidence.count(Some(&HeaderValue::from_str(&name).unwrap()), 1, at(round));
            }
            let taken = evidence.take();
            assert!(taken.len() <= MAX_CLIENTS + 1);
            evidence.put_back(taken);
        }
        assert_eq!(evidence.take().iter().map(|fetches| fetches.count).sum::<u64>(), 5000);
    }

    #[test]
    fn a_hostile_user_agent_is_cut_and_made_printable() {
        let evidence = Evidence::default();
        let hostile = HeaderValue::from_bytes(&[b"\xff\x80\t".as_slice(), &[b'A'; 4000]].concat()).unwrap();
        evidence.count(Some(&hostile), 1, at(0));
        let name = &evidence.take()[0].user_agent;
        assert_eq!(name.len(), MAX_NAME);
        assert!(name.starts_with("???AAA"));
        let token = HeaderValue::from_str(&format!("CI carnet_{}", "0aZ".repeat(24))).unwrap();
        evidence.count(Some(&token), 1, at(0));
        assert!(evidence.take().iter().any(|fetches| fetches.user_agent == "CI carnet_…"));
    }
}
