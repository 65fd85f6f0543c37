//! Session of an operator in the console. It ends after 30 minutes without a request, and after 8 hours at the latest.

use std::{fmt, time::Duration};

use bson::DateTime;
use serde::{Deserialize, Serialize};

use crate::{id::JobId, platform::clock, queue::secret_box::EncryptedSecrets};

/// Time without a request after which a session ends.
pub const IDLE_TIMEOUT: Duration = Duration::from_mins(30);
/// Maximum age of a session.
pub const MAX_AGE: Duration = Duration::from_hours(8);
/// Age of the last recorded request at which another one is recorded, so that few requests write.
const SEEN_RESOLUTION: Duration = Duration::from_mins(1);

/// Session, as stored.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsoleSession {
    /// Digest of the id in the cookie: a copy of the database is no valid session.
    #[serde(rename = "_id")]
    pub id: String,
    /// Subject of the operator at the issuer.
    pub subject: String,
    /// Audiences of the token that the operator signed in with.
    pub audiences: Vec<String>,
    /// Id token, which ends the session at the issuer as well.
    pub id_token: EncryptedSecrets,
    /// Time of the sign-in.
    pub created_at: DateTime,
    /// Time of the last recorded request.
    pub seen_at: DateTime,
    /// Time at which the session ends unless there is another request (TTL index).
    pub expire_at: DateTime,
}

impl ConsoleSession {
    /// A session that starts now.
    pub fn new(
        id: String,
        subject: String,
        audiences: Vec<String>,
        id_token: EncryptedSecrets,
        now: DateTime,
    ) -> Self {
        Self {
            id,
            subject,
            audiences,
            id_token,
            created_at: now,
            seen_at: now,
            expire_at: clock::later(now, IDLE_TIMEOUT),
        }
    }

    /// Time at which the session ends at the latest.
    pub fn ends_at(&self) -> DateTime {
        clock::later(self.created_at, MAX_AGE)
    }

    /// End of the session after a request now.
    pub fn expiry_after(&self, now: DateTime) -> DateTime {
        clock::later(now, IDLE_TIMEOUT).min(self.ends_at())
    }

    /// Whether a request now has to be recorded.
    pub fn is_seen_stale(&self, now: DateTime) -> bool {
        clock::until(self.seen_at, now) >= SEEN_RESOLUTION
    }

    /// Id that the id token of a session is encrypted for.
    pub fn encrypted_for(digest: [u8; 32]) -> JobId {
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        JobId::from_bytes(id)
    }
}

/// Without the id, which is an index of who is signed in, and without the token.
impl fmt::Debug for ConsoleSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsoleSession")
            .field("subject", &self.subject)
            .field("expire_at", &self.expire_at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::secret_box::EncryptionKeys;

    #[test]
    fn requests_prolong_a_session_until_its_maximum_age() {
        let keys =
            EncryptionKeys::parse(["k:QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="]).unwrap();
        let token = keys
            .encrypt(ConsoleSession::encrypted_for([7; 32]), &"token")
            .unwrap();
        let start = DateTime::from_millis(0);
        let session = ConsoleSession::new("id".to_owned(), "ada".to_owned(), vec![], token, start);
        let after = |minutes| clock::later(start, Duration::from_mins(minutes));

        assert_eq!(session.expire_at, after(30));
        assert_eq!(session.expiry_after(after(10)), after(40));
        assert_eq!(session.expiry_after(after(479)), after(480));
        assert!(session.is_seen_stale(after(1)));
        assert!(!session.is_seen_stale(start));
        assert!(!format!("{session:?}").contains("token"));
    }
}
