//! Server-sent events: the current state of a job or a tenant, and every later state.
//!
//! The client's connection pulls the stream. Each event is the document at the time of the pull, so a slow client skips
//! intermediate states and costs no memory. A stream waits as long polling does: the change feed reads MongoDB once a
//! second for all streams of the process, and an idle stream sends only heartbeats.
//!
//! Permissions are checked with every read. A stream also subscribes to its caller, the caller's partner and the
//! tenant, so that it ends within about a second after a permission was revoked.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::{FromRequestParts, State},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use dezky_shared::{
    id::{JobId, TenantId},
    platform::{change_feed::DocumentChange, clock},
};
use futures::{FutureExt as _, Stream, future::select_all, stream};
use http::{HeaderName, HeaderValue, StatusCode, request::Parts};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    jobs::{JobView, still_visible_job, visible_job},
    tenants::TenantView,
};
use crate::{
    error::{ApiError, ProblemCode},
    extract::{Caller, PathParam, Read, SignedIn, TenantAccess},
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
    LastEventId(last_revision): LastEventId,
    State(app): State<SharedState>,
) -> Result<Response, ApiError> {
    let (job, _) = visible_job(&app, &caller, id).await?;
    watch(app, caller, Topic::Job(id, job.tenant_id), last_revision).await
}

/// Streams the events of a tenant
///
/// Sends an event `tenant` with the current state of the tenant, and another after every change. The data is the tenant
/// as GET returns it; the `id` is its revision. With `Last-Event-ID`, sends only newer states.
#[utoipa::path(
    get, path = "/tenants/{slug}/events", operation_id = "watchTenant", tag = "tenants",
    params(("Last-Event-ID" = Option<String>, Header)),
    responses(
        (status = 200, body = TenantView, content_type = "text/event-stream"),
    ),
)]
async fn of_tenant(
    access: TenantAccess<Read>,
    LastEventId(last_revision): LastEventId,
    State(app): State<SharedState>,
) -> Result<Response, ApiError> {
    let topic = Topic::Tenant(access.tenant.id);
    watch(app, access.caller, topic, last_revision).await
}

/// The last revision that the client received. Invalid values are ignored.
struct LastEventId(Option<i64>);

impl<S: Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let value = parts.headers.get("last-event-id");
        Ok(Self(value.and_then(|id| id.to_str().ok()?.parse().ok())))
    }
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
    /// The documents that it was read from, including those of the caller's permissions, with their revisions.
    sources: Vec<(DocumentChange, i64)>,
}

impl Topic {
    /// The documents that the state or the caller's permissions depend on.
    fn sources(self, caller: &Caller) -> Vec<DocumentChange> {
        let (job, tenant) = match self {
            Self::Job(job, tenant) => (Some(job), tenant),
            Self::Tenant(tenant) => (None, Some(tenant)),
        };
        let documents = job.map(DocumentChange::Job).into_iter();
        documents
            .chain(tenant.map(DocumentChange::Tenant))
            .chain([DocumentChange::User(caller.user.id)])
            .chain(
                caller
                    .partner
                    .as_ref()
                    .map(|it| DocumentChange::Partner(it.id)),
            )
            .collect()
    }

    /// Reads the current state, if the caller still has access.
    async fn read(self, app: &AppState, caller: &mut Caller) -> Result<Snapshot, ApiError> {
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
                    event: event("job", revision, &view)?,
                    sources,
                }
            }
            Self::Tenant(id) => {
                let tenant = caller.reload_tenant(&app.access, id).await?;
                let revision = tenant.revision;
                Snapshot {
                    revision,
                    is_last: false,
                    event: event("tenant", revision, &TenantView::shown_to(caller, tenant))?,
                    sources: vec![(DocumentChange::Tenant(id), revision)],
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

fn event(name: &str, revision: i64, view: &impl serde::Serialize) -> Result<Event, ApiError> {
    Event::default()
        .event(name)
        .id(revision.to_string())
        .json_data(view)
        .map_err(|error| ApiError::internal(error.into()))
}

/// Starts a stream. Rejected without access or above the limits; 204 if the client has the final state.
async fn watch(
    app: SharedState,
    mut caller: Caller,
    topic: Topic,
    last_revision: Option<i64>,
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
    let snapshot = topic.read(&app, &mut caller).await?;
    if snapshot.is_last && last_revision == Some(snapshot.revision) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let mut watch = EventStream {
        ends_at: Instant::now() + clock::until(clock::now(), caller.token_expires_at),
        app,
        caller,
        topic,
        watched,
        last_revision,
        is_final: false,
        _permit: permit,
    };
    let first = watch.take(snapshot);
    let events = Sse::new(watch.events(first)).keep_alive(KeepAlive::new().interval(HEARTBEAT));
    let mut response = events.into_response();
    response
        .headers_mut()
        .insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
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
    fn events(self, first: Option<Event>) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold((self, first), async |(mut watch, first)| {
            let event = match first {
                Some(first) => first,
                None => watch.next().await?,
            };
            Some((Ok(event), (watch, None)))
        })
    }

    /// The next event; `None` ends the stream.
    async fn next(&mut self) -> Option<Event> {
        while !self.is_final && self.changed().await {
            match self.topic.read(&self.app, &mut self.caller).await {
                Ok(snapshot) => {
                    if let Some(event) = self.take(snapshot) {
                        return Some(event);
                    }
                }
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
        None
    }

    /// The event of a state that the client does not have yet.
    fn take(&mut self, snapshot: Snapshot) -> Option<Event> {
        // Other documents cannot change the state: a terminated partner, whose staff has access by another role.
        self.watched.retain_mut(|watched| {
            let mut sources = snapshot.sources.iter();
            let found = sources.find(|(document, _)| *document == watched.document);
            if let Some((_, revision)) = found {
                watched.revision = *revision;
            }
            found.is_some()
        });
        self.is_final = snapshot.is_last;
        let is_new = self.last_revision != Some(snapshot.revision);
        self.last_revision = Some(snapshot.revision);
        is_new.then_some(snapshot.event)
    }

    /// Waits for a change of a watched document; false if the process stops or the caller's token expires first.
    async fn changed(&mut self) -> bool {
        let ends_at = self.ends_at;
        let waits = self.watched.iter_mut().map(|it| {
            it.subscription
                .wait_newer_than(it.revision, ends_at)
                .boxed()
        });
        select_all(waits).await.0
    }
}
