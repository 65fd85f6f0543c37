//! Limits of the HTTP server and their environment variables.

use std::time::Duration;

use anyhow::ensure;
use dezky_shared::platform::config::optional;

use super::TrustedProxies;

/// Timeout of reading the head of a request, also of the next one on an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// Timeout of writing a response to a client that does not read it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
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
    /// Trusted reverse proxies, which have no limit by address.
    pub trusted_proxies: TrustedProxies,
}

impl ServerConfig {
    /// Reads `API_MAX_CONNECTIONS` and `API_MAX_CONNECTIONS_PER_ADDRESS`.
    pub fn from_env() -> anyhow::Result<Self> {
        let max_connections = optional("API_MAX_CONNECTIONS")?.unwrap_or(10_000);
        let per_address = optional("API_MAX_CONNECTIONS_PER_ADDRESS")?.unwrap_or(6_000);
        ensure!(
            (1..=MAX_CONNECTIONS).contains(&max_connections),
            "API_MAX_CONNECTIONS is not valid: expected 1 to {MAX_CONNECTIONS}"
        );
        Ok(Self {
            max_connections,
            max_connections_per_address: per_address,
            header_timeout: HEADER_TIMEOUT,
            write_timeout: WRITE_TIMEOUT,
            trusted_proxies: TrustedProxies::from_env()?,
        })
    }

    /// Lowers the maximum number of connections to what `open_files` leave, half of them at least.
    #[must_use]
    pub fn within(mut self, open_files: usize) -> Self {
        let available = open_files - RESERVED_FILES.min(open_files / 2);
        if available < self.max_connections {
            tracing::warn!(
                open_files,
                max_connections = available,
                "The limit on open files is lower than API_MAX_CONNECTIONS requires"
            );
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
            max_connections_per_address: 0,
            header_timeout: HEADER_TIMEOUT,
            write_timeout: WRITE_TIMEOUT,
            trusted_proxies: TrustedProxies::default(),
        };
        let within = |files| config.clone().within(files).max_connections;

        assert_eq!(within(300), 150);
        assert_eq!(within(1_024), 768);
        assert_eq!(within(1_000_000), 10_000);
    }
}
