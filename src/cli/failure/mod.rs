//! The failure of a command: what failed, why, and how to fix it.

mod server;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use crate::access::grants::GrantsError;
use crate::api_types::problem::{PresentedClaims, UpstreamResponse};
use crate::audit_log::AuditError;
use crate::broker::{AttemptError, BrokerError};
use crate::carnet::OpenError;
use crate::client::ClientError;
use crate::exchange::{self, ExchangeError};
use crate::feed::{Feed, FeedPath};
use crate::feeds::FeedsError;
use crate::grant::DraftError;
use crate::issuer::MintError;
use crate::issuer::audited::AuditedMintError;
use crate::issuer::rotator::RotationError;
use crate::signing_keys::rotation::RotationRefusal;
use crate::store::StoreError;
use crate::store::state_file::StateFileError;
use crate::store::states::StateError;
use crate::values::visible;

/// Returns the fix for a failed mint, unless the message already contains it.
fn mint_hint(error: &MintError) -> Option<String> {
    let location = match error {
        MintError::Unpublished { location, .. } => location,
        MintError::Clock(doubt) => return Some(doubt.fix().to_owned()),
        _ => return None,
    };
    Some(format!(
        "a server that runs with --publish writes there next; without one, run `carnet publish {location}`, \
         or add --forget if keys need not wait for it"
    ))
}

/// Describes the failed step of an exchange in one line. The provider's own message is printed below it.
fn exchange_failure(error: &ExchangeError) -> String {
    let step = error.step();
    match error.failure() {
        exchange::ExchangeFailure::Refused(_) => format!("{} refused step {}", step.provider, step.name),
        exchange::ExchangeFailure::Unreachable { source, .. } => {
            format!("step {} got no response: {source}", step.name)
        }
        exchange::ExchangeFailure::Unusable { reason, .. } => {
            format!("the response to step {} cannot be used: {reason}", step.name)
        }
        exchange::ExchangeFailure::ArrivedExpired { expired_at } => format!(
            "the credential had expired on arrival (at {expired_at}) and is not handed out, step {}",
            step.name
        ),
        exchange::ExchangeFailure::Scope(reason) => format!("the scope is refused: {reason}"),
        exchange::ExchangeFailure::Request(reason) => {
            format!("no request could be made for step {}: {reason}", step.name)
        }
    }
}

/// Returns the provider's response and the presented claims, one pair a line.
fn details(
    upstream: Option<&UpstreamResponse>,
    presented: Option<&PresentedClaims>,
) -> Vec<(&'static str, String)> {
    let mut details = Vec::new();
    if let Some(upstream) = upstream {
        details.extend(upstream.status.map(|status| ("status", status.to_string())));
        details.extend(upstream.code.clone().map(|code| ("code", code)));
        details.extend(upstream.message.clone().map(|message| ("message", message)));
        details.extend(upstream.request_id.clone().map(|id| ("request id", id)));
    }
    if let Some(PresentedClaims { iss, sub, aud, kid, alg }) = presented {
        details.push(("presented", format!("iss={iss} sub={sub} aud={aud} kid={kid} alg={alg}")));
    }
    details
}

/// The failure of a command.
#[derive(Debug)]
pub(super) struct CommandFailure {
    error: anyhow::Error,
    details: Vec<(&'static str, String)>,
    hint: Option<String>,
    exit: u8,
}

const FAILED: u8 = 1;
const USAGE: u8 = 2;

impl CommandFailure {
    /// Creates a failure from a message, with exit code 1.
    pub(super) fn message(message: impl Into<String>) -> Self {
        Self { error: anyhow::Error::msg(message.into()), details: Vec::new(), hint: None, exit: FAILED }
    }

    /// Creates a failure of the arguments, with exit code 2.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self { exit: USAGE, ..Self::message(message) }
    }

    /// Adds a hint.
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Creates the failure of a request for a credential.
    pub(super) fn credential(feed: &Feed, error: &BrokerError) -> Self {
        let (provider, feed) = (&feed.provider, &feed.path());
        let failed = match error {
            BrokerError::Failed { error, .. } => error,
            other => {
                let failure = Self::message(format!("feed {feed}: {other}"));
                return match other {
                    BrokerError::MinRemainingUnattainable { .. } => failure.hint(provider.longer_life()),
                    _ => failure,
                };
            }
        };
        match &**failed {
            AttemptError::Exchange(error) => Self::exchange(feed, error),
            AttemptError::Mint(error) => Self { hint: mint_hint(error), ..Self::plain(Arc::clone(failed)) },
            AttemptError::Audit(_) => Self::plain(Arc::clone(failed)),
            other => Self::message(format!("feed {feed}: {other}")),
        }
    }

