//! Parses a form. Each field may appear once, except one that may repeat.

use std::borrow::Cow;
use std::collections::HashMap;

/// The maximum length of a request to any stand-in, in bytes. A token has at most 20,000.
pub(super) const MAX_REQUEST: usize = 64 * 1024;

/// The fields of a request.
pub(super) struct Form<'a>(HashMap<Cow<'a, str>, Cow<'a, str>>);

impl<'a> Form<'a> {
    /// Parses `body`. The error is the name of a field that appears twice.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, String> {
        Self::parse_but(body, "").map(|(form, _)| form)
    }

    /// Parses `body`, in which the field `again` may repeat. Returns that field's values beside the form, not
    /// in it.
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

    /// Returns the value of a field that is present and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(AsRef::as_ref).filter(|value| !value.is_empty())
    }
}
