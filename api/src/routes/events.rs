//! Server-sent events: a job or a tenant as it is now, and again whenever it has changed.
//!
//! A stream is pulled by its client's connection. Between two pulls any number of changes may happen; what is sent
//! next is the document as it is then, so a slow client misses steps in between and costs no memory. A stream waits
//! as a request with `?wait` does, and all streams of a process together look at MongoDB once a second; nothing runs
//! for a client that has nothing to be told, save the comment that keeps its connection open.
//!
//! Rights are read again with each look. A stream also waits for its caller, for the partner they work for, and for
//! the tenant that is looked into, so that it ends within a second or so of a right that is taken away, though nothing
//! else changed.

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
    jobs::{JobView, still_visible_job},
    tenants::{TenantView, still_visible},
};
use crate::{
    error::{ApiError, Problem, ProblemCode},
    extract::{Caller, PathParam, QueryParams, Read, SignedIn, TenantAccess},
    long_poll::Subscription,
    state::{AppState, SharedState},
};

/// How often a connection on which nothing happens is told that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The most streams of one caller on one process: a few windows of a browser, each with a few things in it.
pub(super) const STREAMS_PER_CALLER: usize = 20;
/// How long a stream waits for a database that is away.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Tells a proxy not to hold events back.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(of_job))
        .routes(routes!(of_tenant))
}

/// A job's events
///
/// The job as it is, and again whenever it has changed, until it is over: each an event `job` with the job as GET
/// shows it, and its revision as `id`. With `Last-Event-ID` only what is newer; 204 when nothing newer will come.
#[utoipa::path(
    get, path = "/jobs/{id}/events", operation_id = "watchJob", tag = "jobs",
    params(("id" = String, Path), ("Last-Event-ID" = Option<String>, Header)),
    responses(
        (status = 200, body = JobView, content_type = "text/event-stream"), (status = 204),
        (status = "default", response = Problem),
    ),
)]
async fn of_job(
    SignedIn(caller): SignedIn,
    PathParam(id): PathParam<JobId>,
    _: QueryParams<()>,
    LastEventId(known): LastEventId,
    State(app): State<SharedState>,
) -> Result<Response, ApiError> {
    let job = app.jobs.find(id).await?.ok_or(ProblemCode::NotFound)?;
    watch(app, caller, Topic::Job(id, job.tenant_id), known).await
}

/// A tenant's events
///
/// The tenant as it is, and again whenever it has changed: each an event `tenant` with the tenant as GET shows it, and
/// its revision as `id`. With `Last-Event-ID` only what is newer.
#[utoipa::path(
    get, path = "/tenants/{slug}/events", operation_id = "watchTenant", tag = "tenants",
    params(("slug" = String, Path), ("Last-Event-ID" = Option<String>, Header)),
    responses(
        (status = 200, body = TenantView, content_type = "text/event-stream"),
        (status = "default", response = Problem),
    ),
)]
async fn of_tenant(
    access: TenantAccess<Read>,
    _: QueryParams<()>,
    LastEventId(known): LastEventId,
    State(app): State<SharedState>,
) -> Result<Response, ApiError> {
    let subject = Topic::Tenant(access.tenant.id);
    watch(app, access.caller, subject, known).await
}

/// The revision that the client saw last. Nonsense is none.
struct LastEventId(Option<i64>);

impl<S: Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let value = parts.headers.get("last-event-id");
        Ok(Self(value.and_then(|id| id.to_str().ok()?.parse().ok())))
    }
}

/// What a stream shows.
#[derive(Debug, Clone, Copy)]
enum Topic {
    /// A job, and the tenant it is about.
    Job(JobId, Option<TenantId>),
    Tenant(TenantId),
}

/// The subject as it was at one moment.
struct Snapshot {
    revision: i64,
    /// Whether it will never change again.
    is_last: bool,
    event: Event,
    /// What it was made from, and the caller's rights read from, in these revisions.
    made_from: Vec<(DocumentChange, i64)>,
}

