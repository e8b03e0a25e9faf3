//! Minting a token beside the raw signature of the same bytes.
//!
//! Batches of both alternate within each round, so that what slows the machine down slows both
//! down; the ratio is taken in each round, and the median of the rounds is reported.

#![expect(clippy::print_stdout, reason = "the report is what a benchmark is run for")]

mod support;

use std::hint::black_box;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256};
use carnet::internals::Mint as _;
use carnet::internals::Parts as _;
use carnet::internals::feed::aws::AssumedRole;
use carnet::internals::feed::{Feed, FeedDraft, Provider};
use carnet::internals::feeds::{Feeds, Sharing};
use carnet::internals::jose::Algorithm;
use carnet::internals::oidc::subject::Context;
use carnet::internals::values::clock::{Clock as _, SystemClock};
use carnet::internals::values::random::SecureRandom;
use support::{Outcome, Row, Spread, TemporaryIssuer, report};

const ROUNDS: usize = 500;

struct Case {
    algorithm: Algorithm,
    /// Signatures in a batch: a millisecond or two of work, well below a scheduler's slice.
    batch: u32,
    to_reach: f64,
}

const CASES: [Case; 2] = [
    Case { algorithm: Algorithm::Es256, batch: 50, to_reach: 0.90 },
    Case { algorithm: Algorithm::Rs256, batch: 2, to_reach: 0.97 },
];

fn main() -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let temporary = runtime.block_on(TemporaryIssuer::open())?;
    let issuer = temporary.issuer();
    let clock = SystemClock::new();
    let mut context = Context::empty();
    for pair in ["project=web", "environment=production"] {
        let (key, value) = Context::parse_pair(pair)?;
        context.insert(key, value);
    }
    let mut rows = Vec::new();
    for Case { algorithm, batch, to_reach } in CASES {
        let feed = runtime.block_on(add_feed(&temporary, algorithm))?;
        let token = issuer.mint(&feed, &context)?;
        let (signing_input, _) = token.compact.reveal().rsplit_once('.').ok_or("not a compact JWS")?;
        let mut raw = RawKey::generate(algorithm)?;
        let time = |operation: &mut dyn FnMut() -> Outcome| -> Outcome<Duration> {
            let started = clock.monotonic();
            for _ in 0..batch {
                operation()?;
            }
            Ok(clock.monotonic() - started)
        };
        let mut mint = || -> Outcome {
            black_box(issuer.mint(black_box(&feed), black_box(&context))?);
            Ok(())
        };
        let mut sign = || raw.sign(black_box(signing_input.as_bytes()));
        let (mut minting, mut signing, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            // As `serve` does all the time: an issuer that has not heard of its database does not mint.
            runtime.block_on(issuer.refresh())?;
            let first = time(&mut mint)?;
            let raw = time(&mut sign)? + time(&mut sign)?;
            let minted = first + time(&mut mint)?;
            let each = |both: Duration| both.as_secs_f64() * 1e6 / f64::from(2 * batch);
            minting.push(each(minted));
            signing.push(each(raw));
            ratios.push(raw.as_secs_f64() / minted.as_secs_f64());
        }
        let microseconds = |times| format!("{:.1} µs", Spread::of(times).median);
        rows.push(Row {
            name: format!("{algorithm} / raw signature"),
            ours: microseconds(minting),
            theirs: microseconds(signing),
            ratio: Spread::of(ratios),
            to_reach: Some(to_reach),
        });
    }
    println!("{}", report(&format!("mint: {ROUNDS} rounds; rate of minting ÷ rate of signing"), &rows)?);
    Ok(())
}

async fn add_feed(temporary: &TemporaryIssuer, algorithm: Algorithm) -> Outcome<Feed> {
    let carnet = &temporary.carnet;
    let clock = std::sync::Arc::clone(carnet.clock());
    let feeds = Feeds::new(carnet.store().clone(), clock, std::sync::Arc::new(SecureRandom::default()));
    let draft = FeedDraft {
        alg: Some(algorithm),
        ..FeedDraft::new(
            format!("default/{}", algorithm.as_str().to_lowercase()).parse()?,
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com".parse()?,
            Provider::AwsEcr(AssumedRole::new("arn:aws:iam::123456789012:role/carnet-pull".parse()?)),
        )
    };
    Ok(feeds.add(draft, Sharing::NOTHING, carnet.actor()).await?.feed)
}

/// A key of the same kind as the issuer's, used with nothing around it.
enum RawKey {
    Es256(EcdsaKeyPair),
    Rs256(RsaKeyPair, Vec<u8>),
}

impl RawKey {
    fn generate(algorithm: Algorithm) -> Outcome<Self> {
        Ok(match algorithm {
            Algorithm::Es256 => Self::Es256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?),
            Algorithm::Rs256 => {
                let key = RsaKeyPair::generate(KeySize::Rsa2048)?;
                let signature = vec![0; key.public_modulus_len()];
                Self::Rs256(key, signature)
            }
        })
    }

    fn sign(&mut self, message: &[u8]) -> Outcome {
        match self {
            Self::Es256(key) => {
                black_box(key.sign(&SystemRandom::new(), message)?);
            }
            Self::Rs256(key, signature) => {
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, signature)?;
                black_box(signature);
            }
        }
        Ok(())
    }
}
