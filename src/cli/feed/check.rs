//! `carnet feed check`: each step of the chain, and the causes of the first failure.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::api_types::check::{CheckAnswer, CheckStep};
use crate::audit::{Event, EventKind, Outcome};
use crate::carnet::Carnet;
use crate::check::{self, ImageReference, Progress};
use crate::cli::failure::Failure;
use crate::cli::feed_fields::{ContextArguments, ScopeArguments};
use crate::cli::output::Format;
use crate::cli::proxy::ProxyOption;
use crate::cli::{opening, output};
use crate::exchange::address::Loopback;
use crate::feed::FeedPath;
use crate::feeds::FeedsError;
use crate::values::shell::word;
use crate::values::visible;

#[derive(Debug, Args)]
pub(in crate::cli) struct Check {
    /// The feed
    #[arg(value_name = "SPACE/FEED")]
    feed: FeedPath,
    #[command(flatten)]
    context: ContextArguments,
    #[command(flatten)]
    scope: ScopeArguments,
    /// Also pull a small part of this image: NAME, NAME:TAG or NAME@DIGEST
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Permit endpoints and the registry on this machine; always permitted if the issuer is on this machine
    #[arg(long)]
    allow_loopback_endpoints: bool,
    /// A PEM file of certificates to trust in addition to the operating system's, for private endpoints
    #[arg(long, env = "CARNET_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    #[command(flatten)]
    proxy: ProxyOption,
    #[command(flatten)]
    output: output::OutputOptions,
}

pub(in crate::cli) async fn run(opening: opening::OpeningOptions, arguments: Check) -> Result<(), Failure> {
    let path = arguments.feed;
    let context = arguments.context.context()?;
    let scope = arguments.scope.scope()?;
    let network = network(arguments.ca_file.as_deref(), &arguments.proxy, arguments.allow_loopback_endpoints);
    let mut config = opening.config();
    config.transport.extra_ca_pem =
        arguments.ca_file.as_deref().map(crate::cli::files::read_certificates("--ca-file")).transpose()?;
    config.transport.proxy = arguments.proxy.proxy()?;
    if arguments.allow_loopback_endpoints {
        config.transport.loopback = Loopback::Allow;
    }
    let carnet = Carnet::open(config).await?;
    let feed = carnet.store().feed(&path).await?.ok_or(FeedsError::Unknown(path))?;
    let image = arguments.image.map(|image| ImageReference::parse(&image, &feed.registry));
    let image = image.transpose().map_err(|error| Failure::usage(format!("--image: {error}")))?;
    let asked = Event::new(EventKind::TokenMint, Outcome::Done, carnet.actor()).detail("feed check");
    let wanted = check::Check {
        feed: &feed,
        context: &context,
        scope: &scope,
        image: image.as_ref(),
        network: &network,
        asked,
    };
    let is_watched = output::is_watched();
    let watch = |progress: Progress<'_>| {
        if is_watched {
            show(&progress);
        }
    };
    let checked = check::check(&carnet, wanted, &watch).await.map_err(anyhow::Error::new);
    // The exchange is recorded in the background. Wait until that is written.
    carnet.audit_log().flush().await;
    let answer = checked?;
    match arguments.output.output {
        Format::Json => output::json(&answer)?,
        Format::Table => print(&answer)?,
    }
    match answer.failed() {
        None => Ok(()),
        Some(step) => Err(Failure::message(format!("feed {}: step {} failed", answer.feed, step.step))),
    }
}

/// Returns the network options of this check, quoted for a shell. A proxy with a password is left out,
/// because the password belongs in the environment.
fn network(ca_file: Option<&Path>, proxy: &ProxyOption, allow_loopback_endpoints: bool) -> Vec<String> {
    let ca_file = ca_file.map(|file| format!("--ca-file {}", word(&file.to_string_lossy())));
    let proxy = proxy.without_secret().map(|proxy| format!("--proxy {}", word(proxy)));
    let loopback = allow_loopback_endpoints.then(|| "--allow-loopback-endpoints".to_owned());
    [ca_file, proxy, loopback].into_iter().flatten().collect()
}

/// Prints one line for each step: first that it runs, then its result.
fn show(progress: &Progress<'_>) {
    match progress {
        Progress::Began(step) => output::progress_began(&format!("{step} …")),
        Progress::Ended(step) => {
            output::progress_ended(&format!("{} {} ({} ms)", step.step, outcome(step), step.duration_ms));
        }
    }
}

fn outcome(step: &CheckStep) -> &'static str {
    if step.ok { "ok" } else { "FAILED" }
}

fn print(answer: &CheckAnswer) -> Result<(), Failure> {
    let rows = answer.steps.iter().map(|step| {
        let found = step.detail.clone().unwrap_or_default();
        vec![step.step.clone(), outcome(step).to_owned(), format!("{} ms", step.duration_ms), found]
    });
    output::table(&["STEP", "RESULT", "TIME", "FOUND"], rows)?;
    let mut text = String::new();
    // Writing to a string cannot fail.
    for warning in &answer.warnings {
        let _ = writeln!(text, "warning: {}", visible::line(warning));
    }
    if let Some(step) = answer.failed() {
        explain(&mut text, step);
    }
    if text.is_empty() { Ok(()) } else { output::line(text.trim_end()) }
}

/// Describes the failed step: the token's claims, the response, and the causes with their fixes.
fn explain(text: &mut String, step: &CheckStep) {
    let detail = visible::line(step.detail.as_deref().unwrap_or_default());
    let _ = writeln!(text, "\n{} failed: {detail}", step.step);
    if let Some(presented) = &step.presented {
        let _ = writeln!(text, "presented");
        for (name, value) in [
            ("iss", &presented.iss),
            ("sub", &presented.sub),
            ("aud", &presented.aud),
            ("kid", &presented.kid),
            ("alg", &presented.alg),
        ] {
            let _ = writeln!(text, "  {name}  {}", visible::line(value));
        }
    }
    if let Some(upstream) = &step.upstream {
        let _ = writeln!(text, "answered by {}", visible::line(&upstream.provider));
        let status = upstream.status.map(|status| status.to_string());
        for (name, value) in [
            ("status    ", &status),
            ("code      ", &upstream.code),
            ("message   ", &upstream.message),
            ("request id", &upstream.request_id),
        ] {
            if let Some(value) = value {
                let _ = writeln!(text, "  {name}  {}", visible::line(value));
            }
        }
    }
    if !step.causes.is_empty() {
        let _ = writeln!(text, "likely causes, the most likely first");
    }
    for (index, cause) in step.causes.iter().enumerate() {
        let _ = writeln!(
            text,
            "  {}. {}\n     {}",
            index + 1,
            visible::line(&cause.cause),
            visible::line(&cause.fix)
        );
        if let Some(command) = &cause.command {
            let _ = writeln!(text, "       {}", visible::line(command));
        }
    }
}
