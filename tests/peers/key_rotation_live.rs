//! Keys rotate repeatedly under a load of minting and of third-party verification, with caches as old as the
//! policy allows: no token is refused. After a revocation, every verifier refuses once it fetches again.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use carnet::internals::Mint as _;
use carnet::internals::Parts as _;
use carnet::internals::carnet::{Carnet, Config, MasterKeySource};
use carnet::internals::feed::Feed;
use carnet::internals::issuer::MintError;
use carnet::internals::jose::Algorithm;
use carnet::internals::oidc::subject::Context;
use jiff::Timestamp;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::support::ca::Ca;
use crate::support::carnet::Issuer;
use crate::support::keys::{add_feeds, list, the};
use crate::support::process::wait_until;
use crate::support::verifiers::Verifier;

const AUDIENCE: &str = "sts.amazonaws.com";
const POLICY: [&str; 5] =
    ["--rotate-every=4s", "--propagation=4s", "--jwks-max-age=2s", "--max-token-lifetime=3s", "--leeway=3s"];
/// `propagation` minus the second within which every server follows a change, minus a second for a busy
/// machine, on which the server and the minter may stall.
const CACHE_AGE: Duration = Duration::from_secs(2);
const ROTATE_EVERY: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(30);

/// The number of rotations. Fifty take over three minutes: these are for `CARNET_TEST_LONG=1`.
fn rotations() -> usize {
    if std::env::var("CARNET_TEST_LONG").is_ok_and(|long| long == "1") { 50 } else { 8 }
}

#[expect(clippy::disallowed_methods, reason = "tokens expire by the clock of the programs under test")]
fn now() -> Timestamp {
    Timestamp::now()
}

#[derive(Debug, Clone)]
struct Token {
    compact: String,
    expires_at: Timestamp,
}

/// An issuer on the server's database that mints in this process, as a second process would.
struct Minter {
    carnet: Arc<Carnet>,
    feeds: Vec<Feed>,
    runtime: Runtime,
    stop: Option<oneshot::Sender<()>>,
}

impl Minter {
    fn beside(issuer: &Issuer) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let folder = MasterKeySource::Folder(issuer.carnet.keys_dir());
        let config = Config::new(issuer.carnet.database().into(), folder);
        let carnet = Arc::new(runtime.block_on(Carnet::open(config)).unwrap());
        let (stop, stopped) = oneshot::channel();
        let running = Arc::clone(&carnet);
        runtime.spawn(async move { running.run(async { drop(stopped.await) }).await });
        let mut minter = Self { carnet, feeds: Vec::new(), runtime, stop: Some(stop) };
        minter.read_feeds();
        minter
    }

    fn read_feeds(&mut self) {
        let feed = |path: &str| {
            let path = path.parse().unwrap();
            self.runtime.block_on(self.carnet.store().feed(&path)).unwrap().unwrap()
        };
        self.feeds = ["default/rs256", "default/es256"].map(feed).to_vec();
    }

    /// Mints a token of each algorithm; none while this process is too busy to confirm its key state.
    fn mint(&self) -> Vec<Token> {
        let mint = |feed| match self.carnet.issuer().mint(feed, &Context::default()) {
            Ok(token) => {
                Some(Token { compact: token.compact.reveal().to_owned(), expires_at: token.expires_at })
            }
            Err(MintError::Unconfirmed(_)) => None,
            Err(error) => panic!("{error}"),
        };
        self.feeds.iter().filter_map(mint).collect()
    }

    fn active(&self) -> Vec<String> {
        self.carnet.issuer().key_set().active_kids().iter().map(ToString::to_string).collect()
    }
}

