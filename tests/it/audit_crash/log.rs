//! The audit log, read from the database incrementally.

use std::collections::{HashMap, HashSet};

use carnet::internals::audit::{EventKind, Outcome};
use carnet::internals::store::audit::{AuditFilter, Direction, MAX_PAGE};
use carnet::internals::store::{IfMissing, Store};
use serde_json::Value;
use uuid::Uuid;

use crate::audit_crash::clients::Received;
use crate::support::carnet::Carnet;

/// The rows so far, indexed for the lookups below.
#[derive(Default)]
pub(crate) struct Log {
    /// The sequence number of the last row, which equals the number of rows.
    pub(crate) last: i64,
    by_request: HashMap<String, Vec<Uuid>>,
    credentials: HashSet<Uuid>,
    minted: HashSet<Uuid>,
    granted: HashSet<Uuid>,
    updates: Vec<String>,
    /// The end of the log at the last verification.
    anchor: Option<String>,
}

impl Log {
    /// Reads the new rows and checks that they have no gap.
    pub(crate) fn read_on(&mut self, carnet: &Carnet) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            // Not kept open: the next server that starts after a crash must find the database as the crash
            // left it.
            let store = Store::open(&carnet.database().into(), IfMissing::Refuse).await.unwrap();
            loop {
                let from = Direction::OldestFirst(self.last);
                let records = store.audit(&AuditFilter::default(), from, MAX_PAGE).await.unwrap().records;
                if records.is_empty() {
                    break;
                }
                for record in records {
                    assert_eq!(record.seq, self.last + 1, "a row is missing");
                    self.last = record.seq;
                    let event = record.event;
                    match (event.kind, event.outcome) {
                        (EventKind::Credential, Outcome::Done) => {
                            let jti = event.jti.unwrap();
                            self.credentials.insert(jti);
                            if let Some(request) = event.request_id {
                                self.by_request.entry(request).or_default().push(jti);
                            }
                        }
                        (EventKind::TokenMint, Outcome::Done) => _ = self.minted.insert(event.jti.unwrap()),
                        (EventKind::GrantCreate, _) => _ = self.granted.insert(event.grant_id.unwrap()),
                        (EventKind::FeedUpdate, _) => self.updates.push(event.detail.unwrap()),
                        _ => {}
                    }
                }
            }
            store.close().await;
        });
    }

    /// Verifies the chain from the beginning, with the previous end as an anchor.
    pub(crate) fn verify(&mut self, carnet: &Carnet) {
        let anchor = self.anchor.take();
        let mut arguments = vec!["audit", "verify", "--output=json"];
        if let Some(anchor) = &anchor {
            arguments.extend(["--anchor", anchor]);
        }
        let report: Value = serde_json::from_str(&carnet.ok(&arguments)).unwrap();
        assert_eq!(report["ok"], true, "{report}");
        self.anchor = Some(carnet.ok(&["audit", "anchor"]).trim().to_owned());
    }

    /// Asserts that an answered request has exactly one row, and its token a mint.
    pub(crate) fn assert_holds(&self, received: &Received) {
        let Received { request, response } = received;
        let rows = self.by_request.get(request).map_or(&[][..], Vec::as_slice);
        let [jti] = rows else { panic!("request {request} was answered and has the rows {rows:?}") };
        assert!(self.minted.contains(jti), "the token {jti} of request {request} was not minted");
        if let Some(response) = response {
            assert_eq!(response["jti"], jti.to_string(), "request {request} has another credential's row");
            let shown = ["password", "registry_token"].iter().any(|secret| response[secret].is_string());
            assert!(shown, "request {request} was answered without a credential");
        }
    }

    /// Asserts that the log has a credential that a command printed.
    pub(crate) fn assert_holds_credential(&self, jti: &Value) {
        let jti: Uuid = jti.as_str().unwrap().parse().unwrap();
        assert!(
            self.credentials.contains(&jti) && self.minted.contains(&jti),
            "{jti} was printed and has no row"
        );
    }

    /// Asserts that the log has a grant whose token a command printed.
    pub(crate) fn assert_holds_grant(&self, id: &Value) {
        let id: Uuid = id.as_str().unwrap().parse().unwrap();
        assert!(self.granted.contains(&id), "the grant {id} was printed and has no row");
    }

    /// Asserts that the log has a feed's new name that a command reported.
    pub(crate) fn assert_holds_update(&self, name: &str) {
        let name = format!("\"{name}\"");
        assert!(self.updates.iter().any(|detail| detail.contains(&name)), "the update to {name} has no row");
    }
}
