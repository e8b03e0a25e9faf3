//! `carnet doctor`: gathers observations, judges them and prints the findings.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;

use super::failure::CommandFailure;
use super::opening::OpeningOptions;
use super::output::{self, Format};
use crate::carnet::{Config, OpenError};
use crate::clock_watch::database_clock::ClockView;
use crate::doctor::address::Reach;
use crate::doctor::fetch::{Fetcher, Trust};
use crate::doctor::public::Published;
use crate::doctor::{
    Finding, Report, Status, clock, database, feeds, files, grants, issuer_url, keys, public, publication,
    state,
};
use crate::feed::FeedType;
use crate::store::signing_keys::StoredKeys;
use crate::store::{Store, StoreError, Unlocked};
use crate::values::issuer_url::IssuerUrl;
use crate::values::visible;

/// The number of feeds that one query reads.
const FEEDS_OF_A_PAGE: u32 = 1000;

#[derive(Debug, Args)]
pub(super) struct DoctorArguments {
    #[command(flatten)]
    output: output::OutputOptions,
    /// Trust only the certificates in this PEM file instead of the public web roots, for a private set-up
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Fetch from private addresses and from this machine, too
    #[arg(long)]
    allow_private: bool,
    /// Fail on warnings, too
    #[arg(long)]
    strict: bool,
}

pub(super) async fn run(opening: OpeningOptions, arguments: DoctorArguments) -> Result<(), CommandFailure> {
    let trust = match &arguments.ca {
        None => Trust::PublicWebRoots,
        Some(file) => Trust::Only { file: file.clone(), pem: super::files::read_certificates("--ca")(file)? },
    };
    let reach = if arguments.allow_private { Reach::AllowPrivate } else { Reach::PublicOnly };
    let config = opening.config();
    let fetcher = Fetcher::new(&trust, reach, config.clock.as_ref())
        .map_err(|error| CommandFailure::usage(format!("--ca: {error}")))?;

    if output::is_watched() {
        output::note("Checking the database and the public URL; a long audit log takes a while …");
    }
    let mut findings = Vec::new();
    let opened = config.open_store_of_anyone().await;
    if let Err(error @ (OpenError::Store(StoreError::Missing(_)) | OpenError::NotSetUp(_))) = opened {
        return Err(error.into());
    }
    findings.push(database::check_opened(opened.as_ref().map(drop)));
    if let Ok(store) = &opened {
        let stored = check_database(store, &config, &mut findings).await;
        match config.issuer_of(store).await {
            Ok(issuer) => {
                findings.push(issuer_url::check_view(&trust, reach));
                check_issuer(&issuer, &fetcher, reach, stored.as_ref(), &config, &mut findings).await;
            }
            Err(OpenError::Store(error)) => findings.push(unreadable("issuer-url", &error)),
            Err(other) => return Err(other.into()),
        }
        store.close().await;
    }
    match files::inspect(config.database.path(), &config.master_key, config.state_file.as_deref()) {
        Ok(seen) => findings.extend(files::check(&seen)),
        Err(error) => findings.push(Finding::failed("database-files", format!("cannot be checked: {error}"))),
    }
    show(&Report::new(findings, arguments.strict), arguments.output.output)
}

/// Checks the database and its content. Returns the keys if they can be read.
async fn check_database(store: &Store, config: &Config, findings: &mut Vec<Finding>) -> Option<StoredKeys> {
    findings.push(database::check_size(config.database.size()));
    findings.push(database::check_integrity(store.integrity_problems().await));
    findings.push(database::check_references(store.foreign_key_problems().await));
    let unlocked = config.unlock(store).await;
    findings.push(database::check_master_key(unlocked.as_ref().map(drop)));
    let content = Content { store: &unlocked.ok()?, config, now: config.clock.now() };
    content.check(findings).await
}

/// The rows of an unlocked database.
struct Content<'a> {
    store: &'a Unlocked,
    config: &'a Config,
    now: Timestamp,
}

