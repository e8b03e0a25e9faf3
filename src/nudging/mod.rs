//! Nudging: after a revocation, verifiers are sent a token of a key that they cannot know.
//!
//! Most verifiers fetch the JWKS again only for an unknown `kid`. So if they already hold the successor of a
//! revoked key, they continue to accept the revoked one. The revocation requests two rounds of nudges in its
//! own transaction. A server carries them out, or the command itself where no server runs. The verifiers'
//! responses are discarded.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::task::{JoinError, JoinSet};

use crate::audit::{Event, EventKind, Outcome};
use crate::audit_log::AuditLog;
use crate::exchange::ExchangeError;
use crate::exchange::nudge::{Verifier, present};
use crate::exchange::transport::{HttpTransport, ReqwestTransport, TransportConfig, TransportConfigError};
use crate::feed::Feed;
use crate::issuer::nudge::{NudgeSigner, NudgeSubject};
use crate::issuer::rotator::{RotationError, Rotator};
use crate::issuer::{Issuer, KeyStateError};
use crate::jose::Algorithm;
use crate::signing_keys::publication::still_at;
use crate::store::nudges::Nudge;
use crate::store::{StoreError, Trusted};
use crate::values::actor::Actor;
use crate::values::clock::Clock;

/// The maximum time until a revocation is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The wait before a failed round is tried again.
const TRY_AGAIN: SignedDuration = SignedDuration::from_secs(10);
/// The interval at which a claim is renewed.
const CLAIM_EVERY: Duration = Duration::from_secs(60);
/// The maximum number of verifiers that are nudged after one revocation.
pub(crate) const MAX_VERIFIERS: usize = 1000;
/// The maximum number of concurrent nudges.
const AT_ONCE: usize = 8;
/// The number of feeds read at a time.
const PAGE: u32 = 500;

/// Carries out the nudges of one issuer.
#[derive(Debug, Clone)]
pub(crate) struct Nudging {
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) rotator: Arc<Rotator>,
    pub(crate) store: Trusted,
    pub(crate) log: AuditLog,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) transport: TransportConfig,
    pub(crate) actor: Actor,
}

/// The reason why a round of nudges was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NudgeError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys cannot be read.
    #[error(transparent)]
    KeyState(#[from] KeyStateError),
    /// The HTTP client cannot be made.
    #[error(transparent)]
    Transport(#[from] TransportConfigError),
    /// A key to sign with could not be generated.
    #[error("a key for nudges could not be made")]
    Key(#[from] RotationError),
}

/// A verifier and its reaction to the token.
#[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "only the command shows them"))]
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) verifier: Verifier,
    pub(crate) reaction: Reaction,
}

/// The reaction of a verifier to the token.
#[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "only the command shows them"))]
#[derive(Debug)]
pub(crate) enum Reaction {
    /// The verifier refused the token, as it should.
    Refused(String),
    /// The verifier accepted the token; the result is discarded.
    Accepted,
    /// The verifier did not respond, or could not check the token.
    Failed(String),
}

/// The result of a round.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Round {
    /// The number of verifiers that responded.
    pub(crate) answered: usize,
    /// The number of verifiers that did not.
    pub(crate) failed: usize,
    /// `true` if there are more than [`MAX_VERIFIERS`]; the others were not nudged.
    pub(crate) is_cut: bool,
    /// `true` if the key is no longer prepared, because it already signs or was itself revoked.
    pub(crate) is_superseded: bool,
    /// `true` if another process has claimed the round meanwhile. The verifiers that were left are nudged by
    /// that process.
    pub(crate) is_taken_over: bool,
}

/// The dependencies of sending a token to one verifier.
struct Task {
    signer: NudgeSigner,
    transport: Box<dyn HttpTransport>,
    log: AuditLog,
    clock: Arc<dyn Clock>,
    actor: Actor,
}

