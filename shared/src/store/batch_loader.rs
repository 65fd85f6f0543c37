//! Reads that are asked for at the same time are one query.
//!
//! Every request reads its caller and its tenant. One by one, these two small queries are most of what reading costs
//! MongoDB and us. So while some are under way, those that come meanwhile wait for each other, and go out together.
//! A query always begins after it was asked for: nobody is shown what was read before they came.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bson::{Bson, doc};
use futures::{
    FutureExt as _, TryStreamExt as _,
    future::{BoxFuture, join_all},
};
use mongodb::{Collection, error::ErrorKind};
use serde::de::DeserializeOwned;
use tokio::{sync::oneshot, time::timeout};

use super::StoreError;

/// How many queries may be under way before others wait for each other.
const MAX_IN_FLIGHT: usize = 2;
/// For how long others wait for a query that is under way. One that hangs is in nobody else's way.
const SLOT_TIMEOUT: Duration = Duration::from_millis(100);
/// The most of those who wait that go out together.
const BATCH: usize = 100;

/// Reads the documents with these keys. Those that do not exist are left out.
type Read<K, V> =
    dyn Fn(Vec<K>) -> BoxFuture<'static, Result<HashMap<K, V>, StoreError>> + Send + Sync;

/// Reads documents by key.
pub(super) struct BatchLoader<K, V> {
    read: Box<Read<K, V>>,
    line: Mutex<Pending<K, V>>,
}

struct Pending<K, V> {
    /// First come, first served.
    waiting: VecDeque<(K, Reply<V>)>,
    under_way: usize,
}

/// Those who wait, by what they wait for.
type Batch<K, V> = HashMap<K, Vec<Reply<V>>>;
type Reply<V> = oneshot::Sender<Result<Option<Arc<V>>, StoreError>>;

impl<K, V> BatchLoader<K, V>
where
    K: Clone + Eq + Hash + Into<Bson> + Send + 'static,
    V: Clone + DeserializeOwned + Send + Sync + Unpin + 'static,
{
    /// Reads the documents of `collection` by what stands in `field`, which no two share and `key` knows of each.
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
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new(
        read: impl Fn(Vec<K>) -> BoxFuture<'static, Result<HashMap<K, V>, StoreError>>
        + Send
        + Sync
        + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            read: Box::new(read),
            line: Mutex::new(Pending {
                waiting: VecDeque::new(),
                under_way: 0,
            }),
        })
    }

    /// The document with this key, as it is at some moment from now on.
    pub(super) async fn find(self: &Arc<Self>, key: K) -> Result<Option<V>, StoreError> {
        let (tell, told) = oneshot::channel();
        let goes_out = {
            let mut line = self.line();
            line.waiting.push_back((key, tell));
            let goes_out = line.under_way < MAX_IN_FLIGHT;
            line.under_way += usize::from(goes_out);
            goes_out
        };
        if goes_out {
            tokio::spawn(self.clone().drain());
        }
        let found = told.await.map_err(|_| interrupted())??;
        Ok(found.map(Arc::unwrap_or_clone))
    }

    async fn drain(self: Arc<Self>) {
        while let Some(batch) = self.next_batch() {
            // A task of its own, which goes on when nobody waits for it any more, and may panic.
            let reading = tokio::spawn(self.clone().read_batch(batch));
            let _ = timeout(SLOT_TIMEOUT, reading).await;
        }
    }

    async fn read_batch(self: Arc<Self>, batch: Batch<K, V>) {
        match self.read_all(batch.keys().cloned().collect()).await {
            Err(error) if batch.len() > 1 && is_about_a_document(&error) => {
                let alone = batch.into_iter().map(async |(key, waiting)| {
                    let found = self.read_all(vec![key.clone()]).await;
                    reply_all(&found, HashMap::from([(key, waiting)]));
                });
                join_all(alone).await;
            }
            found => reply_all(&found, batch),
        }
    }

    async fn read_all(&self, keys: Vec<K>) -> Result<HashMap<K, Arc<V>>, StoreError> {
        let found = (self.read)(keys).await?;
        let shared = found.into_iter().map(|(key, value)| (key, Arc::new(value)));
        Ok(shared.collect())
    }

    /// Those who have waited longest. Nobody, and there is one less under way.
    fn next_batch(&self) -> Option<Batch<K, V>> {
        let mut line = self.line();
        if line.waiting.is_empty() {
            line.under_way -= 1;
            return None;
        }
        let size = line.waiting.len().min(BATCH);
        let mut batch: Batch<K, V> = HashMap::new();
        for (key, tell) in line.waiting.drain(..size) {
            batch.entry(key).or_default().push(tell);
        }
        Some(batch)
    }

    fn line(&self) -> MutexGuard<'_, Pending<K, V>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn reply_all<K: Eq + Hash, V>(found: &Result<HashMap<K, Arc<V>>, StoreError>, batch: Batch<K, V>) {
    for (key, waiting) in batch {
        for tell in waiting {
            let outcome = match found {
                Ok(found) => Ok(found.get(&key).cloned()),
                Err(error) => Err(error.clone()),
            };
            // Who is no longer there needs nothing.
            let _ = tell.send(outcome);
        }
    }
}

/// Whether one document that cannot be understood is to blame: the others are none the worse for it.
fn is_about_a_document(error: &StoreError) -> bool {
    matches!(
        &*error.kind,
        ErrorKind::BsonDeserialization(_) | ErrorKind::Bson(_)
    )
}

