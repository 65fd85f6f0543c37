//! Subject mode of an issuer: whether `sub` is the user's UUID at the identity provider.
//!
//! Users, group members and accounts are matched by that UUID. Authentik's default is a hash, which identifies no
//! account: a token with it would create a second user for the same person. Such tokens are refused.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// Result of the subject check of an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SubjectCheck {
    /// No token of the issuer was verified yet.
    #[default]
    Unchecked,
    /// The subject of the last token was a UUID.
    Uuid,
    /// The subject of the last token was something else.
    Other,
}

/// Checks the subjects of one issuer, and remembers the last result.
#[derive(Debug, Default)]
pub(super) struct Subjects(Mutex<SubjectCheck>);

impl Subjects {
    /// Whether `subject` is a UUID as Authentik writes it. A change of the result is logged.
    pub(super) fn check(&self, issuer: &str, subject: &str) -> bool {
        let is_uuid =
            Uuid::try_parse(subject).is_ok_and(|uuid| uuid.hyphenated().to_string() == subject);
        let now = if is_uuid {
            SubjectCheck::Uuid
        } else {
            SubjectCheck::Other
        };
        let before = std::mem::replace(&mut *self.lock(), now);
        if now == SubjectCheck::Other && before != now {
            tracing::error!(
                issuer,
                "The subject of a token is not the user's UUID; its tokens are refused until the subject mode of the \
                 provider in Authentik is \"Based on the User's UUID\""
            );
        } else if now == SubjectCheck::Uuid && before != now {
            tracing::info!(issuer, "The subjects of the issuer are user UUIDs");
        }
        is_uuid
    }

    /// The last result.
    pub(super) fn last(&self) -> SubjectCheck {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, SubjectCheck> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
