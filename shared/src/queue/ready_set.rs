//! Ready set: for each queue and priority lane, the lock keys that may have due jobs.
//!
//! A key is in one lane of its queue at most, however many jobs wait behind it. The set is a hint: the sweep finds a lost
//! key, and a surplus key costs one empty claim. Keys are scored with Redis' own time; a key that is already present keeps
//! its position, unless a more urgent job moves it to a more urgent lane.

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
    queue::{
        job::{Job, Queue},
        priority::Priority,
    },
};

/// Adds each key to its lane unless that lane or a more urgent one has it, and removes it from the less urgent ones.
/// Returns the number of keys that were in no lane.
const ADD: &str = r"
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local added = 0
for i = 1, #ARGV, 2 do
    local own, member, present = tonumber(ARGV[i]) + 1, ARGV[i + 1], false
    for lane = 1, own do
        present = present or redis.call('ZSCORE', KEYS[lane], member)
    end
    if not present then
        redis.call('ZADD', KEYS[own], now, member)
        local moved = 0
        for lane = own + 1, #KEYS do
            moved = moved + redis.call('ZREM', KEYS[lane], member)
        end
        if moved == 0 then added = added + 1 end
    end
end
return added
";

/// Pops at most `ARGV[1]` keys without waiting: `ARGV[2]` of the last lane, then from the lanes in their order. Returns
/// whether the last lane was reached, and the keys.
const POP: &str = r"
local popped, reached = {}, 0
local function pop(lane, most)
    if most <= 0 then return end
    local found = redis.call('ZPOPMIN', KEYS[lane], most)
    for i = 1, #found, 2 do popped[#popped + 1] = found[i] end
    if lane == #KEYS and #found > 0 then reached = 1 end
end
pop(#KEYS, tonumber(ARGV[2]))
for lane = 1, #KEYS do pop(lane, tonumber(ARGV[1]) - #popped) end
return {reached, popped}
";

/// Weight of the more urgent lanes: after this many keys of them, a key of the least urgent lane is popped first, so that
/// a flood of urgent work does not starve it.
const URGENT_WEIGHT: usize = 8;

/// Ready sets of all queues.
#[derive(Clone)]
pub struct ReadySet {
    client: Client,
    connection: ConnectionManager,
    prefix: String,
    add: Script,
    pop: Script,
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

/// Lock key that may have due jobs, with the priority of the most urgent one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadyKey {
    /// Lock key.
    pub lock_key: String,
    /// Priority lane.
    pub priority: Priority,
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
            pop: Script::new(POP),
        })
    }

    /// Redis key of a lane. Earlier builds know only the interactive one.
    fn key(&self, queue: Queue, priority: Priority) -> String {
        let queue = format!("{}:ready:{queue}", self.prefix);
        match priority {
            Priority::Security => format!("{queue}:security"),
            Priority::Interactive => queue,
            Priority::Bulk => format!("{queue}:bulk"),
        }
    }

    /// Adds keys that may have due jobs. Returns the number of keys that were in no lane of the queue.
    pub async fn add(&self, queue: Queue, keys: &[ReadyKey]) -> Result<u64, RedisError> {
        if keys.is_empty() {
            return Ok(0);
        }
        let mut call = self.add.prepare_invoke();
        for lane in Priority::ALL {
            call.key(self.key(queue, lane));
        }
        for key in keys {
            call.arg(key.priority.number()).arg(&key.lock_key);
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

    /// Number of keys in one lane of `queue`.
    pub async fn len(&self, queue: Queue, priority: Priority) -> Result<u64, RedisError> {
        redis::cmd("ZCARD")
            .arg(self.key(queue, priority))
            .query_async(&mut self.connection.clone())
            .await
    }

    /// Checks that Redis responds.
    pub async fn ping(&self) -> Result<(), RedisError> {
        redis::cmd("PING")
            .query_async(&mut self.connection.clone())
            .await
    }

    /// A consumer of the lanes of `queue` from the most urgent to `lowest`, on a connection of its own.
    pub async fn consumer(
        &self,
        queue: Queue,
        lowest: Priority,
        block: Duration,
    ) -> Result<ReadySetConsumer, RedisError> {
        let connection = blocking_connection(&self.client, block).await?;
        let lanes = lowest.and_above().map(|lane| self.key(queue, lane));
        Ok(ReadySetConsumer {
            connection,
            lanes: lanes.collect(),
            pop: self.pop.clone(),
            block,
            urgent_in_a_row: 0,
            may_have_more: true,
        })
    }
}

/// Ready set consumer: pops keys of one queue, on a connection of its own.
pub struct ReadySetConsumer {
    connection: MultiplexedConnection,
    /// Redis keys of the lanes, most urgent first.
    lanes: Vec<String>,
    pop: Script,
    block: Duration,
    /// Keys popped from the more urgent lanes since the last one from the least urgent.
    urgent_in_a_row: usize,
    /// Whether the last pop may have left keys. Only the first of a backlog is worth waiting for.
    may_have_more: bool,
}

impl std::fmt::Debug for ReadySetConsumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadySetConsumer")
            .field("lanes", &self.lanes)
            .finish_non_exhaustive()
    }
}

impl ReadySetConsumer {
    /// Pops at most `count` keys. From an empty set pops one key, waiting for at most the block time: a single key is
    /// claimed at once, and those added behind it are the next pop's.
    pub async fn pop(&mut self, count: usize) -> Result<Vec<String>, RedisError> {
        if self.may_have_more {
            let popped = self.pop_present(count).await?;
            self.may_have_more = popped.len() == count;
            if !popped.is_empty() {
                return Ok(popped);
            }
        }
        let popped = self.pop_next().await?;
        self.may_have_more = popped.is_some();
        Ok(popped.into_iter().collect())
    }

    /// Pops a key, waiting for at most the block time.
    async fn pop_next(&mut self) -> Result<Option<String>, RedisError> {
        let mut lanes = self.lanes.clone();
        if self.is_lowest_due() {
            lanes.rotate_right(1);
        }
        let popped: Option<(String, String, f64)> = redis::cmd("BZPOPMIN")
            .arg(lanes)
            .arg(self.block.as_secs_f64())
            .query_async(&mut self.connection)
            .await?;
        Ok(popped.map(|(lane, key, _)| {
            self.count(1, Some(&lane) == self.lanes.last());
            key
        }))
    }

    /// Pops at most `count` keys, without waiting.
    async fn pop_present(&mut self, count: usize) -> Result<Vec<String>, RedisError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut call = self.pop.prepare_invoke();
        for lane in &self.lanes {
            call.key(lane);
        }
        let of_lowest = usize::from(self.is_lowest_due());
        let (reached, popped): (bool, Vec<String>) = call
            .arg(count)
            .arg(of_lowest)
            .invoke_async(&mut self.connection)
            .await?;
        self.count(popped.len(), reached);
        Ok(popped)
    }

    /// Whether the next key is one of the least urgent lane.
    fn is_lowest_due(&self) -> bool {
        self.urgent_in_a_row >= URGENT_WEIGHT
    }

    fn count(&mut self, keys: usize, reached_lowest: bool) {
        self.urgent_in_a_row = if reached_lowest {
            0
        } else {
            self.urgent_in_a_row + keys
        };
    }
}
