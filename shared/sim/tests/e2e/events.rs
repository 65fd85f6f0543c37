//! Event streams of many concurrent clients.

use std::{fs, time::Duration};

use dezky_shared::platform::rlimit;
use dezky_sim::{issuer::TokenSpec, process::Process};
use futures::future::try_join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

use crate::stack::Stack;

/// Number of concurrent clients.
const CLIENTS: usize = 2_000;
/// Number of streams per caller, which is the limit.
const OF_ONE_CALLER: usize = 20;
/// Memory limit of the api with all streams.
const MEMORY_MIB: u64 = 200;
/// Time limit of a test's waits.
const DEADLINE: Duration = Duration::from_mins(2);

/// A client that watches a tenant.
struct Client(BufReader<TcpStream>);

impl Client {
    async fn open(stack: &Stack, path: &str, token: &str) -> std::io::Result<Self> {
        let address = stack.url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).await?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        Ok(Self(BufReader::with_capacity(512, stream)))
    }

    /// Data of the next event.
    async fn event(&mut self) -> std::io::Result<Value> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.0.read_line(&mut line).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Ok(serde_json::from_str(data)?);
            }
        }
    }

    /// Reads until an event contains the tenant with this industry.
    async fn wait_for_industry(&mut self, industry: &str) -> std::io::Result<()> {
        while self.event().await?["industry"] != industry {}
        Ok(())
    }

    /// Whether the stream ended properly instead of being cut.
    async fn is_ended(&mut self) -> bool {
        let mut last = String::new();
        let mut line = String::new();
        while self.0.read_line(&mut line).await.unwrap_or(0) > 0 {
            if !line.trim().is_empty() {
                last = std::mem::take(&mut line);
            }
            line.clear();
        }
        last.trim() == "0"
    }
}

/// Resident memory of a process, in MiB.
fn resident(process: &Process) -> u64 {
    let pid = process.id().unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() / 1_024
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_streams_receive_every_event_within_the_memory_limit() {
    rlimit::raise_limit();
    let mut stack = Stack::start().await;
    stack.create("acme").await;
    stack.until_status("acme", "active").await;
    let before = resident(&stack.api);
    let mut clients = Vec::new();
    while clients.len() < CLIENTS {
        let member = TokenSpec {
            groups: Some(vec!["acme".to_owned()]),
            email: Some(format!("member{}@acme.test", clients.len())),
            ..TokenSpec::default()
        };
        let token = stack.issuer.token(&member).unwrap();
        // While other tests saturate MongoDB, the api asks its clients to repeat the request.
        let signing_in = async {
            while stack
                .ask_with(&token, Method::GET, "/users/me", None)
                .await
                .0
                != 200
            {}
        };
        timeout(DEADLINE, signing_in).await.unwrap();
        let opening = (0..OF_ONE_CALLER).map(async |_| {
            let mut client = Client::open(&stack, "/tenants/acme/events", &token).await?;
            client.event().await?;
            Ok::<_, std::io::Error>(client)
        });
        clients.extend(
            timeout(DEADLINE, try_join_all(opening))
                .await
                .unwrap()
                .unwrap(),
        );
    }
    let connected = resident(&stack.api);

    let change = json!({ "industry": "news" });
    stack
        .ask(Method::PATCH, "/tenants/acme", Some(change))
        .await;
    let received = clients
        .iter_mut()
        .map(|client| client.wait_for_industry("news"));
    let received = timeout(DEADLINE, try_join_all(received)).await;
    let afterwards = resident(&stack.api);
    stack.api.signal(nix::sys::signal::Signal::SIGTERM);
    let ends = clients.iter_mut().map(Client::is_ended);
    let ended = timeout(DEADLINE, futures::future::join_all(ends))
        .await
        .unwrap();

    assert!(matches!(received, Ok(Ok(_))), "{received:?}");
    assert!(
        connected < MEMORY_MIB && afterwards < MEMORY_MIB,
        "MiB: {before} without clients, {connected} with, {afterwards} after a change"
    );
    assert!(ended.into_iter().all(|ended| ended));
    let exit = timeout(DEADLINE, stack.api.ended()).await.unwrap().unwrap();
    assert!(exit.success());
}
