//! Selection of the jobs of a bulk operation.

use std::time::Duration;

use bson::{Document, doc};
use futures::TryStreamExt as _;
use mongodb::options::Hint;

use super::{
    JobRepository,
    indexes::{ERROR_INDEX, KIND_INDEX, TENANT_INDEX},
};
use crate::{
    id::JobId,
    queue::{
        args::{RunJobOperation, kinds_of_others},
        error_code::{ErrorClass, ErrorCode},
        job::{Job, JobArgs as _},
        job_operation::JobSelection,
    },
    store::{StoreError, lenient::skip_undecodable, to_bson},
};

/// Time limit of a selection. One that no index narrows enough exceeds it.
const SELECTING: Duration = Duration::from_secs(5);

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
            .find(selected(selection)?)
            .hint(index(selection))
            .projection(doc! { "_id": 1 })
            .limit(limit)
            .max_time(SELECTING)
            .await?
            .try_collect()
            .await?;
        let mut ids: Vec<JobId> = selected.into_iter().map(|job| job.id).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Number of selected jobs, counted up to `limit`.
    pub async fn count_selected(
        &self,
        selection: &JobSelection,
        limit: u64,
    ) -> Result<u64, StoreError> {
        self.jobs
            .count_documents(selected(selection)?)
            .hint(index(selection))
            .limit(limit)
            .max_time(SELECTING)
            .await
    }

    /// Sample of the selected jobs.
    pub async fn sample_selected(
        &self,
        selection: &JobSelection,
        size: i64,
    ) -> Result<Vec<Job>, StoreError> {
        let found = self
            .jobs
            .clone_with_type()
            .find(selected(selection)?)
            .hint(index(selection))
            .limit(size)
            .max_time(SELECTING)
            .await?;
        skip_undecodable(found).try_collect().await
    }
}

/// The index that narrows the selection most: a tenant has few jobs, and few jobs fail with one code.
fn index(selection: &JobSelection) -> Hint {
    let name = if selection.tenant_id.is_some() {
        TENANT_INDEX
    } else if selection.error_code.is_some() || selection.error_class.is_some() {
        ERROR_INDEX
    } else {
        KIND_INDEX
    };
    Hint::Name(name.to_owned())
}

fn selected(selection: &JobSelection) -> Result<Document, StoreError> {
    // An operation selects neither itself nor another operation.
    let mut left_out = vec![RunJobOperation::KIND];
    if let Some(queue) = selection.queue {
        // The index has kinds, and no queues.
        left_out.extend(kinds_of_others(queue));
    }
    let mut kind = doc! { "$nin": left_out };
    if let Some(wanted) = &selection.kind {
        kind.insert("$eq", wanted);
    }
    let mut filter = doc! { "state": selection.state.name(), "kind": kind };
    if selection.state.is_final() {
        // What an operator has dealt with.
        filter.insert("requeuedTo", doc! { "$exists": false });
        filter.insert("dismissed", doc! { "$exists": false });
    }
    if let Some(queue) = selection.queue {
        filter.insert("queue", queue.name());
    }
    if let Some(tenant) = selection.tenant_id {
        filter.insert("tenantId", tenant);
    }
    if selection.error_code.is_some() || selection.error_class.is_some() {
        filter.insert("error", doc! { "$exists": true });
        let codes = codes_of(selection.error_code, selection.error_class);
        filter.insert("error.code", doc! { "$in": to_bson(&codes)? });
    }
    if let Some(class) = selection.error_class {
        filter.insert("error.class", to_bson(&class)?);
    }
    let mut created = Document::new();
    if let Some(after) = selection.created_after {
        created.insert("$gte", after);
    }
    if let Some(before) = selection.created_before {
        created.insert("$lt", before);
    }
    if !created.is_empty() {
        filter.insert("createdAt", created);
    }
    Ok(filter)
}

/// The codes of failures with this code and of this class. A class is looked up by its codes, which the index has.
pub(super) fn codes_of(code: Option<ErrorCode>, class: Option<ErrorClass>) -> Vec<ErrorCode> {
    ErrorCode::ALL
        .into_iter()
        .filter(|known| {
            code.is_none_or(|wanted| wanted == *known)
                && class.is_none_or(|class| known.class() == class)
        })
        .collect()
}
