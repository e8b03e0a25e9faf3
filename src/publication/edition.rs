//! What is published together.

use std::sync::Arc;

use crate::issuer::Issuer;
use crate::issuer_url::IssuerUrl;
use crate::jose::jwk::Kid;
use crate::oidc::metadata::{Document, Documents};

use super::target::{DocumentName, Label};
use crate::signing_keys::publication::Generation;

/// Both documents of one issuer in one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edition {
    /// Whose they are, and which state.
    pub label: Label,
    /// The documents.
    pub documents: Arc<Documents>,
    /// The keys in the JWKS.
    pub kids: Vec<Kid>,
}

impl Edition {
    /// The state `generation` of what `issuer` publishes.
    #[must_use]
    pub fn new(issuer: IssuerUrl, generation: Generation, documents: Arc<Documents>, kids: Vec<Kid>) -> Self {
        Self { label: Label { issuer, generation }, documents, kids }
    }

    /// What `issuer` publishes at this moment, in this process.
    #[must_use]
    pub fn of(issuer: &Issuer) -> Self {
        let key_set = issuer.key_set();
        let documents = Arc::clone(&key_set.documents);
        Self::new(issuer.url().clone(), key_set.edition, documents, key_set.kids.clone())
    }

    /// One of the documents.
    #[must_use]
    pub fn document(&self, name: DocumentName) -> &Document {
        match name {
            DocumentName::Jwks => &self.documents.jwks,
            DocumentName::Discovery => &self.documents.discovery,
        }
    }
}