    /// Describes in full a provider's refusal or an unusable credential.
    fn exchange(feed: &FeedPath, error: &ExchangeError) -> Self {
        let upstream = error.upstream().map(UpstreamResponse::from);
        let details = details(upstream.as_ref(), Some(&error.presented().into()));
        let message = format!("feed {feed}: {}", exchange_failure(error));
        Self { details, hint: error.hint(), ..Self::message(message) }
    }

    /// Creates the failure of a request to a server for a credential of `feed`. A refusal reads as if this
    /// process had called the provider itself.
    pub(super) fn credential_of_server(feed: &FeedPath, error: &ClientError) -> Self {
        match error {
            ClientError::Refused(problem) => server::refused(feed, problem),
            other => Self::client(other),
        }
    }

    /// Creates the failure of a request to a server.
    pub(super) fn client(error: &ClientError) -> Self {
        server::unanswered(error)
    }

    /// Formats the failure for people: each error of the chain once, the details, the hint.
    pub(super) fn text(&self) -> String {
        let mut text = String::from("error: ");
        let chain: Vec<String> = self.error.chain().map(ToString::to_string).collect();
        for (depth, message) in chain.iter().enumerate() {
            // A transparent error repeats its source, which is then skipped.
            if depth > 0 && chain[..depth].iter().any(|earlier| earlier.contains(message)) {
                continue;
            }
            let separator = if depth == 0 { "" } else { ": " };
            let _ = write!(text, "{separator}{}", visible::indented(message, "  "));
        }
        for (name, value) in &self.details {
            let _ = write!(text, "\n  {name}: {}", visible::line(value));
        }
        if let Some(hint) = &self.hint {
            let _ = write!(text, "\nhint: {}", visible::line(hint));
        }
        text
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit)
    }
}

impl From<OpenError> for CommandFailure {
    fn from(error: OpenError) -> Self {
        let hint = match &error {
            OpenError::Store(StoreError::Missing(_)) | OpenError::NotSetUp(_) => Some(
                "`carnet serve --issuer URL` or `carnet feed add` makes a database; --database names another one",
            ),
            OpenError::Store(StoreError::TooNew { .. }) => Some(
                "run the version of carnet that wrote it, or a later one; to go back, restore a backup from \
                 before the upgrade",
            ),
            OpenError::Store(error) if error.is_unwritable() => Some(UNWRITABLE),
            OpenError::MasterKeyOf { .. } => Some(
                "--keys-dir names the folder that holds master.key, CARNET_MASTER_KEY_FILE the file; without that very \
                 key the signing keys in this database cannot be read",
            ),
            OpenError::OtherMasterKey { .. } => {
                Some("--keys-dir or CARNET_MASTER_KEY_FILE points to the master key of another database")
            }
            OpenError::NoIssuer(_) => Some(
                "give --issuer https://…: the URL under which clouds will fetch the keys; it is stored and \
                 does not change by itself",
            ),
            OpenError::Store(StoreError::State(error)) => Some(state_hint(error)),
            OpenError::OtherIssuer { .. } => Some(
                "start with the issuer URL that is stored, or `carnet serve --issuer URL --change-issuer` \
                 and set up the trust in every cloud again",
            ),
            OpenError::FirstKeys(RotationError::Clock(doubt)) => Some(doubt.fix()),
            OpenError::Custody(custody) => {
                let hint = Some(custody.fix());
                return Self { hint, ..Self::plain(error) };
            }
            _ => None,
        };
        Self { hint: hint.map(ToOwned::to_owned), ..Self::plain(error) }
    }
}

/// The hint for a database that cannot be written.
const UNWRITABLE: &str = "the database's file and the folder around it must be writable for this process's user, also for commands \
                          that only show something: SQLite keeps -wal and -shm files there. On a read-only mount, name a \
                          writable copy by --database and --keys-dir";

/// Returns the hint for a database that is not trusted.
fn state_hint(error: &StateError) -> &'static str {
    match error {
        StateError::Unknown { .. } => {
            "if it was moved here, give --state-at-least with the state that `carnet database show` printed \
             there, or name its state file with --state-file; `carnet database accept` accepts the database \
             with new signing keys and without grants"
        }
        StateError::File(StateFileError::Io { .. } | StateFileError::Locked(_)) => {
            "find out which process or user holds this file, or name another one with --state-file"
        }
        StateError::File(_) => {
            "put the file back from where the keys folder is kept, or give the master key that it names; \
             `carnet database accept` accepts the database without the file, with new signing keys and \
             without grants"
        }
        StateError::Replaced(_) => "start it again",
        StateError::Newer(_) => "run the newer version, or one that is newer still",
        StateError::Indexes { .. } => {
            "find out who can write the database; keep a copy as it is, then put the latest database back in its place, or \
             rebuild the indexes by `sqlite3 FILE REINDEX` and run `carnet doctor`; repeat revocations and recoveries \
             that were made since it was changed"
        }
        StateError::Schema { .. } => {
            "find out who can write the database; drop what was added, as by `sqlite3 FILE 'DROP TRIGGER NAME'`, or put the \
             latest database back in its place; repeat revocations and recoveries that were made since it was added"
        }
        _ => {
            "find out who can write the database, and put the latest database back in its place; `carnet \
             database accept` accepts this one with new signing keys and without grants"
        }
    }
}