impl Drop for Minter {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

/// The results of one verifier.
#[derive(Debug, Default)]
struct Tally {
    fresh: usize,
    /// Tokens verified again in the last second of their lifetime: one in eight.
    old: usize,
    /// Refused after their expiry, because the machine was busy.
    late: usize,
    /// Refused by a JWKS older than [`CACHE_AGE`], counted from the start of its fetch: the machine was busy.
    stale: usize,
    failed: Vec<String>,
    fetches: u64,
}

/// Verifies each token at once and again shortly before it expires, until the channel closes.
fn verify_all(mut verifier: Verifier, tokens: Receiver<Token>) -> (Verifier, Tally) {
    let (mut tally, mut held) = (Tally::default(), VecDeque::<Token>::new());
    let mut ageing = 0;
    for token in tokens {
        verify(&mut verifier, &token, &mut tally, |tally| &mut tally.fresh);
        held.push_back(token);
        let nearly = now() + Duration::from_secs(1);
        while held.front().is_some_and(|token| token.expires_at <= nearly) {
            let token = held.pop_front().unwrap();
            ageing += 1;
            if ageing % 8 == 0 {
                verify(&mut verifier, &token, &mut tally, |tally| &mut tally.old);
            }
        }
    }
    (verifier, tally)
}

fn verify(verifier: &mut Verifier, token: &Token, tally: &mut Tally, counted: fn(&mut Tally) -> &mut usize) {
    let verdict = verifier.verify(&token.compact);
    tally.fetches = verdict.fetches;
    match verdict.claims {
        Ok(_) => *counted(tally) += 1,
        Err(_) if token.expires_at <= now() => tally.late += 1,
        Err(_) if verdict.age > CACHE_AGE => tally.stale += 1,
        Err(error) => tally.failed.push(format!("{error}: {}", token.compact)),
    }
}

/// Mints until the keys have rotated often enough, and passes every token to every verifier.
fn load(minter: &Minter, verifiers: &[SyncSender<Token>]) -> usize {
    let mut seen = BTreeSet::from_iter(minter.active());
    let deadline = ROTATE_EVERY * u32::try_from(rotations()).unwrap() * 3 + PATIENCE;
    wait_until(deadline, || {
        for token in minter.mint() {
            // Blocks while they are busy.
            verifiers.iter().for_each(|verifier| verifier.send(token.clone()).unwrap());
        }
        seen.extend(minter.active());
        // Two algorithms rotate; the first keys are not the result of a rotation.
        (seen.len() >= 2 * (rotations() + 1)).then_some(())
    });
    seen.len() / 2 - 1
}

#[test]
fn rotations_under_load_fail_no_request_and_a_revocation_fails_every_verifier() {
    let ca = Ca::new();
    let issuer = Issuer::https(&ca);
    issuer.carnet.ok(&[&["key", "policy"], &POLICY[..]].concat());
    // The first keys were made under another policy and would fill the key set for an hour.
    issuer.carnet.ok(&["key", "revoke", "--all", "--yes"]);
    add_feeds(&issuer.carnet, &["--token-lifetime=3s"]);
    let mut minter = Minter::beside(&issuer);

    let verifiers = Verifier::caching(&issuer.url, AUDIENCE, &ca, CACHE_AGE);
    let (senders, threads): (Vec<_>, Vec<_>) = verifiers
        .into_iter()
        .map(|verifier| {
            let (sender, receiver) = sync_channel(1);
            (sender, std::thread::spawn(move || verify_all(verifier, receiver)))
        })
        .unzip();
    let rotated = load(&minter, &senders);
    drop(senders);
    let mut verifiers = Vec::new();
    eprintln!("{rotated} rotations of {} asked for (50 with CARNET_TEST_LONG=1)", rotations());
    for thread in threads {
        let (verifier, tally) = thread.join().unwrap();
        eprintln!("{}: {tally:?}", verifier.name);
        assert_eq!(tally.failed, Vec::<String>::new(), "{}", verifier.name);
        assert!(
            tally.fresh > 20 * rotated && tally.old > rotated,
            "{}: too little was verified",
            verifier.name
        );
        verifiers.push(verifier);
    }
    assert!(rotated >= rotations());
    assert_revocation_is_noticed(&issuer, &mut minter, &mut verifiers);
}

fn assert_revocation_is_noticed(issuer: &Issuer, minter: &mut Minter, verifiers: &mut [Verifier]) {
    // Tokens that outlive the rest of the test.
    let calm = ["--rotate-every=1h", "--max-token-lifetime=10m"];
    issuer.carnet.ok(&[&["key", "policy"], &calm[..]].concat());
    for feed in ["default/rs256", "default/es256"] {
        issuer.carnet.ok(&["feed", "update", feed, "--token-lifetime=10m"]);
    }
    minter.read_feeds();
    let key = |state| the(&list(&issuer.carnet), "ES256", state).to_owned();
    let (leaked, successor) = (key("active"), key("prepared"));
    // Verifiers have the successor once it has been published for `propagation`.
    let known = wait_until(PATIENCE, || {
        let keys = list(&issuer.carnet);
        let key = keys.iter().find(|key| key["kid"] == successor.as_str()).unwrap();
        (key["safe_at"].as_str().unwrap().parse::<Timestamp>().unwrap() <= now()).then_some(())
    });
    known.expect("the prepared key never gets old");
    let active =
        || minter.carnet.issuer().key_set().signer(Algorithm::Es256).map(|key| key.kid().to_string());
    wait_until(PATIENCE, || (active() == Some(leaked.clone())).then_some(()))
        .expect("the minter does not follow");
    let mint =
        || wait_until(PATIENCE, || <[Token; 2]>::try_from(minter.mint()).ok()).expect("nothing is minted");
    let [other, stolen] = mint();
    for verifier in &mut *verifiers {
        for token in [&other, &stolen] {
            assert!(verifier.verify(&token.compact).claims.is_ok(), "{}", verifier.name);
        }
    }

    issuer.carnet.ok(&["key", "revoke", &leaked, "--yes"]);
    wait_until(PATIENCE, || (active() == Some(successor.clone())).then_some(()))
        .expect("the minter does not follow");
    let fresh = mint();
    for (verifier, refusal) in verifiers.iter_mut().zip(["PyJWKClientError", "ERR_JWKS_NO_MATCHING_KEY"]) {
        let refused = wait_until(PATIENCE, || {
            for token in fresh.iter().chain([&other]) {
                let verdict = verifier.verify(&token.compact);
                assert!(verdict.claims.is_ok(), "{}: {verdict:?}", verifier.name);
            }
            verifier.verify(&stolen.compact).claims.err()
        });
        assert_eq!(refused.as_deref(), Some(refusal), "{}", verifier.name);
        for token in fresh.iter().chain([&other]) {
            assert!(verifier.verify(&token.compact).claims.is_ok(), "{}", verifier.name);
        }
    }
}
