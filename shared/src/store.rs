//! MongoDB store, the source of truth: connection, transactions, and one repository for each collection.
//!
//! Documents and filters appear only in the repositories, except for the engine's own writes to `jobs`. Writes use
//! majority write concern with journaling, and reads go to the primary; a lookup by unique key that finds nothing is
//! repeated as a linearizable read (`linearizable`).

pub mod allowances;
pub mod apps;
pub mod audit;
pub mod backlog_peaks;
mod batch_loader;
pub mod billing_accounts;
pub mod billing_cursors;
pub mod billing_totals;
mod bulk_upsert;
pub mod console_sessions;
pub mod dependencies;
pub mod domains;
mod ensure_indexes;
mod failure;
pub mod flags;
pub mod group_commit;
pub mod idempotency;
mod index;
pub mod invitations;
pub mod invoice_run;
pub mod invoices;
pub mod job_operations;
pub mod jobs;
mod known_fields;
pub mod ledger;
mod lenient;
mod linearizable;
pub mod member_imports;
pub mod members;
pub mod mfa_reports;
mod page;
pub mod partners;
pub mod payouts;
pub mod prices;
pub mod queues;
pub mod report_months;
mod revisions;
pub mod saved_reports;
pub mod schedule_ledger;
pub mod setup_intents;
pub mod snapshots;
pub mod storage_reports;
pub mod stripe_calls;
pub mod subscriptions;
mod tenant_counts;
pub mod tenant_resource_changes;
pub mod tenants;
pub mod upstreams;
pub mod users;
mod versioned;
pub mod webhook_events;
pub mod workers;

use std::{
    fmt,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use anyhow::{anyhow, ensure};
use bson::{DateTime, Document, doc};
use futures::{FutureExt as _, future::BoxFuture};
use mongodb::{
    Client, ClientSession, Collection, Database,
    options::{
        Acknowledgment, ClientOptions, ConnectionString, ReadConcern, ReadPreference, WriteConcern,
    },
};

pub use self::ensure_indexes::ensure_indexes;
pub use self::failure::{is_unavailable, is_undecodable, timed_out};
pub use self::lenient::{Decoded, id_text, skip_undecodable};
pub use self::versioned::{Updated, Versioned, VersionedRepository};
use crate::platform::{
    clock,
    config::{optional, required},
};

/// Maximum number of connections to each node, unless `maxPoolSize` in the connection string is set.
const CONNECTIONS: u32 = 64;

/// Number of samples of MongoDB's clock; the sample with the shortest round trip is used.
const CLOCK_SAMPLES: usize = 3;

/// Error of the MongoDB driver.
pub type StoreError = mongodb::error::Error;

/// Database configuration.
#[derive(Clone)]
pub struct MongoConfig {
    /// Connection string, `mongodb://…`. May contain a password, so `Debug` omits it.
    pub uri: String,
    /// Database name.
    pub database: String,
}

impl MongoConfig {
    /// Reads `MONGODB_URI` and `MONGODB_DATABASE` (default `dezky`).
    pub fn from_env() -> anyhow::Result<Self> {
        let uri: String = required("MONGODB_URI")?;
        // The driver's error could contain the password.
        let parsed = ConnectionString::parse(&uri).map_err(|_| {
            anyhow!("MONGODB_URI is not valid: expected mongodb://host:port/?replicaSet=name")
        })?;
        ensure!(
            matches!(parsed.read_preference, None | Some(ReadPreference::Primary)),
            "MONGODB_URI is not valid: expected no readPreference, because transactions read from the primary"
        );
        let database = optional("MONGODB_DATABASE")?.unwrap_or_else(|| "dezky".to_owned());
        ensure!(
            is_database_name(&database),
            "MONGODB_DATABASE is not valid: expected at most 63 letters, digits, hyphens and underscores, and none of admin, config and local"
        );
        Ok(Self { uri, database })
    }
}

/// Stricter than MongoDB, which forbids only a few characters. Its own databases take part in no transaction.
fn is_database_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=63).contains(&name.len())
        && name.bytes().all(is_plain)
        && !["admin", "config", "local"].contains(&name)
}

impl fmt::Debug for MongoConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoConfig")
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

/// Database connection.
#[derive(Debug)]
pub struct Store {
    client: Client,
    database: Database,
    /// MongoDB's time minus our boot clock, in milliseconds.
    time_offset: AtomicI64,
}

/// Reason why a transaction was not committed.
#[derive(Debug)]
pub enum TransactionError<E> {
    /// MongoDB error. Transient errors are retried by [`Store::transaction`].
    Store(StoreError),
    /// Aborted by the caller.
    Aborted(E),
}

