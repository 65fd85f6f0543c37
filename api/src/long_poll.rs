//! Long polling: requests that wait for a document to change.
//!
//! Subscribe, read, then wait: no change after the read is missed. The change feed in Redis is a hint and may lose
//! changes; so each process also polls the revisions of all watched documents once a second, with one query per
//! collection.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dezky_shared::{
    id::{DomainId, UserId},
    platform::{
        backoff::ReconnectBackoff,
        change_feed::{ChangeFeed, DocumentChange},
    },
    store::{
        StoreError, domains::DomainRepository, jobs::JobRepository, partners::PartnerRepository,
        tenant_resource_changes::TenantResourceChanges, tenants::TenantRepository,
        users::UserRepository,
    },
};
use futures::StreamExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// Poll interval of revisions.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Time limit of a poll: a dead connection must not keep all requests waiting for changes.
const POLL_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of event streams per process.
const MAX_STREAMS: usize = 10_000;
/// Capacity of the queue of hints. Changes beyond it are found by the next poll.
const MAX_HINTS: usize = 1024;

/// Watched documents and their subscriptions.
#[derive(Debug, Clone)]
pub struct ChangeWatcher {
    watches: Arc<Mutex<HashMap<DocumentChange, Watch>>>,
    streams: Arc<Semaphore>,
    shutdown: CancellationToken,
}

#[derive(Debug)]
struct Watch {
    /// Last known revision. 0 before the first poll.
    revision: watch::Sender<i64>,
    waiters: usize,
}

/// Repositories of the watched documents.
#[derive(Debug)]
pub struct Sources {
    /// Tenants.
    pub tenants: TenantRepository,
    /// Domains.
    pub domains: DomainRepository,
    /// Jobs.
    pub jobs: JobRepository,
    /// Users.
    pub users: UserRepository,
    /// Partners.
    pub partners: PartnerRepository,
    /// Members, apps, domains and invoices by tenant.
    pub tenant_resources: TenantResourceChanges,
}

/// A subscription to the changes of a document.
#[derive(Debug)]
pub struct Subscription {
    watcher: ChangeWatcher,
    document: DocumentChange,
    revision: watch::Receiver<i64>,
}

impl ChangeWatcher {
    /// Starts the watcher. It runs until `shutdown`.
    pub fn start(sources: Sources, changes: &ChangeFeed, shutdown: &CancellationToken) -> Self {
        let watcher = Self {
            watches: Arc::default(),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            shutdown: shutdown.clone(),
        };
        let (hint_sender, hints) = mpsc::channel(MAX_HINTS);
        let listen = watcher.clone().listen(changes.clone(), hint_sender);
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(listen));
        let poll = watcher.clone().poll(sources, hints);
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(poll));
        watcher
    }

    /// Subscribes to the changes of `document`.
    pub fn subscribe(&self, document: DocumentChange) -> Subscription {
        let mut watches = self.watches();
        let entry = watches.entry(document).or_insert_with(|| Watch {
            revision: watch::Sender::new(0),
            waiters: 0,
        });
        entry.waiters += 1;
        Subscription {
            watcher: self.clone(),
            document,
            revision: entry.revision.subscribe(),
        }
    }

    /// A permit for an event stream. `None` if the process has the maximum number of streams.
    pub fn acquire_stream(&self) -> Option<OwnedSemaphorePermit> {
        self.streams.clone().try_acquire_owned().ok()
    }

    /// Number of subscriptions to `document`.
    pub fn waiters(&self, document: DocumentChange) -> usize {
        let watches = self.watches();
        watches.get(&document).map_or(0, |watch| watch.waiters)
    }

    /// Number of watched documents.
    pub fn count(&self) -> usize {
        self.watches().len()
    }

    fn watches(&self) -> MutexGuard<'_, HashMap<DocumentChange, Watch>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn poll(self, sources: Sources, mut hint_receiver: mpsc::Receiver<DocumentChange>) {
        let mut tick = interval(POLL_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hints = Vec::new();
        loop {
            hints.clear();
            let documents: Vec<DocumentChange> = tokio::select! {
                _ = tick.tick() => self.watches().keys().copied().collect(),
                _ = hint_receiver.recv_many(&mut hints, MAX_HINTS) => hints.clone(),
            };
            finish_within(POLL_TIMEOUT, self.poll_revisions(&sources, &documents)).await;
        }
    }

    /// Forwards the hints about watched documents from the change feed, which has those of all tenants.
    async fn listen(self, changes: ChangeFeed, hints: mpsc::Sender<DocumentChange>) {
        let mut backoff = ReconnectBackoff::default();
        loop {
            match changes.subscribe().await {
                Ok(feed) => {
                    let mut feed = std::pin::pin!(feed);
                    while let Some(change) = feed.next().await {
                        backoff.reset();
                        self.forward(change, &hints);
                    }
                }
                Err(error) => {
                    tracing::debug!(
                        error = error.category(),
                        "Cannot subscribe to the change feed"
                    );
                }
            }
            sleep(backoff.next_delay()).await;
        }
    }

    /// Queues a hint. It is dropped if no document that it concerns is watched, or if the queue is full: the next poll finds
    /// the change.
    fn forward(&self, change: DocumentChange, hints: &mpsc::Sender<DocumentChange>) {
        for change in with_resources(change) {
            if self.watches().contains_key(&change) {
                let _ = hints.try_send(change);
            }
        }
    }

    async fn poll_revisions(
        &self,
        sources: &Sources,
        documents: &[DocumentChange],
    ) -> Result<(), StoreError> {
        let mut tenant_ids = Vec::new();
        let mut domain_ids = Vec::new();
        let mut job_ids = Vec::new();
        let mut user_ids = Vec::new();
        let mut partner_ids = Vec::new();
        let mut tenants_with_resources = Vec::new();
        for document in documents {
            match document {
                DocumentChange::Tenant(id) => tenant_ids.push(*id),
                DocumentChange::TenantResources(id) => tenants_with_resources.push(*id),
                DocumentChange::Domain(id) => domain_ids.push(*id),
                DocumentChange::Job(id) => job_ids.push(*id),
                DocumentChange::User(id) => user_ids.push(*id),
                DocumentChange::Partner(id) => partner_ids.push(*id),
                // Followed by workers; no request waits for it.
                DocumentChange::Control => {}
            }
        }
        if !tenant_ids.is_empty() {
            for (id, revision) in sources.tenants.revisions(&tenant_ids).await? {
                self.publish(DocumentChange::Tenant(id), revision);
            }
        }
        if !domain_ids.is_empty() {
            let mut deleted: HashSet<DomainId> = domain_ids.iter().copied().collect();
            for (id, revision) in sources.domains.revisions(&domain_ids).await? {
                deleted.remove(&id);
                self.publish(DocumentChange::Domain(id), revision);
            }
            for id in deleted {
                self.publish(DocumentChange::Domain(id), i64::MAX);
            }
        }
        if !job_ids.is_empty() {
            for (id, revision) in sources.jobs.revisions(&job_ids).await? {
                self.publish(DocumentChange::Job(id), revision);
            }
        }
        if !user_ids.is_empty() {
            // Users and domains alone are ever deleted.
            let mut deleted: HashSet<UserId> = user_ids.iter().copied().collect();
            for (id, revision) in sources.users.revisions(&user_ids).await? {
                deleted.remove(&id);
                self.publish(DocumentChange::User(id), revision);
            }
            for id in deleted {
                self.publish(DocumentChange::User(id), i64::MAX);
            }
        }
        if !partner_ids.is_empty() {
            for (id, revision) in sources.partners.revisions(&partner_ids).await? {
                self.publish(DocumentChange::Partner(id), revision);
            }
        }
        if !tenants_with_resources.is_empty() {
            for (id, changed_at) in sources
                .tenant_resources
                .latest(&tenants_with_resources)
                .await?
            {
                self.publish(
                    DocumentChange::TenantResources(id),
                    changed_at.timestamp_millis(),
                );
            }
        }
        Ok(())
    }

    fn publish(&self, document: DocumentChange, revision: i64) {
        if let Some(watch) = self.watches().get(&document) {
            watch.revision.send_if_modified(|last| {
                let changed = *last != revision;
                *last = revision;
                changed
            });
        }
    }
}

