//! No private key is on disk in clear, in any encoding, and not even the sealed bytes of a destroyed key.

use std::fs;
use std::sync::{Arc, Mutex};

use crate::support::database;
use crate::support::needles::Needles;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use carnet::internals::Parts as _;
use carnet::internals::carnet::{Carnet, Config, MasterKeySource};
use carnet::internals::issuer::rotator::{GeneratedKeys, KeySource};
use carnet::internals::jose::Algorithm;
use carnet::internals::jose::key_pair::{KeyPair, KeyPairError, RsaBits};
use carnet::internals::signing_keys::rotation::RotationRequest;
use carnet::internals::store::IfMissing;
use carnet::internals::values::actor::Actor;
use carnet::internals::values::random::SecureRandom;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A key source that generates real keys and keeps copies for the test.
#[derive(Debug)]
struct RecordedKeys {
    source: GeneratedKeys,
    made: Mutex<Vec<KeyPair>>,
}

impl KeySource for RecordedKeys {
    fn generate(&self, algorithm: Algorithm, rsa_bits: RsaBits) -> Result<KeyPair, KeyPairError> {
        let pair = self.source.generate(algorithm, rsa_bits)?;
        self.made.lock().unwrap().push(pair.clone());
        Ok(pair)
    }
}

/// An issuer in its own folder, with every key that it has made.
///
/// Reading a database file directly drops the locks that this process has on it. That is harmless here,
/// because nothing else opens the file.
struct Issuer {
    home: TempDir,
    keys: Arc<RecordedKeys>,
    runtime: Runtime,
    carnet: Carnet,
}

impl Issuer {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let keys = Arc::new(RecordedKeys {
            source: GeneratedKeys(Arc::new(SecureRandom::default())),
            made: Mutex::default(),
        });
        let config = Config {
            if_missing: IfMissing::Create,
            issuer: Some("https://issuer.example".parse().unwrap()),
            key_source: keys.clone(),
            ..Config::new(
                home.path().join("carnet.db").into(),
                MasterKeySource::Folder(home.path().join("keys")),
            )
        };
        let carnet = runtime.block_on(Carnet::open(config)).unwrap();
        Self { home, keys, runtime, carnet }
    }

    fn rotate(&self) {
        let issuer = self.carnet.issuer();
        let seen = issuer.key_set().active_kids();
        let request = RotationRequest { algorithms: Algorithm::ALL.to_vec(), seen, force: true };
        let rotation =
            self.runtime.block_on(self.carnet.rotator().rotate(&request, &Actor::local("test"))).unwrap();
        assert_eq!((rotation.changes.len(), rotation.erased), (2, true));
        self.runtime.block_on(issuer.refresh()).unwrap();
    }

    /// Returns the secret parts of every key made so far.
    fn secrets(&self) -> Needles {
        let made = self.keys.made.lock().unwrap();
        let published = self.carnet.issuer().key_set().keys.len();
        assert_eq!(made.len(), published, "the recorded keys are not the issuer's");
        let mut needles = Needles::default();
        for pair in made.iter() {
            for (name, secret) in secret_parts(pair) {
                needles.add(&format!("{} {name}", pair.public().algorithm()), &secret);
            }
        }
        needles
    }

    /// Returns the sealed private halves as stored.
    fn sealed(&self) -> Vec<String> {
        database::texts(
            &self.home.path().join("carnet.db"),
            "SELECT sealed_private FROM signing_keys WHERE sealed_private IS NOT NULL ORDER BY kid",
        )
    }

    #[track_caller]
    fn assert_nothing_found(&self, needles: &Needles) {
        assert_eq!(needles.found_below(self.home.path()), Vec::<String>::new());
    }
}

/// Returns the secret numbers of a private key.
fn secret_parts(pair: &KeyPair) -> Vec<(&'static str, Vec<u8>)> {
    let der = pair.pkcs8().reveal();
    // PKCS #8 (RFC 5958): version, algorithm, and the key in an octet string.
    let private = elements(elements(der)[0].1)[2].1;
    let fields = elements(elements(private)[0].1);
    let number = |at: usize| fields[at].1.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
    match pair.public().algorithm() {
        // PKCS #1 (RFC 8017): version, n, e, then the secret numbers.
        Algorithm::Rs256 => ["d", "p", "q", "dp", "dq", "qinv"].into_iter().zip((3..).map(number)).collect(),
        // SEC 1: version, scalar.
        Algorithm::Es256 => {
            assert_eq!(fields[1].1.len(), 32);
            vec![("scalar", fields[1].1.to_vec()), ("scalar's end", fields[1].1[8..].to_vec())]
        }
    }
}

/// Splits `bytes` into DER elements, each with its tag.
fn elements(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut elements = Vec::new();
    while let [tag, length, rest @ ..] = bytes {
        let digits = if *length < 0x80 { 0 } else { usize::from(length & 0x7f) };
        let long = rest[..digits].iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit));
        let length = if digits == 0 { usize::from(*length) } else { long };
        elements.push((*tag, &rest[digits..digits + length]));
        bytes = &rest[digits + length..];
    }
    elements
}