impl From<FeedsError> for CommandFailure {
    fn from(error: FeedsError) -> Self {
        let (hint, exit) = match &error {
            FeedsError::Unknown(_) => (Some("`carnet feed list` lists the feeds"), FAILED),
            FeedsError::Taken(_) => (Some("`carnet feed update` changes a feed"), FAILED),
            FeedsError::SlugReused { .. } => (
                Some(
                    "choose another slug, put feed_id among the --subject-keys, or use --reuse-slug if this \
                     feed should inherit that trust",
                ),
                FAILED,
            ),
            FeedsError::SubjectShared { .. } => (
                Some(
                    "put feed or feed_id among the --subject-keys, or use --share-subject if both feeds \
                     should share one trust",
                ),
                FAILED,
            ),
            FeedsError::Feed(_) | FeedsError::OwnAudience(_) | FeedsError::Address { .. } => (None, USAGE),
            FeedsError::Clock(doubt) => (Some(doubt.fix()), FAILED),
            _ => (None, FAILED),
        };
        Self { hint: hint.map(ToOwned::to_owned), exit, ..Self::plain(error) }
    }
}

impl From<GrantsError> for CommandFailure {
    fn from(error: GrantsError) -> Self {
        let (hint, exit) = match &error {
            GrantsError::Unknown(_) => (Some("`carnet grant list` lists the grants"), FAILED),
            GrantsError::Draft(DraftError::NothingNamed) => {
                (Some("--space and --feed name them; --feed '*' is every feed of every space"), USAGE)
            }
            GrantsError::Draft(_) => (None, USAGE),
            GrantsError::Clock(doubt) => (Some(doubt.fix()), FAILED),
            _ => (None, FAILED),
        };
        Self { hint: hint.map(ToOwned::to_owned), exit, ..Self::plain(error) }
    }
}

impl From<RotationError> for CommandFailure {
    fn from(error: RotationError) -> Self {
        let hint = match &error {
            RotationError::Refused(RotationRefusal::TooYoung { .. }) => Some(
                "wait until then, or use --force: verifiers that have not fetched the key yet will refuse \
                 new tokens until they do",
            ),
            RotationError::Refused(RotationRefusal::Unpublished { .. }) => Some(
                "`carnet key list` shows what it waits for; --force promotes it anyway, and first shows what \
                 breaks",
            ),
            RotationError::Refused(RotationRefusal::KeySetFull { .. }) => {
                Some("wait until then; --force does not help here")
            }
            RotationError::Clock(doubt) => Some(doubt.fix()),
            RotationError::Store(StoreError::State(error)) => Some(state_hint(error)),
            _ => None,
        };
        Self { hint: hint.map(ToOwned::to_owned), ..Self::plain(error) }
    }
}

impl From<AuditError> for CommandFailure {
    fn from(error: AuditError) -> Self {
        Self::plain(error)
    }
}

impl From<AuditedMintError> for CommandFailure {
    fn from(error: AuditedMintError) -> Self {
        let hint = match &error {
            AuditedMintError::Mint(error) => mint_hint(error),
            AuditedMintError::Audit(_) => None,
        };
        Self { hint, ..Self::plain(error) }
    }
}

impl From<StoreError> for CommandFailure {
    fn from(error: StoreError) -> Self {
        let hint = match &error {
            StoreError::State(error) => Some(state_hint(error).to_owned()),
            error if error.is_unwritable() => Some(UNWRITABLE.to_owned()),
            _ => None,
        };
        Self { hint, ..Self::plain(error) }
    }
}

impl From<crate::issuer::KeyStateError> for CommandFailure {
    fn from(error: crate::issuer::KeyStateError) -> Self {
        Self::plain(error)
    }
}

impl From<std::io::Error> for CommandFailure {
    fn from(error: std::io::Error) -> Self {
        Self::plain(error)
    }
}

impl From<serde_json::Error> for CommandFailure {
    fn from(error: serde_json::Error) -> Self {
        Self::plain(error)
    }
}

impl From<anyhow::Error> for CommandFailure {
    fn from(error: anyhow::Error) -> Self {
        Self { error, details: Vec::new(), hint: None, exit: FAILED }
    }
}

impl CommandFailure {
    fn plain(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::from(anyhow::Error::new(error))
    }
}
