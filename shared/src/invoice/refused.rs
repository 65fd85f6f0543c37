//! Refusal of an invoice that Stripe is to issue: it is tried again after ever longer times, until it is issued or voided.

use std::time::Duration;

use bson::DateTime;
use serde::{Deserialize, Serialize};

use super::Invoice;
use crate::{platform::clock, queue::error_code::ErrorCode};

/// Time until the second try. Each further one takes twice as long.
const FIRST_WAIT: Duration = Duration::from_hours(1);
/// Number of doublings after which the time stays the same, about five days.
const MAX_DOUBLINGS: u32 = 7;

/// Refusal by Stripe that a repeat at once would meet again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IssueError {
    /// Code.
    pub code: ErrorCode,
    /// Number of refusals since the invoice last got further.
    pub attempts: i32,
    /// Time of the last one.
    pub at: DateTime,
    /// Time from which on it is tried again.
    pub retry_at: DateTime,
}

impl Invoice {
    /// Notes that Stripe refused to issue it.
    pub fn refuse(&mut self, code: ErrorCode, now: DateTime) {
        let before = self.error.as_ref().map_or(0, |error| error.attempts);
        let doublings = u32::try_from(before).unwrap_or(0).min(MAX_DOUBLINGS);
        self.error = Some(IssueError {
            code,
            attempts: before.saturating_add(1),
            at: now,
            retry_at: clock::later(now, FIRST_WAIT * 2_u32.pow(doublings)),
        });
    }
}
