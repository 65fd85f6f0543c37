//! Filters of job lists.

use std::time::Duration;

use bson::{DateTime, Document, doc};

use super::bulk_select::codes_of;
use crate::{
    id::{JobId, TenantId},
    platform::clock,
    queue::{
        error_code::{ErrorClass, ErrorCode},
        job::{JobState, Queue},
    },
    store::{StoreError, to_bson},
};

/// Maximum difference between the time in a job's id and the time of its creation: clocks of machines differ.
const CLOCK_SKEW: Duration = Duration::from_mins(1);

/// Filter of a job list.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// About one of these tenants; all jobs if missing.
    pub tenants: Option<Vec<TenantId>>,
    /// In one of these states; any if empty.
    pub states: Vec<JobState>,
    /// Of this kind.
    pub kind: Option<String>,
    /// Of this queue. Looked up by its kinds, which the index has.
    pub queue: Option<Queue>,
    /// Code of the last failure.
    pub error_code: Option<ErrorCode>,
    /// Class of the last failure's code.
    pub error_class: Option<ErrorClass>,
    /// Created at or after this time.
    pub since: Option<DateTime>,
    /// Created before this time.
    pub until: Option<DateTime>,
    /// With all of these [words](crate::audit::words) in the kind, the lock key, the request id or the failure. Not indexed.
    pub words: Vec<String>,
    /// Whether details that operators alone may see are searched.
    pub searches_details: bool,
    /// Created by this parent job.
    pub parent: Option<JobId>,
    /// Whether a step changed something upstream, or would in a dry run.
    pub changed: Option<bool>,
    /// Before this id (page cursor).
    pub before: Option<JobId>,
}

impl JobFilter {
    /// The filter as a query, of these tenants, or of all.
    pub(super) fn document(&self, tenants: Option<&[TenantId]>) -> Result<Document, StoreError> {
        let mut query = Document::new();
        if let Some(tenants) = tenants {
            query.insert("tenantId", doc! { "$in": tenants.to_vec() });
        }
        match self.states.as_slice() {
            [state] => {
                query.insert("state", state.name());
            }
            // Every state, so that the index yields the order.
            [] if self.is_narrow() || self.queue.is_some() => {
                query.insert("state", in_states(&JobState::ALL));
            }
            [] => {}
            states => {
                query.insert("state", in_states(states));
            }
        }
        if let Some(kind) = &self.kind {
            query.insert("kind", kind);
        }
        if let Some(queue) = self.queue {
            query.insert("queue", queue.name());
        }
        if self.is_of_failure() {
            let codes = codes_of(self.error_code, self.error_class);
            query.insert("error", doc! { "$exists": true });
            query.insert("error.code", doc! { "$in": to_bson(&codes)? });
        }
        if let Some(class) = self.error_class {
            query.insert("error.class", to_bson(&class)?);
        }
        if let Some(parent) = self.parent {
            query.insert("parent", parent);
        }
        if let Some(changed) = self.changed {
            query.insert("steps.changes.0", doc! { "$exists": changed });
        }
        self.insert_times(&mut query);
        if !self.words.is_empty() {
            let contain = self.words.iter().map(|word| self.contains(word));
            query.insert("$and", contain.collect::<Vec<_>>());
        }
        Ok(query)
    }

    /// Whether only states and the queue narrow the jobs.
    pub(super) fn is_by_states_or_queue(&self) -> bool {
        !self.is_narrow() && (!self.states.is_empty() || self.queue.is_some())
    }

    /// Whether an index narrows the jobs by more than states and the queue.
    fn is_narrow(&self) -> bool {
        self.kind.is_some() || self.parent.is_some() || self.is_of_failure()
    }

    fn is_of_failure(&self) -> bool {
        self.error_code.is_some() || self.error_class.is_some()
    }

    /// The times, and the ids that jobs of these times have: indexes are ordered by id.
    fn insert_times(&self, query: &mut Document) {
        let (mut ids, mut times) = (Document::new(), Document::new());
        if let Some(since) = self.since {
            times.insert("$gte", since);
            ids.insert("$gte", JobId::first_of(clock::earlier(since, CLOCK_SKEW)));
        }
        if let Some(until) = self.until {
            times.insert("$lt", until);
        }
        let until = self
            .until
            .map(|until| JobId::first_of(clock::later(until, CLOCK_SKEW)));
        if let Some(end) = self.before.into_iter().chain(until).min() {
            ids.insert("$lt", end);
        }
        if !ids.is_empty() {
            query.insert("_id", ids);
        }
        if !times.is_empty() {
            query.insert("createdAt", times);
        }
    }

    /// Whether a text of the job contains the word.
    fn contains(&self, word: &str) -> Document {
        let shown = ["kind", "requestId", "error.code", "error.message"];
        let details = ["lockKey", "createdBy", "error.detail", "traceparent"];
        let details = details.iter().filter(|_| self.searches_details);
        // Words are letters and digits, which need no escaping.
        let text = doc! { "$regex": word, "$options": "i" };
        let fields = shown.iter().chain(details);
        let any: Vec<Document> = fields.map(|field| doc! { *field: text.clone() }).collect();
        doc! { "$or": any }
    }
}

fn in_states(states: &[JobState]) -> Document {
    let names = states.iter().map(|state| state.name());
    doc! { "$in": names.collect::<Vec<_>>() }
}
