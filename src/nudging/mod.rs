//! Nudging: after a revocation, verifiers are shown a token of a key that they cannot know.
//!
//! Most verifiers fetch the JWKS again only for an unknown `kid`, so they go on accepting a revoked key while its
//! successor is one that they hold. The revocation asks for two rounds in its own transaction; a server carries them
//! out, or the command where no server runs. Whatever a verifier answers is dropped.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;

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
use crate::store::{Store, StoreError};
use crate::values::actor::Actor;
use crate::values::clock::Clock;

/// A revocation is noticed after at most this long.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What has failed is tried again after this long.
const TRY_AGAIN: SignedDuration = SignedDuration::from_secs(10);
/// A claim is renewed this often.
const CLAIM_EVERY: Duration = Duration::from_secs(60);
/// So many verifiers are told at most, after one revocation.
pub(crate) const MAX_VERIFIERS: usize = 1000;
/// So many at once.
const AT_ONCE: usize = 8;
/// Feeds are read so many at a time.
const PAGE: u32 = 500;

/// Carries out nudges of one issuer.
#[derive(Debug, Clone)]
pub(crate) struct Nudging {
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) rotator: Arc<Rotator>,
    pub(crate) store: Store,
    pub(crate) log: AuditLog,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) transport: TransportConfig,
    pub(crate) actor: Actor,
}

/// A round of nudges was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NudgeError {
    /// The database would not.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys cannot be read.
    #[error(transparent)]
    KeyState(#[from] KeyStateError),
    /// The HTTP client cannot be made.
    #[error(transparent)]
    Transport(#[from] TransportConfigError),
    /// There is no key to sign with.
    #[error("a key for nudges could not be made")]
    Key(#[from] RotationError),
}

/// A verifier and what it did with the token.
#[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "only the command shows them"))]
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) verifier: Verifier,
    pub(crate) reaction: Reaction,
}

/// What a verifier did with the token.
#[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "only the command shows them"))]
#[derive(Debug)]
pub(crate) enum Reaction {
    /// It refused the token, as it should.
    Refused(String),
    /// It accepted the token; what it gave for it is dropped.
    Accepted,
    /// It did not answer, or said that it could not look at the token.
    Failed(String),
}

/// What became of a round.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Round {
    /// Verifiers that answered.
    pub(crate) answered: usize,
    /// Verifiers that did not.
    pub(crate) failed: usize,
    /// There are more than [`MAX_VERIFIERS`]; the others were not told.
    pub(crate) is_cut: bool,
    /// The key is not prepared any more: it signs already, or was itself revoked.
    pub(crate) is_superseded: bool,
}

/// What showing a token to one verifier takes.
struct Task {
    signer: NudgeSigner,
    transport: Box<dyn HttpTransport>,
    log: AuditLog,
    clock: Arc<dyn Clock>,
    actor: Actor,
}

impl Nudging {
    /// Carries out what is due; runs forever. May be dropped at any time: what is not done then is done by another
    /// server, or after the next start.
    pub(crate) async fn run(&self) {
        let (mut seen, mut next) = (None, None);
        loop {
            // Nudges are asked for by revocations alone, and those change the generation.
            let generation = self.issuer.key_set().settings.generation;
            let now = self.clock.now();
            if seen != Some(generation) || next.is_some_and(|at| at <= now) {
                next = match self.carry_out_due(now).await {
                    Ok(next) => next,
                    Err(error) => {
                        tracing::error!(error = &error as &dyn Error, "verifiers could not be nudged");
                        now.checked_add(TRY_AGAIN).ok()
                    }
                };
                seen = Some(generation);
            }
            self.clock.sleep_until(self.clock.monotonic() + LOOK_EVERY).await;
        }
    }

    /// Carries out what is due, and says when to look again.
    async fn carry_out_due(&self, now: Timestamp) -> Result<Option<Timestamp>, NudgeError> {
        let mut claimed = Vec::new();
        for mut nudge in self.store.nudges().await? {
            if nudge.free_at() <= now && self.store.claim_nudge(&mut nudge, now).await? {
                claimed.push(nudge);
            }
        }
        for mut nudge in claimed {
            if self.store.claim_nudge(&mut nudge, self.clock.now()).await? {
                self.carry_out(&mut nudge, |_| {}).await?;
            }
        }
        Ok(self.store.nudges().await?.iter().map(Nudge::free_at).min())
    }

    /// Carries out one round, which this process has claimed: waits until copies of the documents show the
    /// revocation, shows a token to every verifier, tells of each, and ends the round.
    ///
    /// # Errors
    ///
    /// [`NudgeError`]; then the round is still to be done.
    pub(crate) async fn carry_out(
        &self,
        nudge: &mut Nudge,
        mut tell: impl FnMut(&Shown) + Send,
    ) -> Result<Round, NudgeError> {
        self.wait_for_copies(nudge).await?;
        let mut round = Round::default();
        match self.signer(nudge).await? {
            None => round.is_superseded = true,
            Some(signer) => {
                let (verifiers, is_cut) = self.verifiers(nudge.algorithm).await?;
                round.is_cut = is_cut;
                self.show_all(nudge, signer, verifiers, &mut round, &mut tell).await?;
            }
        }
        self.store.end_nudge(nudge).await?;
        tracing::info!(
            algorithm = %nudge.algorithm,
            round = nudge.round,
            answered = round.answered,
            failed = round.failed,
            cut = round.is_cut,
            superseded = round.is_superseded,
            "verifiers were nudged to fetch the JWKS after a revocation"
        );
        Ok(round)
    }

