//! What goes wrong with one of many, while a step goes on with the others.

use dezky_shared::queue::error_code::RetryPolicy;
use dezky_upstreams::clients::ClientError;

use crate::steps::StepFailure;

/// What went wrong with one member, mailbox or domain of many, kept until the others have had their turn: nobody
/// stays signed in because somebody else could not be frozen.
#[derive(Default)]
pub(super) struct PartialFailures(Option<StepFailure>);

impl PartialFailures {
    /// The value, or `None` where this one thing alone failed. What would fail for the next one too ends the step.
    pub(super) fn capture<T>(
        &mut self,
        result: Result<T, ClientError>,
    ) -> Result<Option<T>, StepFailure> {
        let failure = match result {
            Ok(value) => return Ok(Some(value)),
            Err(
                error @ (ClientError::Conflict(_)
                | ClientError::UserAction { .. }
                | ClientError::Rejected(_)
                | ClientError::Permission(_)),
            ) => StepFailure::from(error),
            Err(error) => return Err(error.into()),
        };
        let is_final = |failure: &StepFailure| failure.code.retry_policy() == RetryPolicy::Never;
        // The step goes on while any of them may still succeed.
        if self
            .0
            .as_ref()
            .is_none_or(|kept| is_final(kept) && !is_final(&failure))
        {
            self.0 = Some(failure);
        }
        Ok(None)
    }

    /// Ends the step if there were any.
    pub(super) fn finish(self) -> Result<(), StepFailure> {
        self.0.map_or(Ok(()), Err)
    }
}
