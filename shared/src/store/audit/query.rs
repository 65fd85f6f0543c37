//! Finding events: by their trail, by their terms, by their time.

use std::{fmt, str::FromStr, time::Duration};

use bson::{DateTime, Document, doc};
use futures::{Stream, StreamExt as _, TryStreamExt as _};

use mongodb::options::Hint;

use super::{
    AuditRepository, NEWEST_INDEX, StoreError, TENANT_NEWEST_INDEX, TENANT_TERMS_INDEX, TERMS_INDEX,
};
use crate::{
    audit::{Action, AuditEvent, Outcome, search_terms},
    id::{AuditEventId, TenantId},
    store::lenient::skip_undecodable,
};

/// How many events are read from MongoDB at a time where there is no end of them.
const BATCH: u32 = 500;
/// How long MongoDB may search for a page: words that stand in many events, but seldom together, take long.
const LIST_LIMIT: Duration = Duration::from_secs(5);

/// Which events are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only those of this tenant's trail.
    pub tenant: Option<TenantId>,
    /// Only those with all of these words.
    pub words: Vec<String>,
    /// Only this.
    pub action: Option<Action>,
    /// Only those that had come so far.
    pub outcome: Option<Outcome>,
    /// Only what somebody with this address did.
    pub actor_email: Option<String>,
    /// Whether nobody is found by their address who is an operator.
    pub hides_operators: bool,
    /// Only what was done then or later.
    pub since: Option<DateTime>,
    /// Only what was done earlier.
    pub before: Option<DateTime>,
}

/// The place of an event among all, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditCursor {
    /// When.
    pub at: DateTime,
    /// Which of that time.
    pub id: AuditEventId,
}

impl From<&AuditEvent> for AuditCursor {
    fn from(event: &AuditEvent) -> Self {
        Self {
            at: event.at,
            id: event.id,
        }
    }
}

impl fmt::Display for AuditCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.at.timestamp_millis(), self.id)
    }
}

/// A text that is not a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a place in the audit trail")]
pub struct InvalidCursor;

impl FromStr for AuditCursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let (at, id) = text.split_once('/').ok_or(InvalidCursor)?;
        Ok(Self {
            at: DateTime::from_millis(at.parse().map_err(|_| InvalidCursor)?),
            id: id.parse().map_err(|_| InvalidCursor)?,
        })
    }
}

impl AuditRepository {
    /// At most `limit` events, of those that can be read, that `filter` lets through, newest first, from after this place on.
    pub async fn list(
        &self,
        filter: &AuditFilter,
        after: Option<AuditCursor>,
        limit: i64,
    ) -> Result<Vec<AuditEvent>, StoreError> {
        let limit = usize::try_from(limit).unwrap_or_default();
        let found = self
            .stored()
            .find(filter.document(after))
            .sort(newest_first())
            .hint(Hint::Name(filter.index().to_owned()))
            .batch_size(u32::try_from(limit).unwrap_or(BATCH))
            .max_time(LIST_LIMIT)
            .await?;
        skip_undecodable(found).take(limit).try_collect().await
    }

    /// All events that `filter` lets through and that can be read, newest first. Few of them are held in memory at a
    /// time.
    pub async fn list_all(
        &self,
        filter: &AuditFilter,
    ) -> Result<impl Stream<Item = Result<AuditEvent, StoreError>> + use<>, StoreError> {
        let found = self
            .stored()
            .find(filter.document(None))
            .sort(newest_first())
            .hint(Hint::Name(filter.index().to_owned()))
            .batch_size(BATCH)
            .await?;
        Ok(skip_undecodable(found))
    }
}

fn newest_first() -> Document {
    doc! { "at": -1, "_id": -1 }
}

impl AuditFilter {
    /// The index that has what is wanted in the order in which it is shown. Left to choose, MongoDB tries several, and
    /// reads a hundred events to show two.
    fn index(&self) -> &'static str {
        match (self.tenant, self.terms().is_empty()) {
            (None, true) => NEWEST_INDEX,
            (None, false) => TERMS_INDEX,
            (Some(_), true) => TENANT_NEWEST_INDEX,
            (Some(_), false) => TENANT_TERMS_INDEX,
        }
    }

    fn document(&self, after: Option<AuditCursor>) -> Document {
        let mut wanted = Document::new();
        if let Some(tenant) = self.tenant {
            wanted.insert("tenantId", tenant);
        }
        let terms = self.terms();
        if !terms.is_empty() {
            wanted.insert("terms", doc! { "$all": terms });
        }
        if self.actor_email.is_some() && self.hides_operators {
            let others = ["partner", "tenant", "user", "system"];
            wanted.insert("actor.kind", doc! { "$in": others.to_vec() });
        }
        let mut at = Document::new();
        if let Some(since) = self.since {
            at.insert("$gte", since);
        }
        if let Some(before) = self.before {
            at.insert("$lt", before);
        }
        if let Some(place) = after {
            at.insert("$lte", place.at);
            let further = [
                doc! { "at": { "$lt": place.at } },
                doc! { "_id": { "$lt": place.id } },
            ];
            wanted.insert("$or", further.to_vec());
        }
        if !at.is_empty() {
            wanted.insert("at", at);
        }
        wanted
    }

    fn terms(&self) -> Vec<String> {
        let mut terms = self.words.clone();
        terms.extend(self.action.map(search_terms::of_action));
        terms.extend(self.outcome.map(search_terms::of_outcome));
        terms.extend(self.actor_email.as_deref().map(search_terms::of_actor));
        terms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        let place = AuditCursor {
            at: DateTime::from_millis(1_795_339_800_000),
            id: AuditEventId::from_bytes([7; 16]),
        };

        assert_eq!(place.to_string().parse(), Ok(place));
        for odd in ["", "/", "1/", "x/07070707-0707-0707-0707-070707070707"] {
            assert_eq!(odd.parse::<AuditCursor>(), Err(InvalidCursor), "{odd}");
        }
    }
}
