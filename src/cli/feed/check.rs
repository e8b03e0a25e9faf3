//! `carnet feed check`: each step of the chain, and the causes of the first failure.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::api_types::check::{CheckResponse, CheckStep};
use crate::audit::{Event, EventKind, Outcome};
use crate::carnet::Carnet;
use crate::check::{self, ImageReference, Progress};
use crate::cli::failure::CommandFailure;
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

pub(in crate::cli) async fn run(
    opening: opening::OpeningOptions,
    arguments: Check,
) -> Result<(), CommandFailure> {
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
    let image = image.transpose().map_err(|error| CommandFailure::usage(format!("--image: {error}")))?;
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
    let response = checked?;
    match arguments.output.output {
        Format::Json => output::json(&response)?,
        Format::Table => output::line(&text(&response))?,
    }
    match response.failed() {
        None => Ok(()),
        Some(step) => {
            Err(CommandFailure::message(format!("feed {}: step {} failed", response.feed, step.step)))
        }
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

/// Renders the table of the steps, the warnings below it, and the failed step in full.
fn text(response: &CheckResponse) -> String {
    let rows = response.steps.iter().map(|step| {
        let found = step.detail.clone().unwrap_or_default();
        vec![step.step.clone(), outcome(step).to_owned(), format!("{} ms", step.duration_ms), found]
    });
    let mut text = output::table_text(&["STEP", "RESULT", "TIME", "FOUND"], rows);
    text.push('\n');
    // Writing to a string cannot fail.
    for warning in &response.warnings {
        let _ = writeln!(text, "warning: {}", visible::line(warning));
    }
    if let Some(step) = response.failed() {
        explain(&mut text, step);
    }
    text.trim_end().to_owned()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_types::check::CheckCause;
    use crate::api_types::problem::{PresentedClaims, UpstreamResponse};

    fn step(step: &str, duration_ms: u64, detail: &str) -> CheckStep {
        let detail = Some(detail.to_owned()).filter(|detail| !detail.is_empty());
        let step = step.to_owned();
        CheckStep { step, ok: true, duration_ms, detail, presented: None, upstream: None, causes: Vec::new() }
    }

    fn response(warnings: &[&str], steps: Vec<CheckStep>) -> CheckResponse {
        CheckResponse {
            feed: "default/a".to_owned(),
            registry: "registry.example".to_owned(),
            ok: steps.iter().all(|step| step.ok),
            warnings: warnings.iter().map(|&warning| warning.to_owned()).collect(),
            steps,
        }
    }

    fn presented(sub: &str) -> Option<PresentedClaims> {
        let [iss, aud, kid, alg] =
            ["https://issuer.example", "sts.amazonaws.com", "key", "ES256"].map(str::to_owned);
        Some(PresentedClaims { iss, sub: sub.to_owned(), aud, kid, alg })
    }

    fn upstream(status: Option<u16>, texts: [Option<&str>; 3]) -> Option<UpstreamResponse> {
        let [code, message, request_id] = texts.map(|text| text.map(str::to_owned));
        Some(UpstreamResponse {
            provider: "aws".to_owned(),
            step: "sts:AssumeRoleWithWebIdentity".to_owned(),
            status,
            code,
            message,
            request_id,
        })
    }

    fn cause(cause: &str, fix: &str, command: Option<&str>) -> CheckCause {
        let command = command.map(str::to_owned);
        CheckCause { cause: cause.to_owned(), fix: fix.to_owned(), command }
    }

    #[test]
    fn a_check_without_a_failure_is_a_table_and_its_warnings() {
        let steps = || vec![step("discovery", 7, ""), step("sts:token", 1234, "key k is there, of 4")];
        let table = "
 STEP       RESULT  TIME     FOUND
 discovery  ok      7 ms
 sts:token  ok      1234 ms  key k is there, of 4";
        assert_eq!(text(&response(&[], steps())), table[1..]);

        let warnings = ["the issuer is not https", "the clock is late"];
        let warned = format!("{table}\nwarning: the issuer is not https\nwarning: the clock is late");
        assert_eq!(text(&response(&warnings, steps())), warned[1..]);
    }

    #[test]
    fn a_failed_step_is_shown_with_its_claims_its_response_and_its_causes() {
        let failed = CheckStep {
            ok: false,
            presented: presented("space:default:feed:a"),
            upstream: upstream(Some(403), [Some("AccessDenied"), Some("Not authorized"), Some("4f2a")]),
            causes: vec![
                cause(
                    "the trust policy is wrong",
                    "carry out what this prints",
                    Some("carnet feed setup default/a"),
                ),
                cause("a firewall drops the connection", "open the way", None),
            ],
            ..step("sts:AssumeRoleWithWebIdentity", 88, "AccessDenied (HTTP 403): Not authorized")
        };
        let shown = "
 STEP                           RESULT  TIME   FOUND
 mint                           ok      2 ms   token t
 sts:AssumeRoleWithWebIdentity  FAILED  88 ms  AccessDenied (HTTP 403): Not authorized
warning: the issuer is not https

sts:AssumeRoleWithWebIdentity failed: AccessDenied (HTTP 403): Not authorized
presented
  iss  https://issuer.example
  sub  space:default:feed:a
  aud  sts.amazonaws.com
  kid  key
  alg  ES256
answered by aws
  status      403
  code        AccessDenied
  message     Not authorized
  request id  4f2a
likely causes, the most likely first
  1. the trust policy is wrong
     carry out what this prints
       carnet feed setup default/a
  2. a firewall drops the connection
     open the way";
        let response = response(&["the issuer is not https"], vec![step("mint", 2, "token t"), failed]);
        assert_eq!(text(&response), shown[1..]);
    }

    #[test]
    fn absent_parts_of_a_failed_step_have_no_line() {
        let failed = |detail: &str| CheckStep { ok: false, ..step("mint", 3, detail) };
        let bare = "
 STEP  RESULT  TIME  FOUND
 mint  FAILED  3 ms  no key

mint failed: no key";
        assert_eq!(text(&response(&[], vec![failed("no key")])), bare[1..]);

        let silent = CheckStep {
            upstream: upstream(None, [None, Some("no response in time"), None]),
            causes: vec![cause("it is slow", "check again later", None)],
            ..failed("there was no response")
        };
        let shown = "
 STEP  RESULT  TIME  FOUND
 mint  FAILED  3 ms  there was no response

mint failed: there was no response
answered by aws
  message     no response in time
likely causes, the most likely first
  1. it is slow
     check again later";
        assert_eq!(text(&response(&[], vec![silent])), shown[1..]);
    }

    #[test]
    fn text_from_outside_stays_on_its_line_and_hides_nothing() {
        const HOSTILE: &str = "a\nlikely causes\u{1b}[2J\u{202e}";
        const ESCAPED: &str = "a\\nlikely causes\\u{1b}[2J\\u{202e}";
        let failed = CheckStep {
            ok: false,
            presented: presented(HOSTILE),
            upstream: upstream(Some(200), [Some(HOSTILE); 3]),
            causes: vec![cause(HOSTILE, HOSTILE, Some(HOSTILE))],
            ..step("mint", 3, HOSTILE)
        };
        let shown = text(&response(&[HOSTILE], vec![failed]));
        let endings = shown.lines().filter(|line| line.ends_with(ESCAPED)).count();
        // The row, the warning, the heading, `sub`, three members of the response, and the cause with its fix and command.
        assert_eq!(endings, 10, "{shown}");
        assert_eq!(shown.matches("likely causes\\u").count(), 10, "{shown}");
        assert!(shown.chars().all(|c| c == '\n' || !visible::is_hidden(c)), "{shown:?}");
    }
}
