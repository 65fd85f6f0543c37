//! Audit queries: by trail, by search term, by time.

use std::{fmt, str::FromStr, time::Duration};

use bson::{DateTime, Document, doc};
use futures::{Stream, StreamExt as _};

use mongodb::options::Hint;

use super::{
    AuditRepository, NEWEST_INDEX, READ_BATCH, StoreError, TENANT_NEWEST_INDEX, TENANT_TERMS_INDEX,
    TERMS_INDEX,
};
use crate::{
    audit::{Action, AuditEvent, Outcome, search_terms},
    id::{AuditEventId, TenantId},
    store::lenient::skip_undecodable,
};

/// Time limit of a page query: words that are each common but rarely occur together take long to search.
const LIST_LIMIT: Duration = Duration::from_secs(5);

/// Filter of events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Trail of this tenant.
    pub tenant: Option<TenantId>,
    /// Containing all of these words.
    pub words: Vec<String>,
    /// With this action.
    pub action: Option<Action>,
    /// With this outcome.
    pub outcome: Option<Outcome>,
    /// By the actor with this address.
    pub actor_email: Option<String>,
    /// Whether operators cannot be found by their address.
    pub hides_operators: bool,
    /// Recorded at or after this time.
    pub since: Option<DateTime>,
    /// Recorded before this time.
    pub before: Option<DateTime>,
}

/// Page cursor: the position of an event, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditCursor {
    /// Time of the event.
    pub at: DateTime,
    /// Id of the event, which breaks ties.
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

/// Error: the text is not a valid cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid cursor of the audit trail")]
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
    /// Streams at most `limit` readable events that match `filter`, newest first, after the cursor. They are read in
    /// small batches, so that a page that is full earlier reads few of them in vain.
    pub async fn list(
        &self,
        filter: &AuditFilter,
        after: Option<AuditCursor>,
        limit: i64,
    ) -> Result<impl Stream<Item = Result<AuditEvent, StoreError>> + use<>, StoreError> {
        let limit = usize::try_from(limit).unwrap_or_default();
        let found = self
            .stored()
            .find(filter.document(after))
            .sort(newest_first())
            .hint(Hint::Name(filter.index().to_owned()))
            .batch_size(READ_BATCH.min(u32::try_from(limit).unwrap_or(READ_BATCH)))
            .max_time(LIST_LIMIT)
            .await?;
        Ok(skip_undecodable(found).take(limit))
    }

    /// Streams all readable events that match `filter`, newest first, in small batches.
    pub async fn list_all(
        &self,
        filter: &AuditFilter,
    ) -> Result<impl Stream<Item = Result<AuditEvent, StoreError>> + use<>, StoreError> {
        let found = self
            .stored()
            .find(filter.document(None))
            .sort(newest_first())
            .hint(Hint::Name(filter.index().to_owned()))
            .batch_size(READ_BATCH)
            .await?;
        Ok(skip_undecodable(found))
    }
}

fn newest_first() -> Document {
    doc! { "at": -1, "_id": -1 }
}

impl AuditFilter {
    /// Index that serves the filter in result order. MongoDB's query planner would try several, and read a hundred
    /// events to return two.
    fn index(&self) -> &'static str {
        match (self.tenant, self.terms().is_empty()) {
            (None, true) => NEWEST_INDEX,
            (None, false) => TERMS_INDEX,
            (Some(_), true) => TENANT_NEWEST_INDEX,
            (Some(_), false) => TENANT_TERMS_INDEX,
        }
    }

    fn document(&self, after: Option<AuditCursor>) -> Document {
        let mut query = Document::new();
        if let Some(tenant) = self.tenant {
            query.insert("tenantId", tenant);
        }
        let terms = self.terms();
        if !terms.is_empty() {
            query.insert("terms", doc! { "$all": terms });
        }
        if self.actor_email.is_some() && self.hides_operators {
            let others = ["partner", "tenant", "user", "system"];
            query.insert("actor.kind", doc! { "$in": others.to_vec() });
        }
        let mut at = Document::new();
        if let Some(since) = self.since {
            at.insert("$gte", since);
        }
        if let Some(before) = self.before {
            at.insert("$lt", before);
        }
        if let Some(cursor) = after {
            at.insert("$lte", cursor.at);
            let further = [
                doc! { "at": { "$lt": cursor.at } },
                doc! { "_id": { "$lt": cursor.id } },
            ];
            query.insert("$or", further.to_vec());
        }
        if !at.is_empty() {
            query.insert("at", at);
        }
        query
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
    fn a_cursor_round_trips() {
        let cursor = AuditCursor {
            at: DateTime::from_millis(1_795_339_800_000),
            id: AuditEventId::from_bytes([7; 16]),
        };

        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for odd in ["", "/", "1/", "x/07070707-0707-0707-0707-070707070707"] {
            assert_eq!(odd.parse::<AuditCursor>(), Err(InvalidCursor), "{odd}");
        }
    }
}
