//! Child jobs of a fan-out.

use std::collections::BTreeMap;

use bson::doc;
use futures::TryStreamExt as _;

use super::JobRepository;
use crate::{id::JobId, queue::job::JobState, store::StoreError};

impl JobRepository {
    /// Number of children of a job in each state.
    pub async fn count_children(
        &self,
        parent: JobId,
    ) -> Result<BTreeMap<JobState, u64>, StoreError> {
        #[derive(serde::Deserialize)]
        struct Count {
            #[serde(rename = "_id")]
            state: JobState,
            jobs: i64,
        }
        let counts: Vec<Count> = self
            .jobs
            .aggregate([
                doc! { "$match": { "parent": parent } },
                doc! { "$group": { "_id": "$state", "jobs": { "$sum": 1_i64 } } },
            ])
            .with_type()
            .await?
            .try_collect()
            .await?;
        Ok(counts
            .into_iter()
            .map(|count| (count.state, count.jobs.unsigned_abs()))
            .collect())
    }
}
