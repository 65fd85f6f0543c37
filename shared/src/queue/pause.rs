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
}
