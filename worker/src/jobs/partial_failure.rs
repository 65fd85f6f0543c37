//! Partial failures: one item of a step fails, and the step continues with the others.

use dezky_shared::queue::error_code::RetryPolicy;
use dezky_upstreams::clients::ClientError;

use crate::steps::StepFailure;

/// Failure of single members, mailboxes or domains, captured until the remaining ones are processed: one member whose
/// suspension fails does not prevent the suspension of the others.
#[derive(Default)]
pub(super) struct PartialFailures(Option<StepFailure>);

impl PartialFailures {
    /// The value, or `None` for a failure of this item alone. A failure that would affect the next item too is returned.
    pub(super) fn capture<T>(
        &mut self,
        result: Result<T, ClientError>,
    ) -> Result<Option<T>, ClientError> {
        let failure = match result {
            Ok(value) => return Ok(Some(value)),
            Err(
                error @ (ClientError::Conflict(_)
                | ClientError::UserAction { .. }
                | ClientError::Rejected(_)
                | ClientError::Permission(_)),
            ) => StepFailure::from(error),
            Err(error) => return Err(error),
        };
        let is_final = |failure: &StepFailure| failure.code.retry_policy() == RetryPolicy::Never;
        // A retryable failure takes precedence: the step is retried while any item may still succeed.
        if self
            .0
            .as_ref()
            .is_none_or(|captured| is_final(captured) && !is_final(&failure))
        {
            self.0 = Some(failure);
        }
        Ok(None)
    }

    /// The captured failure, if any.
    pub(super) fn finish(self) -> Result<(), StepFailure> {
        self.0.map_or(Ok(()), Err)
    }
}
