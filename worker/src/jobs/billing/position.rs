//! Position in the fan-out of an invoice run: its resume cursor, from which the ids of child jobs are derived.

use std::{fmt, str::FromStr};

use bson::DateTime;
use dezky_shared::id::SubscriptionId;

/// Position in the list of an invoice run, which has three parts, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Position {
    /// A subscription whose last invoiced period ended at this time.
    Due(DateTime, SubscriptionId),
    /// A subscription that is not enrolled.
    NotEnrolled(SubscriptionId),
    /// A subscription with an invoice that was due at this time.
    Overdue(DateTime, SubscriptionId),
}

impl Position {
    /// Whether a fan-out that resumes at `cursor` continues with this position. Invoices that were due at one time are in
    /// no order, so all of them are repeated.
    pub(super) fn is_after(self, cursor: Self) -> bool {
        match (cursor, self) {
            (Self::Overdue(from, _), Self::Overdue(at, _)) => at >= from,
            _ => self > cursor,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Due(at, id) => write!(f, "due/{}/{id}", at.timestamp_millis()),
            Self::NotEnrolled(id) => write!(f, "new/{id}"),
            Self::Overdue(at, id) => write!(f, "overdue/{}/{id}", at.timestamp_millis()),
        }
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (part, rest) = text.split_once('/').ok_or(())?;
        let timed = || {
            let (millis, id) = rest.split_once('/').ok_or(())?;
            let millis = millis.parse().map_err(|_| ())?;
            let id = id.parse().map_err(|_| ())?;
            Ok((DateTime::from_millis(millis), id))
        };
        match part {
            "due" => timed().map(|(at, id)| Self::Due(at, id)),
            "new" => rest.parse().map(Self::NotEnrolled).map_err(|_| ()),
            "overdue" => timed().map(|(at, id)| Self::Overdue(at, id)),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written() {
        let (at, id) = (
            DateTime::from_millis(1_795_339_800_000),
            SubscriptionId::new(),
        );

        for position in [
            Position::Due(at, id),
            Position::NotEnrolled(id),
            Position::Overdue(at, id),
        ] {
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        for bad in ["", "due", "due/x/y", "new/1", "late/1/2"] {
            assert_eq!(bad.parse::<Position>(), Err(()), "{bad}");
        }
    }
}
