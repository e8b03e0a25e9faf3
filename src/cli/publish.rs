//! `carnet publish`: publishes the documents where clouds can reach them.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::confirm::Confirmation;
use super::failure::CommandFailure;
use super::opening::OpeningOptions;
use super::output::{self, Format};
use super::proxy::ProxyOption;
use super::times;
use crate::carnet::Carnet;
use crate::diagnosis;
use crate::jose::jwk::Kid;
use crate::publish::publisher::{CheckError, check_labels, lacked};
use crate::publish::records::Found;
use crate::publish::{
    Conflict, Edition, Mode, OpenTargetError, PublishError, Published, Target, TargetError, TargetOptions,
    open, publish,
};
use crate::store::StoreError;
use crate::values::issuer_url::IssuerUrl;
use crate::values::target_url::TargetUrl;

#[derive(Debug, Args)]
pub(super) struct PublishArguments {
    /// The target that the issuer URL leads to: a folder, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or
    /// az://CONTAINER/PREFIX. Credentials come from the environment
    target: TargetUrl,
    #[command(flatten)]
    output: output::OutputOptions,
    /// Publish a copy that no verifier relies on: keys do not wait for it
    #[arg(long, conflicts_with = "forget")]
    once: bool,
    /// Stop making keys wait for this target. The published files stay
    #[arg(long, conflicts_with = "take_over")]
    forget: bool,
    /// Overwrite files there that belong to another issuer, a later state or an unknown writer
    #[arg(long)]
    take_over: bool,
    #[command(flatten)]
    confirmation: Confirmation,
    /// A PEM file of certificates to trust in addition to the operating system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    #[command(flatten)]
    proxy: ProxyOption,
}

/// The result in JSON.
#[derive(Debug, Serialize)]
struct PublishOutput {
    target: TargetUrl,
    issuer: IssuerUrl,
    generation: String,
    /// The paths of the documents that were written.
    written: Vec<String>,
    kids: Vec<Kid>,
    /// True if keys wait for the target.
    registered: bool,
}

pub(super) async fn run(opening: OpeningOptions, arguments: PublishArguments) -> Result<(), CommandFailure> {
    let options = TargetOptions {
        extra_ca_pem: arguments
            .ca_file
            .as_deref()
            .map(super::files::read_certificates("--ca-file"))
            .transpose()?,
        proxy: arguments.proxy.proxy()?,
    };
    let carnet = opening.open().await?;
    if arguments.forget {
        return forget(&carnet, &arguments).await;
    }
    let (records, url) = (carnet.publications(), &arguments.target);
    let is_registered = records.targets().await?.iter().any(|known| known.target == *url);
    let target = open(url, &options).map_err(|error| not_opened(url, error))?;
    let (edition, published) =
        match bring_up_to_date(target.as_ref(), &carnet, &arguments, is_registered).await {
            Ok(done) => done,
            Err(NotPublished { recorded, failure }) => {
                // This has no effect if the target is not registered.
                if let Err(error) = records.failed(url, &recorded).await {
                    let error = anyhow::Error::new(error);
                    output::note(&format!("this failure could not be recorded: {error:#}"));
                }
                return Err(failure);
            }
        };
    let is_new = !arguments.once && !is_registered;
    let mut was_altered = false;
    if is_new {
        records.register(url, &edition).await?;
    } else {
        let lacked = lacked(&published, &edition);
        let found = Found { lacked: &lacked, foreign: &published.foreign, was_shown: false };
        was_altered = records.shows(url, &edition, found).await?;
    }
    let response = PublishOutput {
        target: url.clone(),
        issuer: edition.label.issuer.clone(),
        generation: edition.label.generation.to_string(),
        written: published.written.iter().map(ToString::to_string).collect(),
        kids: edition.kids.clone(),
        registered: is_new || is_registered,
    };
    show(&response, arguments.output.output)?;
    report(&carnet, &response, was_altered, is_new);
    Ok(())
}

/// A failed publication: the text for the records, and the failure for the person at the terminal.
struct NotPublished {
    recorded: String,
    failure: CommandFailure,
}

async fn bring_up_to_date(
    target: &dyn Target,
    carnet: &Carnet,
    arguments: &PublishArguments,
    is_registered: bool,
) -> Result<(Edition, Published), NotPublished> {
    let failed = |error: PublishError| NotPublished {
        recorded: error.to_string(),
        failure: not_published(target.url(), error),
    };
    let mut mode = if is_registered { Mode::Update } else { Mode::First };
    let mut edition = Edition::of(carnet.issuer());
    match check_labels(target, &edition, &carnet.publications()).await {
        Ok(()) => edition = Edition::of(carnet.issuer()),
        // Publishing reads the target again, and reports it.
        Err(CheckError::Target(_)) => {}
        Err(CheckError::Store(error @ StoreError::State(_))) if arguments.take_over => {
            let consequence = format!(
                "At {}: {error}. It will be overwritten: verifiers that read it there know only the keys of {} from then \
                 on, and nothing there remembers the later state any more.",
                target.url(),
                edition.label.issuer
            );
            let refused = |failure| NotPublished { recorded: error.to_string(), failure };
            arguments.confirmation.confirm(&consequence).map_err(refused)?;
            mode = Mode::TakeOver;
        }
        Err(CheckError::Store(error)) => {
            let recorded = error.to_string();
            return Err(NotPublished { recorded, failure: label_refused(target.url(), error) });
        }
    }
    let mut outcome = publish(target, &edition, mode).await;
    // A server may have changed and published the keys since this process read them.
    if let Err(PublishError::Conflict(Conflict::Newer { .. })) = &outcome
        && carnet.issuer().refresh().await.unwrap_or_default()
    {
        edition = Edition::of(carnet.issuer());
        outcome = publish(target, &edition, mode).await;
    }
    if let (Err(PublishError::Conflict(conflict)), true) = (&outcome, arguments.take_over) {
        let consequence = format!(
            "At {}: {conflict}. It will be overwritten: verifiers that read it there know only the keys of {} from then \
             on.",
            target.url(),
            edition.label.issuer
        );
        let refused = |failure| NotPublished { recorded: conflict.to_string(), failure };
        arguments.confirmation.confirm(&consequence).map_err(refused)?;
        outcome = publish(target, &edition, Mode::TakeOver).await;
    }
    outcome.map(|published| (edition, published)).map_err(failed)
}

