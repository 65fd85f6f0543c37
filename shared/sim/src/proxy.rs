//! TCP proxy that cuts, holds and delays connections.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// Buffer size. A request that fits arrives in a single read.
const CHUNK: usize = 64 * 1024;

/// Predicate for the request whose response is dropped.
type Predicate = Box<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// TCP proxy in front of one server. Dropping it closes its connections.
#[derive(Debug)]
pub struct Proxy {
    /// Listen address.
    pub address: SocketAddr,
    link: Link,
    _serving: AbortOnDropHandle<()>,
}

/// Current interference.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Interference {
    Nothing,
    /// Connections stay open; no data passes.
    Held,
    /// The same for connections whose first request contains this text.
    HeldFor(Arc<str>),
    /// Every chunk is delayed.
    Slow(Duration),
    /// Connections are closed, new ones immediately.
    Cut,
}

impl Interference {
    /// Whether data of a connection with this first request are held.
    fn holds(&self, first_request: Option<&Vec<u8>>) -> bool {
        match self {
            Self::Held => true,
            Self::HeldFor(text) => {
                let text = text.as_bytes();
                first_request
                    .is_some_and(|first| first.windows(text.len()).any(|window| window == text))
            }
            _ => false,
        }
    }
}

#[derive(Clone)]
struct Link {
    target: Arc<str>,
    interference: watch::Sender<Interference>,
    losing: Arc<Mutex<Option<Predicate>>>,
    hits: Arc<AtomicU64>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("target", &self.target)
            .field("interference", &*self.interference.borrow())
            .finish_non_exhaustive()
    }
}

impl Proxy {
    /// Starts a proxy for `target` (`host:port`) on any free port.
    pub async fn to(target: &str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let link = Link {
            target: target.into(),
            interference: watch::Sender::new(Interference::Nothing),
            losing: Arc::default(),
            hits: Arc::default(),
        };
        let serving = tokio::spawn(serve(listener, link.clone()));
        Ok(Self {
            address,
            link,
            _serving: AbortOnDropHandle::new(serving),
        })
    }

    /// Holds all data while connections stay open.
    pub fn hold(&self) {
        self.link.interference.send_replace(Interference::Held);
    }

    /// Holds the data of the connections whose first request contains `text`, such as the application name in the
    /// handshake of a MongoDB client: only that client loses the server.
    pub fn hold_for(&self, text: &str) {
        let interference = Interference::HeldFor(text.into());
        self.link.interference.send_replace(interference);
    }

    /// Closes every connection, and new ones as they arrive.
    pub fn cut(&self) {
        self.link.interference.send_replace(Interference::Cut);
    }

    /// Delays each chunk by `delay`, in both directions.
    pub fn delay(&self, delay: Duration) {
        self.link
            .interference
            .send_replace(Interference::Slow(delay));
    }

    /// Ends the interference.
    pub fn mend(&self) {
        self.link.interference.send_replace(Interference::Nothing);
    }

    /// Forwards the next request that matches `is_it` and closes its connection instead of returning the response.
    pub fn lose_the_answer_to(&self, is_it: impl Fn(&[u8]) -> bool + Send + Sync + 'static) {
        *self.link.losing() = Some(Box::new(is_it));
    }

    /// Whether a response is still to be dropped.
    pub fn is_armed(&self) -> bool {
        self.link.losing().is_some()
    }

    /// Number of connections cut, and of chunks held or delayed, so far.
    pub fn hits(&self) -> u64 {
        self.link.hits.load(Ordering::Relaxed)
    }
}

impl Link {
    fn losing(&self) -> std::sync::MutexGuard<'_, Option<Predicate>> {
        self.losing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    async fn until(&self, is: impl FnMut(&Interference) -> bool) -> Interference {
        let mut interference = self.interference.subscribe();
        let found = interference.wait_for(is).await;
        // Cannot fail: `self` holds the sender.
        found.map_or(Interference::Cut, |interference| interference.clone())
    }
}

async fn serve(listener: TcpListener, link: Link) {
    // Dropped when this function ends.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // Accept errors concern a single connection.
            accepted = listener.accept() => if let Ok((client, _)) = accepted {
                connections.spawn(pass(client, link.clone()));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn pass(client: TcpStream, link: Link) {
    let through = async {
        let server = TcpStream::connect(&*link.target).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let losing = CancellationToken::new();
        let first_request = OnceLock::new();
        let on_request = |request: &[u8]| {
            first_request.get_or_init(|| request.to_vec());
            let mut armed = link.losing();
            if armed.as_ref().is_some_and(|is_it| is_it(request)) {
                *armed = None;
                losing.cancel();
            }
            true
        };
        let on_response = |_: &[u8]| !losing.is_cancelled();
        tokio::select! {
            ended = copy(from_client, to_server, &link, &first_request, on_request) => ended,
            ended = copy(from_server, to_client, &link, &first_request, on_response) => ended,
        }
    };
    tokio::select! {
        // Both sides observe the closed connection, regardless of the cause.
        _ = through => {}
        _ = link.until(|interference| *interference == Interference::Cut) => link.hit(),
    }
}

/// Copies the chunks that `may_pass` accepts, until it rejects one or either side closes.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    link: &Link,
    first_request: &OnceLock<Vec<u8>>,
    may_pass: impl Fn(&[u8]) -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = from.read(&mut buffer).await?;
        let chunk = &buffer[..length];
        if chunk.is_empty() || !may_pass(chunk) {
            return Ok(());
        }
        let is_held = |interference: &Interference| interference.holds(first_request.get());
        if is_held(&link.interference.borrow()) {
            link.hit();
        }
        let interference = link.until(|interference| !is_held(interference)).await;
        if let Interference::Slow(delay) = interference {
            link.hit();
            tokio::time::sleep(delay).await;
        }
        to.write_all(chunk).await?;
    }
}
