//! Reading a form, each field once but where it may be given again.

use std::borrow::Cow;
use std::collections::HashMap;

/// Longest request that any stand-in reads, in bytes; a token is at most 20,000.
pub(super) const MAX_REQUEST: usize = 64 * 1024;

/// The fields of a request.
pub(super) struct Form<'a>(HashMap<Cow<'a, str>, Cow<'a, str>>);

impl<'a> Form<'a> {
    /// Reads `body`; the error names a field that is given twice.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, String> {
        Self::parse_but(body, "").map(|(form, _)| form)
    }

    /// The same with every value of the one field that may be given again, which the form then lacks.
    pub(super) fn parse_but(body: &'a [u8], again: &str) -> Result<(Self, Vec<Cow<'a, str>>), String> {
        let (mut fields, mut values) = (HashMap::new(), Vec::new());
        for (name, value) in url::form_urlencoded::parse(body) {
            if !again.is_empty() && name == again {
                values.push(value);
            } else if fields.insert(name.clone(), value).is_some() {
                return Err(name.chars().take(64).collect());
            }
        }
        Ok((Self(fields), values))
    }

    /// A field that is there and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(AsRef::as_ref).filter(|value| !value.is_empty())
    }
}
