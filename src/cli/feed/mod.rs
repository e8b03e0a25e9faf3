//! `carnet feed`: feeds and their credentials.

mod add;
mod check;
mod confirm_jwks;
mod credentials;
mod setup;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::failure::CommandFailure;
use super::feed_fields::{Changes, ContextArguments, ScopeArguments};
use super::opening::actor;
use super::output::Format;
use super::proxy::ProxyOption;
use super::remote::ServerOption;
use super::{confirm, opening, output};
use crate::feed::{Feed, FeedPath, Provider};
use crate::feeds::{Changed, Feeds, FeedsError};
use crate::store::{Store, Trusted};
use crate::values::clock::SystemClock;
use crate::values::duration;
use crate::values::random::SecureRandom;
use crate::values::slug::Slug;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Add a feed
    #[command(subcommand)]
    Add(add::Add),
    /// List feeds
    List(List),
    /// Show a feed
    Show(Show),
    /// Change fields of a feed; its slug and type never change
    Update(Update),
    /// Remove a feed; its subject stays marked, because clouds may still trust it
    Remove(Remove),
    /// Print the cloud resources to create, for exactly this issuer, subject and audience
    Setup(setup::Setup),
    /// Confirm that a key is in the JWKS uploaded to Google, so that the key may sign
    ConfirmJwks(confirm_jwks::ConfirmJwks),
    /// Check each step of the chain, and explain the first failure
    Check(check::Check),
    /// Get a credential of a feed's registry
    Credentials(Credentials),
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only feeds of this space
    #[arg(long)]
    space: Option<Slug>,
    #[command(flatten)]
    output: output::OutputOptions,
}

#[derive(Debug, Args)]
pub(super) struct Show {
    /// The feed
    #[arg(value_name = "SPACE/FEED")]
    feed: FeedPath,
    #[command(flatten)]
    output: output::OutputOptions,
}

#[derive(Debug, Args)]
pub(super) struct Update {
    /// The feed
    #[arg(value_name = "SPACE/FEED")]
    feed: FeedPath,
    #[command(flatten)]
    changes: Changes,
    #[command(flatten)]
    output: output::OutputOptions,
}

#[derive(Debug, Args)]
pub(super) struct Remove {
    /// The feed
    #[arg(value_name = "SPACE/FEED")]
    feed: FeedPath,
    #[command(flatten)]
    confirm: confirm::Confirmation,
}

#[derive(Debug, Args)]
pub(super) struct Credentials {
    /// The feed
    #[arg(value_name = "SPACE/FEED")]
    feed: FeedPath,
    /// The format of the credential
    #[arg(long, value_enum, default_value_t = credentials::Format::Json)]
    format: credentials::Format,
    /// The name of the Secret that --format k8s-secret prints [default: the feed's slug]
    #[arg(long, value_name = "NAME")]
    secret_name: Option<credentials::SecretName>,
    #[command(flatten)]
    server: ServerOption,
    #[command(flatten)]
    context: ContextArguments,
    #[command(flatten)]
    scope: ScopeArguments,
    /// The minimum remaining lifetime of the credential; 5m or more
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    min_remaining: Option<Duration>,
    /// Permit endpoints on this machine; always permitted if the issuer is on this machine
    #[arg(long)]
    allow_loopback_endpoints: bool,
    /// A PEM file of certificates to trust in addition to the operating system's, for private endpoints and
    /// the server
    #[arg(long, env = "CARNET_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    #[command(flatten)]
    proxy: ProxyOption,
}

pub(super) async fn run(opening: opening::OpeningOptions, command: Command) -> Result<(), CommandFailure> {
    match command {
        Command::Add(arguments) => add(opening, arguments).await,
        Command::List(arguments) => list(&opening.locked().await?, arguments).await,
        Command::Show(arguments) => show(&opening.locked().await?, arguments).await,
        Command::Update(arguments) => update(opening.trusted().await?, arguments).await,
        Command::Remove(arguments) => remove(opening.trusted().await?, arguments).await,
        Command::Setup(arguments) => setup::run(opening, arguments).await,
        Command::ConfirmJwks(arguments) => confirm_jwks::run(&opening.open().await?, arguments).await,
        Command::Check(arguments) => Box::pin(check::run(opening, arguments)).await,
        Command::Credentials(arguments) => credentials::run(opening, arguments).await,
    }
}

