//! Connection limits: of the process, and of each client network. Excess connections get 503 and are closed.

use std::{
    collections::HashMap,
    io::Write as _,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use uuid::Uuid;

use crate::{
    config::{ServerConfig, TrustedProxies},
    error::{ApiError, Problem, ProblemCode},
    metrics,
    rate_limits::network,
};

/// The open connections of the process.
#[derive(Debug)]
pub(super) struct Connections {
    all: Arc<Semaphore>,
    by_network: Arc<Mutex<HashMap<String, usize>>>,
    /// Maximum per network. 0 is unlimited.
    per_network: usize,
    /// Without a limit of their own: they carry the connections of all clients.
    proxies: TrustedProxies,
}

/// An open connection.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    _of_process: OwnedSemaphorePermit,
    _of_network: Option<NetworkPermit>,
}

#[derive(Debug)]
struct NetworkPermit {
    network: String,
    by_network: Arc<Mutex<HashMap<String, usize>>>,
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejection {
    /// The process has the maximum number of connections.
    Process,
    /// The client's network has the maximum number of connections.
    Network,
}

impl Connections {
    pub(super) fn new(config: &ServerConfig) -> Self {
        Self {
            all: Arc::new(Semaphore::new(config.max_connections)),
            by_network: Arc::default(),
            per_network: config.max_connections_per_address,
            proxies: config.trusted_proxies.clone(),
        }
    }

    /// A permit for a connection from this address.
    pub(super) fn acquire(&self, address: IpAddr) -> Result<ConnectionPermit, Rejection> {
        let of_network = self.acquire_network(address)?;
        let of_process = self.all.clone().try_acquire_owned();
        Ok(ConnectionPermit {
            _of_process: of_process.map_err(|_| Rejection::Process)?,
            _of_network: of_network,
        })
    }

    fn acquire_network(&self, address: IpAddr) -> Result<Option<NetworkPermit>, Rejection> {
        if self.per_network == 0 || self.proxies.contains(address.to_canonical()) {
            return Ok(None);
        }
        let network = network(address);
        let mut open = lock(&self.by_network);
        let count = open.entry(network.clone()).or_default();
        if *count >= self.per_network {
            return Err(Rejection::Network);
        }
        *count += 1;
        Ok(Some(NetworkPermit {
            network,
            by_network: self.by_network.clone(),
        }))
    }
}

impl Drop for NetworkPermit {
    fn drop(&mut self) {
        let mut open = lock(&self.by_network);
        if let Some(count) = open.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.network);
            }
        }
    }
}

impl Rejection {
    /// Sends 503 and closes the connection, without waiting for a request or for the client to read.
    pub(super) fn send(self, stream: TcpStream) {
        let (limit, detail) = match self {
            Self::Process => ("process", "The service has too many connections."),
            Self::Network => (
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
