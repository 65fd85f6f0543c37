//! A `mongod` as a replica set of one node, which transactions require.

use std::{fs, path::Path, time::Duration};

use mongodb::{
    Client, Database,
    bson::{Document, doc},
    error::ErrorKind,
    options::ClientOptions,
};
use nix::sys::signal::Signal;

use super::{STOP_TIMEOUT, until_ready};
use crate::{
    ports::Port,
    process::{Process, Program},
    tools,
};

pub(super) const REPLICA_SET: &str = "dezky";
/// Error code of a node without a replica set configuration.
const NOT_YET_INITIALIZED: i32 = 94;

/// A running MongoDB. Dropping it stops the server; the data stay.
#[derive(Debug)]
pub struct Mongo {
    /// Connection string.
    pub uri: String,
    /// The server process.
    pub process: Process,
    port: Port,
}

impl Mongo {
    /// Starts a server with its data in `directory`, on any free port.
    pub async fn start(directory: &Path) -> anyhow::Result<Self> {
        Self::start_on(Port::free()?, directory, &directory.join("mongod.log")).await
    }

    /// Starts a server on `port` that logs to `log`.
    pub async fn start_on(port: Port, directory: &Path, log: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(directory)?;
        let process = Process::start(Program {
            name: "mongodb".to_owned(),
            path: tools::mongod()?,
            arguments: arguments(&port, directory),
            environment: Vec::new(),
            log: log.to_owned(),
        })?;
        let mut mongo = Self {
            uri: format!(
                "mongodb://127.0.0.1:{}/?replicaSet={REPLICA_SET}",
                port.number
            ),
            process,
            port,
        };
        mongo.until_primary().await?;
        Ok(mongo)
    }

    /// Kills the server, as in a crash.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Stops the server.
    pub async fn stop(&mut self) {
        self.process.stop(STOP_TIMEOUT).await;
    }

    /// Restarts the server on the same port with its data, and waits until it is the primary.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process.restart().await?;
        self.until_primary().await
    }

    /// Suspends the server (SIGSTOP): connections stay open without responses.
    pub fn pause(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.process.signal(Signal::SIGCONT);
    }

    async fn until_primary(&mut self) -> anyhow::Result<()> {
        let node = format!("127.0.0.1:{}", self.port.number);
        let mut options = ClientOptions::parse(format!("mongodb://{node}/")).await?;
        options.direct_connection = Some(true);
        options.server_selection_timeout = Some(Duration::from_millis(500));
        let client = Client::with_options(options)?;
        let admin = client.database("admin");
        // Errors mean: not ready yet.
        let outcome = until_ready(&mut self.process, async || {
            is_primary(&admin, &node).await.unwrap_or(false)
        })
        .await;
        client.shutdown().immediate(true).await;
        outcome
    }
}

/// Whether the node is the primary. Configures the replica set, or reconfigures it for the current port, on the way.
async fn is_primary(admin: &Database, node: &str) -> mongodb::error::Result<bool> {
    let found = admin.run_command(doc! { "replSetGetConfig": 1 }).await;
    let mut config = match found {
        Ok(answer) => answer.get_document("config").cloned().unwrap_or_default(),
        Err(error) if code(&error) == Some(NOT_YET_INITIALIZED) => {
            let config = doc! { "_id": REPLICA_SET, "members": [member(node)] };
            admin
                .run_command(doc! { "replSetInitiate": config })
                .await?;
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    let members = [member(node)];
    if host(&config) != Some(node) {
        // The data may name another port. A node that is not a member of its own configuration requires `force`.
        let version = config.get_i32("version").unwrap_or(1);
        config.insert("version", version + 1);
        config.insert("members", members.to_vec());
        let reconfigure = doc! { "replSetReconfig": config, "force": true };
        admin.run_command(reconfigure).await?;
        return Ok(false);
    }
    let hello = admin.run_command(doc! { "hello": 1 }).await?;
    Ok(hello.get_bool("isWritablePrimary").unwrap_or(false))
}

fn member(node: &str) -> Document {
    doc! { "_id": 0, "host": node }
}

fn host(config: &Document) -> Option<&str> {
    let member = config.get_array("members").ok()?.first()?.as_document()?;
    member.get_str("host").ok()
}

fn code(error: &mongodb::error::Error) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(command) => Some(command.code),
        _ => None,
    }
}

pub(super) fn arguments(port: &Port, directory: &Path) -> Vec<String> {
    let port = port.number.to_string();
    let directory = directory.display().to_string();
    [
        "--replSet",
        REPLICA_SET,
        "--bind_ip",
        "127.0.0.1",
        "--port",
        &port,
        "--dbpath",
        &directory,
        // Time limit of the locks of a client that is killed during a transaction.
        "--setParameter",
        "transactionLifetimeLimitSeconds=5",
        "--setParameter",
        "diagnosticDataCollectionEnabled=false",
        // Dropping a database waits for the next commit of the journal, which by default comes after up to 100 ms.
        "--journalCommitInterval",
        "20",
        // As in docker-compose.yml. The files of a dropped database go after this, too: hundreds of tests, each with a
        // database of its own, would use up the files that a process may open.
        "--setParameter",
        "minSnapshotHistoryWindowInSeconds=5",
        "--wiredTigerEngineConfigString",
        "file_manager=(close_idle_time=10,close_scan_interval=5)",
        // The defaults take half of the machine's memory and 5 % of its disk.
        "--wiredTigerCacheSizeGB",
        "0.5",
        "--oplogSize",
        "512",
        // The sockets of two servers would share /tmp.
        "--nounixsocket",
    ]
    .map(str::to_owned)
    .to_vec()
}
