//! Response memory: a limit on the bytes of responses that clients have not read yet.
//!
//! A response is held in memory until its client has read it, so that clients that read slowly, or not at all, would
//! exhaust the memory of the process. A response is charged to its caller from the handler's return until the
//! connection has written all of it.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;

use super::quota::{Exhausted, Quota, QuotaPermit};
use crate::{
    error::{ApiError, ProblemCode},
    metrics,
};

/// Size up to which responses are not charged, in bytes: the limits on connections bound them.
const SMALL: usize = 16 * 1024;

/// Memory that a response holds, in bytes, if it is not the size of its body: a response extension.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeldMemory(pub(crate) usize);

/// The response memory of the process, as a request on one connection uses it: a request extension.
#[derive(Debug, Clone)]
pub(crate) struct ResponseMemory {
    quota: Quota,
    unsent: Unsent,
    caller: Arc<OnceLock<String>>,
}

/// Responses that a connection has taken and not written completely, with the time by which they must be written.
#[derive(Debug, Clone)]
pub(super) struct Unsent {
    timeout: Duration,
    responses: Arc<Mutex<UnsentResponses>>,
}

#[derive(Debug, Default)]
struct UnsentResponses {
    permits: Vec<QuotaPermit>,
    deadline: Option<Instant>,
}

/// A response body that is charged until it is written.
#[derive(Debug)]
struct ChargedBody {
    body: Body,
    permit: Option<QuotaPermit>,
    unsent: Unsent,
}

impl ResponseMemory {
    pub(super) fn new(quota: &Quota, unsent: &Unsent) -> Self {
        Self {
            quota: quota.clone(),
            unsent: unsent.clone(),
            caller: Arc::default(),
        }
    }

    /// Charges the response to this caller. Otherwise it counts in total only.
    pub(crate) fn charge_to(&self, subject: &str) {
        let _ = self.caller.set(subject.to_owned());
    }

    /// The response, charged. With `may_refuse`, 503 if there is not enough memory.
    fn charge(&self, mut response: Response, may_refuse: bool) -> Result<Response, ApiError> {
        let held = response.extensions_mut().remove::<HeldMemory>();
        let size = response.body().size_hint().lower();
        let size = held.map_or_else(
            || usize::try_from(size).unwrap_or(usize::MAX),
            |held| held.0,
        );
        if size <= SMALL {
            return Ok(response);
        }
        let caller = self.caller.get().map(String::as_str);
        let permit = match self.quota.try_acquire(caller, size) {
            Ok(permit) => permit,
            Err(exhausted) if may_refuse => return Err(refusal(exhausted)),
            Err(_) => self.quota.acquire_anyway(caller, size),
        };
        let unsent = self.unsent.clone();
        Ok(response.map(|body| {
            Body::new(ChargedBody {
                body,
                permit: Some(permit),
                unsent,
            })
        }))
    }
}

/// Middleware: charges large responses, and refuses those to reads while there is not enough memory. The response to a
/// write is never refused, since its change is stored.
pub(crate) async fn charge_response(request: Request, next: Next) -> Response {
    let memory = request.extensions().get::<ResponseMemory>().cloned();
    let may_refuse = request.method().is_safe();
    let response = next.run(request).await;
    match memory {
        Some(memory) => memory
            .charge(response, may_refuse)
            .unwrap_or_else(IntoResponse::into_response),
        None => response,
    }
}

fn refusal(exhausted: Exhausted) -> ApiError {
    let (limit, detail) = match exhausted {
        Exhausted::Total => (
            "process",
            "The service holds too many responses that clients have not read yet. Try again later.",
        ),
        Exhausted::Client => (
            "caller",
            "You have too many responses that you have not read yet. Read them, or close their connections.",
        ),
    };
    metrics::response_refused(limit);
    ApiError::new(ProblemCode::TooManyResponses).with_detail(detail)
}

impl Unsent {
    /// Responses that have to be written within `timeout`.
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            responses: Arc::default(),
        }
    }

    /// Deadline for writing the memory that the connection has taken.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.lock().deadline
    }

    /// Everything that the connection has taken is written.
    pub(super) fn written(&self) {
        *self.lock() = UnsentResponses::default();
    }

    /// The connection has taken all of a response.
    pub(super) fn taken(&self, permit: QuotaPermit) {
        let mut unsent = self.lock();
        unsent.permits.push(permit);
        let deadline = Instant::now() + self.timeout;
        unsent.deadline.get_or_insert(deadline);
    }

    fn lock(&self) -> MutexGuard<'_, UnsentResponses> {
        self.responses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// hyper drops a body when it has taken all of it, which is before it is written.
impl Drop for ChargedBody {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.unsent.taken(permit);
        }
    }
}

impl HttpBody for ChargedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
