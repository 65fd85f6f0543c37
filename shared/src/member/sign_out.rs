//! Sign-out: the end of a member's sessions and tokens.

use bson::DateTime;
use serde::{Deserialize, Serialize};

/// Result of ending a member's sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignOut {
    /// Time at which they were ended.
    pub at: DateTime,
    /// Ended sessions.
    pub sessions: i32,
    /// Revoked access and refresh tokens, and app passwords.
    pub tokens: i32,
    /// Whether only the tokens of the tenant's apps were revoked: the account belongs to the person, or to another tenant.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub apps_only: bool,
}