impl Nudging {
    /// Carries out the rounds that are due. Runs forever. May be dropped at any time: unfinished rounds are
    /// carried out by another server, or after the next start.
    pub(crate) async fn run(&self) {
        let (mut seen, mut next, mut failed) = (None, None, Vec::new());
        loop {
            // Only revocations request nudges, and every revocation changes the generation.
            let generation = self.issuer.key_set().settings.generation;
            let now = self.clock.now();
            if seen != Some(generation) || next.is_some_and(|at| at <= now) {
                next = match self.carry_out_due(now, &mut failed).await {
                    Ok(next) => next,
                    Err(error) => {
                        report(&error);
                        now.checked_add(TRY_AGAIN).ok()
                    }
                };
                seen = Some(generation);
            }
            self.clock.sleep_until(self.clock.monotonic() + LOOK_EVERY).await;
        }
    }

    /// Carries out the rounds that are due, and returns the time of the next one. A failure of one round does
    /// not stop the others. The claims of failed rounds are released, so that this process or another one can
    /// try again; claims that cannot be released stay in `failed` for the next call.
    async fn carry_out_due(
        &self,
        now: Timestamp,
        failed: &mut Vec<Nudge>,
    ) -> Result<Option<Timestamp>, NudgeError> {
        self.release(failed).await?;
        let mut claimed = Vec::new();
        let mut outcome = Ok(());
        for mut nudge in self.store.nudges().await? {
            if nudge.free_at() > now {
                continue;
            }
            match self.store.claim_nudge(&mut nudge, now).await {
                Ok(true) => claimed.push(nudge),
                Ok(false) => {}
                Err(error) => outcome = Err(error.into()),
            }
        }
        for mut nudge in claimed {
            if let Err(error) = self.carry_out_claimed(&mut nudge).await {
                failed.push(nudge);
                if let Err(earlier) = std::mem::replace(&mut outcome, Err(error)) {
                    report(&earlier);
                }
            }
        }
        let released = self.release(failed).await;
        outcome.and(released)?;
        Ok(self.store.nudges().await?.iter().map(Nudge::free_at).min())
    }

    /// Carries out a round that this process has claimed, unless another one has claimed it since.
    async fn carry_out_claimed(&self, nudge: &mut Nudge) -> Result<(), NudgeError> {
        if self.store.claim_nudge(nudge, self.clock.now()).await? {
            self.carry_out(nudge, |_| {}).await?;
        }
        Ok(())
    }

    async fn release(&self, failed: &mut Vec<Nudge>) -> Result<(), NudgeError> {
        while let Some(nudge) = failed.last() {
            self.store.release_nudge(nudge).await?;
            failed.pop();
        }
        Ok(())
    }

    /// Carries out one round, which this process must have claimed: waits until the copies of the documents
    /// show the revocation, sends a token to every verifier, passes each result to `report`, and ends the
    /// round. After an error, the round is still due and still claimed.
    pub(crate) async fn carry_out(
        &self,
        nudge: &mut Nudge,
        mut report: impl FnMut(&Shown) + Send,
    ) -> Result<Round, NudgeError> {
        self.wait_for_copies(nudge).await?;
        let mut round = Round::default();
        match self.signer(nudge).await? {
            None => round.is_superseded = true,
            Some(signer) => {
                let (verifiers, is_cut) = self.verifiers(nudge.algorithm).await?;
                round.is_cut = is_cut;
                if !verifiers.is_empty() {
                    let transport = Box::new(ReqwestTransport::new(self.transport.clone())?);
                    let task = self.task(signer, transport);
                    self.show_all(nudge, task, verifiers, &mut round, &mut report).await?;
                }
            }
        }
        if !round.is_taken_over {
            self.store.end_nudge(nudge).await?;
        }
        tracing::info!(
            algorithm = %nudge.algorithm,
            round = nudge.round,
            answered = round.answered,
            failed = round.failed,
            cut = round.is_cut,
            superseded = round.is_superseded,
            taken_over = round.is_taken_over,
            "verifiers were nudged to fetch the JWKS after a revocation"
        );
        Ok(round)
    }