impl<E> From<StoreError> for TransactionError<E> {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl<E> From<bson::error::Error> for TransactionError<E> {
    fn from(error: bson::error::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Store {
    /// Connects, and waits until the database responds.
    pub async fn connect(config: &MongoConfig) -> Result<Self, StoreError> {
        let mut options = ClientOptions::parse(&config.uri).await?;
        options.app_name.get_or_insert_with(|| "dezky".to_owned());
        options.server_selection_timeout = Some(Duration::from_secs(5));
        options.connect_timeout = Some(Duration::from_secs(2));
        // The driver's default of 10 would make transactions wait for a connection during a journal sync.
        options.max_pool_size.get_or_insert(CONNECTIONS);
        options.write_concern = Some(
            WriteConcern::builder()
                .w(Acknowledgment::Majority)
                .journal(true)
                .build(),
        );
        options.read_concern = Some(ReadConcern::majority());
        let client = Client::with_options(options)?;
        let store = Self {
            database: client.database(&config.database),
            client,
            time_offset: AtomicI64::new(0),
        };
        store.sync_clock().await?;
        Ok(store)
    }

    /// A collection of the database.
    pub fn collection<T: Send + Sync>(&self, name: &str) -> Collection<T> {
        self.database.collection(name)
    }

    /// The database, for commands.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// MongoDB's current time: the last sample plus the elapsed time.
    pub fn now(&self) -> DateTime {
        DateTime::from_millis(boot_millis() + self.time_offset.load(Ordering::Relaxed))
    }

    /// Samples MongoDB's clock, which [`Store::now`] follows.
    pub async fn sync_clock(&self) -> Result<(), StoreError> {
        let mut best: Option<(Duration, i64)> = None;
        for _ in 0..CLOCK_SAMPLES {
            let before = clock::boot_time();
            let answer = match self.database.run_command(doc! { "hello": 1 }).await {
                Ok(answer) => answer,
                Err(error) if best.is_none() => return Err(error),
                Err(_) => break,
            };
            let took = clock::boot_time().saturating_sub(before);
            if let Ok(time) = answer.get_datetime("localTime")
                && best.is_none_or(|(shortest, _)| took < shortest)
            {
                let read_at = i64::try_from((before + took / 2).as_millis()).unwrap_or(i64::MAX);
                best = Some((took, time.timestamp_millis() - read_at));
            }
        }
        if let Some((_, offset)) = best {
            self.time_offset.store(offset, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Runs `body` in a transaction and commits it. A transaction that conflicts with another one is repeated, so
    /// `body` must be repeatable: no network calls except on the session, no long computation.
    ///
    /// `context` is the state `body` works with; it is passed on each repetition.
    pub async fn transaction<C, R, E, F>(
        &self,
        context: C,
        body: F,
    ) -> Result<R, TransactionError<E>>
    where
        C: Send,
        R: Send,
        E: Send,
        F: for<'s> FnMut(
                &'s mut ClientSession,
                &'s mut C,
            ) -> BoxFuture<'s, Result<R, TransactionError<E>>>
            + Send,
    {
        let mut session = self.client.start_session().await?;
        let outcome = session
            .start_transaction()
            .and_run((context, body), |session, (context, body)| {
                async move {
                    match body(&mut *session, context).await {
                        Ok(value) => Ok(Ok(value)),
                        Err(TransactionError::Store(error)) => Err(error),
                        Err(TransactionError::Aborted(reason)) => {
                            session.abort_transaction().await?;
                            Ok(Err(reason))
                        }
                    }
                }
                .boxed()
            })
            .await?;
        outcome.map_err(TransactionError::Aborted)
    }

    /// Closes the connections. Dropping the client while the runtime shuts down would print a panic.
    pub async fn close(&self) {
        self.client.clone().shutdown().immediate(true).await;
    }
}

fn boot_millis() -> i64 {
    i64::try_from(clock::boot_time().as_millis()).unwrap_or(i64::MAX)
}

/// Name of the violated unique index, if `error` is a duplicate key error.
pub fn duplicate_key_index(error: &StoreError) -> Option<String> {
    use mongodb::error::{ErrorKind, WriteFailure};
    let message = match error.kind.as_ref() {
        ErrorKind::Write(WriteFailure::WriteError(write)) if write.code == 11000 => &write.message,
        ErrorKind::Command(command) if command.code == 11000 => &command.message,
        ErrorKind::InsertMany(many) => {
            let writes = many.write_errors.iter().flatten();
            &writes
                .into_iter()
                .find(|write| write.code == 11000)?
                .message
        }
        _ => return None,
    };
    let name = message.split("index: ").nth(1)?.split_whitespace().next()?;
    Some(name.to_owned())
}

/// Runs several updates (`q` and `u`) of one collection in one command of a transaction, and returns the number of
/// matched documents. The driver's bulk write requires MongoDB 8.0; the `update` command does not.
pub async fn bulk_update_in<T: Send + Sync>(
    collection: &Collection<T>,
    session: &mut ClientSession,
    updates: Vec<Document>,
) -> Result<usize, StoreError> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        n: i64,
        #[serde(default)]
        write_errors: Vec<Document>,
    }
    if updates.is_empty() {
        return Ok(0);
    }
    let namespace = collection.namespace();
    let answer = collection
        .client()
        .database(&namespace.db)
        .run_command(doc! { "update": namespace.coll, "updates": updates })
        .session(session)
        .await?;
    let answer: Answer = bson::deserialize_from_document(answer)?;
    match answer.write_errors.first() {
        Some(error) => Err(StoreError::custom(error.to_string())),
        None => Ok(usize::try_from(answer.n).unwrap_or_default()),
    }
}

/// Drops an index created by an earlier build, if it exists.
async fn drop_index<T: Send + Sync>(
    collection: &Collection<T>,
    name: &str,
) -> Result<(), StoreError> {
    use mongodb::error::ErrorKind;
    const NAMESPACE_NOT_FOUND: i32 = 26;
    const INDEX_NOT_FOUND: i32 = 27;
    match collection.drop_index(name).await {
        Err(error)
            if matches!(error.kind.as_ref(), ErrorKind::Command(refused)
                if [NAMESPACE_NOT_FOUND, INDEX_NOT_FOUND].contains(&refused.code)) =>
        {
            Ok(())
        }
        dropped => dropped,
    }
}

/// Serialises a value to BSON, for a filter or an update.
pub fn to_bson<T: serde::Serialize>(value: &T) -> Result<bson::Bson, StoreError> {
    Ok(bson::serialize_to_bson(value)?)
}

/// Serialises a value to a document.
pub fn to_document<T: serde::Serialize>(value: &T) -> Result<Document, StoreError> {
    Ok(bson::serialize_to_document(value)?)
}
