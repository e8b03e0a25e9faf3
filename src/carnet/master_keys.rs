//! A running server tells which master keys it can open, so that a rewrap leaves none behind by mistake.

use std::error::Error;
use std::time::Duration;

use super::Carnet;
use crate::values::random::uuid;

/// A key that was put in place is told after at most this long.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What has not changed is told again this often, well within what counts as lately.
const TELL_EVERY: Duration = Duration::from_secs(15);

impl Carnet {
    /// A name for this process that no other has.
    pub(super) fn server_name(&self) -> String {
        let named = uuid(self.random.as_ref()).map(|id| id.to_string());
        named.unwrap_or_else(|_| std::process::id().to_string())
    }

    /// Runs forever. A failure is logged once and tried again.
    pub(super) async fn tell_master_keys(&self, server: &str) {
        let (mut told, mut again_at, mut works) = (Vec::new(), Duration::ZERO, true);
        loop {
            let (openable, now) = (self.master_keys.openable(), self.clock.monotonic());
            if openable != told || now >= again_at {
                let noted = self.store.note_server_master_keys(server, &openable, self.clock.now()).await;
                if let (Err(error), true) = (&noted, works) {
                    tracing::warn!(
                        error = error as &dyn Error,
                        "which master keys this server can open could not be noted"
                    );
                }
                works = noted.is_ok();
                if works {
                    (told, again_at) = (openable, now + TELL_EVERY);
                }
            }
            self.clock.sleep_until(now + LOOK_EVERY).await;
        }
    }

    /// A server that has stopped is left behind by nothing. Best effort: otherwise it is forgotten after a minute.
    pub(super) async fn forget_master_keys(&self, server: &str) {
        let _ = self.store.note_server_master_keys(server, &[], self.clock.now()).await;
    }
}
