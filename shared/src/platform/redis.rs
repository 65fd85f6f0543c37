//! Redis connections. Redis holds only hints and may be flushed at any time.

use std::{fmt, time::Duration};

use anyhow::ensure;
pub use redis::RedisError;
use redis::{
    AsyncConnectionConfig, Client,
    aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection},
};

use crate::platform::config::{optional, required};

/// Response timeout, after which callers proceed without Redis.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);
/// Connect timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Redis configuration.
#[derive(Clone)]
pub struct RedisConfig {
    /// `redis://host:port/db`. May contain a password, so `Debug` omits it.
    pub url: String,
    /// Prefix of all keys and channels.
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
        ensure!(
            is_prefix(&config.prefix),
            "REDIS_PREFIX is not valid: expected at most 64 letters, digits, hyphens, underscores, dots and colons"
        );
        Ok(config)
    }

    /// A client of the configured server. Connects on first use.
    pub fn client(&self) -> anyhow::Result<Client> {
        Client::open(self.url.as_str())
            .map_err(|error| anyhow::anyhow!("REDIS_URL is not valid: {}", error.category()))
    }
}

fn is_prefix(prefix: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    (1..=64).contains(&prefix.len()) && prefix.bytes().all(is_plain)
}

/// A shared connection for short commands. Connects on first use and reconnects automatically.
pub fn shared_connection(client: Client) -> anyhow::Result<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT))
        .set_number_of_retries(0);
    Ok(ConnectionManager::new_lazy_with_config(client, config)?)
}

/// A dedicated connection for commands that block for at most `block`.
pub async fn blocking_connection(
    client: &Client,
    block: Duration,
) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        // Must exceed the block time, or an empty queue would count as a dead server.
        .set_response_timeout(Some(block + RESPONSE_TIMEOUT));
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}
