//! Refresh on read: if the stored result is too old, a read-only job makes a new one.
//!
//! A route shows the stored result and links to the job; with `Prefer: wait` it shows the new result. However many
//! requests ask, one job waits or runs, and a look-up that failed is not repeated within a minute.

use std::time::Duration;

use axum::{
    extract::FromRequestParts,
    response::{IntoResponse as _, Response},
};
use bson::DateTime;
use dezky_shared::{
    platform::clock,
    queue::job::{Job, JobArgs},
    store::jobs::NewJob,
    tenant::TenantStatus,
};
use http::{StatusCode, request::Parts};
use serde::Serialize;

use super::{jobs::until_final, outcome::preference_applied};
use crate::{
    error::{ApiError, ProblemCode},
    extract::{Permission, Prefer, ReadPrivate, RequestInfo, TenantAccess},
    response::ApiResponse,
    state::SharedState,
};

/// Age from which a stored result is too old.
const FRESH_FOR: Duration = Duration::from_mins(5);
/// Minimum interval between two look-ups.
const MIN_INTERVAL: Duration = Duration::from_mins(1);

/// Extractor of a read that refreshes a stale result about a tenant.
#[derive(Debug)]
pub(super) struct RefreshOnRead {
    /// The caller and the tenant.
    pub(super) access: TenantAccess<ReadPrivate>,
    /// The application.
    pub(super) app: SharedState,
    /// Whether the caller waits for the new result.
    prefer: Prefer,
    /// Id and trace of the request.
    request: RequestInfo,
}

/// The job that refreshes the result.
#[derive(Debug)]
pub(super) struct Refresh {
    /// The job, as last read.
    pub(super) job: Job,
    /// Whether the request waited for it, so that the result has to be read again.
    pub(super) waited: bool,
}

impl Refresh {
    /// The response with this view: 200, and that the preference was applied if the request waited for `refresh`.
    pub(super) fn respond<T: Serialize>(refresh: Option<&Self>, view: &T) -> Response {
        let response = ApiResponse::unversioned(StatusCode::OK, view);
        if refresh.is_some_and(|refresh| refresh.waited) {
            preference_applied(response)
        } else {
            response.into_response()
        }
    }
}

impl FromRequestParts<SharedState> for RefreshOnRead {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &SharedState,
    ) -> Result<Self, Self::Rejection> {
        Ok(Self {
            access: TenantAccess::from_request_parts(parts, state).await?,
            app: state.clone(),
            prefer: Prefer::from_request_parts(parts, state).await?,
            request: RequestInfo::from_request_parts(parts, state).await?,
        })
    }
}

impl RefreshOnRead {
    /// Requests a look-up if the result as of `as_of` is too old. `None` if it is recent, or if no look-up can be made now.
    pub(super) async fn request<A: JobArgs>(
        &self,
        args: &A,
        as_of: Option<DateTime>,
    ) -> Result<Option<Refresh>, ApiError> {
        let now = self.app.store.now();
        let is_fresh = as_of.is_some_and(|at| clock::later(at, FRESH_FOR) > now);
        if is_fresh || self.access.tenant.status == TenantStatus::Terminated {
            return Ok(None);
        }
        let Some(job) = self.ensure_job(args, now).await? else {
            return Ok(None);
        };
        let Some(deadline) = self.prefer.deadline() else {
            return Ok(Some(Refresh { job, waited: false }));
        };
        let mut caller = self.access.caller.clone();
        let job = until_final(&self.app, &mut caller, job, deadline).await?;
        // The caller may have lost the permission meanwhile.
        let tenant = caller
            .reload_tenant(&self.app.access, self.access.tenant.id)
            .await?;
        if !ReadPrivate::allows(&caller, &tenant) {
            return Err(ProblemCode::Forbidden.into());
        }
        Ok(Some(Refresh { job, waited: true }))
    }

    /// The job that waits or runs, or a new one.
    async fn ensure_job<A: JobArgs>(
        &self,
        args: &A,
        now: DateTime,
    ) -> Result<Option<Job>, ApiError> {
        let jobs = &self.app.db.jobs;
        let by = self.access.caller.user.id.to_string();
        let (id, trace) = (&self.request.id, &self.request.traceparent);
        let new = NewJob::new(args, &by, now)?
            .requested_by(Some(id.clone()), trace.clone())
            .once_per(MIN_INTERVAL);
        if let Some(pending) = jobs.find_pending(&new).await? {
            return Ok(Some(pending));
        }
        if jobs.enqueue_many(std::slice::from_ref(&new)).await? == 0 {
            // A concurrent request enqueued it, or it has ended.
            return Ok(jobs.find_pending(&new).await?);
        }
        let job = new.job().clone();
        let (ready, hint) = (self.app.hints.ready.clone(), job.clone());
        self.app.hints.tasks.spawn(async move {
            ready.notify(std::slice::from_ref(&hint)).await;
        });
        Ok(Some(job))
    }
}
