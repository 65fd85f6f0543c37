//! Server-sent events: the current state of a job or a tenant, and every later state.
//!
//! The client's connection pulls the stream. Each event is the document at the time of the pull, so a slow client skips
//! intermediate states and costs no memory. A stream waits as long polling does: the change feed reads MongoDB once a
//! second for all streams of the process, and an idle stream sends only heartbeats.
//!
//! The stream of a tenant also has an event for each member, app and domain that changes (`events/resources.rs`).
//!
//! Permissions are checked with every read. A stream also subscribes to its caller, the caller's partner and the
//! tenant, so that it ends within about a second after a permission was revoked.

mod position;
mod resources;

use std::{collections::VecDeque, convert::Infallible, fmt::Display, time::Duration};

use axum::{
    extract::State,
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use bson::DateTime;
use dezky_shared::{
    id::{JobId, TenantId},
    platform::{change_feed::DocumentChange, clock},
};
use futures::{FutureExt as _, Stream, future::select_all, stream};
use http::{HeaderName, HeaderValue, StatusCode, header};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, sleep_until},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{
    position::{LastEventId, Position},
    resources::{ResourceFeed, Scope},
};
use super::{
    jobs::{JobView, still_visible_job, visible_job},
    tenants::TenantView,
};
use crate::{
    error::{ApiError, ProblemCode},
    extract::{Caller, PathParam, Permission as _, Read, ReadPrivate, SignedIn, TenantAccess},
    long_poll::Subscription,
    state::{AppState, SharedState},
};

/// Interval of heartbeats on an idle connection.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Maximum number of streams per caller and process: a few browser windows with a few streams each.
pub(super) const STREAMS_PER_CALLER: usize = 20;
/// Interval of retries while the database is unavailable.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Disables buffering in proxies.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(of_job))
        .routes(routes!(of_tenant))
}

/// Streams the events of a job
///
/// Sends an event `job` with the current state of the job, and another after every change, until the job is final. The
/// data is the job as GET returns it; the `id` is its revision. With `Last-Event-ID`, sends only newer states; 204 if
/// there will be none.
#[utoipa::path(
    get, path = "/jobs/{id}/events", operation_id = "watchJob", tag = "jobs",
    params(("Last-Event-ID" = Option<String>, Header)),
    responses(
        (status = 200, body = JobView, content_type = "text/event-stream"), (status = 204),
    ),
)]
async fn of_job(
    SignedIn(caller): SignedIn,
    PathParam(id): PathParam<JobId>,
    LastEventId(last): LastEventId,
    State(app): State<SharedState>,
) -> Result<Response, ApiError> {
    let (job, _) = visible_job(&app, &caller, id).await?;
    watch(app, caller, Topic::Job(id, job.tenant_id), last).await
}

/// Streams the events of a tenant
///
/// Sends an event `tenant` with the current state of the tenant, and another after every change. The data is the tenant
/// as GET returns it. Each later change of a domain is an event `domain`, and for callers who may list them, that of an app
/// or a member an event `app` or `member`: with the resource as GET returns it, without the fields that only the response to a write
/// has. A member who is removed for good has the status `removed`; an app or domain that is removed has its last event
/// before that. `overflow` names a kind of resource of which more than 200 changed at once: read its list again.
///
/// With `Last-Event-ID`, sends only later changes. Some events may be sent again.
#[utoipa::path(
    get, path = "/tenants/{slug}/events", operation_id = "watchTenant", tag = "tenants",
    params(("Last-Event-ID" = Option<String>, Header)),
    responses(
        (status = 200, body = TenantView, content_type = "text/event-stream"),
    ),
)]
async fn of_tenant(
    access: TenantAccess<Read>,
    LastEventId(last): LastEventId,
    State(app): State<SharedState>,
) -> Result<Response, ApiError> {
    let topic = Topic::Tenant(access.tenant.id);
    watch(app, access.caller, topic, last).await
}

/// The topic of a stream.
#[derive(Debug, Clone, Copy)]
enum Topic {
    /// A job and its tenant.
    Job(JobId, Option<TenantId>),
    /// A tenant.
    Tenant(TenantId),
}

