//! Many updates of jobs in one command.
//!
//! The driver offers bulks over one collection only from MongoDB 8.0 on; the `update` command has always taken them.

use std::{collections::BTreeMap, time::Duration};

use bson::{Bson, Document, doc};
use dezky_shared::store::{Store, StoreError, jobs::UNIQUE_INDEX};
use futures::future::join_all;

/// One update of a bulk.
#[derive(Debug, Clone)]
pub(crate) struct Update {
    /// Which documents.
    pub(crate) filter: Document,
    /// What is done with it: a pipeline.
    pub(crate) pipeline: Vec<Document>,
    /// Whether it is about every document that `filter` finds.
    multi: bool,
}

impl Update {
    /// An update of at most one document.
    pub(crate) fn one(filter: Document, pipeline: Vec<Document>) -> Self {
        Self {
            filter,
            pipeline,
            multi: false,
        }
    }

    /// An update of any number of documents. It ends with the first that cannot be updated.
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

/// Why one item of a bulk was not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ItemError {
    /// Another job with the same unique key waits.
    Superseded,
    /// Another job with the same lock key runs.
    Locked,
    /// Whether it was written is not known.
    Unknown(String),
}

/// Runs all updates, in no order. Items that failed are named by their index; a failure concerns its own item.
pub(crate) async fn update(
    store: &Store,
    updates: &[Update],
    deadline: Duration,
) -> BTreeMap<usize, ItemError> {
    match command(store, updates, deadline).await {
        Ok(errors) => errors,
        // An item that an open transaction holds makes the whole bulk fail: the others must not wait for it.
        Err(_) if updates.len() > 1 => update_individually(store, updates, deadline).await,
        Err(error) => (0..updates.len())
            .map(|index| (index, ItemError::Unknown(error.to_string())))
            .collect(),
    }
}

/// Runs each update in a command of its own.
pub(crate) async fn update_individually(
    store: &Store,
    updates: &[Update],
    deadline: Duration,
) -> BTreeMap<usize, ItemError> {
    let singles = updates
        .iter()
        .map(|update| command(store, std::slice::from_ref(update), deadline));
    let outcomes = join_all(singles).await;
    outcomes
        .into_iter()
        .enumerate()
        .filter_map(|(index, outcome)| match outcome {
            Ok(errors) => errors.into_values().next().map(|error| (index, error)),
            Err(error) => Some((index, ItemError::Unknown(error.to_string()))),
        })
        .collect()
}

/// What `question` answers within `deadline`: a connection that died unnoticed must not hold up the loop that asks.
pub(crate) async fn with_timeout<T>(
    deadline: Duration,
    question: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(deadline, question)
        .await
        .unwrap_or_else(|_| Err(StoreError::custom("no answer in time")))
}

async fn command(
    store: &Store,
    updates: &[Update],
    deadline: Duration,
) -> Result<BTreeMap<usize, ItemError>, StoreError> {
    if updates.is_empty() {
        return Ok(BTreeMap::new());
    }
    let command = doc! {
        "update": "jobs",
        "updates": updates.iter().map(Update::document).collect::<Vec<_>>(),
        "ordered": false,
        "writeConcern": { "w": "majority", "j": true },
        "maxTimeMS": i64::try_from(deadline.as_millis()).unwrap_or(i64::MAX),
    };
    let answer = with_timeout(
        // The server's own deadline comes first: its answer says more than silence.
        deadline + Duration::from_millis(500),
        async { store.database().run_command(command).await },
    )
    .await?;
    if let Ok(concern) = answer.get_document("writeConcernError") {
        return Err(StoreError::custom(format!(
            "not acknowledged by a majority: {concern}"
        )));
    }
    let Ok(errors) = answer.get_array("writeErrors") else {
        return Ok(BTreeMap::new());
    };
    Ok(errors
        .iter()
        .filter_map(Bson::as_document)
        .filter_map(item_error)
        .collect())
}

fn item_error(error: &Document) -> Option<(usize, ItemError)> {
    let index = usize::try_from(error.get_i32("index").ok()?).ok()?;
    let message = error.get_str("errmsg").unwrap_or_default();
    let kind = match error.get_i32("code") {
        Ok(11000) if message.contains(UNIQUE_INDEX) => ItemError::Superseded,
        Ok(11000) => ItemError::Locked,
        _ => ItemError::Unknown(message.to_owned()),
    };
    Some((index, kind))
}
