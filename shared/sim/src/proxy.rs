//! TCP proxy that cuts, holds and delays connections.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
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

/// Predicate for a request.
type Predicate = Box<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// Time of a process's death, relative to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// Before the server receives the request.
    BeforeRequest,
    /// After the server has answered the request, and before the process learns it.
    AfterRequest,
}

/// Fault at the next request that matches.
struct Trap {
    is_it: Predicate,
    /// `None` only drops the response.
    death: Option<Death>,
}

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
    trap: Arc<Mutex<Option<Trap>>>,
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
            trap: Arc::default(),
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
        let is_it = Box::new(is_it);
        *self.link.trap() = Some(Trap { is_it, death: None });
    }

    /// Closes every connection for good at the next request that matches, so that the processes behind this proxy are
    /// dead as far as the server can tell.
    pub fn die_at(&self, death: Death, is_it: impl Fn(&[u8]) -> bool + Send + Sync + 'static) {
        *self.link.trap() = Some(Trap {
            is_it: Box::new(is_it),
            death: Some(death),
        });
    }

    /// Whether a response is still to be dropped, or a death to happen.
    pub fn is_armed(&self) -> bool {
        self.link.trap().is_some()
    }

    /// Whether the processes behind this proxy are cut off.
    pub fn is_cut(&self) -> bool {
        *self.link.interference.borrow() == Interference::Cut
    }

    /// Number of connections cut, and of chunks held or delayed, so far.
    pub fn hits(&self) -> u64 {
        self.link.hits.load(Ordering::Relaxed)
    }
}

impl Link {
    fn trap(&self) -> std::sync::MutexGuard<'_, Option<Trap>> {
        self.trap.lock().unwrap_or_else(PoisonError::into_inner)
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
        let (losing, dying) = (CancellationToken::new(), CancellationToken::new());
        let first_request = OnceLock::new();
        let on_request = |request: &[u8]| {
            first_request.get_or_init(|| request.to_vec());
            let trap = link.trap().take_if(|trap| (trap.is_it)(request));
            match trap.map(|trap| trap.death) {
                None => return true,
                Some(None) => losing.cancel(),
                Some(Some(Death::AfterRequest)) => dying.cancel(),
                Some(Some(Death::BeforeRequest)) => {
                    link.interference.send_replace(Interference::Cut);
                    return false;
                }
            }
            true
        };
        let on_response = |_: &[u8]| {
            if dying.is_cancelled() {
                link.interference.send_replace(Interference::Cut);
            }
            !losing.is_cancelled() && !dying.is_cancelled()
        };
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

/// Matches a MongoDB command of this name on this collection whose text contains `text`.
pub fn is_command(
    name: &str,
    collection: &str,
    text: &str,
) -> impl Fn(&[u8]) -> bool + Send + Sync + use<> {
    // The first element of the command is a string: its name, its length, and its value with a final zero.
    let length = u32::try_from(collection.len() + 1).unwrap_or(u32::MAX);
    let mut command = format!("{name}\0").into_bytes();
    command.extend(length.to_le_bytes());
    command.extend(format!("{collection}\0").into_bytes());
    let text = text.as_bytes().to_vec();
    move |request| contains(request, &command) && contains(request, &text)
}

/// Matches the commit of the first transaction with a request that `begins` matches.
pub fn is_commit_after(
    begins: impl Fn(&[u8]) -> bool + Send + Sync,
) -> impl Fn(&[u8]) -> bool + Send + Sync {
    let has_begun = AtomicBool::new(false);
    move |request| {
        if begins(request) {
            has_begun.store(true, Ordering::Relaxed);
        }
        has_begun.load(Ordering::Relaxed) && contains(request, b"commitTransaction\0")
    }
}

fn contains(request: &[u8], part: &[u8]) -> bool {
    part.is_empty() || request.windows(part.len()).any(|window| window == part)
}
