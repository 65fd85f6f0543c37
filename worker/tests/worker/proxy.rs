//! A way to MongoDB that a test can cut.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// Passes everything on, unless told otherwise.
pub(crate) struct Proxy {
    pub(crate) uri: String,
    cut: watch::Sender<bool>,
    lose_claim: Arc<AtomicBool>,
    _serving: AbortOnDropHandle<()>,
}

impl Proxy {
    /// In front of the MongoDB at `uri`.
    pub(crate) async fn to(uri: &str) -> Self {
        let target = uri
            .trim_start_matches("mongodb://")
            .split('/')
            .next()
            .unwrap()
            .to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, is_cut) = watch::channel(false);
        let lose_claim = Arc::new(AtomicBool::new(false));
        let armed = lose_claim.clone();
        let serving = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(pass(client, target.clone(), is_cut.clone(), armed.clone()));
            }
        });
        Self {
            uri: format!("mongodb://{address}/?directConnection=true"),
            cut,
            lose_claim,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// Lets nothing through, while connections stay open.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// Lets everything through again.
    pub(crate) fn mend(&self) {
        self.cut.send_replace(false);
    }

    /// Passes the next claim on, and ends the connection instead of giving the answer.
    pub(crate) fn lose_the_next_claims_answer(&self) {
        self.lose_claim.store(true, Ordering::SeqCst);
    }

    /// Whether an answer is still to be lost.
    pub(crate) fn is_armed(&self) -> bool {
        self.lose_claim.load(Ordering::SeqCst)
    }
}

async fn pass(
    client: TcpStream,
    target: String,
    is_cut: watch::Receiver<bool>,
    armed: Arc<AtomicBool>,
) {
    let server = TcpStream::connect(target).await.unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let losing = CancellationToken::new();
    let asked = async {
        let mut is_cut = is_cut.clone();
        while let Some(message) = message(&mut from_client).await {
            if is_claim(&message) && armed.swap(false, Ordering::SeqCst) {
                losing.cancel();
            }
            let _ = is_cut.wait_for(|cut| !cut).await;
            if to_server.write_all(&message).await.is_err() {
                return;
            }
        }
    };
    let answered = async {
        let mut is_cut = is_cut.clone();
        while let Some(message) = message(&mut from_server).await {
            let _ = is_cut.wait_for(|cut| !cut).await;
            if losing.is_cancelled() || to_client.write_all(&message).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = asked => {}
        () = answered => {}
    }
}

/// One message of MongoDB's wire protocol: it begins with its length.
async fn message(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).await.ok()?;
    let mut message = length.to_vec();
    message.resize(usize::try_from(u32::from_le_bytes(length)).ok()?, 0);
    from.read_exact(&mut message[4..]).await.ok()?;
    Some(message)
}

fn is_claim(message: &[u8]) -> bool {
    let contains = |part: &[u8]| message.windows(part.len()).any(|window| window == part);
    contains(b"\x02update\0\x05\0\0\0jobs\0") && contains(b"state\0\x08\0\0\0running\0")
}
