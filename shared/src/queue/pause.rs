//! Pause of an upstream or a queue.

use bson::DateTime;
use serde::{Deserialize, Serialize};

/// Pause set by an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Start of the pause.
    pub at: DateTime,
    /// Operator who set it.
    pub by: String,
    /// Reason, for other operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// End: the leader resumes the subject then. Missing if only an operator ends the pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime>,
}

impl Pause {
    /// A pause without a reason and without an end.
    pub const fn new(at: DateTime, by: String) -> Self {
        Self {
            at,
            by,
            reason: None,
            until: None,
        }
    }

    /// Whether the end of the pause has passed.
    pub fn is_over(&self, now: DateTime) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}
