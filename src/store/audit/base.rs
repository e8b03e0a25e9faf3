//! The row of `audit_base`: the beginning of the log.

use sqlx::SqliteConnection;

use crate::audit::{Anchor, Mac};
use crate::store::{StoreError, parse};

pub(super) const BASE_TABLE: &str = "audit_base";

/// The beginning of the log, as it is stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Base {
    pub(super) seq: i64,
    pub(super) mac: String,
    pub(super) tag: String,
}

impl Base {
    pub(super) fn anchor(&self) -> Result<Anchor, StoreError> {
        Ok(Anchor { seq: self.seq, mac: parse(BASE_TABLE, "1", &self.mac)? })
    }

    pub(super) async fn read(connection: &mut SqliteConnection) -> Result<Option<Self>, StoreError> {
        let query = sqlx::query_as("SELECT seq, mac, tag FROM audit_base WHERE id = 1");
        Ok(query.fetch_optional(connection).await?)
    }
}

/// Parses a stored MAC; `None` if the text is not one.
pub(super) fn mac(text: &str) -> Option<Mac> {
    text.parse().ok()
}
