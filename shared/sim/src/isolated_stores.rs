//! Isolated stores for a test: an empty database and an unused Redis prefix.

use std::{
    env,
    fs::{self, File},
    path::PathBuf,
    sync::Arc,
};

use anyhow::Context as _;
use dezky_shared::{
    platform::config::{optional, required},
    store::{self, Store, StoreError},
};
use nix::fcntl::{Flock, FlockArg};
use redis::AsyncCommands as _;
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{
    database_pool::{PooledDatabase, block_on, drop_database},
    stores::{Mongo, Redis},
};

/// Variable with the address of the MongoDB that tests share.
pub const MONGODB_URI: &str = "DEZKY_TEST_MONGODB_URI";
/// Variable with the address of the Redis that tests share.
pub const REDIS_URL: &str = "DEZKY_TEST_REDIS_URL";
/// The variable with the directory that holds the binaries which end-to-end tests run.
pub const BINARIES: &str = "DEZKY_TEST_BINARIES";

/// The variable with the directory that holds the issuer's keys, shared by all tests that do not change them.
pub const ISSUER_KEYS: &str = "DEZKY_TEST_ISSUER_KEYS";
/// The variable in which nextest passes the id of a test run.
const RUN: &str = "NEXTEST_RUN_ID";

/// Hint when a variable is missing.
const HOW: &str = "run tests that need MongoDB and Redis with `cargo dev test`";

/// An empty database and an unused Redis key prefix of this test alone. Both are emptied with this value, on a best-effort
/// basis.
#[derive(Debug)]
pub struct FreshStores {
    /// MongoDB connection string.
    pub mongodb_uri: String,
    /// Database name.
    pub database: String,
    /// Redis URL.
    pub redis_url: String,
    /// Prefix of every Redis key, without the colon that follows: `<prefix>:ready:<queue>`.
    pub redis_prefix: String,
    /// Lock on a database of the pool; `None` drops the database.
    pooled: Option<PooledDatabase>,
}

impl FreshStores {
    /// New stores in the MongoDB and Redis that `cargo dev test` runs. The database may have the collections and indexes of
    /// an earlier test.
    pub fn new() -> anyhow::Result<Self> {
        let mut stores = Self::unshared()?;
        if let Some(run) = optional::<String>(RUN)? {
            let pooled = PooledDatabase::acquire(&stores.mongodb_uri, &run)?;
            stores.database.clone_from(&pooled.name);
            stores.pooled = Some(pooled);
        }
        Ok(stores)
    }

    /// As [`FreshStores::new`], with a database that does not exist yet.
    pub fn unshared() -> anyhow::Result<Self> {
        Ok(Self::at(
            required(MONGODB_URI).context(HOW)?,
            required(REDIS_URL).context(HOW)?,
        ))
    }

    /// Creates the indexes of the database, unless it has those of an earlier test.
    pub async fn ensure_indexes(&mut self, store: &Arc<Store>) -> Result<(), StoreError> {
        if self.pooled.as_ref().is_some_and(PooledDatabase::is_indexed) {
            return Ok(());
        }
        store::ensure_indexes(store).await?;
        if let Some(pooled) = &mut self.pooled {
            pooled.set_indexed(store.database()).await?;
        }
        Ok(())
    }

    /// New stores in servers of the test's own, which it may kill and flush.
    pub fn on(mongo: &Mongo, redis: &Redis) -> Self {
        Self::at(mongo.uri.clone(), redis.url.clone())
    }

    fn at(mongodb_uri: String, redis_url: String) -> Self {
        let name = format!("test_{}", Uuid::now_v7().simple());
        Self {
            mongodb_uri,
            database: name.clone(),
            redis_url,
            redis_prefix: name,
            pooled: None,
        }
    }
}

impl Drop for FreshStores {
    fn drop(&mut self) {
        let (url, prefix) = (self.redis_url.clone(), self.redis_prefix.clone());
        // A leftover database or key does no harm: its name is never reused.
        let _ = block_on(async move { Ok(drop_keys(&url, &prefix).await?) });
        if self.pooled.is_none() {
            let _ = block_on(drop_database(
                self.mongodb_uri.clone(),
                self.database.clone(),
            ));
        }
    }
}

async fn drop_keys(url: &str, prefix: &str) -> redis::RedisResult<()> {
    let client = redis::Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut keys = Vec::new();
    let mut found = connection
        .scan_match::<_, String>(format!("{prefix}:*"))
        .await?;
    while let Some(key) = found.next_item().await {
        keys.push(key?);
    }
    drop(found);
    if keys.is_empty() {
        return Ok(());
    }
    connection.del(keys).await
}

/// Computes `name` once per test run: the first process that asks stores the value for the others. Each test is a process
/// of its own. Without nextest, each process computes it.
pub async fn once_per_run<T>(name: &str, compute: impl AsyncFnOnce() -> T) -> anyhow::Result<T>
where
    T: Serialize + DeserializeOwned,
{
    let Some(run) = optional::<String>(RUN)? else {
        return Ok(compute().await);
    };
    let stored = env::temp_dir().join(format!("dezky-{run}-{name}.json"));
    let lock = File::create(stored.with_extension("lock"))?;
    // Held until the value is stored. A process that ends before that leaves the work to the next.
    let _lock = tokio::task::spawn_blocking(|| Flock::lock(lock, FlockArg::LockExclusive))
        .await?
        .map_err(|(_, error)| error)?;
    if let Ok(value) = fs::read(&stored) {
        return Ok(serde_json::from_slice(&value)?);
    }
    let value = compute().await;
    let scratch = stored.with_extension("partial");
    fs::write(&scratch, serde_json::to_vec(&value)?)?;
    fs::rename(scratch, stored)?;
    Ok(value)
}

/// A binary of this workspace, such as `dezky-api`, as `cargo dev test` built it.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let directory: PathBuf = required(BINARIES).context(HOW)?;
    Ok(directory.join(name))
}
