//! Keyset pagination: a page starts after the id of the last document of the page before, at the same cost for every page.

use bson::{Bson, Document, doc};
use mongodb::Collection;
use serde::de::DeserializeOwned;

use super::{StoreError, lenient::take_decodable};

/// At most `limit` documents that match `filter`, by `_id`, after `after`. Skips those of a newer build.
pub(super) async fn page<T: DeserializeOwned + Send + Sync>(
    collection: &Collection<T>,
    mut filter: Document,
    after: Option<impl Into<Bson>>,
    limit: i64,
) -> Result<Vec<T>, StoreError> {
    if let Some(after) = after {
        filter.insert("_id", doc! { "$gt": after });
    }
    let documents = collection.clone_with_type::<Document>();
    take_decodable(documents.find(filter).sort(doc! { "_id": 1 }), limit).await
}

/// At most `limit` documents that match `filter`, by `_id`, before `before`, the newest first. Skips those of a newer build.
pub(super) async fn newest_page<T: DeserializeOwned + Send + Sync>(
    collection: &Collection<T>,
    mut filter: Document,
    before: Option<impl Into<Bson>>,
    limit: i64,
) -> Result<Vec<T>, StoreError> {
    if let Some(before) = before {
        filter.insert("_id", doc! { "$lt": before });
    }
    let documents = collection.clone_with_type::<Document>();
    take_decodable(documents.find(filter).sort(doc! { "_id": -1 }), limit).await
}
