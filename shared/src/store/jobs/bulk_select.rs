//! Selection of the jobs of a bulk operation.

use bson::{Bson, Document, doc};
use futures::TryStreamExt as _;

use super::{CLAIM_INDEX, JobRepository};
use crate::{
    id::JobId,
    queue::{
        args::RunJobOperation,
        job::{Job, JobArgs as _, Queue},
        job_operation::JobSelection,
    },
    store::{StoreError, to_bson},
};

impl JobRepository {
    /// Ids of the selected jobs, oldest first, at most `limit`.
    pub async fn select(
        &self,
        selection: &JobSelection,
        limit: i64,
    ) -> Result<Vec<JobId>, StoreError> {
        #[derive(serde::Deserialize)]
        struct Selected {
            #[serde(rename = "_id")]
            id: JobId,
        }
        let selected: Vec<Selected> = self
            .jobs
            .clone_with_type()
            .find(meant(selection)?)
            .hint(mongodb::options::Hint::Name(index(selection).to_owned()))
            .projection(doc! { "_id": 1 })
            .limit(limit)
            .await?
            .try_collect()
            .await?;
        let mut ids: Vec<JobId> = selected.into_iter().map(|job| job.id).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Number of selected jobs.
    pub async fn count_selected(&self, selection: &JobSelection) -> Result<u64, StoreError> {
        self.jobs
            .count_documents(meant(selection)?)
            .hint(mongodb::options::Hint::Name(index(selection).to_owned()))
            .await
    }

    /// Sample of the selected jobs.
    pub async fn sample_selected(
        &self,
        selection: &JobSelection,
        size: i64,
    ) -> Result<Vec<Job>, StoreError> {
        self.jobs
            .find(meant(selection)?)
            .hint(mongodb::options::Hint::Name(index(selection).to_owned()))
            .limit(size)
            .await?
            .try_collect()
            .await
    }
}

/// Index that serves the selection: a tenant has few jobs, and the queue's index groups jobs by state.
fn index(selection: &JobSelection) -> &'static str {
    match selection.tenant_id {
        Some(_) => super::TENANT_INDEX,
        None => CLAIM_INDEX,
    }
}

fn meant(selection: &JobSelection) -> Result<Document, StoreError> {
    let queues: Vec<Bson> = match selection.queue {
        Some(queue) => vec![queue.name().into()],
        None => Queue::ALL.map(|queue| queue.name().into()).to_vec(),
    };
    // An operation selects neither itself nor another operation.
    let mut kind = doc! { "$ne": RunJobOperation::KIND };
    if let Some(wanted) = &selection.kind {
        kind.insert("$eq", wanted);
    }
    let mut meant =
        doc! { "queue": { "$in": queues }, "state": selection.state.name(), "kind": kind };
    if let Some(tenant) = selection.tenant_id {
        meant.insert("tenantId", tenant);
    }
    if let Some(code) = selection.error_code {
        meant.insert("error.code", to_bson(&code)?);
    }
    if let Some(class) = selection.error_class {
        meant.insert("error.class", to_bson(&class)?);
    }
    let mut created = Document::new();
    if let Some(after) = selection.created_after {
        created.insert("$gte", after);
    }
    if let Some(before) = selection.created_before {
        created.insert("$lt", before);
    }
    if !created.is_empty() {
        meant.insert("createdAt", created);
    }
    Ok(meant)
}
