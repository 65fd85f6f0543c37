//! Ready set: for each queue, the lock keys that may have due jobs.
//!
//! A key is in the set at most once, however many jobs wait behind it. The set is a hint: the sweep finds a lost key,
//! and a surplus key costs one empty claim. Keys are scored with Redis' own time, shifted by one minute for each
//! priority level; a key that is already present keeps its position.

use std::{collections::BTreeMap, time::Duration};

use redis::{
    Client, RedisError, Script,
    aio::{ConnectionManager, MultiplexedConnection},
};

use crate::{
    platform::{
        clock,
        redis::{RedisConfig, blocking_connection, shared_connection},
    },
    queue::job::{Job, Queue},
};

/// Adds each missing key, scored by the server's clock and the key's priority, and returns the number of added keys.
const ADD: &str = r"
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local added = 0
for i = 1, #ARGV, 2 do
    added = added + redis.call('ZADD', KEYS[1], 'NX', now - 60 * (2 - tonumber(ARGV[i])), ARGV[i + 1])
end
return added
";

/// Ready sets of all queues.
#[derive(Clone)]
pub struct ReadySet {
    client: Client,
    connection: ConnectionManager,
    prefix: String,
    add: Script,
}

impl std::fmt::Debug for ReadySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadySet")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// Jobs due later than this are left to the sweep.
const SOON: Duration = Duration::from_secs(1);

/// Lock key that may have due jobs, with their priority.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadyKey {
    /// Lock key.
    pub lock_key: String,
    /// Priority from 0 to 2; lower runs first.
    pub priority: i32,
}

impl ReadySet {
    /// The ready sets below the configured prefix. Connects on first use.
    pub fn new(config: &RedisConfig) -> anyhow::Result<Self> {
        let client = config.client()?;
        Ok(Self {
            connection: shared_connection(client.clone())?,
            client,
            prefix: config.prefix.clone(),
            add: Script::new(ADD),
        })
    }

    fn key(&self, queue: Queue) -> String {
        format!("{}:ready:{queue}", self.prefix)
    }

    /// Adds keys that may have due jobs. Returns the number of keys that were not in the set.
    pub async fn add(&self, queue: Queue, keys: &[ReadyKey]) -> Result<u64, RedisError> {
        if keys.is_empty() {
            return Ok(0);
        }
        let mut call = self.add.key(self.key(queue));
        for key in keys {
            call.arg(key.priority.clamp(0, 2)).arg(&key.lock_key);
        }
        call.invoke_async(&mut self.connection.clone()).await
    }

    /// Notifies workers of just committed jobs: at once if due, after a delay if due within `SOON`. A lost
    /// notification is harmless: the sweep finds the jobs.
    pub async fn notify(&self, jobs: &[Job]) {
        let wait = |job: &Job| clock::until(job.updated_at, job.run_at);
        let (now, later): (Vec<&Job>, Vec<&Job>) = jobs.iter().partition(|job| wait(job).is_zero());
        self.announce_now(&now).await;
        let (soon, _): (Vec<&Job>, Vec<&Job>) = later.iter().partition(|job| wait(job) <= SOON);
        if let Some(longest) = soon.iter().map(|job| wait(job)).max() {
            // Slightly late rather than early: a key popped before its job is due is dropped.
            tokio::time::sleep(longest + Duration::from_millis(2)).await;
            self.announce_now(&soon).await;
        }
    }

    async fn announce_now(&self, jobs: &[&Job]) {
        let mut keys: BTreeMap<Queue, Vec<ReadyKey>> = BTreeMap::new();
        for job in jobs {
            let key = ReadyKey {
                lock_key: job.lock_key.clone(),
                priority: job.priority,
            };
            keys.entry(job.queue).or_default().push(key);
        }
        for (queue, keys) in keys {
            if let Err(error) = self.add(queue, &keys).await {
                tracing::warn!(%queue, error = error.category(), "Cannot notify the ready set; the sweep will find the jobs");
            }
        }
    }

    /// Number of keys in the ready set of `queue`.
    pub async fn len(&self, queue: Queue) -> Result<u64, RedisError> {
        redis::cmd("ZCARD")
            .arg(self.key(queue))
            .query_async(&mut self.connection.clone())
            .await
    }

    /// Checks that Redis responds.
    pub async fn ping(&self) -> Result<(), RedisError> {
        redis::cmd("PING")
            .query_async(&mut self.connection.clone())
            .await
    }

    /// A consumer of `queue`, on a connection of its own.
    pub async fn consumer(
        &self,
        queue: Queue,
        block: Duration,
    ) -> Result<ReadySetConsumer, RedisError> {
        let connection = blocking_connection(&self.client, block).await?;
        Ok(ReadySetConsumer {
            connection,
            key: self.key(queue),
            block,
        })
    }
}

/// Ready set consumer: pops keys of one queue, on a connection of its own.
pub struct ReadySetConsumer {
    connection: MultiplexedConnection,
    key: String,
    block: Duration,
}

impl std::fmt::Debug for ReadySetConsumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadySetConsumer")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl ReadySetConsumer {
    /// Pops a key, waiting for at most the block time.
    pub async fn next(&mut self) -> Result<Option<String>, RedisError> {
        let popped: Option<(String, String, f64)> = redis::cmd("BZPOPMIN")
            .arg(&self.key)
            .arg(self.block.as_secs_f64())
            .query_async(&mut self.connection)
            .await?;
        Ok(popped.map(|(_, key, _)| key))
    }

    /// Pops at most `count` more keys, without waiting.
    pub async fn more(&mut self, count: usize) -> Result<Vec<String>, RedisError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let popped: Vec<(String, f64)> = redis::cmd("ZPOPMIN")
            .arg(&self.key)
            .arg(count)
            .query_async(&mut self.connection)
            .await?;
        Ok(popped.into_iter().map(|(key, _)| key).collect())
    }
}
