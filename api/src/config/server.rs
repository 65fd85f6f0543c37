//! Limits of the HTTP server and their environment variables.

use std::time::Duration;

use anyhow::ensure;
use dezky_shared::platform::config::optional;

use super::TrustedProxies;

/// Timeout of reading the head of a request, also of the next one on an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// Timeout of writing a response to a client that does not read it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout of writing a response, from the time at which the connection has taken all of it.
const RESPONSE_TIMEOUT: Duration = Duration::from_mins(1);
/// Memory for responses that clients have not read yet, in MiB, unless configured.
const RESPONSE_MEMORY_MIB: usize = 256;
/// Least memory for responses, in MiB: some of the largest pages for each caller.
const MIN_RESPONSE_MEMORY_MIB: usize = 32;
/// Highest configurable memory for responses, in MiB.
const MAX_RESPONSE_MEMORY_MIB: usize = 1024 * 1024;
/// Open files that are left to the stores and to the health port.
const RESERVED_FILES: usize = 256;
/// Highest configurable number of connections.
const MAX_CONNECTIONS: usize = 1_000_000;

/// Limits of the HTTP server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Maximum number of connections.
    pub max_connections: usize,
    /// Maximum number of connections from one address, or from one /64 of IPv6. 0 is unlimited.
    pub max_connections_per_address: usize,
    /// Timeout of reading the head of a request.
    pub header_timeout: Duration,
    /// Timeout of writing a response to a client that does not read it.
    pub write_timeout: Duration,
    /// Maximum size of all responses that clients have not read yet, in bytes. One caller may use an eighth.
    pub response_memory: usize,
    /// Timeout of writing a response that is complete in memory.
    pub response_timeout: Duration,
    /// Trusted reverse proxies, which have no limit by address.
    pub trusted_proxies: TrustedProxies,
}

impl ServerConfig {
    /// Reads `API_MAX_CONNECTIONS`, `API_MAX_CONNECTIONS_PER_ADDRESS` and `API_RESPONSE_MEMORY_MIB`.
    pub fn from_env() -> anyhow::Result<Self> {
        let max_connections = optional("API_MAX_CONNECTIONS")?.unwrap_or(10_000);
        let per_address = optional("API_MAX_CONNECTIONS_PER_ADDRESS")?;
        ensure!(
            (1..=MAX_CONNECTIONS).contains(&max_connections),
            "API_MAX_CONNECTIONS is not valid: expected 1 to {MAX_CONNECTIONS}"
        );
        let per_address = per_address.unwrap_or_else(|| (max_connections * 6 / 10).max(1));
        ensure!(
            per_address < max_connections || max_connections == 1,
            "API_MAX_CONNECTIONS_PER_ADDRESS is not valid: expected less than API_MAX_CONNECTIONS ({max_connections}), so that one address cannot take all of them, or 0"
        );
        let response_memory = optional("API_RESPONSE_MEMORY_MIB")?.unwrap_or(RESPONSE_MEMORY_MIB);
        ensure!(
            (MIN_RESPONSE_MEMORY_MIB..=MAX_RESPONSE_MEMORY_MIB).contains(&response_memory),
            "API_RESPONSE_MEMORY_MIB is not valid: expected {MIN_RESPONSE_MEMORY_MIB} to {MAX_RESPONSE_MEMORY_MIB}"
        );
        Ok(Self {
            max_connections,
            max_connections_per_address: per_address,
            header_timeout: HEADER_TIMEOUT,
            write_timeout: WRITE_TIMEOUT,
            response_memory: response_memory * 1024 * 1024,
            response_timeout: RESPONSE_TIMEOUT,
            trusted_proxies: TrustedProxies::from_env()?,
        })
    }

    /// Lowers the maximum number of connections to the share that `open_files` leave, half of them at least, and the
    /// maximum per address in proportion.
    #[must_use]
    pub fn within(mut self, open_files: usize) -> Self {
        let available = open_files - RESERVED_FILES.min(open_files / 2);
        if available < self.max_connections {
            tracing::warn!(
                open_files,
                max_connections = available,
                "The limit on open files is lower than API_MAX_CONNECTIONS requires"
            );
            if self.max_connections_per_address > 0 {
                let per_address = self.max_connections_per_address * available;
                self.max_connections_per_address = (per_address / self.max_connections).max(1);
            }
            self.max_connections = available;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_open_files_to_the_stores() {
        let config = ServerConfig {
            max_connections: 10_000,
            max_connections_per_address: 6_000,
            header_timeout: HEADER_TIMEOUT,
            write_timeout: WRITE_TIMEOUT,
            response_memory: 0,
            response_timeout: RESPONSE_TIMEOUT,
            trusted_proxies: TrustedProxies::default(),
        };
        let within = |files| {
            let config = config.clone().within(files);
            (config.max_connections, config.max_connections_per_address)
        };

        assert_eq!(within(300), (150, 90));
        assert_eq!(within(1_024), (768, 460));
        assert_eq!(within(4_096), (3_840, 2_304));
        assert_eq!(within(1_000_000), (10_000, 6_000));
    }
}
