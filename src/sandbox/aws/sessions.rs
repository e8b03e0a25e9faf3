//! The temporary credentials that the stand-in has issued.

use std::collections::{HashMap, VecDeque};

use jiff::Timestamp;

use crate::secret::SecretString;

/// The most sessions kept; the oldest go first.
const MAX_SESSIONS: usize = 10_000;

/// Temporary credentials and whose they are.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) secret_access_key: SecretString,
    pub(super) session_token: SecretString,
    pub(super) expires_at: Timestamp,
    pub(super) account_id: String,
}

/// Sessions by access key id.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_key: HashMap<String, Session>,
    oldest_first: VecDeque<String>,
}

impl Sessions {
    pub(super) fn remember(&mut self, access_key_id: String, session: Session) {
        if self.oldest_first.len() == MAX_SESSIONS
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.by_key.remove(&oldest);
        }
        self.oldest_first.push_back(access_key_id.clone());
        self.by_key.insert(access_key_id, session);
    }

    pub(super) fn find(&self, access_key_id: &str) -> Option<Session> {
        self.by_key.get(access_key_id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_the_oldest_session_goes_first() {
        let session = Session {
            secret_access_key: SecretString::new("s".into()),
            session_token: SecretString::new("t".into()),
            expires_at: Timestamp::UNIX_EPOCH,
            account_id: "123456789012".into(),
        };
        let mut sessions = Sessions::default();
        for number in 0..=MAX_SESSIONS {
            sessions.remember(number.to_string(), session.clone());
        }
        assert_eq!((sessions.by_key.len(), sessions.oldest_first.len()), (MAX_SESSIONS, MAX_SESSIONS));
        assert!(sessions.find("0").is_none() && sessions.find("1").is_some());
    }
}