/// The reader is gone, as when the process ends.
fn interrupted() -> StoreError {
    StoreError::custom("the read was interrupted")
}

impl<K, V> std::fmt::Debug for BatchLoader<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Together").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    /// The keys of each query.
    type Queries = Arc<Mutex<Vec<Vec<u32>>>>;

    /// Reads squares of even numbers, when it is let; says which keys each query had.
    fn squares(let_go: &Arc<Semaphore>) -> (Arc<BatchLoader<u32, u32>>, Queries) {
        let queries = Arc::new(Mutex::new(Vec::new()));
        let (let_go, asked) = (let_go.clone(), queries.clone());
        let together = BatchLoader::new(move |mut keys: Vec<u32>| {
            let (let_go, asked) = (let_go.clone(), asked.clone());
            async move {
                keys.sort_unstable();
                asked.lock().unwrap().push(keys.clone());
                let_go.acquire().await.unwrap().forget();
                let even = keys.into_iter().filter(|key| key % 2 == 0);
                Ok(even.map(|key| (key, key * key)).collect())
            }
            .boxed()
        });
        (together, queries)
    }

    #[tokio::test]
    async fn those_who_come_while_others_are_read_go_out_together() {
        let let_go = Arc::new(Semaphore::new(0));
        let (together, queries) = squares(&let_go);
        let reads = join_all((0..10).map(|key| {
            let together = together.clone();
            async move { together.find(key).await.unwrap() }
        }));
        let_go.add_permits(10);
        let found = reads.await;

        let squares: Vec<_> = (0..10).map(|n| (n % 2 == 0).then_some(n * n)).collect();
        assert_eq!(found, squares);
        assert!(queries.lock().unwrap().len() <= MAX_IN_FLIGHT + 1);
    }

    #[tokio::test]
    async fn a_read_never_begins_before_it_was_asked_for() {
        let let_go = Arc::new(Semaphore::new(0));
        let (together, queries) = squares(&let_go);
        let mut readers = Vec::new();
        for _ in 0..MAX_IN_FLIGHT {
            let together = together.clone();
            readers.push(tokio::spawn(async move { together.find(2).await }));
            while queries.lock().unwrap().len() < readers.len() {
                tokio::task::yield_now().await;
            }
        }

        let mut late = Box::pin(together.find(2));
        assert!(late.as_mut().now_or_never().is_none());
        let_go.add_permits(MAX_IN_FLIGHT + 1);

        assert_eq!(late.await.unwrap(), Some(4));
        // The same key, and yet read once more.
        assert_eq!(queries.lock().unwrap().len(), MAX_IN_FLIGHT + 1);
    }

    #[tokio::test]
    async fn many_keys_are_several_queries() {
        let let_go = Arc::new(Semaphore::new(100));
        let (together, queries) = squares(&let_go);

        let keys = 0..1_000_u32;
        let found = join_all(keys.map(|key| together.find(key))).await;

        assert!(found.iter().all(Result::is_ok));
        let queries = queries.lock().unwrap();
        assert!(queries.iter().all(|keys| keys.len() <= BATCH));
        assert_eq!(queries.iter().map(Vec::len).sum::<usize>(), 1_000);
    }

    #[tokio::test]
    async fn an_error_is_told_to_all_who_asked() {
        let together: Arc<BatchLoader<u32, u32>> =
            BatchLoader::new(|_| async { Err(StoreError::custom("away")) }.boxed());

        let found = join_all((0..5).map(|key| together.find(key))).await;

        assert!(found.iter().all(Result::is_err));
    }

    #[tokio::test]
    async fn a_document_that_cannot_be_understood_is_in_nobody_elses_way() {
        let together = BatchLoader::new(|keys: Vec<u32>| {
            async move {
                if keys.contains(&3) {
                    let broken: Result<String, _> = bson::deserialize_from_bson(bson::Bson::Null);
                    return Err(StoreError::from(broken.unwrap_err()));
                }
                Ok(keys.into_iter().map(|key| (key, key)).collect())
            }
            .boxed()
        });

        let found = join_all((0..10).map(|key| together.find(key))).await;

        for (key, found) in (0..).zip(found) {
            assert_eq!(found.ok().flatten(), (key != 3).then_some(key));
        }
    }

    #[tokio::test]
    async fn queries_that_hang_or_panic_are_in_nobody_elses_way() {
        for bad in ["hang", "panic"] {
            let together = BatchLoader::new(|keys: Vec<&str>| {
                async move {
                    match keys[0] {
                        "hang" => std::future::pending().await,
                        "panic" => panic!("a document that nobody expected"),
                        _ => Ok(keys.into_iter().map(|key| (key, key)).collect()),
                    }
                }
                .boxed()
            });
            for _ in 0..MAX_IN_FLIGHT {
                let together = together.clone();
                tokio::spawn(async move { together.find(bad).await });
                tokio::task::yield_now().await;
            }

            let found = together.find("good").await;

            assert_eq!(found.unwrap(), Some("good"), "{bad}");
        }
    }

    #[tokio::test]
    async fn whoever_goes_away_takes_nothing_from_the_others() {
        let let_go = Arc::new(Semaphore::new(0));
        let (together, _) = squares(&let_go);
        let mut gone = Box::pin(together.find(2));
        assert!(gone.as_mut().now_or_never().is_none());
        drop(gone);
        let_go.add_permits(2);

        assert_eq!(together.find(4).await.unwrap(), Some(16));
    }
}