impl Topic {
    /// What may change what is shown to this caller, or whether they may see it.
    fn made_from(self, caller: &Caller) -> Vec<DocumentChange> {
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

    /// The subject as it is now, if the caller still may see it.
    async fn look(self, app: &AppState, caller: &mut Caller) -> Result<Snapshot, ApiError> {
        let mut snapshot = match self {
            Self::Job(id, _) => {
                let (job, tenant) = still_visible_job(app, caller, id).await?;
                let tenants = tenant.iter();
                let mut made_from = vec![(DocumentChange::Job(id), job.revision)];
                made_from.extend(tenants.map(|it| (DocumentChange::Tenant(it.id), it.revision)));
                let (revision, is_last) = (job.revision, job.state.is_final());
                let view = JobView::new(job, tenant.map(|tenant| tenant.slug), caller);
                Snapshot {
                    revision,
                    is_last,
                    event: event("job", revision, &view)?,
                    made_from,
                }
            }
            Self::Tenant(id) => {
                let tenant = still_visible(app, caller, id).await?;
                let revision = tenant.revision;
                Snapshot {
                    revision,
                    is_last: false,
                    event: event("tenant", revision, &TenantView::shown_to(caller, tenant))?,
                    made_from: vec![(DocumentChange::Tenant(id), revision)],
                }
            }
        };
        let user = &caller.user;
        snapshot
            .made_from
            .push((DocumentChange::User(user.id), user.revision));
        if let Some(partner) = &caller.partner {
            let seen = (DocumentChange::Partner(partner.id), partner.revision);
            snapshot.made_from.push(seen);
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

/// Begins a stream, unless there is a reason to refuse it, no room for it, or nothing left to tell.
async fn watch(
    app: SharedState,
    mut caller: Caller,
    subject: Topic,
    known: Option<i64>,
) -> Result<Response, ApiError> {
    let place = app
        .waiting
        .acquire_stream()
        .ok_or(ProblemCode::TooManyStreams)?;
    let waiters = subject
        .made_from(&caller)
        .into_iter()
        .map(|what| WatchedDocument {
            what,
            waiter: app.waiting.subscribe(what),
            seen: 0,
        })
        .collect();
    // Only streams wait for their caller.
    if app.waiting.waiters(DocumentChange::User(caller.user.id)) > STREAMS_PER_CALLER {
        return Err(ProblemCode::TooManyStreams.into());
    }
    let snapshot = subject.look(&app, &mut caller).await?;
    if snapshot.is_last && known == Some(snapshot.revision) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let mut watch = EventStream {
        ends_at: Instant::now() + clock::until(clock::now(), caller.token_expires_at),
        app,
        caller,
        subject,
        waiters,
        known,
        is_over: false,
        _place: place,
    };
    let first = watch.take(snapshot);
    let events = Sse::new(watch.events(first)).keep_alive(KeepAlive::new().interval(HEARTBEAT));
    let mut response = events.into_response();
    response
        .headers_mut()
        .insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

/// A stream under way.
struct EventStream {
    app: SharedState,
    caller: Caller,
    subject: Topic,
    waiters: Vec<WatchedDocument>,
    /// The revision the client has.
    known: Option<i64>,
    is_over: bool,
    /// When the caller's token ends: then they may come back with another.
    ends_at: Instant,
    _place: OwnedSemaphorePermit,
}

/// A document that a stream waits for, and its revision when it was last looked at.
struct WatchedDocument {
    what: DocumentChange,
    waiter: Subscription,
    seen: i64,
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

    /// The next event; `None` when the stream is to end.
    async fn next(&mut self) -> Option<Event> {
        while !self.is_over && self.changed().await {
            match self.subject.look(&self.app, &mut self.caller).await {
                Ok(snapshot) => {
                    if let Some(event) = self.take(snapshot) {
                        return Some(event);
                    }
                }
                // Its client would take the end for a failure of its own, and all would come back at once.
                Err(error) if error.code == ProblemCode::ServiceUnavailable => {
                    tokio::select! {
                        () = sleep(LOOK_AGAIN) => {}
                        () = self.app.shutdown.cancelled() => return None,
                    }
                }
                Err(_) => return None,
            }
        }
        None
    }

    /// The snapshot's event, if it is news.
    fn take(&mut self, snapshot: Snapshot) -> Option<Event> {
        // What it was not made from cannot change it: a partner that was terminated, where its staff has other rights.
        self.waiters.retain_mut(|awaited| {
            let mut made_from = snapshot.made_from.iter();
            let found = made_from.find(|(what, _)| *what == awaited.what);
            if let Some((_, revision)) = found {
                awaited.seen = *revision;
            }
            found.is_some()
        });
        self.is_over = snapshot.is_last;
        let is_news = self.known != Some(snapshot.revision);
        self.known = Some(snapshot.revision);
        is_news.then_some(snapshot.event)
    }

    /// Waits until there is something to look at; false when the process or the caller's token ends first.
    async fn changed(&mut self) -> bool {
        let ends_at = self.ends_at;
        let waits = self
            .waiters
            .iter_mut()
            .map(|it| it.waiter.wait_newer_than(it.seen, ends_at).boxed());
        select_all(waits).await.0
    }
}