    fn task(&self, signer: NudgeSigner, transport: Box<dyn HttpTransport>) -> Arc<Task> {
        let (log, clock, actor) = (self.log.clone(), Arc::clone(&self.clock), self.actor.clone());
        Arc::new(Task { signer, transport, log, clock, actor })
    }

    /// Sends a token to each of `verifiers`, until all are done or another process has taken the round over.
    async fn show_all(
        &self,
        nudge: &mut Nudge,
        task: Arc<Task>,
        verifiers: HashMap<Verifier, Feed>,
        round: &mut Round,
        report: &mut (impl FnMut(&Shown) + Send),
    ) -> Result<(), NudgeError> {
        let mut claim_at = self.clock.monotonic() + CLAIM_EVERY;
        let (mut waiting, mut shown) = (verifiers.into_iter(), JoinSet::new());
        let mut under_way = HashMap::new();
        loop {
            while shown.len() < AT_ONCE
                && let Some((verifier, feed)) = waiting.next()
            {
                let (task, asked) = (Arc::clone(&task), (verifier.clone(), feed.clone()));
                let handle = shown.spawn(async move { task.show(verifier, &feed).await });
                under_way.insert(handle.id(), asked);
            }
            let Some(done) = shown.join_next_with_id().await else { return Ok(()) };
            let id = done.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
            let asked = under_way.remove(&id);
            let done = match (done, asked) {
                (Ok((_, done)), _) => done,
                (Err(error), Some((verifier, feed))) => {
                    // The message of a panic is left out: it may quote a token.
                    let why = if error.is_panic() { "the attempt panicked" } else { "the attempt was ended" };
                    task.not_shown(verifier, &feed, why.to_owned()).await
                }
                (Err(_), None) => continue,
            };
            match &done.reaction {
                Reaction::Refused(_) | Reaction::Accepted => round.answered += 1,
                Reaction::Failed(_) => round.failed += 1,
            }
            report(&done);
            if self.clock.monotonic() >= claim_at {
                claim_at = self.clock.monotonic() + CLAIM_EVERY;
                if !self.store.claim_nudge(nudge, self.clock.now()).await? {
                    round.is_taken_over = true;
                    return Ok(());
                }
            }
        }
    }

    /// Waits until no copy of the documents shows a revoked key and every copy shows the key that signs, or
    /// until the deadline. A verifier that fetches from an older copy would learn nothing.
    async fn wait_for_copies(&self, nudge: &Nudge) -> Result<(), NudgeError> {
        // The claim may be from a revocation that this process does not publish yet; a verifier that fetched now
        // would not find the key.
        self.issuer.refresh().await?;
        while self.clock.now() < nudge.wait_until && !self.copies_show(nudge) {
            self.clock.sleep_until(self.clock.monotonic() + LOOK_EVERY).await;
            self.issuer.refresh().await?;
        }
        Ok(())
    }

    /// Returns whether every copy of the documents shows the key that signs, and no copy shows a revoked key.
    pub(crate) fn copies_show(&self, nudge: &Nudge) -> bool {
        let key_set = self.issuer.key_set();
        let is_shown = nudge.kid.as_ref().is_none_or(|kid| {
            key_set
                .locations
                .iter()
                .filter(|location| location.is_copy())
                .all(|location| location.shows.contains_key(kid))
        });
        is_shown && key_set.keys.iter().all(|key| still_at(key, &key_set.locations).is_empty())
    }

    async fn signer(&self, nudge: &Nudge) -> Result<Option<NudgeSigner>, NudgeError> {
        if let Some(kid) = &nudge.kid {
            return Ok(self.issuer.nudge_signer(kid).await?);
        }
        let bits = self.issuer.key_set().settings.rsa_bits;
        let pair = self.rotator.unpublished_key(nudge.algorithm, bits).await?;
        let signer = pair.signer().map_err(RotationError::from)?;
        Ok(Some(NudgeSigner::unpublished(&self.issuer, signer)))
    }

