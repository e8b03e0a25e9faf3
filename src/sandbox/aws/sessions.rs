//! The temporary credentials that the stand-in has issued.

use jiff::Timestamp;

use crate::sandbox::recent::Recent;
use crate::values::secret::SecretString;

/// Temporary credentials, with their expiry and account.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) secret_access_key: SecretString,
    pub(super) session_token: SecretString,
    pub(super) expires_at: Timestamp,
    pub(super) account_id: String,
}

/// Sessions by access key ID.
pub(super) type Sessions = Recent<Session>;
