//! Child jobs of a fan-out.

use std::collections::BTreeMap;

use bson::doc;
use futures::future::try_join_all;
use mongodb::options::Hint;

use super::{JobRepository, indexes::CHILDREN_INDEX};
use crate::{id::JobId, queue::job::JobState, store::StoreError};

/// Limit on counted children in each state: counting a million at every look would load the database.
const COUNT_LIMIT: u64 = 10_000;

impl JobRepository {
    /// Number of children of a job in each state that has any, each counted up to `COUNT_LIMIT`.
    pub async fn count_children(
        &self,
        parent: JobId,
    ) -> Result<BTreeMap<JobState, u64>, StoreError> {
        // One by one: each count is limited.
        let counts = JobState::ALL.map(|state| async move {
            let children = doc! { "parent": parent, "state": state.name() };
            let count = self
                .jobs
                .count_documents(children)
                .hint(Hint::Name(CHILDREN_INDEX.to_owned()))
                .limit(COUNT_LIMIT)
                .await?;
            Ok::<_, StoreError>((state, count))
        });
        let counts = try_join_all(counts).await?;
        Ok(counts.into_iter().filter(|(_, count)| *count > 0).collect())
    }
}
