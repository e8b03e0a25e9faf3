//! `carnet key rewrap`: replaces the master key, by routine or after a leak.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::carnet::recovery::{Recovered, Recovery, RewrapError, Stranded};
use crate::carnet::{Carnet, Config, MasterKeySource};
use crate::cli::failure::CommandFailure;
use crate::cli::{confirm, output};
use crate::feed::Feed;
use crate::grant::Grant;
use crate::signing_keys::rotation::Change;
use crate::store::grants::StoredGrant;
use crate::store::rewrap::ForgedRow;

#[derive(Debug, Args)]
pub(in crate::cli) struct Rewrap {
    /// The new master key; created if the file does not exist
    #[arg(long, value_name = "FILE")]
    new_key_file: PathBuf,
    /// The database and master key have leaked: revoke and replace every signing key, revoke every grant,
    /// trust nothing
    #[arg(long)]
    leaked: bool,
    /// A grant to keep, by its ID; it is shown in full first; repeatable
    #[arg(long, value_name = "ID", requires = "leaked")]
    keep: Vec<Uuid>,
    /// Continue even if running servers cannot open the new master key: they then serve only the public
    /// documents
    #[arg(long)]
    strand: bool,
    /// Do not show verifiers the token that makes them fetch the JWKS again
    #[arg(long, requires = "leaked")]
    no_nudge: bool,
    #[command(flatten)]
    confirm: confirm::Confirmation,
}

impl Rewrap {
    /// Returns true for a recovery from a leak, which must work even if the issuer cannot be opened.
    pub(super) fn is_recovery(&self) -> bool {
        self.leaked
    }

    fn stranded(&self) -> Stranded {
        if self.strand { Stranded::Accept } else { Stranded::Refuse }
    }
}

const ROUTINE: &str = "This is for routine changes: every row that was valid stays valid. If the database \
                       and the master key may have leaked, an attacker may have inserted valid rows: `carnet \
                       key rewrap --leaked` accepts none of them.";

pub(super) async fn run(carnet: &Carnet, arguments: Rewrap) -> Result<(), CommandFailure> {
    output::note(ROUTINE);
    let (id, sealed) = carnet.rewrap(&arguments.new_key_file, arguments.stranded(), &super::actor()).await?;
    tell_forged(sealed.iter().flatten(), "It stays invalid.");
    let database = carnet.store().url();
    output::note(&if sealed.is_some() {
        format!(
            "The database {database} is sealed with the master key {id} now, and every symmetric key is new."
        )
    } else {
        format!("Nothing to seal: the database {database} is sealed with the master key {id} already.")
    });
    if carnet.master_key_is_a_file() {
        tell_of_file(&arguments.new_key_file);
    } else {
        output::note(
            "The new key is in the keys folder as master.key; the old one stays beside it under its \
             identifier. Remove the old one when no backup needs it any more.",
        );
    }
    super::report_erasure(carnet).await
}

const LEAKED: &str = "\
Everything that the database and the master key could authenticate is replaced, in one transaction:
  - every signing key, retired ones too, leaves the JWKS at once and is replaced by keys that no verifier has seen; \
verifiers refuse new tokens until they fetch again: most do for a token of a key that they do not know, as the nudge \
that follows shows them
  - every grant is revoked except those named by --keep; their holders get 401 until they have a new one
  - upload confirmations are deleted; keys wait for them again
  - rows that fail their MAC are deleted
Feeds, the policy and the issuer URL carry no MAC: they are printed, for you to compare.";

/// Recovers from a leak of database and master key.
pub(super) async fn recover(config: Config, arguments: Rewrap) -> Result<(), CommandFailure> {
    let recovery = Recovery::open(&config).await?;
    let recovery = if arguments.no_nudge { recovery.without_nudges() } else { recovery };
    let keep = recovery.grants(&arguments.keep).await?;
    arguments.confirm.confirm(&consequence(&recovery, &keep)?)?;
    let done = recovery.rewrap(&arguments.new_key_file, &keep, arguments.stranded(), &super::actor()).await?;
    report(&done);
    output::note(
        "carnet sends the tokens of each feed to these endpoints. Compare them with what you set up:",
    );
    output::line(&format!("issuer {}", recovery.issuer()))?;
    for feed in recovery.feeds().await? {
        output::line(&destination(&feed)?)?;
    }
    match &config.master_key {
        MasterKeySource::File(_) => tell_of_file(&arguments.new_key_file),
        MasterKeySource::Folder(_) => output::note(
            "The new master key is in the keys folder as master.key; the earlier ones stay beside it as \
             leaked-ID.key and are never used.",
        ),
    }
    output::note(
        "Every running server uses the new keys within a second. Restart any whose /readyz shows otherwise, \
         give the holders of revoked grants new ones, and see docs/keys.md for the limits of a revocation.",
    );
    let erased = done.store.finish_erasure().await?;
    if !erased {
        output::note("erasure: pending. A reader holds the database's log; a running server finishes it.");
    }
    if arguments.no_nudge {
        output::note(super::nudge::NONE);
        return Ok(());
    }
    recovery.store().close().await;
    let master_key = match config.master_key {
        MasterKeySource::File(_) => MasterKeySource::File(arguments.new_key_file),
        folder @ MasterKeySource::Folder(_) => folder,
    };
    nudge(Config { master_key, ..config }, &done).await
}

