//! The comparison of a database's states with one that is remembered outside it.

use super::{DatabaseId, State, StatePoint};

/// The relation of a database to a state that it once had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The database is at that state.
    Current,
    /// The database has had that state and has continued from it.
    Ahead,
    /// The database has not reached that state.
    Older {
        /// The database's last state.
        found: i64,
    },
    /// The database has another history: the state with that number has another head, or the states do not
    /// follow from each other.
    Forked,
    /// The database no longer keeps the states of that time.
    Forgotten {
        /// The first state that it keeps.
        oldest: i64,
    },
}

/// Compares `known`, which is remembered outside the database, with the states that the database keeps,
/// oldest first. Of the states before `known`, `kept` needs only the first one. The caller must have
/// authenticated the last one; the earlier ones follow from it.
#[must_use]
pub fn standing(known: &StatePoint, database: &DatabaseId, kept: &[State]) -> Standing {
    let (Some(oldest), Some(last)) = (kept.first(), kept.last()) else { return Standing::Older { found: 0 } };
    if last.n < known.n {
        return Standing::Older { found: last.n };
    }
    if oldest.n > known.n {
        return Standing::Forgotten { oldest: oldest.n };
    }
    let since: Vec<&State> = kept.iter().filter(|state| state.n >= known.n).collect();
    let is_there = since.first().is_some_and(|state| state.point() == *known);
    let is_chain =
        since.iter().zip(since.iter().skip(1)).all(|(before, after)| after.follows(before, database));
    match (is_there && is_chain, last.n == known.n) {
        (false, _) => Standing::Forked,
        (true, true) => Standing::Current,
        (true, false) => Standing::Ahead,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::states::{Contents, Table};

    fn id() -> DatabaseId {
        DatabaseId::of(b"this one")
    }

    /// Returns the digest of contents that differ by `step`.
    fn digest(step: u32) -> crate::states::Hash {
        let mut contents = Contents::default();
        contents.set(Table::Grants, "g", Some(step.to_string()));
        contents.digest()
    }

    /// Returns a chain of `len` states. From index `fork` on, they belong to another branch.
    fn chain(len: u32, fork: u32) -> Vec<State> {
        let mut states: Vec<State> = Vec::new();
        for step in 0..len {
            let digest = digest(if step < fork { step } else { step + 1_000 });
            let next =
                states.last().map_or_else(|| State::first(&id(), digest), |last| last.next(&id(), digest));
            states.push(next);
        }
        states
    }

    #[test]
    fn a_databases_standing_follows_from_its_known_states() {
        let ours = chain(10, 99);
        for known in 1..=10 {
            let point = ours[known - 1].point();
            for len in 0..=10 {
                let expected = match len.cmp(&known) {
                    std::cmp::Ordering::Less => Standing::Older { found: i64::try_from(len).unwrap() },
                    std::cmp::Ordering::Equal => Standing::Current,
                    std::cmp::Ordering::Greater => Standing::Ahead,
                };
                assert_eq!(standing(&point, &id(), &ours[..len]), expected, "{known} of {len}");
            }
        }
    }

    #[test]
    fn another_branch_is_never_current_or_ahead_from_its_fork_on() {
        let ours = chain(10, 99);
        for fork in 0..10 {
            let theirs = chain(12, u32::try_from(fork).unwrap());
            for (known, state) in ours.iter().enumerate() {
                let expected = if known < fork { Standing::Ahead } else { Standing::Forked };
                assert_eq!(
                    standing(&state.point(), &id(), &theirs),
                    expected,
                    "{known} with a fork at {fork}"
                );
            }
        }
    }

    #[test]
    fn a_state_of_ours_put_into_another_branch_proves_nothing() {
        let (ours, mut theirs) = (chain(10, 99), chain(12, 4));
        theirs[6] = ours[6];
        assert_eq!(standing(&ours[6].point(), &id(), &theirs), Standing::Forked);
    }

    #[test]
    fn a_state_that_is_no_longer_kept_proves_nothing() {
        let ours = chain(10, 99);
        assert_eq!(standing(&ours[2].point(), &id(), &ours[4..]), Standing::Forgotten { oldest: 5 });
        assert_eq!(standing(&ours[4].point(), &id(), &ours[4..]), Standing::Ahead);
    }

    #[test]
    fn an_accepted_database_continues_above_the_known_state() {
        let ours = chain(10, 99);
        let mut accepted = ours[..6].to_vec();
        accepted.push(ours[5].next_above(10, &id(), digest(77)));
        assert_eq!(accepted[6].n, 11);
        assert_eq!(standing(&accepted[6].point(), &id(), &accepted), Standing::Current);
        assert_eq!(standing(&accepted[6].point(), &id(), &ours), Standing::Older { found: 10 });
        assert_eq!(standing(&ours[9].point(), &id(), &accepted), Standing::Forked);
        assert_eq!(standing(&ours[3].point(), &id(), &accepted), Standing::Ahead);
    }

    #[test]
    fn the_states_of_another_database_are_a_fork() {
        let ours = chain(3, 99);
        assert_eq!(standing(&ours[0].point(), &DatabaseId::of(b"another"), &ours), Standing::Forked);
    }
}
