//! Event stream: waits for a change of a watched document, and reads the topic again.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::response::{
    IntoResponse as _, Response,
    sse::{Event, KeepAlive, Sse},
};
use bson::DateTime;
use dezky_shared::platform::{change_feed::DocumentChange, clock};
use futures::{FutureExt as _, Stream, future::select_all, stream};
use http::{HeaderName, HeaderValue, StatusCode, header};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, sleep_until},
};

use super::{
    STREAMS_PER_CALLER,
    position::Position,
    resources::ResourceFeed,
    topic::{Snapshot, StreamedTenant, Topic},
};
use crate::{
    error::{ApiError, ProblemCode},
    extract::Caller,
    long_poll::Subscription,
    state::SharedState,
};

/// Interval of heartbeats on an idle connection.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Interval of retries while the database is unavailable.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Disables buffering in proxies.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The resources that a stream sends.
struct ResourceStream {
    feed: ResourceFeed,
    tenant: StreamedTenant,
    /// Time through which changes are sent. The events of the tenant name it: the client may reconnect after one of them.
    sent_through: DateTime,
    /// Events whose permissions are not checked yet.
    unchecked: Vec<Event>,
}

impl ResourceStream {
    const fn new(feed: ResourceFeed, tenant: StreamedTenant, sent_through: DateTime) -> Self {
        Self {
            feed,
            tenant,
            sent_through,
            unchecked: Vec::new(),
        }
    }
}

/// Starts a stream. Rejected without access or above the limits; 204 if the client has the final state.
pub(super) async fn watch(
    app: SharedState,
    mut caller: Caller,
    topic: Topic,
    last: Option<Position>,
) -> Result<Response, ApiError> {
    let permit = app
        .watcher
        .acquire_stream()
        .ok_or(ProblemCode::TooManyStreams)?;
    let watched = topic
        .sources(&caller)
        .into_iter()
        .map(|document| WatchedDocument {
            document,
            subscription: app.watcher.subscribe(document),
            revision: 0,
        })
        .collect();
    // Only streams subscribe to their caller.
    if app.watcher.waiters(DocumentChange::User(caller.user.id)) > STREAMS_PER_CALLER {
        return Err(ProblemCode::TooManyStreams.into());
    }
    let last_sent = last.and_then(|last| last.resources);
    let sent_through = last_sent.unwrap_or_else(|| app.store.now());
    let snapshot = topic.read(&app, &mut caller, sent_through).await?;
    let last_revision = last.map(|last| last.revision);
    if snapshot.is_last && last_revision == Some(snapshot.revision) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let resources = match &snapshot.resources {
        Some(tenant) => {
            let feed = ResourceFeed::start(&app, tenant.scope(last_revision), last_sent).await?;
            Some(ResourceStream::new(feed, tenant.clone(), sent_through))
        }
        None => None,
    };
    let mut watch = EventStream {
        ends_at: Instant::now() + clock::until(clock::now(), caller.token_expires_at),
        app,
        caller,
        topic,
        watched,
        last_revision,
        resources,
        pending: VecDeque::new(),
        is_final: false,
        _permit: permit,
    };
    watch.take(snapshot);
    let events = Sse::new(watch.events()).keep_alive(KeepAlive::new().interval(HEARTBEAT));
    let mut response = events.into_response();
    let headers = response.headers_mut();
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    // axum's own value allows caches to store the events.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// An open stream.
struct EventStream {
    app: SharedState,
    caller: Caller,
    topic: Topic,
    watched: Vec<WatchedDocument>,
    /// Revision of the last event.
    last_revision: Option<i64>,
    resources: Option<ResourceStream>,
    /// Events to send.
    pending: VecDeque<Event>,
    is_final: bool,
    /// Expiry of the caller's token; the client then reconnects with a new one.
    ends_at: Instant,
    _permit: OwnedSemaphorePermit,
}

/// A subscribed document and its revision at the last read.
struct WatchedDocument {
    document: DocumentChange,
    subscription: Subscription,
    revision: i64,
}

impl EventStream {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, async |mut watch| {
            let event = watch.next().await?;
            Some((Ok(event), watch))
        })
    }

    /// The next event; `None` ends the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            if self.is_final || !self.changed().await {
                return None;
            }
            match self.read().await {
                Ok(()) => {}
                // Ending the streams would make all clients reconnect at once.
                Err(error) if error.code == ProblemCode::ServiceUnavailable => {
                    tokio::select! {
                        () = sleep(RETRY_EVERY) => {}
                        () = self.app.shutdown.cancelled() => return None,
                    }
                }
                Err(_) => return None,
            }
        }
    }

    /// Reads the resources that changed, then the current state with the permissions: data written after a revocation is not
    /// sent.
    async fn read(&mut self) -> Result<(), ApiError> {
        if let Some(resources) = &mut self.resources {
            let is_of_resources = |it: &&mut WatchedDocument| {
                matches!(it.document, DocumentChange::TenantResources(_))
            };
            for watched in self.watched.iter_mut().filter(is_of_resources) {
                watched.revision = watched.subscription.revision();
            }
            let scope = resources.tenant.scope(self.last_revision);
            let changed = resources.feed.read(&self.app, scope).await?;
            resources.unchecked.extend(changed);
        }
        let sent_through = self
            .resources
            .as_ref()
            .map(|resources| resources.sent_through);
        let sent_through = sent_through.unwrap_or_else(|| self.app.store.now());
        let reading = self.topic.read(&self.app, &mut self.caller, sent_through);
        let snapshot = reading.await?;
        let mut changed = Vec::new();
        if let (Some(resources), Some(tenant)) = (&mut self.resources, &snapshot.resources) {
            if tenant.is_narrower_than(&resources.tenant) {
                return Err(ProblemCode::Forbidden.into());
            }
            resources.tenant = tenant.clone();
            resources.sent_through = resources.feed.since();
            changed = std::mem::take(&mut resources.unchecked);
        }
        self.take(snapshot);
        self.pending.extend(changed);
        Ok(())
    }

    /// Takes over a state, with its event unless the client has it.
    fn take(&mut self, snapshot: Snapshot) {
        // Other documents cannot change the state: a terminated partner, whose staff has access by another role.
        self.watched.retain_mut(|watched| {
            let mut sources = snapshot.sources.iter();
            let found = sources.find(|(document, _)| *document == watched.document);
            if let Some((_, revision)) = found {
                watched.revision = watched.revision.max(*revision);
            }
            found.is_some()
        });
        self.is_final = snapshot.is_last;
        let is_new = self.last_revision != Some(snapshot.revision);
        self.last_revision = Some(snapshot.revision);
        if is_new {
            self.pending.push_back(snapshot.event);
        }
    }

    /// Waits for a change of a watched document, or for the time at which the resources are read again; false if the process
    /// stops or the caller's token expires first.
    async fn changed(&mut self) -> bool {
        let ends_at = self.ends_at;
        let repeat_at = self
            .resources
            .as_ref()
            .and_then(|resources| resources.feed.repeat_at());
        let waits = self.watched.iter_mut().map(|it| {
            it.subscription
                .wait_newer_than(it.revision, ends_at)
                .boxed()
        });
        let repeat = async {
            match repeat_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            (changed, ..) = select_all(waits) => changed,
            () = repeat => true,
        }
    }
}
