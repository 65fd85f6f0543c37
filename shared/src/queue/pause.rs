//! Stopping an upstream or a queue for a while.

use bson::DateTime;
use serde::{Deserialize, Serialize};

/// A person stopped it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Since when.
    pub at: DateTime,
    /// Who did.
    pub by: String,
}