async fn add(opening: opening::OpeningOptions, arguments: add::Add) -> Result<(), CommandFailure> {
    let (sharing, output) = (arguments.sharing(), arguments.output);
    let draft = arguments.draft()?;
    // Checked first, so that a refused draft creates no database.
    draft.check().map_err(FeedsError::from)?;
    let store = opening.trusted_or_made().await?;
    let added = feeds(store).add(draft, sharing, &actor()).await?;
    report_change(&added);
    print(&added.feed, output.output)
}

async fn list(store: &Store, arguments: List) -> Result<(), CommandFailure> {
    let feeds = store.feeds(arguments.space.as_ref()).await?;
    match arguments.output.output {
        Format::Json => output::json(&feeds),
        Format::Table => output::table(
            &["FEED", "TYPE", "REGISTRY", "SUBJECT KEYS", "ALG"],
            feeds.iter().map(|feed| {
                vec![
                    feed.path().to_string(),
                    feed.provider.feed_type().to_string(),
                    feed.registry.to_string(),
                    feed.subject_keys.to_string(),
                    feed.alg.to_string(),
                ]
            }),
        ),
    }
}

async fn show(store: &Store, arguments: Show) -> Result<(), CommandFailure> {
    let feed = store.feed(&arguments.feed).await?.ok_or(FeedsError::Unknown(arguments.feed))?;
    print(&feed, arguments.output.output)
}

async fn update(store: Trusted, arguments: Update) -> Result<(), CommandFailure> {
    let sharing = arguments.changes.sharing.of();
    let path = arguments.feed;
    let feed = store.feed(&path).await?.ok_or_else(|| FeedsError::Unknown(path.clone()))?;
    let changes = arguments.changes.of(feed.provider.feed_type())?;
    let updated = feeds(store).update(&path, changes, sharing, &actor()).await?;
    report_change(&updated);
    print(&updated.feed, arguments.output.output)
}

async fn remove(store: Trusted, arguments: Remove) -> Result<(), CommandFailure> {
    let path = arguments.feed;
    if store.feed(&path).await?.is_none() {
        return Err(FeedsError::Unknown(path).into());
    }
    arguments.confirm.confirm(&format!(
        "Deployments that pull through {path} get no credentials any more. Clouds continue to trust its \
         subject until the trust is removed there."
    ))?;
    feeds(store).remove(&path, &actor()).await?;
    output::note(&format!("Removed {path}."));
    Ok(())
}

fn feeds(store: Trusted) -> Feeds {
    Feeds::new(store, Arc::new(SystemClock::new()), Arc::new(SecureRandom::default()))
}

/// Prints the notes on trust and on callers that a change gives rise to.
fn report_change(changed: &Changed) {
    for note in &changed.notes {
        output::note(&format!("note: {note}"));
    }
}

fn print(feed: &Feed, format: Format) -> Result<(), CommandFailure> {
    if format == Format::Json {
        return output::json(feed);
    }
    let mut pairs = vec![
        ("feed", feed.path().to_string()),
        ("id", feed.id.to_string()),
        ("version", feed.version.to_string()),
        ("name", feed.name.to_string()),
        ("type", feed.provider.feed_type().to_string()),
        ("registry", feed.registry.to_string()),
        ("audience", feed.audience.to_string()),
        ("subject keys", feed.subject_keys.to_string()),
        ("alg", feed.alg.to_string()),
        ("token lifetime", format!("{} s", feed.token_lifetime.as_secs())),
    ];
    pairs.extend(own_pairs(&feed.provider));
    pairs.extend(feed.endpoints.iter().map(|(name, url)| ("endpoint", format!("{name}={url}"))));
    pairs.push(("created at", feed.created_at.to_string()));
    pairs.push(("updated at", feed.updated_at.to_string()));
    output::pairs(&pairs)
}

/// Returns the labels and values of the fields that only feeds of this type have, without those of no effect.
fn own_pairs(provider: &Provider) -> Vec<(&'static str, String)> {
    let values = provider.fields();
    let fields = provider.feed_type().fields().iter();
    let fields = fields.filter(|field| field.only_with.is_none_or(|other| values.contains_key(other)));
    fields.filter_map(|field| Some((field.label, field.shown(values.get(field.name)?)))).collect()
}