#[test]
fn private_keys_are_nowhere_in_clear() {
    let issuer = Issuer::new();
    issuer.assert_nothing_found(&issuer.secrets());
    for _ in 0..2 {
        issuer.rotate();
        issuer.assert_nothing_found(&issuer.secrets());
    }
    let secrets = issuer.secrets();
    assert!(issuer.home.path().join("carnet.db-wal").exists(), "the log was not searched");
    issuer.runtime.block_on(issuer.carnet.store().close());
    issuer.assert_nothing_found(&secrets);
}

#[test]
fn sealed_bytes_of_destroyed_keys_are_gone_from_every_file() {
    let issuer = Issuer::new();
    for _ in 0..2 {
        let before = issuer.sealed();
        assert_eq!(before.len(), 4);
        issuer.rotate();
        let after = issuer.sealed();
        let (kept, destroyed): (Vec<_>, Vec<_>) =
            before.into_iter().partition(|sealed| after.contains(sealed));
        assert_eq!((kept.len(), destroyed.len()), (2, 2));

        let mut needles = Needles::default();
        for sealed in &destroyed {
            needles.add_text("destroyed", sealed);
            needles.add("destroyed", &STANDARD_NO_PAD.decode(sealed).unwrap());
        }
        issuer.assert_nothing_found(&needles);

        let mut control = Needles::default();
        for sealed in &kept {
            control.add_text("kept", sealed);
        }
        assert!(
            !control.found_below(issuer.home.path()).is_empty(),
            "the search finds no sealed bytes at all"
        );
    }
}

#[test]
fn the_master_key_is_in_its_own_file_only() {
    let issuer = Issuer::new();
    issuer.rotate();
    let file = issuer.home.path().join("keys/master.key");
    let text = fs::read_to_string(&file).unwrap();
    let key = URL_SAFE_NO_PAD.decode(text.trim().rsplit(':').next().unwrap()).unwrap();
    assert_eq!(key.len(), 32);
    let mut needles = Needles::default();
    needles.add("master key", &key);
    needles.add("master key's end", &key[8..]);
    let found = needles.found_below(issuer.home.path());
    assert!(!found.is_empty(), "the search does not find the master key where it is");
    let elsewhere: Vec<_> = found.iter().filter(|found| !found.starts_with(file.to_str().unwrap())).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
}

/// Proves that the search finds a key that is there.
#[test]
fn a_planted_key_is_found_in_every_form() {
    let issuer = Issuer::new();
    let secrets = issuer.secrets();
    let made = issuer.keys.made.lock().unwrap();
    for pair in made.iter() {
        let algorithm = pair.public().algorithm();
        let der = pair.pkcs8().reveal();
        let base64 = STANDARD.encode(der);
        let lines: Vec<&str> =
            base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let (_, number) = secret_parts(pair).remove(0);
        let forms: Vec<(&str, Vec<u8>)> = vec![
            ("PKCS #8", der.to_vec()),
            (
                "PEM",
                format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----", lines.join("\n"))
                    .into(),
            ),
            ("PEM of DOS", lines.join("\r\n").into()),
            ("JWK", format!("{{\"d\":\"{}\"}}", URL_SAFE_NO_PAD.encode(&number)).into()),
            ("after one byte", STANDARD.encode([b"x", number.as_slice()].concat()).into()),
            ("after two bytes", URL_SAFE_NO_PAD.encode([b"xy", number.as_slice()].concat()).into()),
            ("hex", number.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()),
            ("HEX", number.iter().map(|byte| format!("{byte:02X}")).collect::<String>().into()),
            ("the end alone", number[8..].to_vec()),
        ];
        for (form, bytes) in forms {
            let planted = [&b"before it "[..], &bytes, b" after it"].concat();
            // Search pieces begin every 24 bytes of a long number, so its end alone contains some of them,
            // too.
            assert!(!secrets.found_in(&planted).is_empty(), "{algorithm} key as {form} is not found");
            let file = issuer.home.path().join("keys/planted");
            fs::write(&file, planted).unwrap();
            let found = secrets.found_below(issuer.home.path());
            assert!(found.iter().all(|found| found.starts_with(file.to_str().unwrap())), "{found:?}");
            assert!(!found.is_empty(), "{algorithm} key as {form} is not found in a file");
        }
    }
    fs::remove_file(issuer.home.path().join("keys/planted")).unwrap();
    issuer.assert_nothing_found(&secrets);
}

#[test]
fn a_server_leaves_no_core_dump() {
    let carnet = crate::support::carnet::Carnet::new();
    let server = carnet.serve("https://issuer.example", "127.0.0.1:0", &[]).unwrap();
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.process.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{line}");
}
