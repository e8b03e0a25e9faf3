//! Reading a form, each field once.

use std::borrow::Cow;
use std::collections::HashMap;

/// The fields of a request.
pub(super) struct Form<'a>(HashMap<Cow<'a, str>, Cow<'a, str>>);

impl<'a> Form<'a> {
    /// Reads `body`; the error names a field that is given twice.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, String> {
        let mut fields = HashMap::new();
        for (name, value) in url::form_urlencoded::parse(body) {
            if fields.insert(name.clone(), value).is_some() {
                return Err(name.chars().take(64).collect());
            }
        }
        Ok(Self(fields))
    }

    /// A field that is there and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(AsRef::as_ref).filter(|value| !value.is_empty())
    }
}
