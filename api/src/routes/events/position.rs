//! Position in a stream: the id of its last event.

use std::{convert::Infallible, fmt, str::FromStr};

use axum::extract::FromRequestParts;
use bson::DateTime;
use http::request::Parts;

/// The revision of the last document, and in the stream of a tenant the time through which changes of its resources were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) revision: i64,
    pub(super) resources: Option<DateTime>,
}

impl Position {
    pub(super) const fn of(revision: i64) -> Self {
        let resources = None;
        Self {
            revision,
            resources,
        }
    }

    pub(super) const fn with_resources(revision: i64, at: DateTime) -> Self {
        let resources = Some(at);
        Self {
            revision,
            resources,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.resources {
            None => write!(f, "{}", self.revision),
            Some(at) => write!(f, "{}-{}", self.revision, at.timestamp_millis()),
        }
    }
}

impl FromStr for Position {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((revision, millis)) = text.split_once('-') else {
            return Ok(Self::of(text.parse()?));
        };
        let at = DateTime::from_millis(millis.parse()?);
        Ok(Self::with_resources(revision.parse()?, at))
    }
}

/// The position that the client names. Invalid values are ignored.
pub(super) struct LastEventId(pub(super) Option<Position>);

impl<S: Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let value = parts.headers.get("last-event-id");
        Ok(Self(value.and_then(|id| id.to_str().ok()?.parse().ok())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_written() {
        let at = DateTime::from_millis(1_700_000_000_123);
        for position in [Position::of(7), Position::with_resources(7, at)] {
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        assert_eq!(
            Position::with_resources(7, at).to_string(),
            "7-1700000000123"
        );
        for invalid in ["", "x", "7-", "7-x", "-", "--1"] {
            assert!(invalid.parse::<Position>().is_err(), "{invalid}");
        }
    }
}