    /// Returns the verifiers of tokens of this algorithm, each with one feed that leads to it, and whether
    /// there are more than [`MAX_VERIFIERS`].
    pub(crate) async fn verifiers(
        &self,
        algorithm: Algorithm,
    ) -> Result<(HashMap<Verifier, Feed>, bool), NudgeError> {
        let (mut found, mut after) = (HashMap::new(), None);
        loop {
            let page = self.store.feeds_of_algorithm(algorithm, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok((found, false)) };
            after = Some(last.id);
            for feed in page {
                match Verifier::of(&feed) {
                    Ok(Some(verifier)) if self.fetches(&verifier) && !found.contains_key(&verifier) => {
                        if found.len() == MAX_VERIFIERS {
                            return Ok((found, true));
                        }
                        found.insert(verifier, feed);
                    }
                    Ok(_) => {}
                    Err(reason) => tracing::warn!(feed = %feed.path(), reason, "its verifier is not nudged"),
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Returns whether the verifier can fetch from the issuer. A vendor cannot reach an issuer on loopback.
    fn fetches(&self, verifier: &Verifier) -> bool {
        !(self.issuer.url().is_loopback() && verifier.is_vendors())
    }
}

impl Task {
    async fn show(&self, verifier: Verifier, feed: &Feed) -> Shown {
        match self.try_to_show(&verifier, feed).await {
            Ok(reaction) => Shown { verifier, reaction },
            Err(why) => self.not_shown(verifier, feed, why).await,
        }
    }

    /// Records that the verifier has not checked the token.
    async fn not_shown(&self, verifier: Verifier, feed: &Feed, why: String) -> Shown {
        let event = self.event(Outcome::Failed, feed).about_key(self.signer.kid().as_str());
        let recorded = self.log.record(event.detail(&format!("{verifier}: {why}"))).await;
        if let Err(error) = recorded {
            tracing::error!(%error, %verifier, "a verifier that was not nudged could not be recorded");
        }
        Shown { verifier, reaction: Reaction::Failed(why) }
    }

    /// Sends the token. The error says why the verifier has not checked it.
    async fn try_to_show(&self, verifier: &Verifier, feed: &Feed) -> Result<Reaction, String> {
        let subject = match verifier.checks_the_subject_first() {
            true => NudgeSubject::Feed,
            false => NudgeSubject::Nobody,
        };
        let token = self.signer.token(feed, subject).map_err(|error| error.to_string())?;
        let made = self.event(Outcome::Done, feed).with_token(&token.presented, token.jti);
        // As for any token, the record must be durable before the token is sent.
        let recorded = self.log.record(made.detail(&verifier.to_string())).await;
        recorded.map_err(|error| error.to_string())?;
        match present(self.transport.as_ref(), feed, &token, self.clock.as_ref()).await {
            Ok(()) => Ok(Reaction::Accepted),
            Err(error) => match answered(&error) {
                Some(how) => Ok(Reaction::Refused(how)),
                None => Err(error.failure().to_string()),
            },
        }
    }

    fn event(&self, outcome: Outcome, feed: &Feed) -> Event {
        Event::new(EventKind::KeyNudge, outcome, &self.actor).about_feed(feed)
    }
}

fn report(error: &NudgeError) {
    tracing::error!(error = error as &dyn Error, "verifiers could not be nudged");
}

/// Returns how the verifier refused the token; `None` if it has not checked it.
fn answered(error: &ExchangeError) -> Option<String> {
    let upstream = error.upstream()?;
    let status = upstream.status.filter(|_| !error.is_transient())?;
    Some(format!("{} (HTTP {status})", upstream.code.as_deref().unwrap_or("refused")))
}

#[cfg(test)]
mod tests;
