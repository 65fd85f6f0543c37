//! MongoDB replica set of three. Members and clients reach each other through proxies.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, bail};
use futures::future;
use mongodb::{
    Client,
    bson::{Document, doc},
    options::ClientOptions,
};
use tokio::time::Instant;

use super::{
    POLL_INTERVAL, START_TIMEOUT, STOP_TIMEOUT,
    mongodb::{REPLICA_SET, arguments},
    until_ready,
};
use crate::{
    ports::Port,
    process::{Process, Program},
    proxy::Proxy,
    tools,
};

/// Number of members: the fewest that tolerate the loss of one.
const MEMBERS: usize = 3;

/// A running replica set that tolerates the loss of one member. Dropping it stops the servers; the data stay.
#[derive(Debug)]
pub struct ReplicaSet {
    /// Connection string, through the proxies.
    pub uri: String,
    /// Members of the set.
    pub members: Vec<Member>,
}

/// One `mongod` of the set.
#[derive(Debug)]
pub struct Member {
    /// The server process.
    pub process: Process,
    /// Proxy in front of the member.
    pub proxy: Proxy,
    /// Client for this member only, bypassing the proxy.
    pub client: Client,
    _port: Port,
}

impl ReplicaSet {
    /// Starts a replica set with data and logs in `directory`, and waits for a primary.
    pub async fn start(directory: &Path) -> anyhow::Result<Self> {
        let starting =
            (0..MEMBERS).map(|number| Member::start(directory.join(format!("mongodb-{number}"))));
        let members = future::try_join_all(starting).await?;
        let addresses: Vec<String> = members
            .iter()
            .map(|member| member.proxy.address.to_string())
            .collect();
        let replica_set = Self {
            uri: format!(
                "mongodb://{}/?replicaSet={REPLICA_SET}",
                addresses.join(",")
            ),
            members,
        };
        let initiate = doc! { "replSetInitiate": configuration(&addresses) };
        let first = &replica_set.members[0].client;
        first.database("admin").run_command(initiate).await?;
        replica_set.until_primary().await?;
        Ok(replica_set)
    }

    /// Index of the primary, if there is one.
    pub async fn primary(&self) -> Option<usize> {
        let checks = self.members.iter().map(Member::is_primary);
        let primaries = future::join_all(checks).await;
        primaries.iter().position(|is_primary| *is_primary)
    }

    /// Waits for a primary.
    pub async fn until_primary(&self) -> anyhow::Result<usize> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(primary) = self.primary().await {
                return Ok(primary);
            }
            if Instant::now() > deadline {
                bail!("the replica set has no primary after {START_TIMEOUT:?}");
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Stops all members.
    pub async fn stop(&mut self) {
        let stopping = self
            .members
            .iter_mut()
            .map(|member| member.process.stop(STOP_TIMEOUT));
        future::join_all(stopping).await;
    }
}

impl Member {
    async fn start(directory: std::path::PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&directory)?;
        let port = Port::free()?;
        let address = format!("127.0.0.1:{}", port.number);
        let process = Process::start(Program {
            name: "mongodb".to_owned(),
            path: tools::mongod()?,
            arguments: arguments(&port, &directory),
            environment: Vec::new(),
            log: directory.with_extension("log"),
        })?;
        let mut options = ClientOptions::parse(format!("mongodb://{address}/")).await?;
        options.direct_connection = Some(true);
        options.server_selection_timeout = Some(Duration::from_secs(1));
        let mut member = Self {
            process,
            proxy: Proxy::to(&address).await?,
            client: Client::with_options(options)?,
            _port: port,
        };
        member.until_ready_to_serve().await?;
        Ok(member)
    }

    /// Restarts the member with its data, and waits until it responds.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process.restart().await?;
        self.until_ready_to_serve().await
    }

    async fn until_ready_to_serve(&mut self) -> anyhow::Result<()> {
        let client = &self.client;
        until_ready(&mut self.process, async || hello(client).await.is_some())
            .await
            .context("a member of the replica set")
    }

    async fn is_primary(&self) -> bool {
        let hello = hello(&self.client).await;
        hello.is_some_and(|hello| hello.get_bool("isWritablePrimary").unwrap_or(false))
    }
}

/// The member's `hello` response; `None` while it is unreachable.
async fn hello(client: &Client) -> Option<Document> {
    let admin = client.database("admin");
    admin.run_command(doc! { "hello": 1 }).await.ok()
}

/// Short election timeout: a lost primary is detected quickly, since tests wait for the next one.
fn configuration(addresses: &[String]) -> Document {
    let members: Vec<Document> = (0_i32..)
        .zip(addresses)
        .map(|(id, host)| doc! { "_id": id, "host": host })
        .collect();
    doc! {
        "_id": REPLICA_SET,
        "members": members,
        "settings": { "electionTimeoutMillis": 2_000, "heartbeatIntervalMillis": 500 },
    }
}
