//! Linearizable re-read on a miss: a new primary may not serve the last majority-committed insert yet.
//!
//! A new primary holds all acknowledged writes, but until it has committed an entry of its own term, a `majority` read
//! may miss a recent document. A `linearizable` read waits for that, at the price of a no-op write and a tenth of a
//! second. A settled primary, which is every primary some milliseconds after its election, is asked again with a plain
//! read.
//!
//! A primary that was deposed and does not know it yet, for ten seconds at most, counts as settled too: during a network
//! partition a read from it may miss what its successor acknowledged, and a document that is found may be as stale. That
//! is accepted for a 404, after which the caller can ask again. A decision that must not rest on it confirms
//! the miss with [`confirm_missing`].
//!
//! The queries after a miss would tell a caller who may not know a document that it does not exist. A response that
//! conceals an existing document is therefore preceded by the same queries.

use std::time::Duration;

use bson::{Document, doc};
use mongodb::{Collection, options::ReadConcern};
use serde::de::DeserializeOwned;

use super::{Store, StoreError};

/// Time limit of the re-read. Without a majority it would never finish.
const RECHECK_TIMEOUT: Duration = Duration::from_secs(3);

/// The document matching the unique `filter`; `None` if it does not exist, except [behind a partition](self).
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

/// Re-reads after a miss: linearizable, unless the primary is settled.
pub(super) async fn recheck_linearizable<T>(
    collection: &Collection<T>,
    filter: Document,
) -> Result<Option<T>, StoreError>
where
    T: DeserializeOwned + Send + Sync,
{
    let is_settled = is_primary_settled(collection).await?;
    let read = collection.find_one(filter).max_time(RECHECK_TIMEOUT);
    if is_settled {
        read.await
    } else {
        read.read_concern(ReadConcern::linearizable()).await
    }
}

/// Re-reads after a miss with a linearizable read; `None` only if the document definitely does not exist. Takes a tenth of
/// a second.
pub(super) async fn confirm_missing<T>(
    collection: &Collection<T>,
    filter: Document,
) -> Result<Option<T>, StoreError>
where
    T: DeserializeOwned + Send + Sync,
{
    collection
        .find_one(filter)
        .max_time(RECHECK_TIMEOUT)
        .read_concern(ReadConcern::linearizable())
        .await
}

impl Store {
    /// Makes the queries that follow a miss, before a document that exists is concealed as missing. `reads` is how many
    /// queries the permission check made in addition to finding the document.
    pub async fn conceal(&self, reads: u32) -> Result<(), StoreError> {
        let tenants = self.collection::<Document>("tenants");
        is_primary_settled(&tenants).await?;
        if reads == 0 {
            tenants.find_one(doc! { "_id": "concealed" }).await?;
        }
        Ok(())
    }
}

/// Whether the primary has committed an entry of its own term, so that its `majority` reads return every acknowledged
/// write.
async fn is_primary_settled<T: Send + Sync>(
    collection: &Collection<T>,
) -> Result<bool, StoreError> {
    let admin = collection.client().database("admin");
    let hello = admin.run_command(doc! { "hello": 1 }).await?;
    let term = election_term(&hello);
    Ok(term.is_some() && term == committed_term(&hello))
}

/// Term in which the primary was elected: the last eight bytes of `electionId`.
fn election_term(hello: &Document) -> Option<i64> {
    let id = hello.get_object_id("electionId").ok()?.bytes();
    let term = id[4..].try_into().ok()?;
    Some(i64::from_be_bytes(term))
}

/// Term of the last majority-committed entry.
fn committed_term(hello: &Document) -> Option<i64> {
    let last = hello.get_document("lastWrite").ok()?;
    let committed = last.get_document("majorityOpTime").ok()?;
    committed.get_i64("t").ok()
}

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;

    use super::*;

    #[test]
    fn a_primary_is_settled_once_an_entry_of_its_term_is_committed() {
        let id: ObjectId = "7fffffff0000000000000103".parse().unwrap();
        let hello = |term: i64| {
            doc! { "electionId": id, "lastWrite": { "majorityOpTime": { "t": term } } }
        };

        assert_eq!(election_term(&hello(1)), Some(259));
        assert_eq!(committed_term(&hello(258)), Some(258));
        assert_eq!(election_term(&doc! {}), None);
        assert_eq!(committed_term(&doc! {}), None);
    }
}
