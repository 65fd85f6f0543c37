//! What a test starts from: a database and a part of Redis that are its own.

use std::{path::PathBuf, thread, time::Duration};

use anyhow::Context as _;
use dezky_shared::platform::config::required;
use mongodb::{Client, options::ClientOptions};
use redis::AsyncCommands as _;
use uuid::Uuid;

use crate::stores::{Mongo, Redis};

/// The variable with the address of the MongoDB that tests share.
pub const MONGODB_URI: &str = "DEZKY_TEST_MONGODB_URI";
/// The variable with the address of the Redis that tests share.
pub const REDIS_URL: &str = "DEZKY_TEST_REDIS_URL";
/// The variable with the directory that holds the binaries which end-to-end tests run.
pub const BINARIES: &str = "DEZKY_TEST_BINARIES";

/// What to say when one of these is missing.
const HOW: &str = "tests that need MongoDB and Redis are run with `cargo dev test`";
/// How long cleaning up may take.
const CLEAN: Duration = Duration::from_secs(5);

/// An empty database and an unused prefix for Redis keys, both with names that nobody else uses. They are dropped
/// with this, as well as that can be done.
#[derive(Debug)]
pub struct FreshStores {
    /// How to reach MongoDB.
    pub mongodb_uri: String,
    /// The name of the database: `test_<uuid>`.
    pub database: String,
    /// How to reach Redis.
    pub redis_url: String,
    /// What every key in Redis begins with, without the colon that follows: `<prefix>:ready:<queue>`.
    pub redis_prefix: String,
}

impl FreshStores {
    /// Fresh ones in the MongoDB and Redis that `cargo dev test` runs.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self::at(
            required(MONGODB_URI).context(HOW)?,
            required(REDIS_URL).context(HOW)?,
        ))
    }

    /// Fresh ones in stores of the test's own, which it may kill and flush.
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
        }
    }
}

impl Drop for FreshStores {
    fn drop(&mut self) {
        let (uri, database) = (self.mongodb_uri.clone(), self.database.clone());
        let (url, prefix) = (self.redis_url.clone(), self.redis_prefix.clone());
        // The test's own runtime cannot be waited for here.
        let cleaning = thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
            else {
                return;
            };
            runtime.block_on(async {
                let all = async {
                    tokio::join!(drop_database(&uri, &database), drop_keys(&url, &prefix))
                };
                // What is left behind harms nobody: its name is not used again.
                let _ = tokio::time::timeout(CLEAN, all).await;
            });
        });
        let _ = cleaning.join();
    }
}

async fn drop_database(uri: &str, name: &str) -> mongodb::error::Result<()> {
    let mut options = ClientOptions::parse(uri).await?;
    options.server_selection_timeout = Some(Duration::from_secs(1));
    let client = Client::with_options(options)?;
    let dropped = client.database(name).drop().await;
    client.shutdown().immediate(true).await;
    dropped
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

/// A binary of this workspace, such as `dezky-api`, as `cargo dev test` built it.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let directory: PathBuf = required(BINARIES).context(HOW)?;
    Ok(directory.join(name))
}
