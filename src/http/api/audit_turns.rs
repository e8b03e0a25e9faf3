//! Limits every grant to one read of the audit log at a time, so that no grant uses all connections to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::refusal::ApiRefusal;
use crate::api_types::problem::{Problem, ProblemType};
use crate::values::clock::Clock;

/// The maximum wait for the same grant's previous read.
const WITHIN: Duration = Duration::from_millis(500);

/// The maximum number of waiting requests of one grant.
const MAX_WAITING: usize = 4;

/// The semaphores of all grants that read or wait.
#[derive(Debug, Clone, Default)]
pub(super) struct AuditTurns(Arc<Mutex<HashMap<Uuid, Arc<Semaphore>>>>);

/// A grant's turn, which ends when dropped.
#[derive(Debug)]
pub(super) struct AuditTurn {
    turns: AuditTurns,
    grant: Uuid,
    permit: Option<OwnedSemaphorePermit>,
}

impl AuditTurns {
    /// Waits briefly for the turn of `grant`. Refuses with 429 if the grant's earlier requests take too long,
    /// or too many of them wait.
    pub(super) async fn take(&self, grant: Uuid, clock: &dyn Clock) -> Result<AuditTurn, ApiRefusal> {
        let semaphore = {
            let mut turns = self.lock();
            let semaphore = turns.entry(grant).or_insert_with(|| Arc::new(Semaphore::new(1)));
            // The map holds one reference and the reader another.
            if Arc::strong_count(semaphore) >= 2 + MAX_WAITING {
                return Err(refused());
            }
            Arc::clone(semaphore)
        };
        let mut turn = AuditTurn { turns: self.clone(), grant, permit: None };
        let deadline = clock.monotonic() + WITHIN;
        tokio::select! {
            biased;
            permit = semaphore.acquire_owned() => turn.permit = permit.ok(),
            () = clock.sleep_until(deadline) => return Err(refused()),
        }
        Ok(turn)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Semaphore>>> {
        // The map is valid even after a panic: no code panics in the middle of a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused() -> ApiRefusal {
    let problem = Problem::new(ProblemType::RateLimited)
        .detail("other requests with this grant are still reading the audit log: ask for one page at a time");
    ApiRefusal::from(problem).retry_after(Duration::from_secs(1))
}

impl Drop for AuditTurn {
    fn drop(&mut self) {
        drop(self.permit.take());
        let mut turns = self.turns.lock();
        if turns.get(&self.grant).is_some_and(|semaphore| Arc::strong_count(semaphore) == 1) {
            turns.remove(&self.grant);
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::values::clock::SimulatedClock;

    #[tokio::test]
    async fn a_grant_reads_once_at_a_time_and_is_forgotten_afterwards() {
        let (turns, clock) = (AuditTurns::default(), SimulatedClock::at(Timestamp::UNIX_EPOCH));
        let grant = Uuid::from_u128;
        let first = turns.take(grant(1), &clock).await.unwrap();
        let _other = turns.take(grant(2), &clock).await.unwrap();
        let waiting: Vec<_> = (0..MAX_WAITING)
            .map(|_| {
                let (turns, clock) = (turns.clone(), clock.clone());
                tokio::spawn(async move { turns.take(grant(1), &clock).await })
            })
            .collect();
        while Arc::strong_count(&turns.lock()[&grant(1)]) < 2 + MAX_WAITING {
            tokio::task::yield_now().await;
        }
        let refusal = turns.take(grant(1), &clock).await.unwrap_err();
        assert_eq!(refusal.problem_type(), Some(ProblemType::RateLimited), "too many requests are waiting");
        clock.advance(WITHIN);
        for waiting in waiting {
            let refusal = waiting.await.unwrap().unwrap_err();
            assert_eq!(
                refusal.problem_type(),
                Some(ProblemType::RateLimited),
                "the request waited for too long"
            );
        }
        drop(first);
        drop(turns.take(grant(1), &clock).await.unwrap());
        assert_eq!(turns.lock().keys().copied().collect::<Vec<_>>(), [grant(2)]);
    }
}
