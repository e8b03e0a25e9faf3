//! The labels of the documents in a folder, stored in a file next to them.
//!
//! A label is bound to a text by its digest: a document that another program has written has no label.

use std::collections::BTreeMap;
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::files::find;
use crate::publish::target::{DocumentName, Label, Version, sha256};

/// For each document, by its path: the labels of the texts that carnet may have written there.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Labels {
    documents: BTreeMap<String, Vec<Entry>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    sha256: String,
    issuer: String,
    generation: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
}

impl Entry {
    fn label(&self) -> Option<Label> {
        let (issuer, generation) = (self.issuer.parse().ok()?, self.generation.parse().ok()?);
        Some(Label { issuer, generation, state: self.state.clone(), mac: self.mac.clone() })
    }
}

impl Labels {
    /// Reads the labels from the file at `path`. Returns no labels if it does not exist or cannot be parsed.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let found = find(path)?;
        Ok(found.and_then(|found| serde_json::from_slice(&found.body).ok()).unwrap_or_default())
    }

    /// Returns the label of the document, if this text was labelled.
    pub(super) fn of(&self, name: DocumentName, body: &[u8]) -> Option<Label> {
        let sha256 = sha256(body);
        let entries = self.documents.get(name.path())?;
        entries.iter().rev().find(|entry| entry.sha256 == sha256)?.label()
    }

    /// Adds the label for `body`, which is about to be written, and keeps the label of the current text
    /// `now`. Removes all other labels of the document.
    pub(super) fn expect(
        &mut self,
        name: DocumentName,
        now: Option<impl AsRef<[u8]>>,
        body: &[u8],
        label: &Label,
    ) {
        let now = now.map(|now| sha256(now.as_ref()));
        let sha256 = sha256(body);
        let entries = self.documents.entry(name.path().to_owned()).or_default();
        entries.retain(|entry| Some(&entry.sha256) == now.as_ref() && entry.sha256 != sha256);
        entries.push(Entry {
            sha256,
            issuer: label.issuer.to_string(),
            generation: label.generation.to_string(),
            state: label.state.clone(),
            mac: label.mac.clone(),
        });
    }

    pub(super) fn to_json(&self) -> Result<String, String> {
        serde_json::to_string_pretty(self).map_err(|error| format!("the labels cannot be written: {error}"))
    }
}

/// Returns the version: a digest of everything that a writer compares.
pub(super) fn version(body: &[u8], length: u64, mode: u32, label: Option<&Label>) -> Version {
    let mut context = Context::new(&SHA256);
    context.update(&length.to_be_bytes());
    context.update(&mode.to_be_bytes());
    context.update(digest(&SHA256, body).as_ref());
    if let Some(Label { issuer, generation, state, mac }) = label {
        context.update(format!("{generation} {issuer} {state:?} {mac:?}").as_bytes());
    }
    Version { e_tag: Some(URL_SAFE_NO_PAD.encode(context.finish())), version: None }
}