/// Nudges the verifiers whose keys were replaced, or those that an earlier call has left.
async fn nudge(config: Config, done: &Recovered) -> Result<(), CommandFailure> {
    let carnet = match Carnet::open(config).await {
        Ok(carnet) => carnet,
        Err(error) => {
            output::note(
                "nudge: not yet. Every key is replaced; the next server that runs nudges the verifiers.",
            );
            return Err(error.into());
        }
    };
    let algorithms: BTreeSet<_> = if done.changes.is_empty() {
        let left = carnet.store().nudges().await?;
        left.iter().filter(|nudge| nudge.round == 1).map(|nudge| nudge.algorithm).collect()
    } else {
        done.changes.iter().map(Change::algorithm).collect()
    };
    super::nudge::follow_up(&carnet, &algorithms).await
}

fn consequence(recovery: &Recovery, keep: &[StoredGrant]) -> Result<String, CommandFailure> {
    let mut text =
        format!("The database {} of the issuer {}.\n{LEAKED}", recovery.store().url(), recovery.issuer());
    for StoredGrant { grant, token_hash } in keep {
        text.push_str(&format!(
            "\nKept exactly as it is in the database, where an attacker may have written it:\n  grant \
             {}\n{}\n    token_sha256: {}",
            grant.id,
            members(grant, &["id"])?,
            token_hash.to_text()
        ));
    }
    Ok(text)
}

fn report(done: &Recovered) {
    if done.changes.is_empty() {
        output::note(&format!(
            "The recovery to the master key {} had been done already; the keys folder is in order now.",
            done.master_key
        ));
        return;
    }
    output::note(&format!("The database is sealed with the master key {} now.", done.master_key));
    for change in &done.changes {
        output::note(&super::revoke::account(change));
    }
    let grants = &done.grants;
    output::note(&format!(
        "{} grants are revoked and {} upload confirmations deleted.",
        grants.len(),
        done.confirmations
    ));
    for Grant { id, name, permissions, created_by, .. } in grants {
        output::note(&format!("  {id}  {}  “{name}”, made by {created_by}", permissions.role));
    }
    tell_forged(done.forged.iter(), "It is deleted.");
}

fn tell_forged<'a>(rows: impl Iterator<Item = &'a ForgedRow>, what_became: &str) {
    for ForgedRow { table, row } in rows {
        output::note(&format!(
            "The row {} of {table} failed its MAC: something other than carnet wrote it. {what_became}",
            row.escape_debug()
        ));
    }
}

fn tell_of_file(file: &std::path::Path) {
    output::note(&format!(
        "CARNET_MASTER_KEY_FILE must name {} from the next start on. Servers that were given it as \
         CARNET_NEXT_MASTER_KEY_FILE use it already.",
        file.display()
    ));
}

/// Returns the fields that decide where a feed's tokens go: all except IDs, names, version and times.
fn destination(feed: &Feed) -> Result<String, CommandFailure> {
    let text = members(feed, &["id", "version", "space", "slug", "name", "created_at", "updated_at"])?;
    Ok(format!("feed {}\n{text}", feed.path()))
}

/// Returns every member except those in `without`, one a line.
fn members(value: &impl Serialize, without: &[&str]) -> Result<String, CommandFailure> {
    let Value::Object(members) = serde_json::to_value(value)? else { return Ok(String::new()) };
    let lines = members.iter().filter(|(name, _)| !without.contains(&name.as_str())).map(|(name, value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), |text| text.escape_debug().to_string());
        format!("    {name}: {text}")
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

impl From<RewrapError> for CommandFailure {
    fn from(error: RewrapError) -> Self {
        match error {
            RewrapError::Open(error) => error.into(),
            RewrapError::Rotation(error) => error.into(),
            other => {
                let hint = match &other {
                    RewrapError::Stranded { .. } => {
                        "start them with CARNET_NEXT_MASTER_KEY_FILE, or put the key where they load it \
                         from; --strand continues without them"
                    }
                    RewrapError::SameKey(_) => {
                        "give --new-key-file the name of a file that does not exist: carnet makes the key"
                    }
                    _ => "`carnet grant list` shows the grants; leave it out and make a new grant afterwards",
                };
                Self::message(other.to_string()).hint(hint)
            }
        }
    }
}
