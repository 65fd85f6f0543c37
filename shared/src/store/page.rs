//! Keyset pagination: a page starts after the id of the last document of the page before, at the same cost for every page.

use bson::{Bson, Document, doc};
use futures::TryStreamExt as _;
use mongodb::Collection;
use serde::de::DeserializeOwned;

use super::StoreError;

/// At most `limit` documents that match `filter`, by `_id`, after `after`.
pub(super) async fn page<T: DeserializeOwned + Send + Sync + Unpin>(
    collection: &Collection<T>,
    mut filter: Document,
    after: Option<impl Into<Bson>>,
    limit: i64,
) -> Result<Vec<T>, StoreError> {
    if let Some(after) = after {
        filter.insert("_id", doc! { "$gt": after });
    }
    collection
        .find(filter)
        .sort(doc! { "_id": 1 })
        .limit(limit)
        .await?
        .try_collect()
        .await
}
