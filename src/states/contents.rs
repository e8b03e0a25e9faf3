//! The rows that a state vouches for.

use std::collections::BTreeMap;

use aws_lc_rs::digest;

use super::Hash;

/// A table or single value whose content a state vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// The issuer URL.
    Issuer,
    /// The rotation policy and the size of new keys.
    Policy,
    /// `signing_keys`.
    SigningKeys,
    /// `grants`.
    Grants,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 4] = [Self::Issuer, Self::Policy, Self::SigningKeys, Self::Grants];

    /// Returns the name of the table or value.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Issuer => "issuer",
            Self::Policy => "policy",
            Self::SigningKeys => "signing_keys",
            Self::Grants => "grants",
        }
    }
}

/// The MAC of each tracked row, and the text of each tracked value that has no MAC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents(BTreeMap<(Table, String), String>);

impl Contents {
    /// Sets the MAC of a row; `None` removes the row.
    pub fn set(&mut self, table: Table, row: &str, mac: Option<String>) {
        let key = (table, row.to_owned());
        match mac {
            Some(mac) => self.0.insert(key, mac),
            None => self.0.remove(&key),
        };
    }

    /// Returns the MAC of a row.
    #[must_use]
    pub fn get(&self, table: Table, row: &str) -> Option<&str> {
        self.0.get(&(table, row.to_owned())).map(String::as_str)
    }

    /// Returns the rows of one table with their MACs, by name.
    pub fn of(&self, table: Table) -> impl Iterator<Item = (&str, &str)> {
        let rows = self.0.range((table, String::new())..);
        rows.take_while(move |((of, _), _)| *of == table).map(|((_, row), mac)| (row.as_str(), mac.as_str()))
    }

    /// Returns the name of a row in which `table` differs from `found`; `None` if they are the same.
    #[must_use]
    pub fn difference<'a>(
        &self,
        table: Table,
        found: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Option<String> {
        let mut missing: BTreeMap<&str, &str> = self.of(table).collect();
        for (row, mac) in found {
            if missing.remove(row) != Some(mac) {
                return Some(row.to_owned());
            }
        }
        missing.into_keys().next().map(ToOwned::to_owned)
    }

    /// Returns the digest of the contents. Each text is preceded by its length, so that different contents
    /// never give the same bytes.
    #[must_use]
    pub fn digest(&self) -> Hash {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"carnet contents 1");
        for ((table, row), mac) in &self.0 {
            for text in [table.name(), row, mac] {
                context.update(&(text.len() as u64).to_be_bytes());
                context.update(text.as_bytes());
            }
        }
        Hash::finish(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(rows: &[(Table, &str, &str)]) -> Contents {
        let mut contents = Contents::default();
        for (table, row, mac) in rows {
            contents.set(*table, row, Some((*mac).to_owned()));
        }
        contents
    }

    const ROWS: [(Table, &str, &str); 4] = [
        (Table::SigningKeys, "k1", "m1"),
        (Table::SigningKeys, "k2", "m2"),
        (Table::Grants, "g1", "m3"),
        (Table::Policy, "", "values"),
    ];

    #[test]
    fn the_digest_tells_any_change_and_not_the_order() {
        let digest = contents(&ROWS).digest();
        let mut turned = ROWS;
        turned.reverse();
        assert_eq!(contents(&turned).digest(), digest);
        for position in 0..ROWS.len() {
            let (table, row, mac) = ROWS[position];
            for changed in
                [(Table::Issuer, row, mac), (table, "other", mac), (table, row, "other"), (table, "", "")]
            {
                let mut rows = ROWS;
                rows[position] = changed;
                assert_ne!(contents(&rows).digest(), digest, "{changed:?}");
            }
            let mut removed = contents(&ROWS);
            removed.set(table, row, None);
            assert_ne!(removed.digest(), digest);
        }
        assert_ne!(
            contents(&[(Table::Grants, "ab", "c")]).digest(),
            contents(&[(Table::Grants, "a", "bc")]).digest()
        );
    }

    #[test]
    fn a_difference_is_a_changed_missing_or_additional_row() {
        let vouched = contents(&ROWS);
        let difference = |found: &[(&'static str, &'static str)]| {
            vouched.difference(Table::SigningKeys, found.iter().copied())
        };
        assert_eq!(difference(&[("k2", "m2"), ("k1", "m1")]), None);
        assert_eq!(difference(&[("k1", "m1")]).as_deref(), Some("k2"));
        assert_eq!(difference(&[("k1", "m1"), ("k2", "m0")]).as_deref(), Some("k2"));
        assert_eq!(difference(&[("k1", "m1"), ("k2", "m2"), ("k3", "m2")]).as_deref(), Some("k3"));
        assert_eq!(difference(&[("k1", "m1"), ("k2", "m2"), ("k2", "m2")]).as_deref(), Some("k2"));
        assert_eq!(vouched.difference(Table::Issuer, std::iter::empty()), None);
    }
}
