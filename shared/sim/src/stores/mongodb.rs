//! A `mongod` that is a replica set of one node, so that there are transactions.

use std::{fs, path::Path, time::Duration};

use mongodb::{
    Client, Database,
    bson::{Document, doc},
    error::ErrorKind,
    options::ClientOptions,
};
use nix::sys::signal::Signal;

use super::{STOP, until_ready};
use crate::{
    ports::Port,
    process::{Process, Program},
    tools,
};

pub(super) const REPLICA_SET: &str = "dezky";
/// The code of an error that says that the replica set has no configuration yet.
const NOT_YET_INITIALIZED: i32 = 94;

/// A MongoDB of our own. Dropping it stops it; its data stay where they are.
#[derive(Debug)]
pub struct Mongo {
    /// How to reach it.
    pub uri: String,
    /// The process, for those who watch it.
    pub process: Process,
    port: Port,
}

impl Mongo {
    /// Starts one with its data in `directory`, on any free port.
    pub async fn start(directory: &Path) -> anyhow::Result<Self> {
        Self::start_on(Port::free()?, directory, &directory.join("mongod.log")).await
    }

    /// Starts one on `port` that logs to `log`.
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

    /// Kills it as a crash of the machine would.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Asks it to stop.
    pub async fn stop(&mut self) {
        self.process.stop(STOP).await;
    }

    /// Starts it again, on the same port and with the same data, and waits until it is the primary.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process.restart().await?;
        self.until_primary().await
    }

    /// Stops time for it: connections stay open, and nothing is answered.
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
        // An error means: not yet.
        let outcome = until_ready(&mut self.process, async || {
            is_primary(&admin, &node).await.unwrap_or(false)
        })
        .await;
        client.shutdown().immediate(true).await;
        outcome
    }
}

/// Whether the node is the primary; on the way there, it is told that the replica set consists of itself.
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
        // The data remember another port: a node that does not find itself among the members has to be forced.
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
        // A client that is killed in the middle of a transaction holds its locks for as long as this.
        "--setParameter",
        "transactionLifetimeLimitSeconds=5",
        "--setParameter",
        "diagnosticDataCollectionEnabled=false",
        // As in docker-compose.yml. The files of a dropped database go after this, too: hundreds of tests, each with a
        // database of its own, would use up the files that a process may open.
        "--setParameter",
        "minSnapshotHistoryWindowInSeconds=5",
        "--wiredTigerEngineConfigString",
        "file_manager=(close_idle_time=10,close_scan_interval=5)",
        // It would take half of the machine's memory, and 5 % of its disk.
        "--wiredTigerCacheSizeGB",
        "0.5",
        "--oplogSize",
        "512",
        // Two on one machine would meet in /tmp.
        "--nounixsocket",
    ]
    .map(str::to_owned)
    .to_vec()
}
