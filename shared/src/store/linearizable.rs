//! Linearizable re-read on a miss: a new primary may not serve the last majority-committed insert yet.
//!
//! A new primary holds all acknowledged writes, but until it has learnt that a majority has them, a `majority` read may
//! miss a recent document. A `linearizable` read waits for that, at the price of a no-op write. A document that is
//! found may be stale for as long.

use std::time::Duration;

use bson::Document;
use mongodb::{Collection, options::ReadConcern};
use serde::de::DeserializeOwned;

use super::StoreError;

/// Time limit of the re-read. Without a majority it would never finish.
const PATIENCE: Duration = Duration::from_secs(3);

/// The document matching the unique `filter`; `None` only if it definitely does not exist.
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

/// Re-reads with linearizable read concern if `found` is `None`.
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
