//! Nudges verifiers after `key revoke` and `key rewrap --leaked`. A running server does it; without one, this command does.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::carnet::Carnet;
use crate::cli::failure::CommandFailure;
use crate::cli::output;
use crate::jose::Algorithm;
use crate::nudging::{MAX_VERIFIERS, NudgeError, Nudging, Reaction, Round, Shown};
use crate::store::nudges::Nudge;

/// The wait for a running server, which claims a nudge in a small part of this time.
const SERVER_TAKES_IT: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(100);
pub(super) const NONE: &str =
    "nudge: none. Verifiers that fetch only for an unknown kid continue to accept the key.";

impl From<NudgeError> for CommandFailure {
    fn from(error: NudgeError) -> Self {
        Self::from(anyhow::Error::new(error).context("verifiers could not be nudged; the key is revoked"))
    }
}

/// Nudges the verifiers of `algorithms` unless a running server does, and reports which of the two did it.
pub(super) async fn follow_up(
    carnet: &Carnet,
    algorithms: &BTreeSet<Algorithm>,
) -> Result<(), CommandFailure> {
    let nudging = carnet.nudging();
    for algorithm in algorithms {
        if nudging.verifiers(*algorithm).await?.0.is_empty() {
            output::note(&format!(
                "nudge: no feed has a verifier that fetches {algorithm} keys from this issuer"
            ));
        } else {
            of_algorithm(carnet, &nudging, *algorithm).await?;
        }
    }
    Ok(())
}

async fn of_algorithm(
    carnet: &Carnet,
    nudging: &Nudging,
    algorithm: Algorithm,
) -> Result<(), CommandFailure> {
    let clock = carnet.clock();
    let until = clock.monotonic() + SERVER_TAKES_IT;
    let mut rounds = rounds(carnet, algorithm).await?;
    while rounds.iter().any(is_free) && clock.monotonic() < until {
        clock.sleep_until(clock.monotonic() + LOOK_EVERY).await;
        rounds = self::rounds(carnet, algorithm).await?;
    }
    let second = rounds.iter().filter(|nudge| nudge.round == 2).map(|nudge| nudge.due_at).max();
    let mut is_ours = false;
    for mut nudge in rounds.into_iter().filter(is_free) {
        if !carnet.store().claim_nudge(&mut nudge, clock.now()).await? {
            continue;
        }
        is_ours = true;
        if !nudging.copies_show(&nudge) {
            output::note(
                "nudge: waiting up to 60 s until the published copies show the revocation; meanwhile, `carnet publish \
                 TARGET` in another terminal writes one",
            );
        }
        output::note(&format!(
            "nudge: sending the verifiers of {algorithm} tokens a token signed with a key that they do not \
             know"
        ));
        let round = nudging.carry_out(&mut nudge, |shown| output::note(&line(shown))).await?;
        conclude(round);
    }
    if !is_ours {
        output::note(&format!(
            "nudge: a running server sends the verifiers of {algorithm} tokens a token signed with a key \
             that they do not know; `carnet audit list --kind key.nudge` lists each"
        ));
    }
    if let Some(second) = second {
        output::note(&format!(
            "nudge: a server that runs at {second} sends it again, because of caches in between"
        ));
    }
    Ok(())
}

async fn rounds(carnet: &Carnet, algorithm: Algorithm) -> Result<Vec<Nudge>, CommandFailure> {
    let all = carnet.store().nudges().await?;
    Ok(all.into_iter().filter(|nudge| nudge.algorithm == algorithm).collect())
}

/// Returns true if this is a first round that no process has claimed.
fn is_free(nudge: &Nudge) -> bool {
    nudge.round == 1 && nudge.claimed_at.is_none()
}

fn line(Shown { verifier, reaction }: &Shown) -> String {
    match reaction {
        Reaction::Refused(how) => format!("  {verifier}: responded with {how}, as expected"),
        Reaction::Accepted => format!("  {verifier}: accepted the token; its response was discarded"),
        Reaction::Failed(why) => {
            format!("  {verifier}: not reached ({why}); it may continue to accept the revoked key")
        }
    }
}

fn conclude(round: Round) {
    if round.is_superseded {
        output::note("nudge: the key made by this revocation is no longer prepared; no verifier was nudged");
    }
    if round.is_taken_over {
        output::note(
            "nudge: a running server has taken it over, because this command did not get on; \
             `carnet audit list --kind key.nudge` names each verifier",
        );
    }
    if round.is_cut {
        output::note(&format!(
            "nudge: there are more than {MAX_VERIFIERS} verifiers; the others were not nudged"
        ));
    }
}
