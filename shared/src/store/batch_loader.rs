//! Batch loader: coalesces concurrent point reads into one `$in` query.
//!
//! Every request reads its caller and its tenant, and separate queries for these would be most of the read load on
//! MongoDB. Point reads that arrive while others are in flight are therefore sent together. A query always begins after
//! it was requested, so a caller never receives a document older than its own request.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    hash::Hash,
    sync::Arc,
    time::Duration,
};

use bson::{Bson, doc};
use futures::{
    FutureExt as _, TryStreamExt as _,
    future::{BoxFuture, join_all},
};
use mongodb::Collection;
use serde::de::DeserializeOwned;

use super::{StoreError, is_undecodable};
use crate::platform::coalescer::{Coalescer, Limits};

/// Number of queries in flight from which further reads share one.
const MAX_IN_FLIGHT: usize = 2;
/// Time after which a hanging query no longer delays others.
const SLOT_TIMEOUT: Duration = Duration::from_millis(100);
/// Maximum number of keys of one query.
const BATCH: usize = 100;

/// Reads the documents with these keys; missing documents are omitted.
type Read<K, V> =
    dyn Fn(Vec<K>) -> BoxFuture<'static, Result<HashMap<K, V>, StoreError>> + Send + Sync;

/// Result of a shared read. Missing documents are omitted.
type Found<K, V> = Arc<HashMap<K, Result<V, StoreError>>>;

/// Batch loader of documents by key.
pub(super) struct BatchLoader<K, V> {
    read: Arc<Read<K, V>>,
    coalescer: Coalescer<HashSet<K>, Found<K, V>>,
}

impl<K, V> BatchLoader<K, V>
where
    K: Clone + Eq + Hash + Into<Bson> + Send + Sync + 'static,
    V: Clone + DeserializeOwned + Send + Sync + Unpin + 'static,
{
    /// A loader of the documents of `collection` by the unique `field`, which `key` returns.
    pub(super) fn by(
        collection: &Collection<V>,
        field: &'static str,
        key: fn(&V) -> K,
    ) -> Arc<Self> {
        let collection = collection.clone();
        Self::new(move |keys| {
            let collection = collection.clone();
            async move {
                let found = collection.find(doc! { field: { "$in": keys } }).await?;
                found
                    .map_ok(|document| (key(&document), document))
                    .try_collect()
                    .await
            }
            .boxed()
        })
    }
}

impl<K, V> BatchLoader<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new(
        read: impl Fn(Vec<K>) -> BoxFuture<'static, Result<HashMap<K, V>, StoreError>>
        + Send
        + Sync
        + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            read: Arc::new(read),
            coalescer: Coalescer::new(Limits {
                in_flight: MAX_IN_FLIGHT,
                slot_timeout: Some(SLOT_TIMEOUT),
                pause: |_, _| Duration::ZERO,
            }),
        })
    }

    /// The document with this key, read after the call.
    pub(super) async fn find(&self, key: K) -> Result<Option<V>, StoreError> {
        let read = self.read.clone();
        let join = |keys: &mut HashSet<K>| {
            keys.insert(key.clone());
        };
        let found = self.coalescer.load(join, |keys| read_all(read, keys)).await;
        found.get(&key).cloned().transpose()
    }
}

async fn read_all<K, V>(read: Arc<Read<K, V>>, keys: HashSet<K>) -> Found<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let keys: Vec<K> = keys.into_iter().collect();
    let batches = keys.chunks(BATCH).map(|batch| {
        let (read, batch) = (read.clone(), batch.to_vec());
        // A task of its own, so that a panic is an error for all callers.
        let reading = tokio::spawn(read_batch(read, batch.clone()));
        async move {
            let failed = |_| all_failed(batch, &interrupted());
            reading.await.unwrap_or_else(failed)
        }
    });
    Arc::new(join_all(batches).await.into_iter().flatten().collect())
}

async fn read_batch<K, V>(read: Arc<Read<K, V>>, keys: Vec<K>) -> HashMap<K, Result<V, StoreError>>
where
    K: Clone + Eq + Hash,
{
    match read(keys.clone()).await {
        Ok(found) => found
            .into_iter()
            .map(|(key, document)| (key, Ok(document)))
            .collect(),
        // A single document caused it: the others can still be read.
        Err(error) if keys.len() > 1 && is_undecodable(&error) => {
            let single = keys.into_iter().map(async |key| {
                let found = read(vec![key.clone()]).await;
                let found = found.map(|mut found| found.remove(&key)).transpose();
                found.map(|found| (key, found))
            });
            join_all(single).await.into_iter().flatten().collect()
        }
        Err(error) => all_failed(keys, &error),
    }
}

fn all_failed<K: Eq + Hash, V>(
    keys: Vec<K>,
    error: &StoreError,
) -> HashMap<K, Result<V, StoreError>> {
    keys.into_iter()
        .map(|key| (key, Err(error.clone())))
        .collect()
}

/// Error of a read that panicked or was cut off by a shutdown.
fn interrupted() -> StoreError {
    StoreError::custom("the read was interrupted".to_owned())
}