/// The state of a topic.
struct Snapshot {
    revision: i64,
    /// Whether the state is final.
    is_last: bool,
    event: Event,
    /// The tenant whose resources are sent, too.
    resources: Option<StreamedTenant>,
    /// The documents that it was read from, including those of the caller's permissions, with their revisions.
    sources: Vec<(DocumentChange, i64)>,
}

/// A tenant whose resources are sent.
#[derive(Clone)]
struct StreamedTenant {
    id: TenantId,
    slug: String,
    /// Whether the caller may read members and apps.
    is_private: bool,
}

impl StreamedTenant {
    fn scope(&self, tenant_revision: Option<i64>) -> Scope<'_> {
        Scope {
            tenant: self.id,
            tenant_slug: &self.slug,
            is_private: self.is_private,
            tenant_revision: tenant_revision.unwrap_or(0),
        }
    }
}

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

impl Topic {
    /// The documents that the state or the caller's permissions depend on.
    fn sources(self, caller: &Caller) -> Vec<DocumentChange> {
        let (job, tenant) = match self {
            Self::Job(job, tenant) => (Some(job), tenant),
            Self::Tenant(tenant) => (None, Some(tenant)),
        };
        let documents = job.map(DocumentChange::Job).into_iter();
        let resources = match self {
            Self::Job(..) => None,
            Self::Tenant(id) => Some(DocumentChange::TenantResources(id)),
        };
        documents
            .chain(tenant.map(DocumentChange::Tenant))
            .chain(resources)
            .chain([DocumentChange::User(caller.user.id)])
            .chain(
                caller
                    .partner
                    .as_ref()
                    .map(|it| DocumentChange::Partner(it.id)),
            )
            .collect()
    }

    /// Reads the current state, if the caller still has access. Changes of a tenant's resources are sent through `sent_through`.
    async fn read(
        self,
        app: &AppState,
        caller: &mut Caller,
        sent_through: DateTime,
    ) -> Result<Snapshot, ApiError> {
        let mut snapshot = match self {
            Self::Job(id, _) => {
                let (job, tenant) = still_visible_job(app, caller, id).await?;
                let tenants = tenant.iter();
                let mut sources = vec![(DocumentChange::Job(id), job.revision)];
                sources.extend(tenants.map(|it| (DocumentChange::Tenant(it.id), it.revision)));
                let (revision, is_last) = (job.revision, job.state.is_final());
                let view = JobView::new(job, tenant.map(|tenant| tenant.slug), caller);
                Snapshot {
                    revision,
                    is_last,
                    event: event("job", &Position::of(revision), &view)?,
                    resources: None,
                    sources,
                }
            }
            Self::Tenant(id) => {
                let tenant = caller.reload_tenant(&app.access, id).await?;
                let revision = tenant.revision;
                let resources = StreamedTenant {
                    id,
                    slug: tenant.slug.clone(),
                    is_private: ReadPrivate::allows(caller, &tenant),
                };
                let view = TenantView::shown_to(caller, tenant);
                Snapshot {
                    revision,
                    is_last: false,
                    event: event(
                        "tenant",
                        &Position::with_resources(revision, sent_through),
                        &view,
                    )?,
                    resources: Some(resources),
                    sources: vec![
                        (DocumentChange::Tenant(id), revision),
                        (DocumentChange::TenantResources(id), 0),
                    ],
                }
            }
        };
        let user = &caller.user;
        snapshot
            .sources
            .push((DocumentChange::User(user.id), user.revision));
        if let Some(partner) = &caller.partner {
            let source = (DocumentChange::Partner(partner.id), partner.revision);
            snapshot.sources.push(source);
        }
        Ok(snapshot)
    }
}

fn event(name: &str, id: &impl Display, view: &impl serde::Serialize) -> Result<Event, ApiError> {
    Event::default()
        .event(name)
        .id(id.to_string())
        .json_data(view)
        .map_err(|error| ApiError::internal(error.into()))
}

/// Starts a stream. Rejected without access or above the limits; 204 if the client has the final state.
async fn watch(
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
            if resources.tenant.is_private && !tenant.is_private {
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
