//! An issuer that also publishes its documents elsewhere.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;

use crate::carnet::Carnet;
use crate::nudging::Nudging;
use crate::publish::{BeginError, Publisher, Records, Target};

impl Carnet {
    /// Does the same as [`Carnet::run`], and also keeps copies of the documents current; see
    /// [`Carnet::publisher`].
    pub async fn run_publishing(&self, publishers: Vec<Publisher>, shutdown: impl Future<Output = ()>) {
        let (mut maintenance, mut audit_maintenance) = (self.maintenance(), self.audit_maintenance());
        let server = self.server_name();
        let nudging = self.nudging();
        tokio::select! {
            () = shutdown => {}
            () = maintenance.run() => {}
            () = audit_maintenance.run() => {}
            () = self.forget_changed_feeds() => {}
            () = self.report_master_keys(&server) => {}
            () = publish_all(publishers) => {}
            () = nudging.run() => {}
        }
        maintenance.finish().await;
        self.forget_master_keys(&server).await;
        self.audit_log.flush().await;
    }

    /// The nudging task, which makes verifiers fetch the JWKS after a revocation.
    pub(crate) fn nudging(&self) -> Nudging {
        Nudging {
            issuer: Arc::clone(&self.issuer),
            rotator: Arc::clone(&self.rotator),
            store: self.store.clone(),
            log: self.audit_log.clone(),
            clock: Arc::clone(&self.clock),
            transport: self.transport.clone(),
            actor: self.actor.clone(),
        }
    }

    /// Returns the publisher that keeps a copy of the documents at `target` current. For a new target it
    /// writes the documents before it returns. From then on, every key of this database must be shown at the
    /// target before it signs.
    ///
    /// # Errors
    ///
    /// [`BeginError`] if the documents cannot be written to a target that is new to this issuer.
    pub async fn publisher(&self, target: Arc<dyn Target>) -> Result<Publisher, BeginError> {
        Publisher::begin(target, Arc::clone(&self.issuer), self.publications(), Arc::clone(&self.clock)).await
    }

    /// The copies of the documents that keys wait for.
    #[must_use]
    pub fn publications(&self) -> Records {
        Records::new(self.store.clone(), Arc::clone(&self.clock), self.actor.clone())
    }
}

/// Runs all publishers forever.
async fn publish_all(mut publishers: Vec<Publisher>) {
    let running = publishers.iter_mut().map(Publisher::run);
    let mut all: Vec<_> = running.map(Box::pin).collect();
    poll_fn(|context| {
        for publisher in &mut all {
            let _ = publisher.as_mut().poll(context);
        }
        Poll::Pending
    })
    .await
}
