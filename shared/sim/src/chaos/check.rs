//! The result of checking one promise.

/// A promise and its violations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Name of the promise.
    pub promise: &'static str,
    /// Number of items checked.
    pub checked: u64,
    /// Descriptions of the violations.
    pub violations: Vec<String>,
}

impl Check {
    pub(super) fn new(promise: &'static str, checked: usize, violations: Vec<String>) -> Self {
        Self {
            promise,
            checked: checked as u64,
            violations,
        }
    }
}