impl Content<'_> {
    /// Checks all rows. Returns the keys if they can be read.
    async fn check(&self, findings: &mut Vec<Finding>) -> Option<StoredKeys> {
        let examined = self.store.examine_state(&self.config.witnesses()).await;
        findings.push(state::check(examined.as_ref().map(Option::as_ref)));
        findings.push(database::check_macs(self.store.forged_rows().await));
        findings.push(database::check_audit_log(self.store.verify_audit(&[]).await.as_ref()));
        if let Err(error) = self.grants(findings).await {
            findings.push(unreadable("grant-rows", &error));
        }
        let stored = self.store.signing_keys().await;
        let stored = stored.and_then(|stored| stored.check_published_until(self.now).map(|()| stored));
        findings.push(database::check_key_rows(stored.as_ref().map(|stored| stored.keys.len())));
        let stored = stored.ok()?;
        for (id, outcome) in [
            ("signing-keys", self.keys(&stored, findings).await),
            ("feed-lifetime", self.feeds(&stored, findings).await),
        ] {
            if let Err(error) = outcome {
                findings.push(unreadable(id, &error));
            }
        }
        Some(stored)
    }

    async fn grants(&self, findings: &mut Vec<Finding>) -> Result<(), StoreError> {
        findings.extend(grants::check(&self.store.grants().await?, self.now));
        Ok(())
    }

    async fn keys(&self, stored: &StoredKeys, findings: &mut Vec<Finding>) -> Result<(), StoreError> {
        let failures = self.store.rotation_failures().await?;
        let clients = self.store.jwks_clients().await?;
        let settings = &stored.settings;
        let public = stored.public();
        let (failures, locations) = (failures.as_ref(), stored.locations.as_slice());
        let seen = keys::Keys { keys: &public, settings, failures, clients: &clients, locations };
        findings.extend(keys::check(&seen, self.now));
        let targets = self.store.publication_targets().await?;
        findings.extend(publication::check(&public, &stored.locations, &targets, self.now));
        let view = ClockView::of(self.store, &self.config.clock).await?;
        findings.push(clock::check_high_water(&view));
        Ok(())
    }

    async fn feeds(&self, stored: &StoredKeys, findings: &mut Vec<Finding>) -> Result<(), StoreError> {
        let longest = stored.settings.policy.max_token_lifetime();
        let mut seen = feeds::Seen {
            feeds: usize::try_from(self.store.feed_count().await?).unwrap_or_default(),
            beyond_lifetime: self.store.feeds_beyond_lifetime(longest).await?,
            ..feeds::Seen::default()
        };
        // Only Google's limit is shorter than the longest possible subject.
        let mut after = None;
        loop {
            let page = FeedType::GoogleArtifactRegistry;
            let page = self.store.feeds_of_type(page, after.as_ref(), FEEDS_OF_A_PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.path());
            seen.limited += page.len();
            seen.too_long.extend(page.into_iter().filter(feeds::can_exceed));
        }
        findings.extend(feeds::check(&seen, longest));
        Ok(())
    }
}

fn unreadable(id: &'static str, error: &StoreError) -> Finding {
    Finding::failed(id, format!("cannot be read: {}", crate::doctor::causes(error)))
        .detail("The checks that depend on it were skipped.")
        .hint("see the findings about the database")
}

/// Checks the public documents, fetched as a cloud fetches them.
async fn check_issuer(
    issuer: &IssuerUrl,
    fetcher: &Fetcher<'_>,
    reach: Reach,
    stored: Option<&StoredKeys>,
    config: &Config,
    findings: &mut Vec<Finding>,
) {
    findings.push(issuer_url::check(issuer, reach));
    if issuer.is_loopback() && reach == Reach::PublicOnly {
        return;
    }
    let discovery = fetcher.get(&issuer.discovery_url()).await;
    findings.extend(public::check_discovery(issuer, &discovery));
    let mut responses = vec![discovery];
    // If discovery could not be fetched, the JWKS would fail for the same reason.
    if responses.iter().all(|response| response.outcome.is_ok()) {
        let uri = responses.first().and_then(public::jwks_uri).unwrap_or_else(|| issuer.jwks_uri());
        let jwks = fetcher.get(&uri).await;
        let keys = stored.map(StoredKeys::public);
        let published = keys.as_ref().zip(stored).map(|(keys, stored)| Published {
            keys,
            policy: &stored.settings.policy,
            now: jwks.answered_at,
        });
        findings.extend(public::check_jwks(published, &jwks));
        responses.push(jwks);
    }
    let responses: Vec<_> = responses.iter().collect();
    findings.extend(public::check_certificate(&responses, config.clock.now()));
    findings.extend(public::check_speed(&responses));
    if let Some(stored) = stored {
        findings.extend(clock::check(&responses, stored.settings.policy.leeway(), issuer.is_loopback()));
    }
}

fn show(report: &Report, format: Format) -> Result<(), CommandFailure> {
    match format {
        Format::Json => output::json(report)?,
        Format::Table => {
            for finding in &report.findings {
                output::line(&format!(
                    "{:<7}  {:<19}  {}",
                    finding.status.as_str(),
                    finding.id,
                    visible::line(&finding.summary)
                ))?;
                // A passed check needs only its summary. The exception is the finding about trust and
                // addresses.
                let explained = finding.status > Status::Ok || finding.id == issuer_url::VIEW;
                if let Some(text) = finding.detail.as_ref().filter(|_| explained) {
                    output::line(&format!("{:30}{}", "", visible::line(text)))?;
                }
                if let Some(text) = &finding.hint {
                    output::line(&format!("{:30}hint: {}", "", visible::line(text)))?;
                }
            }
        }
    }
    let (failed, warnings) = (report.count(Status::Failed), report.count(Status::Warning));
    if report.ok {
        return Ok(());
    }
    let all = report.findings.len();
    Err(CommandFailure::message(format!("of {all} checks, {failed} failed and {warnings} gave a warning")))
}
