//! Grant tokens: the secret that proves that a caller holds a grant.
//!
//! A token has 78 characters: `carnet_`, the grant's UUID as 22 base62 digits, 43 random base62 characters
//! (256 bits), and the CRC-32 (ISO-HDLC) of everything before it as 6 base62 digits. The checksum lets secret
//! scanners and carnet recognise a token without a database. It gives no security; the random characters do,
//! and carnet stores only the token's hash.
//!
//! Regular expression: `\bcarnet_[0-9A-Za-z]{71}\b`.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use thiserror::Error;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::values::random::{Random, RandomnessUnavailable};
use crate::values::secret::SecretString;

const PREFIX: &str = "carnet_";
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID_DIGITS: usize = 22;
const RANDOM_CHARACTERS: usize = 43;
const CHECKSUM_DIGITS: usize = 6;
const CHECKED_LEN: usize = PREFIX.len() + ID_DIGITS + RANDOM_CHARACTERS;

/// A token, shown to its holder once and never stored. It has no `Debug`, so that logs cannot contain it.
pub struct GrantToken {
    text: SecretString,
}

/// The contents of a well-formed token, without the secret.
#[derive(Debug, Clone)]
pub struct ParsedToken {
    id: Uuid,
    hash: TokenHash,
}

/// The SHA-256 of a token, the only part that carnet stores. 256 random bits need no slow hash.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

/// A text is not a token. The error never contains the text, which may be a token with a typing error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TokenError {
    /// The prefix, the length or the characters are not those of a token.
    #[error(
        "this is not a grant token, which is “{}” and {} letters and digits",
        PREFIX, GrantToken::LEN - PREFIX.len()
    )]
    Form,
    /// The checksum is wrong: the token was mistyped or truncated.
    #[error("the grant token's checksum is wrong: the token was changed or cut off")]
    Checksum,
}

impl GrantToken {
    /// The length of every token, in characters.
    pub const LEN: usize = CHECKED_LEN + CHECKSUM_DIGITS;

    /// Generates a new token for the grant `id`.
    pub fn generate(id: Uuid, random: &dyn Random) -> Result<Self, RandomnessUnavailable> {
        // Reserved in full: a reallocation would leave a copy of a part in memory.
        let mut text = Zeroizing::new(String::with_capacity(Self::LEN));
        text.push_str(PREFIX);
        push_number::<ID_DIGITS>(&mut text, id.as_u128());
        push_random(&mut text, random)?;
        let checksum = crc32fast::hash(text.as_bytes());
        push_number::<CHECKSUM_DIGITS>(&mut text, checksum.into());
        Ok(Self { text: SecretString::new(std::mem::take(&mut *text)) })
    }

    /// Parses a token. Checks only its form and checksum, so that a text that cannot be a token causes no
    /// database read.
    pub fn parse(text: &str) -> Result<ParsedToken, TokenError> {
        let body = text.strip_prefix(PREFIX).ok_or(TokenError::Form)?;
        if text.len() != Self::LEN || !body.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(TokenError::Form);
        }
        let (checked, checksum) = text.split_at(CHECKED_LEN);
        if number(checksum) != Some(crc32fast::hash(checked.as_bytes()).into()) {
            return Err(TokenError::Checksum);
        }
        let id = number(&body[..ID_DIGITS]).ok_or(TokenError::Form)?;
        Ok(ParsedToken { id: Uuid::from_u128(id), hash: TokenHash::of(text) })
    }

    /// Returns the token itself, to be shown this once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.text.reveal()
    }

    /// Returns the hash to store.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(self.reveal())
    }
}

impl ParsedToken {
    /// Returns the id of the grant that the token names.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Returns the hash that the database must have for that grant.
    #[must_use]
    pub fn hash(&self) -> &TokenHash {
        &self.hash
    }
}

impl TokenHash {
    fn of(token: &str) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        // Domain separation: this hash equals no other hash of the same bytes.
        context.update(b"carnet-grant-token-1\0");
        context.update(token.as_bytes());
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Self(hash)
    }

    /// Returns a hash that no token has. The comparison with it spends the same time when no grant was found.
    #[must_use]
    pub fn of_nothing() -> Self {
        Self([0; 32])
    }

    /// Compares both hashes in constant time.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }

    /// Returns the hash in base64, as stored.
    #[must_use]
    pub fn to_text(self) -> String {
        STANDARD_NO_PAD.encode(self.0)
    }

    /// Parses the result of [`TokenHash::to_text`].
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        STANDARD_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// Appends `number` in base 62, most significant digit first, with leading zeros.
fn push_number<const WIDTH: usize>(text: &mut String, mut number: u128) {
    let mut digits = [b'0'; WIDTH];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(number % 62) as usize];
        number /= 62;
    }
    text.extend(digits.map(char::from));
}

/// Parses base 62; `None` for any other text, or if the number is too large.
fn number(text: &str) -> Option<u128> {
    text.bytes().try_fold(0_u128, |number, byte| {
        let digit = DIGITS.iter().position(|digit| *digit == byte)?;
        number.checked_mul(62)?.checked_add(digit as u128)
    })
}

