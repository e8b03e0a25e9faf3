//! The set of documents that are published together.

use std::sync::Arc;

use crate::issuer::Issuer;
use crate::jose::jwk::Kid;
use crate::oidc::metadata::{Document, Documents};
use crate::values::issuer_url::IssuerUrl;

use super::target::{DocumentName, Label, Stored};
use crate::signing_keys::publication::Generation;
use crate::states::StatePoint;
use crate::store::keyring::Purpose;
use crate::store::sealed::RowMac;
use crate::values::target_url::TargetUrl;

/// Both documents of one issuer in one state.
#[derive(Debug, Clone)]
pub struct Edition {
    /// The issuer and the generation. The label has no MAC yet: see [`Edition::label_at`].
    pub label: Label,
    /// The documents.
    pub documents: Arc<Documents>,
    /// The keys in the JWKS.
    pub kids: Vec<Kid>,
    /// The key that authenticates labels.
    mac: RowMac,
}

impl Edition {
    /// Creates an edition in the state `generation`, with labels that `mac` authenticates.
    #[must_use]
    pub fn new(
        issuer: IssuerUrl,
        generation: Generation,
        documents: Arc<Documents>,
        kids: Vec<Kid>,
        mac: RowMac,
    ) -> Self {
        Self { label: Label { issuer, generation, state: None, mac: None }, documents, kids, mac }
    }

    /// Returns the edition that `issuer` publishes now, in this process.
    #[must_use]
    pub fn of(issuer: &Issuer) -> Self {
        let key_set = issuer.key_set();
        let documents = Arc::clone(&key_set.documents);
        let mac = key_set.keyring.mac(Purpose::PublishedLabels).clone();
        let mut edition =
            Self::new(issuer.url().clone(), key_set.edition, documents, key_set.kids.clone(), mac);
        // An unproved state in a label would later pass for a proof.
        let proved = issuer.state_status().filter(|status| !status.unproved);
        edition.label.state = proved.map(|status| status.state.to_string());
        edition
    }

    /// Returns the state of the database that an authentic label at `target` remembers, if `stored` has one.
    #[must_use]
    pub fn remembered(&self, target: &TargetUrl, name: DocumentName, stored: &Stored) -> Option<StatePoint> {
        let state = stored.label.as_ref()?.state.as_deref()?;
        if self.has_written(target, name, stored) { state.parse().ok() } else { None }
    }

    /// Returns whether `stored` is this edition's document `name` at `target`, with an authentic label. The state
    /// in the label may be an earlier one: not every change of the database changes the documents.
    #[must_use]
    pub fn is_shown_by(&self, target: &TargetUrl, name: DocumentName, stored: &Stored) -> bool {
        stored.body == self.document(name).body
            && self.has_written(target, name, stored)
            && stored.label.as_ref().is_some_and(|label| label.generation == self.label.generation)
    }

    /// Returns the label of a document of this edition at `target`. With `kept`, the document there, an edition
    /// without a proved state keeps the state that the label there remembers.
    #[must_use]
    pub fn label_at(&self, target: &TargetUrl, name: DocumentName, kept: Option<&Stored>) -> Label {
        let mut label = self.label.clone();
        if let (None, Some(stored)) = (&label.state, kept) {
            label.state = self.remembered(target, name, stored).map(|state| state.to_string());
        }
        label.signed(&self.mac, target, name, &self.document(name).body)
    }

    /// Returns whether this edition's state is later than the one that `label` remembers.
    #[must_use]
    pub fn is_ahead_of(&self, label: &Label) -> bool {
        let n = |label: &Label| Some(label.state.as_deref()?.parse::<StatePoint>().ok()?.n);
        n(&self.label) > n(label)
    }

    /// Returns whether this database wrote `stored` as `name` at `target`, for this issuer.
    #[must_use]
    pub fn has_written(&self, target: &TargetUrl, name: DocumentName, stored: &Stored) -> bool {
        stored.label.as_ref().is_some_and(|label| {
            label.issuer == self.label.issuer && label.is_authentic(&self.mac, target, name, &stored.body)
        })
    }

    /// Returns one of the documents.
    #[must_use]
    pub fn document(&self, name: DocumentName) -> &Document {
        match name {
            DocumentName::Jwks => &self.documents.jwks,
            DocumentName::Discovery => &self.documents.discovery,
        }
    }
}
