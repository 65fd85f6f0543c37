//! Connection limits: of the process, and of each client network. Excess connections get 503 and are closed.

use std::{io::Write as _, net::IpAddr};

use tokio::net::TcpStream;
use uuid::Uuid;

use super::quota::{Exhausted, Quota, QuotaPermit};
use crate::{
    config::{ServerConfig, TrustedProxies},
    error::{ApiError, Problem, ProblemCode},
    metrics,
    rate_limits::network,
};

/// The open connections of the process.
#[derive(Debug)]
pub(super) struct Connections {
    quota: Quota,
    /// Whether the connections of a network are limited.
    is_limited_by_network: bool,
    /// Without a limit of their own: they carry the connections of all clients.
    proxies: TrustedProxies,
}

impl Connections {
    pub(super) fn new(config: &ServerConfig) -> Self {
        let per_network = config.max_connections_per_address;
        Self {
            quota: Quota::new(config.max_connections, per_network),
            is_limited_by_network: per_network > 0,
            proxies: config.trusted_proxies.clone(),
        }
    }

    /// A permit for a connection from this address.
    pub(super) fn acquire(&self, address: IpAddr) -> Result<QuotaPermit, Rejection> {
        let is_limited =
            self.is_limited_by_network && !self.proxies.contains(address.to_canonical());
        let network = is_limited.then(|| network(address));
        let permit = self.quota.try_acquire(network.as_deref(), 1);
        permit.map_err(Rejection)
    }
}

/// A connection that is refused.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rejection(Exhausted);

impl Rejection {
    /// Sends 503 and closes the connection, without waiting for a request or for the client to read.
    pub(super) fn send(self, stream: TcpStream) {
        let (limit, detail) = match self.0 {
            Exhausted::Total => ("process", "The service has too many connections."),
            Exhausted::Client => (
                "address",
                "Your address has too many connections. Close some.",
            ),
        };
        metrics::connection_refused(limit);
        let error = ApiError::new(ProblemCode::TooManyConnections).with_detail(detail);
        let seconds = error.retry_after.unwrap_or_default();
        let problem = Problem::new(error, &Uuid::now_v7().to_string());
        let body = serde_json::to_string(&problem).unwrap_or_default();
        let response = format!(
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
             content-length: {}\r\nretry-after: {seconds}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n{body}",
            body.len(),
        );
        // Not through tokio, whose new sockets are not writable before the next poll. It fits into the send buffer.
        if let Ok(mut stream) = stream.into_std() {
            let _ = stream.write_all(response.as_bytes());
        }
    }
}