/// Appends uniformly distributed random characters: bytes of 248 = 4 × 62 and above are skipped.
fn push_random(text: &mut String, random: &dyn Random) -> Result<(), RandomnessUnavailable> {
    let mut left = RANDOM_CHARACTERS;
    let mut bytes = Zeroizing::new([0; 64]);
    while left > 0 {
        random.fill(bytes.as_mut_slice())?;
        for byte in bytes.iter().filter(|byte| **byte < 248).take(left) {
            text.push(char::from(DIGITS[usize::from(byte % 62)]));
            left -= 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::random::SecureRandom;
    use proptest::prelude::*;

    fn token(id: Uuid) -> GrantToken {
        GrantToken::generate(id, &SecureRandom::default()).unwrap()
    }

    #[test]
    fn a_token_reads_back_as_its_grant_and_hash_and_no_two_are_equal() {
        for id in [Uuid::nil(), Uuid::max(), Uuid::from_u128(0x1234_5678_9abc)] {
            let (one, other) = (token(id), token(id));
            let parsed = GrantToken::parse(one.reveal()).unwrap();
            assert_eq!((parsed.id(), one.reveal().len()), (id, GrantToken::LEN));
            assert!(parsed.hash().matches(&one.hash()) && !parsed.hash().matches(&other.hash()));
            let stored = TokenHash::from_text(&one.hash().to_text()).unwrap();
            assert!(stored.matches(parsed.hash()));
            assert!(!TokenHash::of_nothing().matches(parsed.hash()));
        }
    }

    #[test]
    fn the_token_form_that_scanners_recognize_does_not_change() {
        // Computed by another program. A change of the form would invalidate every token in use.
        let text = format!("carnet_{}1{}4N1Bun", "0".repeat(21), "a".repeat(43));
        assert_eq!(GrantToken::parse(&text).unwrap().id(), Uuid::from_u128(1));
    }

    #[test]
    fn an_invalid_token_is_refused_and_never_repeated() {
        let good = token(Uuid::max());
        let good = good.reveal();
        let too_large = |text: &str| {
            let checked = format!("carnet_{}{}", "z".repeat(22), &text[29..72]);
            let mut text = checked.clone();
            push_number::<CHECKSUM_DIGITS>(&mut text, crc32fast::hash(checked.as_bytes()).into());
            text
        };
        for (text, error) in [
            (String::new(), TokenError::Form),
            ("carnet_".to_owned(), TokenError::Form),
            (good[..77].to_owned(), TokenError::Form),
            (format!("{good}0"), TokenError::Form),
            (format!(" {good}"), TokenError::Form),
            (good.replace("carnet_", "Carnet_"), TokenError::Form),
            (format!("{}é{}", &good[..30], &good[32..]), TokenError::Form),
            (format!("{}zzzzzz", &good[..72]), TokenError::Checksum),
            (too_large(good), TokenError::Form),
        ] {
            let refused = GrantToken::parse(&text).unwrap_err();
            assert_eq!(refused, error, "{text:?}");
            assert!(text.len() < 20 || !format!("{refused} {refused:?}").contains(&text[10..20]));
        }
    }

    #[test]
    fn a_parsed_token_shows_nothing_of_its_text() {
        let token = token(Uuid::nil());
        let shown = format!("{:?}", GrantToken::parse(token.reveal()).unwrap());
        assert!(!shown.contains(&token.reveal()[29..40]) && shown.contains("TokenHash(…)"), "{shown}");
    }

    #[test]
    fn every_character_is_as_likely_as_any_other() {
        let mut counts = [0_u32; 62];
        let tokens = 4000;
        for _ in 0..tokens {
            for byte in token(Uuid::nil()).reveal()[29..72].bytes() {
                counts[DIGITS.iter().position(|digit| *digit == byte).unwrap()] += 1;
            }
        }
        // With modulo 62 and no skipped bytes, the first eight characters would be a quarter more frequent.
        let expected = f64::from(tokens * 43) / 62.0;
        for (digit, count) in counts.into_iter().enumerate() {
            assert!((f64::from(count) - expected).abs() < 0.12 * expected, "{digit}: {count} of {expected}");
        }
    }

    proptest! {
        #[test]
        fn a_token_with_one_character_changed_is_refused(at in 0..78_usize, digit in 0..62_usize, id: u128) {
            let token = token(Uuid::from_u128(id));
            let mut changed = token.reveal().to_owned().into_bytes();
            prop_assume!(changed[at] != DIGITS[digit]);
            changed[at] = DIGITS[digit];
            prop_assert!(GrantToken::parse(std::str::from_utf8(&changed).unwrap()).is_err());
        }

        #[test]
        fn no_text_makes_reading_a_token_fail_badly(text in "carnet_[0-9A-Za-z]{71}|\\PC{0,90}") {
            prop_assert!(GrantToken::parse(&text).is_err());
        }
    }
}
