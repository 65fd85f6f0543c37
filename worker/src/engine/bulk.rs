//! Bulk updates of jobs, in one command.
//!
//! The driver supports bulk writes from MongoDB 8.0 only; the `update` command takes several updates in every version.

use std::{collections::BTreeMap, time::Duration};

use bson::{Bson, Document, doc};
use dezky_shared::store::{Store, StoreError, is_unavailable, jobs::UNIQUE_INDEX, timed_out};
use futures::future::join_all;
use mongodb::error::ErrorKind;

/// MongoDB's code of a write conflict.
const WRITE_CONFLICT: i32 = 112;
/// MongoDB's code of a violated unique index.
const DUPLICATE_KEY: i32 = 11_000;

/// One update of a bulk.
#[derive(Debug, Clone)]
pub(crate) struct Update {
    /// Selects the documents.
    pub(crate) filter: Document,
    /// The update pipeline.
    pub(crate) pipeline: Vec<Document>,
    /// Whether all matching documents are updated, or the first.
    multi: bool,
}

impl Update {
    /// Updates at most one document.
    pub(crate) fn one(filter: Document, pipeline: Vec<Document>) -> Self {
        Self {
            filter,
            pipeline,
            multi: false,
        }
    }

    /// Updates any number of documents. The first that fails ends it.
    pub(crate) fn many(filter: Document, pipeline: Vec<Document>) -> Self {
        Self {
            multi: true,
            ..Self::one(filter, pipeline)
        }
    }

    fn document(&self) -> Document {
        doc! { "q": self.filter.clone(), "u": self.pipeline.clone(), "multi": self.multi }
    }
}

/// Error of an update of a bulk, from the job's own to that of all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ItemError {
    /// Another available job has the same unique key.
    Superseded,
    /// Another running job has the same lock key.
    Locked,
    /// A concurrent transaction wrote the document.
    Conflict,
    /// MongoDB refused this update, for example because a field has another type than the update expects.
    Refused(String),
    /// MongoDB did not answer, or not for a majority: the update may be written.
    Unavailable(String),
}

impl From<StoreError> for ItemError {
    fn from(error: StoreError) -> Self {
        match error.kind.as_ref() {
            ErrorKind::Command(command) if command.code == WRITE_CONFLICT => Self::Conflict,
            ErrorKind::Command(command) if command.code == DUPLICATE_KEY => {
                Self::duplicate(&command.message)
            }
            _ if is_unavailable(&error) => Self::Unavailable(error.to_string()),
            _ => Self::Refused(error.to_string()),
        }
    }
}

impl ItemError {
    /// The error of a violated unique index, which MongoDB names in its message only.
    fn duplicate(message: &str) -> Self {
        if message.contains(UNIQUE_INDEX) {
            Self::Superseded
        } else {
            Self::Locked
        }
    }
}

/// Writes the first match of `update` in the order of `sort`, by one command, and returns it as it is then. The command is
/// not a retryable write, for which MongoDB would store the document once more: after an error the caller reads back.
pub(crate) async fn find_one_and_update(
    store: &Store,
    update: Update,
    sort: Document,
    index: &str,
    deadline: Duration,
) -> Result<Option<Document>, ItemError> {
    let command = doc! {
        "findAndModify": "jobs",
        "query": update.filter,
        "sort": sort,
        "hint": index,
        "update": update.pipeline,
        "new": true,
    };
    let mut reply = write(store, command, deadline).await?;
    match reply.remove("value") {
        Some(Bson::Document(updated)) => Ok(Some(updated)),
        _ => Ok(None),
    }
}

/// Runs all updates, unordered. Returns the errors by index; an error affects its own update only.
pub(crate) async fn update(
    store: &Store,
    updates: &[Update],
    deadline: Duration,
) -> BTreeMap<usize, ItemError> {
    match command(store, updates, deadline).await {
        Ok(errors) => errors,
        // A write conflict with an open transaction fails the whole bulk. The other updates must not wait for it.
        Err(_) if updates.len() > 1 => update_individually(store, updates, deadline).await,
        Err(error) => (0..updates.len())
            .map(|index| (index, error.clone()))
            .collect(),
    }
}

/// Runs each update in a command of its own, concurrently.
pub(crate) async fn update_individually(
    store: &Store,
    updates: &[Update],
    deadline: Duration,
) -> BTreeMap<usize, ItemError> {
    let singles = updates
        .iter()
        .map(|update| command(store, std::slice::from_ref(update), deadline));
    let results = join_all(singles).await;
    results
        .into_iter()
        .enumerate()
        .filter_map(|(index, result)| match result {
            Ok(errors) => errors.into_values().next().map(|error| (index, error)),
            Err(error) => Some((index, error)),
        })
        .collect()
}

/// Fails `operation` after `timeout`: the driver does not notice a dead connection, and its caller's loop must go on.
pub(crate) async fn with_timeout<T>(
    timeout: Duration,
    operation: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(timeout, operation)
        .await
        .unwrap_or_else(|_| Err(timed_out(timeout)))
}

async fn command(
    store: &Store,
    updates: &[Update],
    deadline: Duration,
) -> Result<BTreeMap<usize, ItemError>, ItemError> {
    if updates.is_empty() {
        return Ok(BTreeMap::new());
    }
    let command = doc! {
        "update": "jobs",
        "updates": updates.iter().map(Update::document).collect::<Vec<_>>(),
        "ordered": false,
    };
    let reply = write(store, command, deadline).await?;
    let Ok(errors) = reply.get_array("writeErrors") else {
        return Ok(BTreeMap::new());
    };
    Ok(errors
        .iter()
        .filter_map(Bson::as_document)
        .filter_map(item_error)
        .collect())
}

/// Runs a command that writes, acknowledged by a majority, within `deadline`.
async fn write(
    store: &Store,
    mut command: Document,
    deadline: Duration,
) -> Result<Document, ItemError> {
    command.insert("writeConcern", doc! { "w": "majority", "j": true });
    let limit = i64::try_from(deadline.as_millis()).unwrap_or(i64::MAX);
    command.insert("maxTimeMS", limit);
    let reply = with_timeout(
        // After the server's own deadline, whose error is more specific.
        deadline + Duration::from_millis(500),
        async { store.database().run_command(command).await },
    )
    .await?;
    match reply.get_document("writeConcernError") {
        Ok(concern) => Err(ItemError::Unavailable(format!(
            "not acknowledged by a majority: {concern}"
        ))),
        Err(_) => Ok(reply),
    }
}

fn item_error(error: &Document) -> Option<(usize, ItemError)> {
    let index = usize::try_from(error.get_i32("index").ok()?).ok()?;
    let message = error.get_str("errmsg").unwrap_or_default();
    let kind = match error.get_i32("code") {
        Ok(DUPLICATE_KEY) => ItemError::duplicate(message),
        Ok(WRITE_CONFLICT) => ItemError::Conflict,
        _ => ItemError::Refused(message.to_owned()),
    };
    Some((index, kind))
}
