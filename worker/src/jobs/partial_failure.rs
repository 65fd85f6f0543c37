//! Partial failures: one item of a step fails, and the step continues with the others.

use dezky_shared::queue::{
    error_code::{ErrorCode, RetryPolicy},
    job::Progress,
};
use dezky_upstreams::clients::ClientError;
use serde::{Deserialize, Serialize};

use crate::steps::StepFailure;

/// Failure of single members, mailboxes or domains, captured until the remaining ones are processed: one member whose
/// suspension fails does not prevent the suspension of the others.
#[derive(Default)]
pub(super) struct PartialFailures(Option<StepFailure>);

/// A captured failure, as stored with the position of a pass between two attempts: its code and detail.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredFailure(ErrorCode, String);

impl PartialFailures {
    /// With the failure that an earlier attempt captured, if any.
    pub(super) fn resume(stored: Option<StoredFailure>) -> Self {
        Self(stored.map(|StoredFailure(code, detail)| StepFailure::new(code, detail)))
    }

    /// The captured failure to store, if any.
    pub(super) fn stored(&self) -> Option<StoredFailure> {
        let failure = self.0.as_ref()?;
        Some(StoredFailure(failure.code, failure.detail.clone()))
    }

    /// The captured failure, if any.
    pub(super) fn first(&self) -> Option<&StepFailure> {
        self.0.as_ref()
    }

    /// The value, or `None` for a failure of this item alone. A failure that would affect the next item too is returned.
    pub(super) fn capture<T>(
        &mut self,
        result: Result<T, ClientError>,
    ) -> Result<Option<T>, ClientError> {
        let failure = match result {
            Ok(value) => return Ok(Some(value)),
            Err(
                error @ (ClientError::Conflict(_)
                | ClientError::StateChanged(_)
                | ClientError::UserAction { .. }
                | ClientError::Rejected(_)
                | ClientError::Permission(_)),
            ) => StepFailure::from(error),
            Err(error) => return Err(error),
        };
        self.add(failure);
        Ok(None)
    }

    /// Captures the failure of an item.
    pub(super) fn add(&mut self, failure: StepFailure) {
        let is_final = |failure: &StepFailure| failure.code.retry_policy() == RetryPolicy::Never;
        // A retryable failure takes precedence: the step is retried while any item may still succeed.
        if self
            .0
            .as_ref()
            .is_none_or(|captured| is_final(captured) && !is_final(&failure))
        {
            self.0 = Some(failure);
        }
    }

    /// The captured failure of a complete pass, if any, with its progress: the next attempt begins anew.
    pub(super) fn finish_pass(self, progress: Progress) -> Result<(), StepFailure> {
        self.finish().map_err(|failure| StepFailure {
            progress: Some(Box::new(Progress {
                cursor: None,
                ..progress
            })),
            ..failure
        })
    }

    /// The captured failure, if any.
    pub(super) fn finish(self) -> Result<(), StepFailure> {
        self.0.map_or(Ok(()), Err)
    }
}
