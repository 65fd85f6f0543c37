//! Requests that wait for a document to change.
//!
//! Subscribe, then look, then wait: nothing that changes after the look is missed. Redis tells of changes, which is a
//! hint and may be lost; so each process also looks once a second, in one query for each collection, at the
//! revisions of everything that somebody waits for.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dezky_shared::{
    id::UserId,
    platform::{
        backoff::ReconnectBackoff,
        change_feed::{ChangeFeed, DocumentChange},
    },
    store::{
        StoreError, jobs::JobRepository, partners::PartnerRepository, tenants::TenantRepository,
        users::UserRepository,
    },
};
use futures::StreamExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// How often revisions are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The most streams on one process.
const STREAMS: usize = 10_000;
/// How many hints may wait to be looked after; more are found by the next look.
const HINTS: usize = 1024;

/// Everything that somebody waits for.
#[derive(Debug, Clone)]
pub struct ChangeWatcher {
    watched: Arc<Mutex<HashMap<DocumentChange, Watch>>>,
    streams: Arc<Semaphore>,
    shutdown: CancellationToken,
}

#[derive(Debug)]
struct Watch {
    /// The revision last seen; 0 before the first look.
    revision: watch::Sender<i64>,
    waiters: usize,
}

/// Where revisions are looked at.
struct Sources {
    tenants: TenantRepository,
    jobs: JobRepository,
    users: UserRepository,
    partners: PartnerRepository,
}

/// Somebody who waits for one document.
#[derive(Debug)]
pub struct Subscription {
    waiting: ChangeWatcher,
    what: DocumentChange,
    revision: watch::Receiver<i64>,
}

impl ChangeWatcher {
    /// Begins to look, until `shutdown`.
    pub fn start(
        tenants: &TenantRepository,
        jobs: &JobRepository,
        users: &UserRepository,
        partners: &PartnerRepository,
        changes: &ChangeFeed,
        shutdown: &CancellationToken,
    ) -> Self {
        let waiting = Self {
            watched: Arc::default(),
            streams: Arc::new(Semaphore::new(STREAMS)),
            shutdown: shutdown.clone(),
        };
        let (hints, hinted) = mpsc::channel(HINTS);
        let listen = listen(changes.clone(), hints);
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(listen));
        let sources = Sources {
            tenants: tenants.clone(),
            jobs: jobs.clone(),
            users: users.clone(),
            partners: partners.clone(),
        };
        let look = waiting.clone().poll(sources, hinted);
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(look));
        waiting
    }

    /// Takes notice of every change to `what` from now on.
    pub fn subscribe(&self, what: DocumentChange) -> Subscription {
        let mut watched = self.watched();
        let entry = watched.entry(what).or_insert_with(|| Watch {
            revision: watch::Sender::new(0),
            waiters: 0,
        });
        entry.waiters += 1;
        Subscription {
            waiting: self.clone(),
            what,
            revision: entry.revision.subscribe(),
        }
    }

    /// A place for one more stream, until it is dropped; `None` when the process has as many as it can hold.
    pub fn acquire_stream(&self) -> Option<OwnedSemaphorePermit> {
        self.streams.clone().try_acquire_owned().ok()
    }

    /// How many wait for `what`.
    pub fn waiters(&self, what: DocumentChange) -> usize {
        let watched = self.watched();
        watched.get(&what).map_or(0, |watched| watched.waiters)
    }

    /// How many documents somebody waits for.
    pub fn count(&self) -> usize {
        self.watched().len()
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<DocumentChange, Watch>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn poll(self, sources: Sources, mut hinted: mpsc::Receiver<DocumentChange>) {
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hints = Vec::new();
        loop {
            hints.clear();
            let what: Vec<DocumentChange> = tokio::select! {
                _ = tick.tick() => self.watched().keys().copied().collect(),
                _ = hinted.recv_many(&mut hints, HINTS) => {
                    let watched = self.watched();
                    hints.iter().copied().filter(|hint| watched.contains_key(hint)).collect()
                }
            };
            if let Err(error) = self.look_at(&sources, &what).await {
                tracing::warn!(%error, "Cannot look for changes; trying again");
            }
        }
    }

    async fn look_at(&self, sources: &Sources, what: &[DocumentChange]) -> Result<(), StoreError> {
        let mut tenant_ids = Vec::new();
        let mut job_ids = Vec::new();
        let mut user_ids = Vec::new();
        let mut partner_ids = Vec::new();
        for change in what {
            match change {
                DocumentChange::Tenant(id) => tenant_ids.push(*id),
                DocumentChange::Job(id) => job_ids.push(*id),
                DocumentChange::User(id) => user_ids.push(*id),
                DocumentChange::Partner(id) => partner_ids.push(*id),
            }
        }
        if !tenant_ids.is_empty() {
            for (id, revision) in sources.tenants.revisions(&tenant_ids).await? {
                self.seen(DocumentChange::Tenant(id), revision);
            }
        }
        if !job_ids.is_empty() {
            for (id, revision) in sources.jobs.revisions(&job_ids).await? {
                self.seen(DocumentChange::Job(id), revision);
            }
        }
        if !user_ids.is_empty() {
            let mut deleted: HashSet<UserId> = user_ids.iter().copied().collect();
            for (id, revision) in sources.users.revisions(&user_ids).await? {
                deleted.remove(&id);
                self.seen(DocumentChange::User(id), revision);
            }
            // Of all these documents, only users are ever deleted.
            for id in deleted {
                self.seen(DocumentChange::User(id), i64::MAX);
            }
        }
        if !partner_ids.is_empty() {
            for (id, revision) in sources.partners.revisions(&partner_ids).await? {
                self.seen(DocumentChange::Partner(id), revision);
            }
        }
        Ok(())
    }

    fn seen(&self, what: DocumentChange, revision: i64) {
        if let Some(watched) = self.watched().get(&what) {
            watched.revision.send_if_modified(|known| {
                let newer = *known != revision;
                *known = revision;
                newer
            });
        }
    }
}

