//! The chain: the MAC of each row covers the MAC of the row before and the row's own columns.
//!
//! Without the key it is impossible to change, insert, move or remove a row in the middle and make the rest
//! match again. The chain alone cannot show that its end is missing; an [`Anchor`] kept elsewhere can.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Serialize, Serializer};

use crate::values::secret::SecretBytes;

const ROW: &[u8] = b"carnet audit row 1";
const BASE: &[u8] = b"carnet audit base 1";
const BEGINNING: &[u8] = b"carnet audit beginning 1";
const EPOCH: &[u8] = b"carnet audit epoch 1";

const LEN: usize = 32;

/// The HMAC-SHA-256 of a row. It is not secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac([u8; LEN]);

/// The error for a text that is not a MAC or an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an anchor is SEQ:MAC as `carnet audit anchor` prints it: a number, and 43 characters of base64url")]
pub struct AnchorError;

impl FromStr for Mac {
    type Err = AnchorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| AnchorError)?;
        bytes.try_into().map(Self).map_err(|_| AnchorError)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A row's sequence number and its MAC, `SEQ:MAC`. An anchor kept elsewhere proves that the log up to that
/// row is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Anchor {
    /// The row's sequence number; 0 for the beginning of a log.
    pub seq: i64,
    /// The row's MAC.
    pub mac: Mac,
}

impl FromStr for Anchor {
    type Err = AnchorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (seq, mac) = text.split_once(':').ok_or(AnchorError)?;
        let digits = !seq.is_empty() && seq.bytes().all(|byte| byte.is_ascii_digit());
        let seq = seq.parse().ok().filter(|_| digits).ok_or(AnchorError)?;
        Ok(Self { seq, mac: mac.parse()? })
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.mac)
    }
}

/// The key of a chain.
#[derive(Debug)]
pub struct AuditKey(hmac::Key);

impl AuditKey {
    /// Makes a chain's key from the bytes of `key`.
    #[must_use]
    pub fn new(key: &SecretBytes) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.reveal()))
    }

    /// The beginning of a log with this key. No other key gives the same one.
    #[must_use]
    pub fn beginning(&self) -> Anchor {
        Anchor { seq: 0, mac: finish(self.context(BEGINNING)) }
    }

    /// Returns the MAC of a row with these columns that follows `before`.
    #[must_use]
    pub fn extend(&self, before: &Mac, columns: &[Option<&str>]) -> Mac {
        finish(self.row(before, columns))
    }

    /// Returns whether `mac` is the result of [`AuditKey::extend`]. Takes the same time for every wrong MAC.
    #[must_use]
    pub fn follows(&self, before: &Mac, columns: &[Option<&str>], mac: &Mac) -> bool {
        constant_time_eq(&self.extend(before, columns), mac)
    }

    /// Returns the MAC of the base row, which names the last pruned row.
    #[must_use]
    pub fn base_tag(&self, base: &Anchor) -> Mac {
        let mut context = self.context(BASE);
        context.update(&base.seq.to_be_bytes());
        context.update(&base.mac.0);
        finish(context)
    }

    /// Returns whether `tag` is the result of [`AuditKey::base_tag`]. Takes the same time for every wrong
    /// tag.
    #[must_use]
    pub fn is_base(&self, base: &Anchor, tag: &Mac) -> bool {
        constant_time_eq(&self.base_tag(base), tag)
    }

    /// Returns the MAC of the record that the earlier epoch `epoch` ended with `end`.
    #[must_use]
    pub fn epoch_tag(&self, epoch: i64, end: &Anchor) -> Mac {
        let mut context = self.context(EPOCH);
        context.update(&epoch.to_be_bytes());
        context.update(&end.seq.to_be_bytes());
        context.update(&end.mac.0);
        finish(context)
    }

    /// Returns whether `tag` is the result of [`AuditKey::epoch_tag`]. Takes the same time for every wrong
    /// tag.
    #[must_use]
    pub fn is_epoch(&self, epoch: i64, end: &Anchor, tag: &Mac) -> bool {
        constant_time_eq(&self.epoch_tag(epoch, end), tag)
    }

    fn row(&self, before: &Mac, columns: &[Option<&str>]) -> hmac::Context {
        let mut context = self.context(ROW);
        context.update(&before.0);
        context.update(&(columns.len() as u64).to_be_bytes());
        // The length before each column keeps one column from passing for two, and the marker before it keeps
        // an absent column from passing for an empty one.
        for column in columns {
            match column {
                None => context.update(&[0]),
                Some(text) => {
                    context.update(&[1]);
                    context.update(&(text.len() as u64).to_be_bytes());
                    context.update(text.as_bytes());
                }
            }
        }
        context
    }

    /// Starts a MAC with the name of its domain. No domain's name is a prefix of another's.
    fn context(&self, domain: &[u8]) -> hmac::Context {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(domain);
        context
    }
}

fn finish(context: hmac::Context) -> Mac {
    let mut mac = [0; LEN];
    for (to, from) in mac.iter_mut().zip(context.sign().as_ref()) {
        *to = *from;
    }
    Mac(mac)
}

fn constant_time_eq(one: &Mac, other: &Mac) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(&one.0, &other.0).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> AuditKey {
        AuditKey::new(&SecretBytes::new(vec![byte; 32]))
    }

    #[test]
    fn an_anchor_reads_back_as_it_is_printed() {
        let anchor = Anchor { seq: 42, mac: key(1).beginning().mac };
        assert_eq!(anchor.to_string().parse(), Ok(anchor));
        let mac = anchor.mac.to_string();
        for text in
            ["", "1", ":", &mac, &format!(":{mac}"), &format!("+1:{mac}"), &format!("-1:{mac}"), "1:AAAA"]
        {
            assert_eq!(text.parse::<Anchor>(), Err(AnchorError), "{text}");
        }
        // Unused low bits set in the last character: another text for the same MAC.
        let mut padded = mac.clone();
        let last = padded.pop().unwrap();
        padded.push(if last == 'B' { 'F' } else { char::from(last as u8 + 1) });
        assert_eq!(padded.parse::<Mac>(), Err(AnchorError));
    }

    #[test]
    fn two_keys_begin_differently_and_a_row_is_no_base() {
        assert_ne!(key(1).beginning(), key(2).beginning());
        let key = key(1);
        let row = key.extend(&key.beginning().mac, &[Some("1")]);
        assert!(!key.is_base(&key.beginning(), &row));
        assert!(key.is_base(&key.beginning(), &key.base_tag(&key.beginning())));
    }

    type Columns = Vec<Option<String>>;

    fn extend(key: &AuditKey, before: &Mac, columns: &Columns) -> Mac {
        key.extend(before, &columns.iter().map(Option::as_deref).collect::<Vec<_>>())
    }

    fn columns() -> impl Strategy<Value = Columns> {
        proptest::collection::vec(proptest::option::of("[ab0]{0,3}"), 0..5)
    }

    proptest! {
        #[test]
        fn different_columns_have_different_macs(one in columns(), other in columns()) {
            let key = key(1);
            let before = key.beginning().mac;
            prop_assert_eq!(extend(&key, &before, &one) == extend(&key, &before, &other), one == other);
        }
    }
}
