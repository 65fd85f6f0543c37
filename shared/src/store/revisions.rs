//! Revisions of many documents, which watchers compare instead of the documents themselves.

use bson::{Bson, doc};
use futures::TryStreamExt as _;
use mongodb::Collection;
use serde::{Deserialize, de::DeserializeOwned};

use super::StoreError;

#[derive(Deserialize)]
struct Revision<I> {
    #[serde(rename = "_id")]
    id: I,
    revision: i64,
}

/// Id and revision of each of these documents that exists.
pub(super) async fn revisions<I, T>(
    collection: &Collection<T>,
    ids: &[I],
) -> Result<Vec<(I, i64)>, StoreError>
where
    I: Copy + Into<Bson> + DeserializeOwned + Send + Sync + Unpin,
    T: Send + Sync,
{
    let ids: Vec<Bson> = ids.iter().map(|id| (*id).into()).collect();
    let found: Vec<Revision<I>> = collection
        .clone_with_type()
        .find(doc! { "_id": { "$in": ids } })
        .projection(doc! { "revision": 1 })
        .await?
        .try_collect()
        .await?;
    Ok(found
        .into_iter()
        .map(|document| (document.id, document.revision))
        .collect())
}
