//! Before anybody is told that something does not exist, it is looked for once more.
//!
//! A node that has just become primary holds all that was acknowledged, but does not know yet that a majority does: what
//! is read with `majority` meanwhile may miss a document that was made a moment ago. A `linearizable` read waits until
//! the node knows, at the price of a write of nothing. What is found may be out of date for as long.

use std::time::Duration;

use bson::Document;
use mongodb::{Collection, options::ReadConcern};
use serde::de::DeserializeOwned;

use super::StoreError;

/// How long a node may take to make sure. Without a majority it never will.
const PATIENCE: Duration = Duration::from_secs(3);

/// The document that `filter` finds, of which there is at most one; `None` only if there surely is none.
pub(super) async fn find_one_linearizable<T>(
    collection: &Collection<T>,
    filter: Document,
) -> Result<Option<T>, StoreError>
where
    T: DeserializeOwned + Send + Sync,
{
    match collection.find_one(filter.clone()).await? {
        Some(found) => Ok(Some(found)),
        None => recheck_linearizable(collection, filter).await,
    }
}

/// The same for what was looked for already, and not found.
pub(super) async fn recheck_linearizable<T>(
    collection: &Collection<T>,
    filter: Document,
) -> Result<Option<T>, StoreError>
where
    T: DeserializeOwned + Send + Sync,
{
    collection
        .find_one(filter)
        .read_concern(ReadConcern::linearizable())
        .max_time(PATIENCE)
        .await
}
