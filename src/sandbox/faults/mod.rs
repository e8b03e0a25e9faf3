//! Faults that the stand-ins show on request, to test a deployment's reaction.
//!
//! A fault replaces a step's response before the request is checked, so it proves nothing about the request.
//! Refusals that a stand-in decides itself are in its own module.

mod answers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use serde::Deserialize;

use self::answers::SandboxRefusal;
use crate::values::clock::Clock;
use crate::values::random::{Random, uuid};

/// The delay of a slow step, longer than any client should wait.
const SLOW: Duration = Duration::from_secs(60);

/// A fault, an entry of `[[faults]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Parts")]
pub struct Fault {
    step: FaultStep,
    kind: Kind,
    times: Option<u32>,
}

/// A step of an exchange, by the name that carnet's errors give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum FaultStep {
    #[serde(rename = "sts:AssumeRoleWithWebIdentity")]
    AwsSts,
    /// Also the step of ECR Public.
    #[serde(rename = "ecr:GetAuthorizationToken")]
    Ecr,
    #[serde(rename = "entra:token")]
    Entra,
    #[serde(rename = "acr:exchange")]
    AcrExchange,
    #[serde(rename = "acr:token")]
    AcrToken,
    #[serde(rename = "sts:token")]
    GoogleSts,
    #[serde(rename = "iamcredentials:generateAccessToken")]
    IamCredentials,
}

/// The effect of a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Refusal(SandboxRefusal),
    /// A success whose body is an HTML page.
    Malformed,
    /// A success of 2 MiB.
    Oversized,
    /// No response for a minute, then 504.
    Slow,
}

/// A fault as written in the configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parts {
    step: FaultStep,
    fault: Name,
    status: Option<u16>,
    code: Option<String>,
    times: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Name {
    Throttled,
    Unavailable,
    IssuerUnreachable,
    Propagating,
    Refused,
    Malformed,
    Oversized,
    Slow,
}

impl TryFrom<Parts> for Fault {
    type Error = String;

    fn try_from(parts: Parts) -> Result<Self, String> {
        let Parts { step, fault, status, code, times } = parts;
        if fault != Name::Refused && (status.is_some() || code.is_some()) {
            return Err("status and code belong to the fault refused".to_owned());
        }
        let kind = match fault {
            Name::Malformed => Kind::Malformed,
            Name::Oversized => Kind::Oversized,
            Name::Slow => Kind::Slow,
            Name::Throttled => Kind::Refusal(answers::throttled(step)),
            Name::Unavailable => Kind::Refusal(answers::unavailable(step)),
            Name::IssuerUnreachable => Kind::Refusal(
                answers::issuer_unreachable(step).ok_or("the issuer is fetched at the first step only")?,
            ),
            Name::Propagating => Kind::Refusal(answers::propagating(step)),
            Name::Refused => match (status, code) {
                (Some(status @ 400..=599), Some(code)) => Kind::Refusal(SandboxRefusal::new(status, code)),
                _ => return Err("the fault refused needs a status from 400 to 599, and a code".to_owned()),
            },
        };
        Ok(Self { step, kind, times })
    }
}

/// The faults of one sandbox.
#[derive(Debug)]
pub(super) struct Faults {
    /// Each fault with the number of times that it is still shown. `None` means always.
    faults: Vec<(Fault, Option<AtomicU32>)>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Faults {
    pub(super) fn new(faults: Vec<Fault>, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let counted = |fault: Fault| {
            let left = fault.times.map(AtomicU32::new);
            (fault, left)
        };
        Self { faults: faults.into_iter().map(counted).collect(), clock, random }
    }

    /// Returns the first fault of `step` that is still to be shown, and counts it down.
    fn next(&self, step: FaultStep) -> Option<&Fault> {
        let is_due = |left: &AtomicU32| {
            let less = |left: u32| left.checked_sub(1);
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
        };
        let mut of_step = self.faults.iter().filter(|(fault, _)| fault.step == step);
        of_step.find(|(_, left)| left.as_ref().is_none_or(is_due)).map(|(fault, _)| fault)
    }
}

/// Responds with a fault if the request's step has one.
pub(super) async fn show(State(faults): State<Arc<Faults>>, request: Request, next: Next) -> Response {
    let step = FaultStep::of(request.uri().path());
    let Some((step, fault)) = step.and_then(|step| Some((step, faults.next(step)?))) else {
        return next.run(request).await;
    };
    tracing::info!(?step, fault = ?fault.kind, "sandbox simulates a fault");
    // Read the request first: a response before that breaks the client's connection and hides the fault.
    let _ = axum::body::to_bytes(request.into_body(), super::form::MAX_REQUEST).await;
    match &fault.kind {
        Kind::Refusal(refusal) => {
            let id = uuid(faults.random.as_ref()).unwrap_or_default();
            answers::refuse(step, refusal, id, faults.clock.now())
        }
        Kind::Malformed => answers::page(200, "<html><title>Welcome</title></html>".to_owned()),
        Kind::Oversized => answers::page(200, " ".repeat(2 << 20)),
        Kind::Slow => {
            faults.clock.sleep_until(faults.clock.monotonic() + SLOW).await;
            answers::page(504, String::new())
        }
    }
}

impl FaultStep {
    /// Returns the step that a path belongs to.
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/aws/sts" => Self::AwsSts,
            "/aws/ecr" => Self::Ecr,
            "/azure/acr/oauth2/exchange" => Self::AcrExchange,
            "/azure/acr/oauth2/token" => Self::AcrToken,
            _ if path.starts_with("/azure/entra/") => Self::Entra,
            _ if path.starts_with("/google/sts") => Self::GoogleSts,
            _ if path.starts_with("/google/iamcredentials/") => Self::IamCredentials,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::sandbox::SandboxConfig;

    #[test]
    fn faults_are_read_and_contradictory_ones_are_refused() {
        for (fault, refused) in [
            ("step = 'entra:token'\nfault = 'slow'", None),
            ("step = 'acr:token'\nfault = 'throttled'\ntimes = 2", None),
            ("step = 'sts:token'\nfault = 'refused'\nstatus = 403\ncode = 'access_denied'", None),
            ("step = 'sts:token'\nfault = 'refused'\nstatus = 403", Some("and a code")),
            ("step = 'sts:token'\nfault = 'refused'\nstatus = 200\ncode = 'x'", Some("400 to 599")),
            ("step = 'sts:token'\nfault = 'slow'\ncode = 'x'", Some("belong to the fault refused")),
            ("step = 'acr:token'\nfault = 'issuer-unreachable'", Some("first step only")),
            ("step = 'sts'\nfault = 'slow'", Some("unknown variant")),
            ("step = 'sts:token'\nfault = 'sloow'", Some("unknown variant")),
            ("step = 'sts:token'\nfault = 'slow'\nseconds = 1", Some("seconds")),
        ] {
            let outcome = format!("[[faults]]\n{fault}").parse::<SandboxConfig>();
            match (outcome, refused) {
                (Ok(config), None) => assert_eq!(config.faults.len(), 1),
                (Err(error), Some(word)) => {
                    let cause = std::error::Error::source(&error).unwrap().to_string();
                    assert!(cause.contains(word), "{fault}: {cause}");
                }
                (outcome, _) => panic!("{fault}: {outcome:?}"),
            }
        }
    }
}
