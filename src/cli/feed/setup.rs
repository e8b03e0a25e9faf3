//! `carnet feed setup`: prints the cloud resources to create.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};

use crate::carnet::{Carnet, OpenError};
use crate::cli::failure::CommandFailure;
use crate::cli::feed_fields::ContextArguments;
use crate::cli::{opening, output};
use crate::feed::FeedPath;
use crate::feed::google::JwksSource;
use crate::feed::scope::{Action, RepositoryName, Scope};
use crate::feeds::FeedsError;
use crate::setup::{self, KeysToUpload, SetupError, SetupOptions, Trusted};

#[derive(Debug, Args)]
pub(in crate::cli) struct Setup {
    /// The feed
    #[arg(value_name = "SPACE/FEED")]
    feed: FeedPath,
    /// The output format
    #[arg(long, value_enum, default_value_t = Format::Cli)]
    format: Format,
    #[command(flatten)]
    context: ContextArguments,
    /// Permit only this repository; repeatable [default: all of the registry, or of Google's project]
    ///
    /// For Google, NAME or PROJECT/NAME.
    #[arg(long, value_name = "NAME")]
    repository: Vec<RepositoryName>,
    /// The permitted action, pull or push; repeatable [default: pull]
    #[arg(long)]
    action: Vec<Action>,
    /// The kind of identity that trusts the issuer (azure-acr)
    #[arg(long, value_enum, default_value_t = Identity::App)]
    identity: Identity,
    /// The source of the issuer's keys: fetched by Google or uploaded (google-artifact-registry) [default: as
    /// the feed says]
    ///
    /// An upload contains the keys of this moment, and must be repeated at every rotation.
    #[arg(long, value_name = "fetched|uploaded")]
    jwks: Option<JwksSource>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// A shell script for aws, az or gcloud
    Cli,
    /// A Terraform configuration
    Terraform,
    /// The documents as JSON
    Json,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Identity {
    /// An app registration
    App,
    /// A user-assigned managed identity
    Managed,
}

pub(in crate::cli) async fn run(
    opening: opening::OpeningOptions,
    arguments: Setup,
) -> Result<(), CommandFailure> {
    let config = opening.config();
    let store = config.open_trusted().await?;
    let issuer = match (store.issuer_url().await?, config.issuer.clone()) {
        (Some(stored), Some(given)) if stored != given => {
            return Err(OpenError::OtherIssuer { database: config.database, stored, given }.into());
        }
        (Some(issuer), _) | (None, Some(issuer)) => issuer,
        (None, None) => return Err(OpenError::NoIssuer(config.database).into()),
    };
    let path = arguments.feed.clone();
    let feed = store.feed(&path).await?.ok_or(FeedsError::Unknown(path))?;
    let mut options = arguments.options()?;
    if arguments.jwks.unwrap_or(feed.provider.jwks()) == JwksSource::Uploaded {
        let carnet = Carnet::open(config).await?;
        let keys = &carnet.issuer().key_set().keys;
        options.uploaded_jwks = Some(KeysToUpload::of(keys, carnet.clock().now()));
    }
    let setup = setup::setup(&feed, &issuer, &options)?;
    let text = setup.render(arguments.format.into())?;
    output::note(&trust_note(&setup.trusted, &setup.notes, arguments.format));
    output::line(&text)
}

impl Setup {
    fn options(&self) -> Result<SetupOptions, CommandFailure> {
        let actions = if self.action.is_empty() { vec![Action::Pull] } else { self.action.clone() };
        let repositories = Some(self.repository.clone()).filter(|names| !names.is_empty());
        let scope = Scope::new(repositories, Some(actions))
            .map_err(|error| CommandFailure::usage(error.to_string()))?;
        Ok(SetupOptions {
            context: self.context.clone().context()?,
            scope,
            identity: self.identity.into(),
            uploaded_jwks: None,
        })
    }
}

/// Returns the notes for the person at the terminal.
fn trust_note(trusted: &Trusted, notes: &[String], format: Format) -> String {
    let mut text = format!(
        "The cloud will trust exactly this:\n  issuer    {}\n  subject   {}\n  audience  {}\n",
        trusted.issuer, trusted.subject, trusted.audience
    );
    for note in notes {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "note: {note}");
    }
    text.push_str(match format {
        Format::Cli => "Read the script, then paste it into a shell or save it and run it with sh.",
        Format::Terraform => {
            "Save it as main.tf in a folder of its own; then terraform init and terraform apply."
        }
        Format::Json => "The names are those of the cloud's API.",
    });
    text
}

impl From<Format> for setup::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Cli => Self::Cli,
            Format::Terraform => Self::Terraform,
            Format::Json => Self::Json,
        }
    }
}

impl From<Identity> for setup::Identity {
    fn from(identity: Identity) -> Self {
        match identity {
            Identity::App => Self::App,
            Identity::Managed => Self::Managed,
        }
    }
}

impl From<SetupError> for CommandFailure {
    fn from(error: SetupError) -> Self {
        let hint = match &error {
            SetupError::Subject(_) => {
                "trust is set up for one subject, not for a pattern: give the values of one deployment with \
                 --context, and run this once for each deployment"
            }
            SetupError::Option { .. } => "leave it off",
            SetupError::TooManyKeys { .. } => {
                "wait until retired keys leave the JWKS: `carnet key list` shows when"
            }
            SetupError::Registry(_) => {
                "the role is assigned on the registry's own resource, whose name this registry host does not \
                 give"
            }
            _ => return Self::usage(error.to_string()),
        };
        Self::usage(error.to_string()).hint(hint)
    }
}
