//! Pool of test databases. Creating the collections and indexes costs MongoDB more than most tests do, so that a test
//! takes over an emptied database from the one before.

use std::{
    collections::BTreeSet,
    env,
    fs::File,
    io::{Read as _, Seek as _, Write as _},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use bson::{Document, doc};
use futures::TryStreamExt as _;
use mongodb::{
    Client, Database, error::Error, options::ClientOptions, results::CollectionSpecification,
};
use nix::fcntl::{Flock, FlockArg};

/// A collection with more documents is dropped, which is faster than deleting them.
const MAX_DELETED: u64 = 5_000;
/// Time limit for emptying or dropping a database.
const CLEAN_TIMEOUT: Duration = Duration::from_secs(10);
/// Content of the lock file of an empty database.
const EMPTY: &str = "empty";

/// A database of one test at a time, locked by a file: the lock ends with the process that holds it.
#[derive(Debug)]
pub(crate) struct PooledDatabase {
    /// Name of the database.
    pub(crate) name: String,
    /// Ids of the collections that have all indexes. A collection that is dropped and made again has another id.
    indexed: BTreeSet<String>,
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
            indexed: BTreeSet::new(),
            uri: uri.to_owned(),
            lock,
        };
        let content = database.content()?;
        match content.strip_prefix(EMPTY) {
            Some(indexed) => database.indexed = indexed.lines().map(str::to_owned).collect(),
            // Its last test was killed.
            None => block_on(drop_database(database.uri.clone(), database.name.clone()))?,
        }
        database.mark("")?;
        Ok(database)
    }

    /// Whether every collection has its indexes.
    pub(crate) fn is_indexed(&self) -> bool {
        !self.indexed.is_empty()
    }

    /// Notes that every collection of `database` has its indexes.
    pub(crate) async fn set_indexed(&mut self, database: &Database) -> Result<(), Error> {
        let collections: Vec<_> = database.list_collections().await?.try_collect().await?;
        self.indexed = collections.iter().map(id).collect();
        Ok(())
    }

    fn content(&mut self) -> anyhow::Result<String> {
        let mut content = String::new();
        self.lock.read_to_string(&mut content)?;
        Ok(content)
    }

    fn mark(&mut self, content: &str) -> anyhow::Result<()> {
        self.lock.set_len(0)?;
        self.lock.rewind()?;
        self.lock.write_all(content.as_bytes())?;
        Ok(())
    }
}

impl Drop for PooledDatabase {
    /// Empties the database. If that fails, the next test drops it.
    fn drop(&mut self) {
        let (uri, name) = (self.uri.clone(), self.name.clone());
        if let Ok(kept) = block_on(empty_database(uri, name)) {
            let mut content = vec![EMPTY];
            if self.indexed.is_subset(&kept) {
                content.extend(self.indexed.iter().map(String::as_str));
            }
            let _ = self.mark(&content.join("\n"));
        }
    }
}

/// Runs `work` on a thread with a runtime of its own: the caller may be within a runtime, and `drop` cannot await.
pub(crate) fn block_on<T: Send + 'static>(
    work: impl Future<Output = anyhow::Result<T>> + Send + 'static,
) -> anyhow::Result<T> {
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

/// Deletes all documents and keeps the indexes. Collections that a test changed otherwise are dropped. Returns the ids of
/// the kept ones.
async fn empty_database(uri: String, name: String) -> anyhow::Result<BTreeSet<String>> {
    with_database(uri, name, async |database| {
        let mut kept = BTreeSet::new();
        database.run_command(doc! { "profile": 0 }).await?;
        let collections: Vec<_> = database.list_collections().await?.try_collect().await?;
        for specification in collections {
            let options = bson::serialize_to_document(&specification.options)?;
            let collection = database.collection::<Document>(&specification.name);
            let is_changed = !options.is_empty() || specification.name.starts_with("system.");
            let documents = collection.estimated_document_count().await?;
            if is_changed || documents > MAX_DELETED {
                collection.drop().await?;
                continue;
            }
            if documents > 0 {
                collection.delete_many(doc! {}).await?;
            }
            kept.insert(id(&specification));
        }
        Ok(kept)
    })
    .await
}

/// The id that MongoDB gave the collection when it was created.
fn id(collection: &CollectionSpecification) -> String {
    let uuid = collection.info.uuid.as_ref();
    uuid.map(ToString::to_string).unwrap_or_default()
}

async fn with_database<T>(
    uri: String,
    name: String,
    work: impl AsyncFnOnce(&Database) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut options = ClientOptions::parse(&uri).await?;
    options.server_selection_timeout = Some(Duration::from_secs(1));
    let client = Client::with_options(options)?;
    let done = work(&client.database(&name)).await;
    client.shutdown().immediate(true).await;
    done
}
