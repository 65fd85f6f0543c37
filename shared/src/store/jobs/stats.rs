//! Statistics of jobs: counts of the newest that match a filter, by state, kind, queue and failure.

use std::collections::BTreeMap;

use bson::doc;
use futures::TryStreamExt as _;
use mongodb::options::Hint;
use serde::Deserialize;

use super::{JobFilter, JobRepository, indexes::KIND_INDEX};
use crate::{
    queue::job::{JobState, Queue},
    store::{
        StoreError,
        lenient::{LISTING, skip_undecodable},
    },
};

/// Number of jobs in one state, of one kind, with one failure.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobCount {
    /// State.
    pub state: JobState,
    /// Kind.
    pub kind: String,
    /// Queue.
    pub queue: Queue,
    /// Code of the last failure.
    #[serde(default)]
    pub code: Option<String>,
    /// Class of the last failure.
    #[serde(default)]
    pub class: Option<String>,
    /// Number of jobs.
    pub jobs: i64,
}

/// Numbers of jobs by their properties.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobCounts {
    /// By state.
    pub states: BTreeMap<JobState, u64>,
    /// By kind.
    pub kinds: BTreeMap<String, u64>,
    /// By queue.
    pub queues: BTreeMap<Queue, u64>,
    /// By code of the last failure.
    pub error_codes: BTreeMap<String, u64>,
    /// By class of the last failure.
    pub error_classes: BTreeMap<String, u64>,
    /// Number of counted jobs.
    pub counted: u64,
}

impl JobRepository {
    /// Counts the newest jobs that match `filter`, at most `limit`. Fails with a timeout if the indexes do not narrow the
    /// filter enough.
    pub async fn stats(&self, filter: &JobFilter, limit: i64) -> Result<JobCounts, StoreError> {
        let matching = self.query_of(filter, filter.tenants.as_deref()).await?;
        let group = doc! {
            "_id": {
                "state": "$state", "kind": "$kind", "queue": "$queue",
                "code": "$error.code", "class": "$error.class",
            },
            "jobs": { "$sum": 1_i64 },
        };
        let pipeline = [
            doc! { "$match": matching },
            doc! { "$sort": { "_id": -1 } },
            doc! { "$limit": limit },
            doc! { "$group": group },
            doc! { "$replaceWith": { "$mergeObjects": ["$_id", { "jobs": "$jobs" }] } },
        ];
        let found = self.jobs.aggregate(pipeline).max_time(LISTING).await?;
        let counts: Vec<JobCount> = skip_undecodable(found).try_collect().await?;
        let mut sums = JobCounts::default();
        for count in counts {
            sums.add(count);
        }
        Ok(sums)
    }

    /// Number of jobs in a state, at most `limit`. Reads keys of the index of kinds only.
    pub async fn count_in_state(&self, state: JobState, limit: u64) -> Result<u64, StoreError> {
        let kinds = self.kinds().await?;
        self.jobs
            .count_documents(doc! { "kind": { "$in": kinds }, "state": state.name() })
            .hint(Hint::Name(KIND_INDEX.to_owned()))
            .limit(limit)
            .max_time(LISTING)
            .await
    }
}

impl JobCounts {
    fn add(&mut self, count: JobCount) {
        let jobs = count.jobs.cast_unsigned();
        self.counted += jobs;
        *self.states.entry(count.state).or_default() += jobs;
        *self.kinds.entry(count.kind).or_default() += jobs;
        *self.queues.entry(count.queue).or_default() += jobs;
        if let Some(code) = count.code {
            *self.error_codes.entry(code).or_default() += jobs;
        }
        if let Some(class) = count.class {
            *self.error_classes.entry(class).or_default() += jobs;
        }
    }
}