impl<K, V> fmt::Debug for BatchLoader<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchLoader").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::Semaphore;

    use super::*;

    /// The keys of each query.
    type Queries = Arc<Mutex<Vec<Vec<u32>>>>;

    /// A loader of the squares of even numbers, one query for each permit, and the queries so far.
    fn squares(permits: &Arc<Semaphore>) -> (Arc<BatchLoader<u32, u32>>, Queries) {
        let queries = Arc::new(Mutex::new(Vec::new()));
        let (permits, recorded) = (permits.clone(), queries.clone());
        let loader = BatchLoader::new(move |mut keys: Vec<u32>| {
            let (permits, recorded) = (permits.clone(), recorded.clone());
            async move {
                keys.sort_unstable();
                recorded.lock().unwrap().push(keys.clone());
                permits.acquire().await.unwrap().forget();
                let even = keys.into_iter().filter(|key| key % 2 == 0);
                Ok(even.map(|key| (key, key * key)).collect())
            }
            .boxed()
        });
        (loader, queries)
    }

    #[tokio::test]
    async fn reads_that_arrive_while_others_are_in_flight_share_a_query() {
        let permits = Arc::new(Semaphore::new(0));
        let (loader, queries) = squares(&permits);
        let reads = join_all((0..10).map(|key| {
            let loader = loader.clone();
            async move { loader.find(key).await.unwrap() }
        }));
        permits.add_permits(10);
        let found = reads.await;

        let squares: Vec<_> = (0..10).map(|n| (n % 2 == 0).then_some(n * n)).collect();
        assert_eq!(found, squares);
        assert!(queries.lock().unwrap().len() <= MAX_IN_FLIGHT + 1);
    }

    #[tokio::test]
    async fn a_query_never_begins_before_it_was_requested() {
        let permits = Arc::new(Semaphore::new(0));
        let (loader, queries) = squares(&permits);
        let mut readers = Vec::new();
        for _ in 0..MAX_IN_FLIGHT {
            let loader = loader.clone();
            readers.push(tokio::spawn(async move { loader.find(2).await }));
            while queries.lock().unwrap().len() < readers.len() {
                tokio::task::yield_now().await;
            }
        }

        let mut late = Box::pin(loader.find(2));
        assert!(late.as_mut().now_or_never().is_none());
        permits.add_permits(MAX_IN_FLIGHT + 1);

        assert_eq!(late.await.unwrap(), Some(4));
        // The key is read again, although it is in flight.
        assert_eq!(queries.lock().unwrap().len(), MAX_IN_FLIGHT + 1);
    }

    #[tokio::test]
    async fn many_keys_are_split_into_several_queries() {
        let permits = Arc::new(Semaphore::new(100));
        let (loader, queries) = squares(&permits);

        let keys = 0..1_000_u32;
        let found = join_all(keys.map(|key| loader.find(key))).await;

        assert!(found.iter().all(Result::is_ok));
        let queries = queries.lock().unwrap();
        assert!(queries.iter().all(|keys| keys.len() <= BATCH));
        assert_eq!(queries.iter().map(Vec::len).sum::<usize>(), 1_000);
    }

    #[tokio::test]
    async fn every_caller_receives_an_error() {
        let loader: Arc<BatchLoader<u32, u32>> =
            BatchLoader::new(|_| async { Err(StoreError::custom("away".to_owned())) }.boxed());

        let found = join_all((0..5).map(|key| loader.find(key))).await;

        assert!(found.iter().all(Result::is_err));
    }

    #[tokio::test]
    async fn an_undecodable_document_does_not_affect_the_others() {
        let loader = BatchLoader::new(|keys: Vec<u32>| {
            async move {
                if keys.contains(&3) {
                    let broken: Result<String, _> = bson::deserialize_from_bson(bson::Bson::Null);
                    return Err(StoreError::from(broken.unwrap_err()));
                }
                Ok(keys.into_iter().map(|key| (key, key)).collect())
            }
            .boxed()
        });

        let found = join_all((0..10).map(|key| loader.find(key))).await;

        for (key, found) in (0..).zip(found) {
            assert_eq!(found.ok().flatten(), (key != 3).then_some(key));
        }
    }

    #[tokio::test]
    async fn queries_that_hang_or_panic_do_not_delay_others() {
        for bad in ["hang", "panic"] {
            let loader = BatchLoader::new(|keys: Vec<&str>| {
                async move {
                    match keys[0] {
                        "hang" => std::future::pending().await,
                        "panic" => panic!("an unexpected document"),
                        _ => Ok(keys.into_iter().map(|key| (key, key)).collect()),
                    }
                }
                .boxed()
            });
            for _ in 0..MAX_IN_FLIGHT {
                let loader = loader.clone();
                tokio::spawn(async move { loader.find(bad).await });
                tokio::task::yield_now().await;
            }

            let found = loader.find("good").await;

            assert_eq!(found.unwrap(), Some("good"), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_dropped_caller_does_not_affect_the_others() {
        let permits = Arc::new(Semaphore::new(0));
        let (loader, _) = squares(&permits);
        let mut dropped = Box::pin(loader.find(2));
        assert!(dropped.as_mut().now_or_never().is_none());
        drop(dropped);
        permits.add_permits(2);

        assert_eq!(loader.find(4).await.unwrap(), Some(16));
    }
}
