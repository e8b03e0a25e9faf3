//! `kill -9` at any moment of a rotation, a revocation or a change of the master key: the issuer opens again,
//! nothing is lost, and no private key is on disk in clear.
//!
//! Crashes are random: the random sleeps are the subject of this test, not its synchronisation. The seed is
//! printed, and `CARNET_TEST_SEED` repeats the random decisions (though not the scheduling). Each kind has 20
//! rounds in one home, so that a round begins with the results of earlier crashes; `CARNET_TEST_LONG=1` makes
//! it 200.
#![allow(clippy::print_stderr, reason = "what fails says why")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::carnet::{Announced, Carnet};
use crate::support::dice::{Dice, rounds};
use crate::support::keys::{self, assert_invariants, jwks, kid, kids, list_all, mint, published, verify};
use crate::support::needles::Needles;
use crate::support::process::{Process, wait_until};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use carnet::internals::jose::Algorithm;
use carnet::internals::jose::key_pair::{KeyPair, RsaBits};
use carnet::internals::values::random::SecureRandom;
use jiff::Timestamp;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);
/// A process that writes nothing for this many milliseconds has nothing to write.
const LONG_WAIT: u32 = 700;
/// The errors with which a victim may fail on its own.
const REFUSALS: [&str; 2] = ["verifiers may not know it before", "must not publish more than 8"];
/// With this policy, keys rotate and tokens expire within a round or two.
const POLICY: [&str; 5] =
    ["--rotate-every=3s", "--propagation=1s", "--jwks-max-age=1s", "--max-token-lifetime=3s", "--leeway=2s"];

/// A token in the hands of a client.
struct Held {
    compact: String,
    expires_at: i64,
}

/// An issuer that crashes repeatedly.
struct Victim {
    carnet: Carnet,
    server: Option<Announced>,
    dice: Dice,
    held: Vec<Held>,
    known: Vec<Value>,
    clear_keys: Needles,
    killed: usize,
    verified: usize,
}

impl Victim {
    fn new(test: &str) -> Self {
        let carnet = Carnet::new();
        let server = keys::serve(&carnet);
        carnet.ok(&[&["key", "policy"], &POLICY[..]].concat());
        // The first keys were made under another policy and would fill the key set for an hour.
        carnet.ok(&["key", "revoke", "--all", "--yes", "--no-nudge"]);
        keys::add_feeds(&carnet, &["--token-lifetime=3s"]);
        Self {
            server: Some(server),
            dice: Dice::new(test),
            held: Vec::new(),
            known: list_all(&carnet),
            clear_keys: Needles::of_clear_private_keys(),
            killed: 0,
            verified: 0,
            carnet,
        }
    }

    fn start(&self, arguments: &[&str]) -> Process {
        Process::start("the victim", &mut self.carnet.command(arguments))
    }

    fn hold(&mut self, tokens: [String; 2]) {
        self.held.extend(tokens.map(|compact| {
            let claims = compact.split('.').nth(1).unwrap();
            let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
            Held { expires_at: claims["exp"].as_i64().unwrap(), compact }
        }));
    }

    /// Waits until a random moment, or until shortly after a write, when a crash is most likely to do harm.
    fn wait(&mut self, written: impl Fn() -> Vec<u64>) -> String {
        if self.dice.one_in(2) {
            let delay = self.dice.up_to(600);
            std::thread::sleep(delay);
            format!("after {delay:?}")
        } else {
            let (before, delay) = (written(), self.dice.up_to(25));
            let changed = (0..LONG_WAIT).any(|_| {
                std::thread::sleep(Duration::from_millis(1));
                written() != before
            });
            std::thread::sleep(delay);
            format!("{delay:?} after {}", if changed { "a write" } else { "a long wait" })
        }
    }

    /// Waits for less time than any command needs, even on a fast machine.
    fn wait_little(&mut self) -> String {
        let delay = self.dice.up_to(10);
        std::thread::sleep(delay);
        format!("at once, after {delay:?}")
    }

    /// Sends SIGKILL to `victims`, and perhaps to the server.
    fn kill(&mut self, mut victims: Vec<Process>, when: &str, what: &str) {
        if self.dice.one_in(2) {
            victims.extend(self.server.take().map(|server| server.process));
        }
        if self.dice.one_in(2) {
            victims.reverse();
        }
        let mut ends = Vec::new();
        for mut victim in victims {
            let end = victim.wait_for_end(Duration::ZERO);
            victim.kill();
            self.killed += usize::from(end.is_none());
            let stderr = victim.stderr();
            let may_end =
                end.is_none_or(|end| end.success() || REFUSALS.iter().any(|words| stderr.contains(words)));
            assert!(may_end, "{what} failed by itself: {stderr}");
            ends.push(end.map_or("killed".to_owned(), |end| end.to_string()));
            std::thread::sleep(self.dice.up_to(10));
        }
        eprintln!("{what}, {when}: {}", ends.join(", "));
        self.assert_nothing_in_clear();
    }