    async fn show_all(
        &self,
        nudge: &mut Nudge,
        signer: NudgeSigner,
        verifiers: HashMap<Verifier, Feed>,
        round: &mut Round,
        tell: &mut (impl FnMut(&Shown) + Send),
    ) -> Result<(), NudgeError> {
        if verifiers.is_empty() {
            return Ok(());
        }
        let transport = Box::new(ReqwestTransport::new(self.transport.clone())?);
        let (log, clock, actor) = (self.log.clone(), Arc::clone(&self.clock), self.actor.clone());
        let task = Arc::new(Task { signer, transport, log, clock, actor });
        let mut claim_at = self.clock.monotonic() + CLAIM_EVERY;
        let (mut waiting, mut shown) = (verifiers.into_iter(), JoinSet::new());
        loop {
            while shown.len() < AT_ONCE
                && let Some((verifier, feed)) = waiting.next()
            {
                let task = Arc::clone(&task);
                shown.spawn(async move { task.show(verifier, &feed).await });
            }
            let Some(done) = shown.join_next().await else { return Ok(()) };
            if let Ok(done) = done {
                match &done.reaction {
                    Reaction::Refused(_) | Reaction::Accepted => round.answered += 1,
                    Reaction::Failed(_) => round.failed += 1,
                }
                tell(&done);
            }
            if self.clock.monotonic() >= claim_at {
                claim_at = self.clock.monotonic() + CLAIM_EVERY;
                self.store.claim_nudge(nudge, self.clock.now()).await?;
            }
        }
    }

    /// Waits until no copy of the documents shows a revoked key and every one shows the key that signs, or until the
    /// time for that is over: a verifier that fetches from an older copy learns nothing.
    async fn wait_for_copies(&self, nudge: &Nudge) -> Result<(), NudgeError> {
        while self.clock.now() < nudge.wait_until && !self.copies_show(nudge) {
            self.clock.sleep_until(self.clock.monotonic() + LOOK_EVERY).await;
            self.issuer.refresh().await?;
        }
        Ok(())
    }

    /// Returns whether every copy of the documents shows the key that signs, and none a revoked one.
    pub(crate) fn copies_show(&self, nudge: &Nudge) -> bool {
        let key_set = self.issuer.key_set();
        let is_shown = nudge.kid.as_ref().is_none_or(|kid| {
            key_set.places.iter().filter(|place| place.is_copy()).all(|place| place.shows.contains_key(kid))
        });
        is_shown && key_set.keys.iter().all(|key| still_at(key, &key_set.places).is_empty())
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

    /// The verifiers of tokens of this algorithm, each with one feed that leads to it, and whether there are more.
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

    /// Returns whether the verifier can fetch from the issuer: no vendor reaches one on loopback.
    fn fetches(&self, verifier: &Verifier) -> bool {
        !(self.issuer.url().is_loopback() && verifier.is_vendors())
    }
}

impl Task {
    async fn show(&self, verifier: Verifier, feed: &Feed) -> Shown {
        let reaction = match self.try_to_show(&verifier, feed).await {
            Ok(reaction) => reaction,
            Err(why) => {
                let event = self.event(Outcome::Failed, feed).about_key(self.signer.kid().as_str());
                let recorded = self.log.record(event.detail(&format!("{verifier}: {why}"))).await;
                if let Err(error) = recorded {
                    tracing::error!(%error, %verifier, "a verifier that was not nudged could not be recorded");
                }
                Reaction::Failed(why)
            }
        };
        Shown { verifier, reaction }
    }

    /// Shows the token; the error says why the verifier has not looked at it.
    async fn try_to_show(&self, verifier: &Verifier, feed: &Feed) -> Result<Reaction, String> {
        let subject = match verifier.looks_at_the_subject_first() {
            true => NudgeSubject::Feed,
            false => NudgeSubject::Nobody,
        };
        let token = self.signer.token(feed, subject).map_err(|error| error.to_string())?;
        let made = self.event(Outcome::Done, feed).with_token(&token.presented, token.jti);
        // As any token, it leaves only when its record is durable.
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

/// How the verifier refused, if it did: it has looked at the token then.
fn answered(error: &ExchangeError) -> Option<String> {
    let upstream = error.upstream()?;
    let status = upstream.status.filter(|_| !error.is_transient())?;
    Some(format!("{} (HTTP {status})", upstream.code.as_deref().unwrap_or("refused")))
}

#[cfg(test)]
mod tests;
