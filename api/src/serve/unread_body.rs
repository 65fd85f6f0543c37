//! Body of a refused request, which no handler reads.
//!
//! HTTP/1 cannot skip a body: the rest has to be read before the next request, or the connection be closed, which the
//! response has to announce (RFC 9112, section 9.3). Small bodies are read.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::extract::Request;
use http::header;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::timeout;

/// Maximum size of a body that is read in order to keep the connection, in bytes.
const DRAIN_LIMIT: usize = 64 * 1024;

/// Rest of a request's body that the handler did not read.
#[derive(Debug, Default)]
pub(super) struct UnreadBody {
    rest: Arc<Mutex<Option<Incoming>>>,
    /// Whether the client waits before it sends the body. Reading would ask for it.
    is_expected: bool,
}

/// A body that leaves its unread rest behind.
#[derive(Debug)]
pub(super) struct TrackedBody {
    body: Option<Incoming>,
    rest: Arc<Mutex<Option<Incoming>>>,
}

impl UnreadBody {
    /// The request, with a body that is tracked.
    pub(super) fn track(request: Request<Incoming>) -> (Request<TrackedBody>, Self) {
        let unread = Self {
            rest: Arc::default(),
            is_expected: request.headers().contains_key(header::EXPECT),
        };
        let rest = unread.rest.clone();
        let request = request.map(|body| TrackedBody {
            body: Some(body),
            rest,
        });
        (request, unread)
    }

    /// Reads the rest, if it is small and arrives in time. Returns whether nothing is left.
    pub(super) async fn drain(self, limit: Duration) -> bool {
        let rest = self
            .rest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(rest) = rest else {
            return true;
        };
        let is_small = rest.size_hint().lower() <= DRAIN_LIMIT as u64;
        is_small
            && !self.is_expected
            && matches!(
                timeout(limit, Limited::new(rest, DRAIN_LIMIT).collect()).await,
                Ok(Ok(_))
            )
    }
}

impl Body for TrackedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for TrackedBody {
    fn drop(&mut self) {
        if let Some(rest) = self.body.take().filter(|body| !body.is_end_stream()) {
            *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = Some(rest);
        }
    }
}