    fn assert_nothing_in_clear(&self) {
        assert_eq!(self.clear_keys.found_below(self.carnet.home()), Vec::<String>::new());
    }

    /// Checks the guarantees that hold after any crash.
    fn assert_unharmed(&mut self) {
        let keys = list_all(&self.carnet);
        assert_invariants(&keys);
        self.assert_nothing_lost(&keys);
        let server = self.server.take().unwrap_or_else(|| keys::serve(&self.carnet));
        let current = wait_until(PATIENCE, || {
            let (keys, jwks) = (list_all(&self.carnet), jwks(&server));
            let listed =
                keys.iter().filter(|key| !matches!(key["state"].as_str(), Some("pruned" | "revoked")));
            (kids(listed) == published(&jwks)).then_some((keys, jwks))
        });
        let (keys, jwks) = current.expect("the server does not publish what is listed");
        let at = now();
        let revoked = kids(keys.iter().filter(|key| key["state"] == "revoked"));
        for held in &self.held {
            let claims = verify_unless_expired(&jwks, held, at);
            match claims {
                Some(true) => self.verified += 1,
                Some(false) => assert!(revoked.contains(&kid(&held.compact)), "{} fails", held.compact),
                None => {}
            }
        }
        assert!(published(&jwks).is_disjoint(&revoked), "a revoked key is published");
        self.held.retain(|held| held.expires_at > at);
        self.server = Some(server);
        self.known = keys;
        let fresh = mint(&self.carnet);
        self.hold(fresh);
    }

    /// Checks that every key is still known and none has returned to an earlier state.
    fn assert_nothing_lost(&self, keys: &[Value]) {
        let rank = |key: &Value| {
            let order = ["prepared", "active", "retired", "pruned", "revoked"];
            order.iter().position(|state| key["state"] == *state).unwrap()
        };
        for known in &self.known {
            let key = keys.iter().find(|key| key["kid"] == known["kid"]);
            let key = key.unwrap_or_else(|| panic!("{known} is lost"));
            assert!(rank(key) >= rank(known), "{known} went back to {key}");
            // Only the history records that a key had retired before it was revoked.
            for event in ["prepared_at", "activated_at", "revoked_at"] {
                assert!(known[event].is_null() || known[event] == key[event], "{known} became {key}");
            }
        }
    }
}

/// Returns whether `held` verifies against `jwks`; `None` if it has expired.
fn verify_unless_expired(jwks: &str, held: &Held, at: i64) -> Option<bool> {
    (held.expires_at > at).then(|| verify(jwks, &held.compact).is_some())
}

#[expect(clippy::disallowed_methods, reason = "tokens expire by the clock of the programs under test")]
fn now() -> i64 {
    Timestamp::now().as_second()
}

/// Returns the lengths of the database's files, which change with every write.
fn written(home: &Path) -> Vec<u64> {
    let length = |name: &str| fs::metadata(home.join(name)).map_or(0, |file| file.len());
    ["carnet.db", "carnet.db-wal"].map(length).to_vec()
}

#[test]
fn a_crash_at_any_moment_of_a_rotation_or_revocation_loses_nothing() {
    let mut victim = Victim::new("rotation");
    for round in 0..rounds() {
        let key = &victim.known[victim.dice.below(victim.known.len())]["kid"];
        let kid = key.as_str().unwrap().to_owned();
        let what: &[&[&str]] = &[
            &["key", "rotate", "--force", "--yes"],
            &["key", "rotate", "--force", "--yes", "--alg=ES256"],
            &["key", "rotate"],
            &["key", "revoke", "--yes", "--no-nudge", &kid],
            &["key", "revoke", "--yes", "--no-nudge", "--all"],
            &["serve", "--listen=127.0.0.1:0"],
        ];
        // Forced rotations are the most frequent; a revocation of everything leaves little to lose.
        let what = what[[0, 0, 0, 1, 2, 3, 3, 4, 5, 5][victim.dice.below(10)]];
        let command = victim.start(what);
        let home = victim.carnet.home().to_owned();
        let when = victim.wait(|| written(&home));
        victim.kill(vec![command], &when, &format!("round {round}: {}", what.join(" ")));
        victim.assert_unharmed();
    }
    let rotated = victim.known.iter().filter(|key| key["retired_at"].is_string()).count();
    eprintln!(
        "{} processes killed, {rotated} keys rotated, {} tokens verified",
        victim.killed, victim.verified
    );
    assert!(
        victim.killed >= rounds() / 2 && rotated >= 2 && victim.verified >= rounds(),
        "too little happened"
    );
}

