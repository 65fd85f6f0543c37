//! Watcher: observes every change of every job through MongoDB's change stream, bypassing the proxies.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use bson::{Document, Timestamp, doc};
use futures::StreamExt as _;
use mongodb::{Client, change_stream::event::ResumeToken};
use tokio_util::task::AbortOnDropHandle;

use super::{DATABASE, observations::Observations};
use crate::stores::ReplicaSet;

/// Delay before the stream is resumed on the next member.
const RESUME_DELAY: Duration = Duration::from_millis(100);

/// Observes until it is dropped.
#[derive(Debug)]
pub(super) struct Watcher {
    observed: Arc<Mutex<Observations>>,
    _watching: AbortOnDropHandle<()>,
}

impl Watcher {
    /// Starts the change stream at the current operation time.
    pub(super) async fn start(mongo: &ReplicaSet) -> anyhow::Result<Self> {
        let clients: Vec<Client> = mongo
            .members
            .iter()
            .map(|member| member.client.clone())
            .collect();
        let primary = mongo.until_primary().await?;
        let admin = clients[primary].database("admin");
        let hello = admin.run_command(doc! { "hello": 1 }).await?;
        let write = hello.get_document("lastWrite")?.get_document("opTime")?;
        let now = write.get_timestamp("ts").context("the operation time")?;
        let observed = Arc::new(Mutex::new(Observations::default()));
        let watching = tokio::spawn(watch(clients, now, observed.clone()));
        Ok(Self {
            observed,
            _watching: AbortOnDropHandle::new(watching),
        })
    }

    /// Observations so far.
    pub(super) fn observations(&self) -> MutexGuard<'_, Observations> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the change stream on one member after the other, since any of them may be killed.
async fn watch(clients: Vec<Client>, from: Timestamp, observed: Arc<Mutex<Observations>>) {
    let mut last: Option<ResumeToken> = None;
    for client in clients.iter().cycle() {
        // Resumes after any error.
        let _ = follow(client, from, &mut last, &observed).await;
        tokio::time::sleep(RESUME_DELAY).await;
    }
}

async fn follow(
    client: &Client,
    from: Timestamp,
    last: &mut Option<ResumeToken>,
    observed: &Mutex<Observations>,
) -> mongodb::error::Result<()> {
    let jobs = client.database(DATABASE).collection::<Document>("jobs");
    let watched = match last.clone() {
        Some(token) => jobs.watch().resume_after(token),
        None => jobs.watch().start_at_operation_time(from),
    };
    let mut changes = watched.await?;
    while let Some(change) = changes.next().await {
        let change = change?;
        *last = Some(change.id.clone());
        let mut observed = observed.lock().unwrap_or_else(PoisonError::into_inner);
        observed.apply(change);
    }
    Ok(())
}
