//! Pool of test databases. Creating the collections and indexes costs MongoDB more than most tests do, so that a test
//! takes over an emptied database from the one before.

use std::{
    env,
    fs::File,
    io::{Read as _, Seek as _, Write as _},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use bson::{Document, doc};
use futures::TryStreamExt as _;
use mongodb::{Client, Database, options::ClientOptions};
use nix::fcntl::{Flock, FlockArg};

/// A collection with more documents is dropped, which is faster than deleting them.
const MAX_DELETED: u64 = 5_000;
/// Time limit for emptying or dropping a database.
const CLEAN_TIMEOUT: Duration = Duration::from_secs(10);
/// Content of the lock file of an empty database.
const EMPTY: &[u8] = b"empty";

/// A database of one test at a time, locked by a file: the lock ends with the process that holds it.
#[derive(Debug)]
pub(crate) struct PooledDatabase {
    /// Name of the database.
    pub(crate) name: String,
    uri: String,
    lock: Flock<File>,
}

impl PooledDatabase {
    /// The first free database of the test run `run`, empty.
    pub(crate) fn acquire(uri: &str, run: &str) -> anyhow::Result<Self> {
        let mut number = 0;
        let lock = loop {
            let path = env::temp_dir().join(format!("dezky-{run}-database-{number}.lock"));
            let mut options = File::options();
            let file = options.read(true).write(true).create(true).truncate(false);
            let file = file
                .open(&path)
                .with_context(|| path.display().to_string())?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => break lock,
                Err((_, nix::errno::Errno::EWOULDBLOCK)) => number += 1,
                Err((_, error)) => return Err(error).context("lock of a test database"),
            }
        };
        let mut database = Self {
            name: format!("test_{run}_{number}").replace('-', ""),
            uri: uri.to_owned(),
            lock,
        };
        if !database.is_empty()? {
            // Its last test was killed.
            block_on(drop_database(database.uri.clone(), database.name.clone()))?;
        }
        database.mark(b"")?;
        Ok(database)
    }

    fn is_empty(&mut self) -> anyhow::Result<bool> {
        let mut content = Vec::new();
        self.lock.read_to_end(&mut content)?;
        Ok(content == EMPTY)
    }

    fn mark(&mut self, content: &[u8]) -> anyhow::Result<()> {
        self.lock.set_len(0)?;
        self.lock.rewind()?;
        self.lock.write_all(content)?;
        Ok(())
    }
}

impl Drop for PooledDatabase {
    /// Empties the database. If that fails, the next test drops it.
    fn drop(&mut self) {
        let (uri, name) = (self.uri.clone(), self.name.clone());
        if block_on(empty_database(uri, name)).is_ok() {
            let _ = self.mark(EMPTY);
        }
    }
}

/// Runs `work` on a thread with a runtime of its own: the caller may be within a runtime, and `drop` cannot await.
pub(crate) fn block_on(
    work: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) -> anyhow::Result<()> {
    let working = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async { tokio::time::timeout(CLEAN_TIMEOUT, work).await? })
    });
    working
        .join()
        .unwrap_or_else(|_| anyhow::bail!("the clean-up of a test database panicked"))
}

/// Drops a database.
pub(crate) async fn drop_database(uri: String, name: String) -> anyhow::Result<()> {
    with_database(uri, name, async |database| Ok(database.drop().await?)).await
}

/// Deletes all documents and keeps the indexes. Collections that a test changed otherwise are dropped.
async fn empty_database(uri: String, name: String) -> anyhow::Result<()> {
    with_database(uri, name, async |database| {
        database.run_command(doc! { "profile": 0 }).await?;
        let collections: Vec<_> = database.list_collections().await?.try_collect().await?;
        for specification in collections {
            let options = bson::serialize_to_document(&specification.options)?;
            let collection = database.collection::<Document>(&specification.name);
            let is_changed = !options.is_empty() || specification.name.starts_with("system.");
            let documents = collection.estimated_document_count().await?;
            if is_changed || documents > MAX_DELETED {
                collection.drop().await?;
            } else if documents > 0 {
                collection.delete_many(doc! {}).await?;
            }
        }
        Ok(())
    })
    .await
}

async fn with_database(
    uri: String,
    name: String,
    work: impl AsyncFnOnce(&Database) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut options = ClientOptions::parse(&uri).await?;
    options.server_selection_timeout = Some(Duration::from_secs(1));
    let client = Client::with_options(options)?;
    let done = work(&client.database(&name)).await;
    client.shutdown().immediate(true).await;
    done
}