/// Returns the master keys in the home and in the keys folder, without those in unfinished files of a crash.
fn master_keys(home: &Path) -> BTreeSet<String> {
    let finished = files(home).filter(|file| !is_unfinished(file));
    let texts = finished.filter_map(|file| fs::read_to_string(file).ok());
    texts.filter(|text| text.starts_with("carnet-master-key-1:")).collect()
}

fn files(home: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = [home.to_owned(), home.join("keys")].map(|folder| fs::read_dir(folder).unwrap());
    entries.into_iter().flatten().map(|entry| entry.unwrap().path()).filter(|path| path.is_file())
}

fn is_unfinished(file: &Path) -> bool {
    file.file_name().unwrap().to_str().unwrap().starts_with(".master.key.")
}

#[test]
fn a_crash_at_any_moment_of_a_rewrap_loses_nothing_and_the_same_call_finishes_it() {
    let mut victim = Victim::new("rewrap");
    let home = victim.carnet.home().to_owned();
    let mut finished_before = 0;
    for round in 0..rounds() {
        // In a separate folder, or in the keys folder itself.
        let folder = if victim.dice.one_in(2) { home.clone() } else { home.join("keys") };
        let file = folder.join(format!("new-{round}.key"));
        let rewrap = ["key", "rewrap", "--new-key-file", file.to_str().unwrap()];
        let there_before = master_keys(&home);
        let mut victims = vec![victim.start(&rewrap)];
        if victim.dice.one_in(3) {
            victims.push(victim.start(&["key", "rotate", "--force", "--yes"]));
        }
        let when = if round % 5 == 4 {
            victim.wait_little()
        } else {
            victim.wait(|| [written(&home), vec![master_keys(&home).len() as u64]].concat())
        };
        victim.kill(victims, &when, &format!("round {round}: key rewrap"));
        assert!(master_keys(&home).is_superset(&there_before), "a master key is lost");
        // The issuer opens in the state that the crash left.
        victim.assert_unharmed();

        let again = victim.carnet.run(&rewrap);
        assert_eq!(again.status, 0, "{}", again.stderr);
        finished_before += usize::from(again.stderr.contains("Nothing to seal"));
        assert_eq!(fs::read(home.join("keys/master.key")).unwrap(), fs::read(&file).unwrap());
        assert!(master_keys(&home).is_superset(&there_before), "a master key is lost");
        let sealed_with = crate::support::database::texts(
            &victim.carnet.database(),
            "SELECT master_key_id FROM signing_keys WHERE master_key_id IS NOT NULL \
             UNION SELECT master_key_id FROM sealed_keys",
        );
        assert_eq!(sealed_with.len(), 1, "{sealed_with:?}");
        for left in files(&home).filter(|file| is_unfinished(file)) {
            let key = fs::read_to_string(&left).unwrap();
            assert!(
                !master_keys(&home).contains(&key),
                "{} is a copy of a master key in use",
                left.display()
            );
        }
        victim.assert_nothing_in_clear();
        victim.assert_unharmed();
    }
    let Victim { killed, verified, .. } = victim;
    eprintln!(
        "{killed} processes killed, {finished_before} rewraps had finished, {verified} tokens verified"
    );
    assert!(
        killed >= rounds() / 4 && finished_before < rounds() && verified >= rounds(),
        "too little happened"
    );
}

/// Proves that the searches find a key that is there.
#[test]
fn a_private_key_in_clear_is_found_in_every_file() {
    let (needles, random) = (Needles::of_clear_private_keys(), SecureRandom::default());
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("keys")).unwrap();
    for (algorithm, bits) in [
        (Algorithm::Rs256, 2048),
        (Algorithm::Rs256, 3072),
        (Algorithm::Rs256, 4096),
        (Algorithm::Es256, 2048),
    ] {
        let pair = KeyPair::generate(algorithm, RsaBits::try_from(bits).unwrap(), &random).unwrap();
        let der = pair.pkcs8().reveal();
        let base64 = STANDARD.encode(der);
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{base64}\n-----END PRIVATE KEY-----");
        let hex: String = der.iter().map(|byte| format!("{byte:02X}")).collect();
        let forms = [der.to_vec(), base64.into(), pem.into(), hex.into(), URL_SAFE_NO_PAD.encode(der).into()];
        for form in forms {
            for before in 0..3 {
                let planted = [&vec![b'x'; before], &form[..]].concat();
                for file in ["carnet.db-wal", "keys/planted", "planted.db"] {
                    let path = folder.path().join(file);
                    fs::write(&path, &planted).unwrap();
                    assert!(!needles.found_below(folder.path()).is_empty(), "{algorithm} key in {file}");
                    fs::remove_file(path).unwrap();
                }
            }
        }
    }
}
