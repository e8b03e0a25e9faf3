//! `carnet feed confirm-jwks`: records that a key is in the JWKS uploaded to Google.

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use crate::carnet::Carnet;
use crate::cli::failure::CommandFailure;
use crate::cli::opening::actor;
use crate::cli::{confirm, output, times};
use crate::feed::FeedPath;
use crate::feeds::uploads::{Confirmation, UploadsError};
use crate::jose::jwk::Kid;

#[derive(Debug, Args)]
pub(in crate::cli) struct ConfirmJwks {
    /// The key in the uploaded JWKS; `feed setup` and `key list` name it
    // One `kid` in 64 begins with a hyphen.
    #[arg(value_name = "KID", allow_hyphen_values = true)]
    kid: Kid,
    /// The feeds whose JWKS was uploaded [default: all feeds with an uploaded JWKS that use the key's
    /// algorithm]
    #[arg(value_name = "SPACE/FEED")]
    feeds: Vec<FeedPath>,
    #[command(flatten)]
    confirm: confirm::Confirmation,
    #[command(flatten)]
    output: output::OutputOptions,
}

/// The result in JSON.
#[derive(Serialize)]
struct ConfirmationOutput<'a> {
    kid: &'a str,
    alg: &'static str,
    state: &'static str,
    /// The time from which a prepared key may sign. Absent while the key waits for something else.
    safe_at: Option<Timestamp>,
    /// The feeds and copies that a prepared key still waits for.
    waits_for: &'a [String],
    feeds: Vec<FeedResponse>,
}

#[derive(Serialize)]
struct FeedResponse {
    feed: String,
    confirmed_at: Timestamp,
    already: bool,
}

pub(super) async fn run(carnet: &Carnet, arguments: ConfirmJwks) -> Result<(), CommandFailure> {
    let ConfirmJwks { kid, feeds: named, confirm, output } = arguments;
    let uploads = carnet.uploads();
    let feeds = uploads.feeds(&kid, &named).await?;
    if named.is_empty() && feeds.len() > 1 {
        let list: Vec<String> = feeds.iter().map(|feed| format!("  {feed}")).collect();
        confirm.confirm(&format!(
            "You confirm that {kid} is in the JWKS uploaded to Google for each of these feeds:\n{}\nIf it is \
             not, Google refuses the feed's tokens once the key signs.",
            list.join("\n")
        ))?;
    }
    let confirmation = uploads.confirm(&kid, &feeds, &actor()).await?;
    match output.output {
        output::Format::Json => output::json(&ConfirmationOutput::from(&confirmation)),
        output::Format::Table => table(&confirmation, carnet.clock().now()),
    }
}

fn table(confirmation: &Confirmation, now: Timestamp) -> Result<(), CommandFailure> {
    let Confirmation { kid, algorithm, feeds, safe_at, waits_for, .. } = confirmation;
    if feeds.iter().all(|feed| feed.already) {
        output::note("Nothing to do: this was confirmed before.");
    }
    output::table(
        &["FEED", "KID", "CONFIRMED"],
        feeds.iter().map(|feed| {
            vec![feed.feed.to_string(), kid.to_string(), times::relative(feed.confirmed_at, now)]
        }),
    )?;
    if let Some(safe_at) = safe_at {
        output::note(&format!("{algorithm}: {kid} may sign {} ({safe_at}).", times::relative(*safe_at, now)));
    }
    if !waits_for.is_empty() {
        output::note(&format!("{algorithm}: {kid} still waits for {}.", waits_for.join(", ")));
    }
    Ok(())
}

impl<'a> From<&'a Confirmation> for ConfirmationOutput<'a> {
    fn from(confirmation: &'a Confirmation) -> Self {
        let feeds = confirmation.feeds.iter().map(|feed| FeedResponse {
            feed: feed.feed.to_string(),
            confirmed_at: feed.confirmed_at,
            already: feed.already,
        });
        Self {
            kid: confirmation.kid.as_str(),
            alg: confirmation.algorithm.as_str(),
            state: confirmation.state.as_str(),
            safe_at: confirmation.safe_at,
            waits_for: &confirmation.waits_for,
            feeds: feeds.collect(),
        }
    }
}

impl From<UploadsError> for CommandFailure {
    fn from(error: UploadsError) -> Self {
        let hint = match &error {
            UploadsError::UnknownKey(_) | UploadsError::WillNotSign { .. } => {
                "`carnet key list` shows the keys; one that is prepared or active can be confirmed"
            }
            UploadsError::UnknownFeed(_) => "`carnet feed list` lists the feeds",
            UploadsError::NotUploaded(_) | UploadsError::NoFeeds(_) => {
                "for an issuer that Google cannot reach: `carnet feed update SPACE/FEED --jwks uploaded`"
            }
            UploadsError::OtherAlgorithm { .. } => "`carnet key list` shows the keys of each algorithm",
            UploadsError::Store(_) => return Self::from(anyhow::Error::new(error)),
        };
        Self::from(anyhow::Error::new(error)).hint(hint)
    }
}
