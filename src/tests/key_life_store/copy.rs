//! An in-memory published copy, which can be unreachable or changed by an attacker.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::oidc::metadata::Document;
use crate::publish::target::{Label, Stored, TargetFuture, Version};
use crate::publish::{DocumentName, Target, TargetError};
use crate::values::target_url::TargetUrl;
use bytes::Bytes;

/// A target that stores what is written to it.
#[derive(Debug)]
pub(crate) struct Copy {
    url: TargetUrl,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_down: bool,
    standing: BTreeMap<DocumentName, Standing>,
    writes: u64,
}

#[derive(Debug, Clone)]
struct Standing {
    body: Bytes,
    label: Option<Label>,
    version: u64,
}

impl Copy {
    pub(crate) fn new() -> Self {
        Self { url: "s3://bucket/issuer".parse().unwrap(), state: Mutex::default() }
    }

    pub(crate) fn set_down(&self, is_down: bool) {
        self.state.lock().unwrap().is_down = is_down;
    }

    /// Returns the JWKS that a verifier fetches now, if any.
    pub(crate) fn jwks(&self) -> Option<Bytes> {
        let state = self.state.lock().unwrap();
        let standing = state.standing.get(&DocumentName::Jwks).filter(|_| !state.is_down);
        standing.map(|standing| standing.body.clone())
    }

    pub(crate) fn writes(&self) -> u64 {
        self.state.lock().unwrap().writes
    }

    /// Returns the label of the JWKS.
    pub(crate) fn label(&self) -> Option<Label> {
        self.state.lock().unwrap().standing.get(&DocumentName::Jwks)?.label.clone()
    }

    /// Replaces the label of the JWKS.
    pub(crate) fn relabel(&self, label: Label) {
        let mut state = self.state.lock().unwrap();
        let body = state.standing[&DocumentName::Jwks].body.clone();
        state.put(DocumentName::Jwks, body, Some(label));
    }

    /// Overwrites the document, without a label, as an attacker would.
    pub(crate) fn alter(&self, name: DocumentName, body: &[u8]) {
        let mut state = self.state.lock().unwrap();
        state.put(name, Bytes::copy_from_slice(body), None);
    }

    pub(crate) fn remove(&self, name: DocumentName) {
        self.state.lock().unwrap().standing.remove(&name);
    }

    fn response<T>(
        &self,
        name: DocumentName,
        response: impl FnOnce(&mut State) -> Result<T, TargetError>,
    ) -> Result<T, TargetError> {
        let mut state = self.state.lock().unwrap();
        if state.is_down {
            let (document, target) = (name, self.url.clone());
            return Err(TargetError::Failed {
                document,
                target,
                reason: "no route to host".to_owned(),
                tls: None,
            });
        }
        response(&mut state)
    }
}

impl State {
    fn put(&mut self, name: DocumentName, body: Bytes, label: Option<Label>) {
        self.writes += 1;
        self.standing.insert(name, Standing { body, label, version: self.writes });
    }
}

impl Target for Copy {
    fn url(&self) -> &TargetUrl {
        &self.url
    }

    fn read<'a>(&'a self, name: DocumentName, _: &'a Document) -> TargetFuture<'a, Option<Stored>> {
        Box::pin(async move {
            self.response(name, |state| {
                Ok(state.standing.get(&name).cloned().map(|Standing { body, label, version }| Stored {
                    body,
                    label,
                    version: numbered(version),
                    headers_fit: true,
                }))
            })
        })
    }

    fn write<'a>(
        &'a self,
        name: DocumentName,
        document: &'a Document,
        label: &'a Label,
        over: Option<&'a Version>,
    ) -> TargetFuture<'a, ()> {
        Box::pin(async move {
            self.response(name, |state| {
                if state.standing.get(&name).map(|standing| numbered(standing.version)).as_ref() != over {
                    return Err(TargetError::Changed(name));
                }
                state.put(name, document.body.clone(), Some(label.clone()));
                Ok(())
            })
        })
    }
}

fn numbered(version: u64) -> Version {
    Version { e_tag: None, version: Some(version.to_string()) }
}