impl Subscription {
    /// The revision as last polled; 0 before.
    pub fn revision(&self) -> i64 {
        *self.revision.borrow()
    }

    /// Waits for a revision newer than `revision`, which may itself be newer than the last poll. `false` at the deadline
    /// or at shutdown.
    pub async fn wait_newer_than(&mut self, revision: i64, deadline: Instant) -> bool {
        let changed = self.revision.wait_for(|current| *current > revision);
        tokio::select! {
            changed = timeout_at(deadline, changed) => matches!(changed, Ok(Ok(_))),
            () = self.watcher.shutdown.cancelled() => false,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut watches = self.watcher.watches();
        if let Some(entry) = watches.get_mut(&self.document) {
            entry.waiters -= 1;
            if entry.waiters == 0 {
                watches.remove(&self.document);
            }
        }
    }
}

/// A changed document, and the documents that may have changed with it.
fn with_resources(change: DocumentChange) -> impl Iterator<Item = DocumentChange> {
    let resources = match change {
        DocumentChange::Tenant(id) => Some(DocumentChange::TenantResources(id)),
        _ => None,
    };
    [change].into_iter().chain(resources)
}

/// Runs a poll to its end or its time limit, and logs its failure.
async fn finish_within(limit: Duration, poll: impl Future<Output = Result<(), StoreError>>) {
    match timeout(limit, poll).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "Cannot poll for changes; trying again"),
        Err(_) => tracing::warn!("MongoDB did not answer a poll in time; trying again"),
    }
}

#[cfg(test)]
mod tests {
    use dezky_shared::id::JobId;
    use futures::FutureExt as _;

    use super::*;

    fn watcher() -> ChangeWatcher {
        ChangeWatcher {
            watches: Arc::default(),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            shutdown: CancellationToken::new(),
        }
    }

    #[tokio::test]
    async fn changes_of_documents_that_are_not_watched_displace_no_hint() {
        let watcher = watcher();
        let job = DocumentChange::Job(JobId::new());
        let _subscription = watcher.subscribe(job);
        let (hints, mut queue) = mpsc::channel(MAX_HINTS);

        for _ in 0..10 * MAX_HINTS {
            watcher.forward(DocumentChange::Job(JobId::new()), &hints);
        }
        watcher.forward(job, &hints);

        assert_eq!(queue.recv().now_or_never(), Some(Some(job)));
    }

    #[tokio::test]
    async fn a_subscription_waits_for_a_revision_newer_than_its_own() {
        let watcher = watcher();
        let job = DocumentChange::Job(JobId::new());
        let mut subscription = watcher.subscribe(job);
        let deadline = Instant::now() + Duration::from_mins(1);

        watcher.publish(job, 3);
        let older = subscription.wait_newer_than(5, deadline).now_or_never();
        watcher.publish(job, 6);
        let newer = subscription.wait_newer_than(5, deadline).now_or_never();

        assert_eq!((older, newer), (None, Some(true)));
    }

    #[tokio::test]
    async fn a_poll_that_is_never_answered_ends() {
        finish_within(Duration::from_millis(1), std::future::pending()).await;
    }
}
