//! A way to a server that can be cut, held up and slowed down.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
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

/// How much is passed on in one piece. What a client writes at once is read at once, if it is not larger.
const PIECE: usize = 64 * 1024;

/// Says whether a request is the one that is looked for.
type IsIt = Box<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// Passes everything on, unless told otherwise. Dropping it ends its connections.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    way: Way,
    _serving: AbortOnDropHandle<()>,
}

/// What stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hindrance {
    Nothing,
    /// Connections stay open, and nothing passes.
    Held,
    /// Every piece waits.
    Slow(Duration),
    /// Connections end, and new ones end at once.
    Cut,
}

#[derive(Clone)]
struct Way {
    target: Arc<str>,
    hindrance: watch::Sender<Hindrance>,
    losing: Arc<Mutex<Option<IsIt>>>,
    hits: Arc<AtomicU64>,
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Way")
            .field("target", &self.target)
            .field("hindrance", &*self.hindrance.borrow())
            .finish_non_exhaustive()
    }
}

impl Proxy {
    /// In front of the server at `target`, `host:port`, on any free port.
    pub async fn to(target: &str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let way = Way {
            target: target.into(),
            hindrance: watch::Sender::new(Hindrance::Nothing),
            losing: Arc::default(),
            hits: Arc::default(),
        };
        let serving = tokio::spawn(serve(listener, way.clone()));
        Ok(Self {
            address,
            way,
            _serving: AbortOnDropHandle::new(serving),
        })
    }

    /// Lets nothing through, while connections stay open.
    pub fn hold(&self) {
        self.way.hindrance.send_replace(Hindrance::Held);
    }

    /// Ends every connection, and those that are made from now on.
    pub fn cut(&self) {
        self.way.hindrance.send_replace(Hindrance::Cut);
    }

    /// Lets everything through late, by `delay` in each direction.
    pub fn delay(&self, delay: Duration) {
        self.way.hindrance.send_replace(Hindrance::Slow(delay));
    }

    /// Lets everything through again.
    pub fn mend(&self) {
        self.way.hindrance.send_replace(Hindrance::Nothing);
    }

    /// Passes the next request on of which `is_it` is true, and ends its connection instead of giving the answer.
    pub fn lose_the_answer_to(&self, is_it: impl Fn(&[u8]) -> bool + Send + Sync + 'static) {
        *self.way.losing() = Some(Box::new(is_it));
    }

    /// Whether an answer is still to be lost.
    pub fn is_armed(&self) -> bool {
        self.way.losing().is_some()
    }

    /// How many connections were cut and pieces delayed so far.
    pub fn hits(&self) -> u64 {
        self.way.hits.load(Ordering::Relaxed)
    }
}

impl Way {
    fn losing(&self) -> std::sync::MutexGuard<'_, Option<IsIt>> {
        self.losing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    async fn until(&self, is: impl FnMut(&Hindrance) -> bool) -> Hindrance {
        let mut hindrance = self.hindrance.subscribe();
        let found = hindrance.wait_for(is).await;
        // The sender is `self`'s, so it is there.
        found.map_or(Hindrance::Cut, |hindrance| *hindrance)
    }
}

async fn serve(listener: TcpListener, way: Way) {
    // Dropped with this.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // An error concerns the one connection.
            accepted = listener.accept() => if let Ok((client, _)) = accepted {
                connections.spawn(pass(client, way.clone()));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn pass(client: TcpStream, way: Way) {
    let through = async {
        let server = TcpStream::connect(&*way.target).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let losing = CancellationToken::new();
        let ask = |request: &[u8]| {
            let mut armed = way.losing();
            if armed.as_ref().is_some_and(|is_it| is_it(request)) {
                *armed = None;
                losing.cancel();
            }
            true
        };
        let answer = |_: &[u8]| !losing.is_cancelled();
        tokio::select! {
            ended = copy(from_client, to_server, &way, ask) => ended,
            ended = copy(from_server, to_client, &way, answer) => ended,
        }
    };
    tokio::select! {
        // However it ended, both sides see that.
        _ = through => {}
        _ = way.until(|hindrance| *hindrance == Hindrance::Cut) => way.hit(),
    }
}

/// Passes on what `may_pass`, until it may not or either side ends.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    way: &Way,
    may_pass: impl Fn(&[u8]) -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        let length = from.read(&mut buffer).await?;
        let piece = &buffer[..length];
        if piece.is_empty() || !may_pass(piece) {
            return Ok(());
        }
        let hindrance = way.until(|hindrance| *hindrance != Hindrance::Held).await;
        if let Hindrance::Slow(delay) = hindrance {
            way.hit();
            tokio::time::sleep(delay).await;
        }
        to.write_all(piece).await?;
    }
}
