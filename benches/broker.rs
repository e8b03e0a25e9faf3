//! The time that a request takes at a provider that works while a thousand requests hang at another provider,
//! divided by the time that it takes otherwise.
//!
//! Both brokers run at once and are asked in turn, so that what slows the machine down slows both
//! down. A provider that works answers after a few milliseconds, as on a very good network; one
//! that hangs never answers.

#![expect(clippy::print_stdout, reason = "the report is what a benchmark is run for")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use carnet::internals::broker::exchanger::{ExchangeFuture, Exchanged};
use carnet::internals::broker::{Broker, BrokerLimits, Exchanger, Request};
use carnet::internals::exchange::{Credential, Secret};
use carnet::internals::feed::scope::Scope;
use carnet::internals::feed::{Feed, FeedDraft};
use carnet::internals::oidc::subject::Context;
use carnet::internals::values::clock::{Clock, SystemClock};
use carnet::internals::values::issuer_url::IssuerUrl;
use carnet::internals::values::random::{SecureRandom, uuid};
use carnet::internals::values::secret::SecretString;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const ROUNDS: usize = 500;
const HANGING: usize = 1000;
/// The response time of a provider that works.
const ANSWERS_AFTER: Duration = Duration::from_millis(3);
/// The ratio that is good enough, at most.
const TO_REACH: f64 = 1.1;

fn main() -> Outcome {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run())
}

async fn run() -> Outcome {
    let clock = SystemClock::new();
    let (alone, beside) = (broker()?, broker()?);
    for number in 0..HANGING {
        let (broker, feed) = (beside.clone(), feed("hanging", number)?);
        tokio::spawn(async move { ask(&broker, &feed).await.map_err(|error| error.to_string()) });
    }
    let (mut exchanges, mut cached) = (Vec::new(), Vec::new());
    for number in 0..ROUNDS {
        let feed = feed("working", number)?;
        // Either goes first as often as the other.
        let order = if number % 2 == 0 { [&alone, &beside] } else { [&beside, &alone] };
        let mut exchange = [0.0; 2];
        let mut cache = [0.0; 2];
        for (at, broker) in order.into_iter().enumerate() {
            let at = if number % 2 == 0 { at } else { 1 - at };
            exchange[at] = timed(&clock, ask(broker, &feed)).await?;
            cache[at] = timed(&clock, async {
                for _ in 0..100 {
                    ask(broker, &feed).await?;
                }
                Ok(())
            })
            .await?
                / 100.0;
        }
        exchanges.push(exchange);
        cached.push(cache);
    }
    println!("\nbroker: {HANGING} requests hang at one provider; {ROUNDS} rounds at another one\n");
    println!("{:<12}{:>14}{:>14}{:>10}", "", "alone", "beside", "ratio");
    for (name, rounds) in [("exchange", exchanges), ("from memory", cached)] {
        let alone = median(rounds.iter().map(|[alone, _]| *alone));
        let beside = median(rounds.iter().map(|[_, beside]| *beside));
        let ratio = median(rounds.iter().map(|[alone, beside]| beside / alone));
        let verdict = if ratio <= TO_REACH { "reached" } else { "MISSED" };
        println!("{name:<12}{:>11.1} µs{:>11.1} µs{ratio:>10.3}  {verdict}", alone * 1e6, beside * 1e6);
    }
    println!();
    Ok(())
}

async fn ask(broker: &Broker, feed: &Feed) -> Outcome {
    broker.credential(feed, &Context::empty(), &Scope::everything(), None).await?;
    Ok(())
}

/// Seconds.
async fn timed(clock: &SystemClock, work: impl Future<Output = Outcome>) -> Outcome<f64> {
    let start = clock.monotonic();
    work.await?;
    Ok((clock.monotonic() - start).as_secs_f64())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Two providers: one hangs, one works. Which is which says the feed's space.
#[derive(Debug)]
struct TwoProviders {
    issuer: IssuerUrl,
    clock: SystemClock,
    random: SecureRandom,
}

impl Exchanger for TwoProviders {
    fn issuer(&self) -> &IssuerUrl {
        &self.issuer
    }

    fn exchange<'a>(&'a self, request: &'a Request) -> ExchangeFuture<'a> {
        Box::pin(async move {
            if self.provider(request) == "hanging" {
                std::future::pending::<()>().await;
            }
            self.clock.sleep_until(self.clock.monotonic() + ANSWERS_AFTER).await;
            let now = self.clock.now();
            let credential = Credential {
                registry: request.feed.registry.clone(),
                secret: Secret::Password {
                    username: "user".to_owned(),
                    password: SecretString::new("password".to_owned()),
                },
                issued_at: now,
                expires_at: now + Duration::from_secs(3600),
                expiries: Vec::new(),
            };
            Ok(Exchanged { credential, jti: uuid(&self.random).unwrap_or_default() })
        })
    }

    fn provider(&self, request: &Request) -> &'static str {
        if request.feed.space.as_str() == "hanging" { "hanging" } else { "working" }
    }
}

fn broker() -> Outcome<Broker> {
    let clock = SystemClock::new();
    let random = SecureRandom::default();
    let issuer = "https://issuer.example".parse()?;
    let exchanger = TwoProviders { issuer, clock, random: random.clone() };
    let limits = BrokerLimits::default();
    Ok(Broker::new(Arc::new(exchanger), Arc::new(clock), Arc::new(random), limits, Arc::default()))
}

fn feed(space: &str, number: usize) -> Outcome<Feed> {
    let settings = r#"{"type":"aws-ecr","role_arn":"arn:aws:iam::123456789012:role/pull"}"#;
    let draft = FeedDraft::new(
        format!("{space}/feed-{number}").parse()?,
        "123456789012.dkr.ecr.eu-central-1.amazonaws.com".parse()?,
        serde_json::from_str(settings)?,
    );
    let id = uuid(&SecureRandom::default())?;
    Ok(Feed::new(draft, id, Duration::from_secs(3600), SystemClock::new().now())?)
}
