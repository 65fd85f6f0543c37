//! Three `mongod` that are one replica set, each reached through a proxy: by the others, and by every client that
//! finds its members in the set's configuration.

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
    LOOK, START, STOP,
    mongodb::{REPLICA_SET, arguments},
    until_ready,
};
use crate::{
    ports::Port,
    process::{Process, Program},
    proxy::Proxy,
    tools,
};

/// How many members there are: the fewest of which one may be lost.
const MEMBERS: usize = 3;

/// A MongoDB that survives the loss of any one member. Dropping it stops it; its data stay where they are.
#[derive(Debug)]
pub struct ReplicaSet {
    /// How to reach it, through the proxies.
    pub uri: String,
    /// Its members.
    pub members: Vec<Member>,
}

/// One `mongod` of several.
#[derive(Debug)]
pub struct Member {
    /// The process.
    pub process: Process,
    /// The way to it.
    pub proxy: Proxy,
    /// Speaks to this member and no other, past the proxy.
    pub client: Client,
    _port: Port,
}

impl ReplicaSet {
    /// Starts one with its data and logs in `directory`, and waits for a primary.
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

    /// The member that is the primary, if one is.
    pub async fn primary(&self) -> Option<usize> {
        let looks = self.members.iter().map(Member::is_primary);
        let primaries = future::join_all(looks).await;
        primaries.iter().position(|is_primary| *is_primary)
    }

    /// Waits until there is a primary.
    pub async fn until_primary(&self) -> anyhow::Result<usize> {
        let deadline = Instant::now() + START;
        loop {
            if let Some(primary) = self.primary().await {
                return Ok(primary);
            }
            if Instant::now() > deadline {
                bail!("the replica set has no primary after {START:?}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks all members to stop.
    pub async fn stop(&mut self) {
        let stopping = self
            .members
            .iter_mut()
            .map(|member| member.process.stop(STOP));
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
        member.until_answering().await?;
        Ok(member)
    }

    /// Starts it again, with the same data, and waits until it answers.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process.restart().await?;
        self.until_answering().await
    }

    async fn until_answering(&mut self) -> anyhow::Result<()> {
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

/// What a member says of itself; nothing while it cannot be reached.
async fn hello(client: &Client) -> Option<Document> {
    let admin = client.database("admin");
    admin.run_command(doc! { "hello": 1 }).await.ok()
}

/// Notices a lost primary soon, since those who wait for another are tests.
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
