//! `carnet token`: mints a token to inspect, or inspects one.

use std::io::Read as _;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::failure::CommandFailure;
use super::feed_fields::ContextArguments;
use super::output::Format;
use super::{opening, output, times};
use crate::audit::{Event, EventKind, Outcome};
use crate::carnet::Carnet;
use crate::feed::FeedPath;
use crate::feeds::FeedsError;
use crate::jose::jws::{decode_unverified, verify_compact};

/// The maximum length of a token. AWS accepts at most 20,000 characters.
const LONGEST_TOKEN: usize = 20_000;
/// The maximum length of stdin: a token, and line feeds or spaces around it.
const LONGEST_INPUT: u64 = 2 * LONGEST_TOKEN as u64;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Mint a token and print nothing else
    ///
    /// Anybody who holds the token can use it until it expires.
    Mint(Mint),
    /// Decode and verify a token from stdin
    ///
    /// Verifies it with the keys that this issuer publishes now. Exits with 1 if the token does not verify or
    /// has expired.
    Inspect(output::OutputOptions),
}

#[derive(Debug, Args)]
pub(super) struct Mint {
    /// The feed
    #[arg(value_name = "SPACE/FEED")]
    feed: FeedPath,
    #[command(flatten)]
    context: ContextArguments,
}

pub(super) async fn run(opening: opening::OpeningOptions, command: Command) -> Result<(), CommandFailure> {
    let carnet = opening.open().await?;
    match command {
        Command::Mint(arguments) => mint(&carnet, arguments).await,
        Command::Inspect(arguments) => inspect(&carnet, arguments),
    }
}

async fn mint(carnet: &Carnet, arguments: Mint) -> Result<(), CommandFailure> {
    let context = arguments.context.context()?;
    let feed = carnet.store().feed(&arguments.feed).await?.ok_or(FeedsError::Unknown(arguments.feed))?;
    let asked = Event::new(EventKind::TokenMint, Outcome::Done, carnet.actor()).detail("token mint");
    let minted = carnet.audited_issuer().mint(&feed, &context, asked).await;
    // A refusal is recorded in the background. Wait until that is written.
    carnet.audit_log().flush().await;
    let token = minted?;
    output::secret_line(token.compact.reveal())
}

#[derive(Debug, Serialize)]
struct Inspected {
    verified: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    header: Value,
    claims: Value,
}

fn inspect(carnet: &Carnet, arguments: output::OutputOptions) -> Result<(), CommandFailure> {
    let stdin = |error: anyhow::Error| error.context("the token on stdin");
    let mut token = String::new();
    std::io::stdin()
        .lock()
        .take(LONGEST_INPUT + 1)
        .read_to_string(&mut token)
        .map_err(|error| stdin(error.into()))?;
    let input_length = token.len() as u64;
    let token = token.trim();
    if input_length > LONGEST_INPUT || token.len() > LONGEST_TOKEN {
        return Err(CommandFailure::message(format!(
            "stdin holds more than {LONGEST_TOKEN} bytes, which no token does"
        )));
    }
    let (header, claims) = decode_unverified(token).map_err(|error| stdin(error.into()))?;
    let now = carnet.clock().now();
    let keys = carnet.issuer().key_set().published(now);
    let problem = match verify_compact(token, &keys) {
        Err(error) => Some(error.to_string()),
        Ok(_) => problem_of(&claims, carnet, now),
    };
    let inspected = Inspected { verified: problem.is_none(), problem, header, claims };
    match arguments.output {
        Format::Json => output::json(&inspected)?,
        Format::Table => show(&inspected, now)?,
    }
    match inspected.problem {
        None => Ok(()),
        Some(problem) => Err(CommandFailure::message(format!("the token is not valid: {problem}"))),
    }
}

/// Checks the issuer and the expiry of a token whose signature has verified. Returns the problem, if there is
/// one.
fn problem_of(claims: &Value, carnet: &Carnet, now: Timestamp) -> Option<String> {
    let issuer = carnet.issuer().url().as_str();
    if claims["iss"] != issuer {
        return Some(format!("its issuer is {}, not {issuer}", claims["iss"]));
    }
    match claims["exp"].as_i64() {
        Some(exp) if exp > now.as_second() => None,
        Some(_) => Some("it has expired".to_owned()),
        None => Some("it has no expiry".to_owned()),
    }
}

fn show(inspected: &Inspected, now: Timestamp) -> Result<(), CommandFailure> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    let mut pairs = vec![("verified", if inspected.verified { "yes" } else { "no" }.to_owned())];
    pairs.extend(inspected.problem.clone().map(|problem| ("problem", problem)));
    for members in [&inspected.header, &inspected.claims] {
        for (name, value) in members.as_object().into_iter().flatten() {
            let time = matches!(name.as_str(), "iat" | "nbf" | "exp")
                .then(|| value.as_i64().and_then(|second| Timestamp::from_second(second).ok()))
                .flatten();
            pairs.push((
                name,
                match time {
                    Some(time) => format!("{value} ({time}, {})", times::relative(time, now)),
                    None => text(value),
                },
            ));
        }
    }
    output::pairs(&pairs)
}
