//! Priority lanes: urgent work does not wait for a backlog of other work, however old that backlog is.
//!
//! A lane has a ready set of its own, reserved worker slots (those of a more urgent lane never serve a less urgent one),
//! and a horizon of its own in the upstreams' rate budgets.

use bson::Bson;
use serde::{Deserialize, Serialize};

/// Priority of a job, which is its lane. Stored as a number from 0 to 2; lower runs first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "i32", into = "i32")]
pub enum Priority {
    /// Withdraws access, such as a suspension. Before all else.
    Security,
    /// A person waits for the result.
    Interactive,
    /// No person waits: fan-outs, schedules, retention.
    Bulk,
}

impl Priority {
    /// Every lane, most urgent first.
    pub const ALL: [Self; 3] = [Self::Security, Self::Interactive, Self::Bulk];

    /// Number in documents and on the wire.
    pub const fn number(self) -> i32 {
        match self {
            Self::Security => 0,
            Self::Interactive => 1,
            Self::Bulk => 2,
        }
    }

    /// The lanes that are at least as urgent as this one, most urgent first.
    pub fn and_above(self) -> impl Iterator<Item = Self> {
        Self::ALL
            .into_iter()
            .filter(move |priority| *priority <= self)
    }
}

/// A number out of range is that of the nearest lane.
impl From<i32> for Priority {
    fn from(number: i32) -> Self {
        match number {
            ..=0 => Self::Security,
            1 => Self::Interactive,
            2.. => Self::Bulk,
        }
    }
}

impl From<Priority> for i32 {
    fn from(priority: Priority) -> Self {
        priority.number()
    }
}

impl From<Priority> for Bson {
    fn from(priority: Priority) -> Self {
        priority.number().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_numbers_are_stable_and_a_number_out_of_range_is_the_nearest() {
        assert_eq!(Priority::ALL.map(Priority::number), [0, 1, 2]);
        for priority in Priority::ALL {
            assert_eq!(Priority::from(priority.number()), priority);
        }
        assert_eq!(
            [-1, 3].map(Priority::from),
            [Priority::Security, Priority::Bulk]
        );
    }
}
