//! A running server reports which master keys it can open, so that a rewrap does not strand it by mistake.

use std::error::Error;
use std::time::Duration;

use super::Carnet;
use crate::values::random::uuid;

/// A new master key that was provided is reported after at most this long.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// An unchanged report is repeated at this interval, so that the server counts as recently seen.
const REPORT_EVERY: Duration = Duration::from_secs(15);

impl Carnet {
    /// Makes a unique name for this process.
    pub(super) fn server_name(&self) -> String {
        let named = uuid(self.random.as_ref()).map(|id| id.to_string());
        named.unwrap_or_else(|_| std::process::id().to_string())
    }

    /// Reports the master keys that this server can open. Runs forever. A failure is logged once and tried
    /// again.
    pub(super) async fn report_master_keys(&self, server: &str) {
        let (mut reported, mut again_at, mut works) = (Vec::new(), Duration::ZERO, true);
        loop {
            let (openable, now) = (self.master_keys.openable(), self.clock.monotonic());
            if openable != reported || now >= again_at {
                let noted = self.store.note_server_master_keys(server, &openable, self.clock.now()).await;
                if let (Err(error), true) = (&noted, works) {
                    tracing::warn!(
                        error = error as &dyn Error,
                        "the master keys that this server can open could not be recorded"
                    );
                }
                works = noted.is_ok();
                if works {
                    (reported, again_at) = (openable, now + REPORT_EVERY);
                }
            }
            self.clock.sleep_until(now + LOOK_EVERY).await;
        }
    }

    /// Deletes this server's report when it stops, because a rewrap cannot strand a stopped server. If this
    /// fails, the report expires after a minute.
    pub(super) async fn forget_master_keys(&self, server: &str) {
        let _ = self.store.note_server_master_keys(server, &[], self.clock.now()).await;
    }
}