impl Subscription {
    /// Waits until there is a newer revision than `known`, which may itself be newer than what was seen here.
    /// `false` when the time, or the process, ends first.
    pub async fn wait_newer_than(&mut self, known: i64, deadline: Instant) -> bool {
        let changed = self.revision.wait_for(|revision| *revision > known);
        tokio::select! {
            changed = timeout_at(deadline, changed) => matches!(changed, Ok(Ok(_))),
            () = self.waiting.shutdown.cancelled() => false,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut watched = self.waiting.watched();
        if let Some(entry) = watched.get_mut(&self.what) {
            entry.waiters -= 1;
            if entry.waiters == 0 {
                watched.remove(&self.what);
            }
        }
    }
}

/// Passes hints on for ever.
async fn listen(changes: ChangeFeed, hints: mpsc::Sender<DocumentChange>) {
    let mut pace = ReconnectBackoff::default();
    loop {
        match changes.subscribe().await {
            Ok(told) => {
                let mut told = std::pin::pin!(told);
                while let Some(change) = told.next().await {
                    pace.reset();
                    // A full channel is no loss: everything is looked at once a second.
                    let _ = hints.try_send(change);
                }
            }
            Err(error) => {
                tracing::debug!(error = error.category(), "Redis does not tell of changes");
            }
        }
        sleep(pace.next_delay()).await;
    }
}

#[cfg(test)]
mod tests {
    use dezky_shared::id::JobId;
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn who_knows_more_than_was_seen_waits_for_something_newer() {
        let waiting = ChangeWatcher {
            watched: Arc::default(),
            streams: Arc::new(Semaphore::new(STREAMS)),
            shutdown: CancellationToken::new(),
        };
        let job = DocumentChange::Job(JobId::new());
        let mut waiter = waiting.subscribe(job);
        let deadline = Instant::now() + Duration::from_mins(1);

        waiting.seen(job, 3);
        let older = waiter.wait_newer_than(5, deadline).now_or_never();
        waiting.seen(job, 6);
        let newer = waiter.wait_newer_than(5, deadline).now_or_never();

        assert_eq!((older, newer), (None, Some(true)));
    }
}
