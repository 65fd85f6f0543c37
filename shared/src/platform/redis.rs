//! Connecting to Redis, which carries hints and can be wiped at any moment.

use std::{fmt, time::Duration};

pub use redis::RedisError;
use redis::{
    AsyncConnectionConfig, Client,
    aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection},
};

use crate::platform::config::{optional, required};

/// How long Redis may take to answer before we do without.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Where Redis is.
#[derive(Clone)]
pub struct RedisConfig {
    /// `redis://host:port/db`. It may hold a password, so it is not printed.
    pub url: String,
    /// What all keys and channels begin with.
    pub prefix: String,
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl RedisConfig {
    /// Reads `REDIS_URL` and `REDIS_PREFIX` (default `dezky`).
    pub fn from_env() -> anyhow::Result<Self> {
        let config = Self {
            url: required("REDIS_URL")?,
            prefix: optional("REDIS_PREFIX")?.unwrap_or_else(|| "dezky".to_owned()),
        };
        config.client()?;
        Ok(config)
    }

    /// A Redis client for the configured server; it connects on first use.
    pub fn client(&self) -> anyhow::Result<Client> {
        Client::open(self.url.as_str())
            .map_err(|error| anyhow::anyhow!("REDIS_URL is not valid: {}", error.category()))
    }
}

/// A connection for short commands. It connects when first used, and again by itself.
pub fn shared_connection(client: Client) -> anyhow::Result<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(ANSWER_TIMEOUT))
        .set_number_of_retries(0);
    Ok(ConnectionManager::new_lazy_with_config(client, config)?)
}

/// A connection for commands that block at most `block`.
pub async fn blocking_connection(
    client: &Client,
    block: Duration,
) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        // Longer than the block: else an empty queue looks like a dead server.
        .set_response_timeout(Some(block + ANSWER_TIMEOUT));
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}
