//! Server-sent events: the current state of a job or a tenant, and every later state.
//!
//! The client's connection pulls the stream. Each event is the document at the time of the pull, so a slow client skips
//! intermediate states and costs no memory. A stream waits as long polling does: the change feed reads MongoDB once a
//! second for all streams of the process, and an idle stream sends only heartbeats.
//!
//! The stream of a tenant also has an event for each member, app, domain and invoice that changes (`events/resources.rs`).
//!
//! Permissions are checked with every read. A stream also subscribes to its caller, the caller's partner and the
//! tenant, so that it ends within about a second after a permission was revoked.

mod position;
mod resources;
mod stream;
mod topic;

use std::fmt::Display;

use axum::response::{Response, sse::Event};
use dezky_shared::id::JobId;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{position::LastEventId, stream::watch, topic::Topic};
use super::{
    jobs::{JobView, visible_job},
    tenants::TenantView,
};
use crate::{
    error::ApiError,
    extract::{PathParam, Read, SignedIn, TenantAccess},
    read::Get,
    state::SharedState,
};

/// Maximum number of streams per caller and process: a few browser windows with a few streams each.
pub(super) const STREAMS_PER_CALLER: usize = 20;

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
async fn of_job(get: Get<SignedIn, (PathParam<JobId>, LastEventId)>) -> Result<Response, ApiError> {
    let SignedIn(caller) = get.access;
    let (PathParam(id), LastEventId(last)) = get.params;
    let (job, _) = visible_job(&get.app, &caller, id).await?;
    watch(get.app, caller, Topic::Job(id, job.tenant_id), last).await
}

/// Streams the events of a tenant
///
/// Sends an event `tenant` with the current state of the tenant, and another after every change. The data is the tenant
/// as GET returns it. Each later change of a domain is an event `domain`, and for callers who may list them, that of an app,
/// a member or an invoice an event `app`, `member` or `invoice`: with the resource as GET returns it, an invoice as its list
/// does, without the fields that only the response to a write has. A member who is removed for good has the status
/// `removed`; an app or domain that is removed has its last event before that. `overflow` names a kind of resource of which
/// more than 200 changed at once: read its list again.
///
/// With `Last-Event-ID`, sends only later changes. Some events may be sent again.
#[utoipa::path(
    get, path = "/tenants/{slug}/events", operation_id = "watchTenant", tag = "tenants",
    params(("Last-Event-ID" = Option<String>, Header)),
    responses(
        (status = 200, body = TenantView, content_type = "text/event-stream"),
    ),
)]
async fn of_tenant(get: Get<TenantAccess<Read>, LastEventId>) -> Result<Response, ApiError> {
    let topic = Topic::Tenant(get.access.tenant.id);
    watch(get.app, get.access.caller, topic, get.params.0).await
}

/// An event with the view of a document.
fn event(name: &str, id: &impl Display, view: &impl serde::Serialize) -> Result<Event, ApiError> {
    Event::default()
        .event(name)
        .id(id.to_string())
        .json_data(view)
        .map_err(|error| ApiError::internal(error.into()))
}