async fn forget(carnet: &Carnet, arguments: &PublishArguments) -> Result<(), CommandFailure> {
    let (records, url) = (carnet.publications(), &arguments.target);
    if !records.targets().await?.iter().any(|known| known.target == *url) {
        output::note(&format!("nothing to do: no key waits for {url}"));
        return Ok(());
    }
    arguments.confirmation.confirm(&format!(
        "From now on keys sign without having been published at {url}. The documents there stay and become \
         out of date: verifiers that still read them refuse new tokens after the next rotation, and accept \
         revoked keys."
    ))?;
    records.forget(url).await?;
    output::note(&format!("no key waits for {url} any more"));
    Ok(())
}

pub(super) fn not_opened(url: &TargetUrl, error: OpenTargetError) -> CommandFailure {
    let hint = match &error {
        OpenTargetError::Environment { reason, .. } => diagnosis::target::advice(url, reason, None),
        OpenTargetError::Client(_) => None,
    };
    hinted(error.into(), hint)
}

pub(super) fn not_published(url: &TargetUrl, error: PublishError) -> CommandFailure {
    let hint = match &error {
        PublishError::Conflict(conflict) => Some(fix(conflict, url)),
        PublishError::Target(TargetError::Failed { reason, tls, .. }) => {
            diagnosis::target::advice(url, reason, *tls)
        }
        PublishError::Target(TargetError::Changed(_)) => {
            Some("another process is writing there now: find out which one, then try again".to_owned())
        }
    };
    let failure = match error {
        PublishError::Target(error @ TargetError::Failed { .. }) => anyhow::Error::new(error),
        other => anyhow::Error::new(other).context(format!("{url} was not brought up to date")),
    };
    hinted(failure, hint)
}

pub(super) fn label_refused(url: &TargetUrl, error: StoreError) -> CommandFailure {
    let hint = format!(
        "this database is an older copy than the one that was last published at {url}: put the latest one back. If it was \
         accepted by `carnet database accept` since, --take-over overwrites the label there"
    );
    if matches!(error, StoreError::State(_)) { hinted(error.into(), Some(hint)) } else { error.into() }
}

fn fix(conflict: &Conflict, url: &TargetUrl) -> String {
    match conflict {
        Conflict::Newer { .. } => format!(
            "{url} has a later state of this issuer, so this database is an old copy, or another process is \
             ahead of it: publish from the host that runs the issuer. If this database is the issuer now, \
             --take-over writes its keys there; tokens signed with other keys are refused from then on"
        ),
        Conflict::OtherIssuer { .. } => format!(
            "a target holds the documents of one issuer URL: publish to another target. If {url} belongs to \
             this issuer from now on, --take-over overwrites the documents there"
        ),
        Conflict::Unauthentic(_) => format!(
            "another database of this issuer, an earlier version of carnet, or someone with write access \
             wrote that file: inspect it first. --take-over overwrites the documents at {url}"
        ),
        Conflict::Unlabelled(_) => format!(
            "something other than carnet wrote or changed that file: inspect it first. --take-over \
             overwrites the documents at {url}"
        ),
    }
}

fn hinted(error: anyhow::Error, hint: Option<String>) -> CommandFailure {
    let failure = CommandFailure::from(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn show(response: &PublishOutput, format: Format) -> Result<(), CommandFailure> {
    match format {
        Format::Json => output::json(response),
        Format::Table => output::pairs(&[
            ("target", response.target.to_string()),
            ("issuer", response.issuer.to_string()),
            ("generation", response.generation.to_string()),
            (
                "written",
                if response.written.is_empty() { "nothing".to_owned() } else { response.written.join(" ") },
            ),
            ("keys", response.kids.iter().map(Kid::as_str).collect::<Vec<_>>().join(" ")),
            ("registered", if response.registered { "yes" } else { "no" }.to_owned()),
        ]),
    }
}

/// Prints notes on the result and on the next steps.
fn report(carnet: &Carnet, response: &PublishOutput, was_altered: bool, is_new: bool) {
    let PublishOutput { target, issuer, generation, written, .. } = response;
    if written.is_empty() {
        output::note(&format!("nothing to do: {target} shows generation {generation} already"));
    }
    if was_altered {
        output::note(&format!(
            "warning: the copy at {target} was changed by something other than carnet, and has been \
             overwritten. Anyone with write access there can publish keys as this issuer"
        ));
    }
    if is_new {
        let propagation = carnet.issuer().key_set().settings.policy.propagation();
        output::note(&format!(
            "From now on no key signs before {target} has shown it for {}. `carnet serve --publish {target}` \
             keeps it up to date; `carnet publish {target} --forget` ends this. Clouds fetch {issuer}/{}: \
             `carnet doctor` checks whether that URL leads here.",
            times::span(propagation.as_secs()),
            crate::publish::DocumentName::Discovery,
        ));
    } else if !response.registered {
        output::note(
            "No server keeps this copy up to date, and no key waits for it: publish again after every change \
             of keys.",
        );
    }
}
