//! Searches files for a secret in every encoding in which it might have been written.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{GeneralPurpose, general_purpose::NO_PAD};

/// Secrets are searched for in pieces of this many bytes, so that a part of one is found, too.
const PIECE: usize = 24;
/// The length of the lookup key; shorter than any piece in any encoding.
const PREFIX: usize = 8;

/// The search patterns.
#[derive(Default)]
pub(crate) struct Needles {
    needles: HashMap<[u8; PREFIX], Vec<(String, Vec<u8>)>>,
    /// True where a needle begins with these two bytes: most positions need no further comparison.
    beginnings: Vec<bool>,
}

impl Needles {
    /// Returns the bytes that every unencrypted private key of carnet's kinds contains, in every encoding.
    pub(crate) fn of_clear_private_keys() -> Self {
        let mut needles = Self::default();
        // PKCS #8 (RFC 5958): version, algorithm, octet string.
        let rsa = b"\x02\x01\x00\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\x04\x82";
        let ec = b"\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x04";
        needles.add_whole("RSA private key, PKCS #8", rsa);
        needles.add_whole("EC private key, PKCS #8", ec);
        // PKCS #1: version and the head of a modulus of 2048, 3072 or 4096 bits, whose first byte is zero.
        for modulus in [b"\x01\x01\x00", b"\x01\x81\x00", b"\x02\x01\x00"] {
            needles.add_whole("RSA private key, PKCS #1", &[&b"\x02\x01\x00\x02\x82"[..], modulus].concat());
        }
        needles.add_exact("PEM", b"PRIVATE KEY-----".to_vec());
        needles
    }

    /// Adds `secret` unchanged, in hexadecimal, and in both alphabets of base64, at every offset in a longer
    /// text.
    pub(crate) fn add(&mut self, name: &str, secret: &[u8]) {
        for (at, piece) in secret.chunks_exact(PIECE).enumerate() {
            self.add_whole(&format!("{name}, piece {at}"), piece);
        }
    }

    /// The same for bytes that are searched for as a whole.
    pub(crate) fn add_whole(&mut self, name: &str, piece: &[u8]) {
        let mut add = |form: &str, bytes: Vec<u8>| self.add_exact(&format!("{name}, {form}"), bytes);
        add("raw", piece.to_vec());
        let hex: String = piece.iter().map(|byte| format!("{byte:02x}")).collect();
        add("HEX", hex.to_uppercase().into_bytes());
        add("hex", hex.into_bytes());
        for (alphabet, form) in [(&STANDARD, "base64"), (&URL_SAFE, "base64url")] {
            for before in 0..3 {
                add(form, base64_after(before, piece, alphabet));
            }
        }
    }

    /// Adds a text unchanged, in pieces.
    pub(crate) fn add_text(&mut self, name: &str, text: &str) {
        for (at, piece) in text.as_bytes().chunks_exact(PIECE).enumerate() {
            self.add_exact(&format!("{name}, piece {at}"), piece.to_vec());
        }
    }

    /// Adds bytes that are searched for unchanged.
    pub(crate) fn add_exact(&mut self, name: &str, bytes: Vec<u8>) {
        let prefix = *bytes.first_chunk().unwrap();
        self.beginnings.resize(1 << 16, false);
        self.beginnings[beginning(bytes[0], bytes[1])] = true;
        self.needles.entry(prefix).or_default().push((name.to_owned(), bytes));
    }

    /// Returns the needles in `bytes`, including those across line ends.
    pub(crate) fn found_in(&self, bytes: &[u8]) -> Vec<String> {
        let one_line: Vec<u8> = bytes.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
        let mut found = [self.scan(bytes), self.scan(&one_line)].concat();
        found.sort_unstable();
        found.dedup();
        found
    }

    fn scan(&self, bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        for (at, two) in bytes.windows(2).enumerate() {
            if !self.beginnings.get(beginning(two[0], two[1])).is_some_and(|begins| *begins) {
                continue;
            }
            let rest = &bytes[at..];
            let candidates = rest.first_chunk().and_then(|prefix| self.needles.get(prefix));
            for (name, needle) in candidates.into_iter().flatten() {
                if rest.starts_with(needle) {
                    found.push(name.clone());
                }
            }
        }
        found
    }

    /// Returns the needles in the files in `folder` and below, as `file: needle`.
    pub(crate) fn found_below(&self, folder: &Path) -> Vec<String> {
        files(folder)
            .into_iter()
            .flat_map(|file| {
                // SQLite may remove its log meanwhile.
                let bytes = std::fs::read(&file).unwrap_or_default();
                let found = self.found_in(&bytes);
                found.into_iter().map(|name| format!("{}: {name}", file.display())).collect::<Vec<_>>()
            })
            .collect()
    }
}

fn beginning(first: u8, second: u8) -> usize {
    usize::from(first) << 8 | usize::from(second)
}

/// Returns the characters that depend only on `piece` when `before` bytes precede it in a base64 text.
fn base64_after(before: usize, piece: &[u8], alphabet: &Alphabet) -> Vec<u8> {
    let text = GeneralPurpose::new(alphabet, NO_PAD).encode([&vec![0; before], piece].concat());
    let (first, last) = ((before * 8).div_ceil(6), (before + piece.len()) * 8 / 6);
    text.as_bytes()[first..last].to_vec()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
