//! The many jobs that one job makes.

use std::collections::BTreeMap;

use bson::doc;
use futures::TryStreamExt as _;
use mongodb::error::{Error, ErrorKind};

use super::{JobRepository, NewJob};
use crate::{id::JobId, job::JobState, store::StoreError};

/// What MongoDB calls a document that is there already.
const DUPLICATE: i32 = 11_000;

impl JobRepository {
    /// Enqueues these children of a job. One that is there already is left alone, and so is one whose work a waiting
    /// job does in any case. After this, tell the ready set.
    pub async fn enqueue_children(&self, children: &[NewJob]) -> Result<(), StoreError> {
        if children.is_empty() {
            return Ok(());
        }
        let jobs = children.iter().map(NewJob::job);
        match self.jobs.insert_many(jobs).ordered(false).await {
            Err(error) if !is_only_duplicates(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// How many children of a job are in each state.
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

fn is_only_duplicates(error: &Error) -> bool {
    match error.kind.as_ref() {
        ErrorKind::InsertMany(error) => {
            error.write_concern_error.is_none()
                && error
                    .write_errors
                    .as_ref()
                    .is_some_and(|errors| errors.iter().all(|error| error.code == DUPLICATE))
        }
        _ => false,
    }
}
