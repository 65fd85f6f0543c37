//! Errors that abort a command's transaction.

use dezky_shared::store::TransactionError;

use crate::error::{ApiError, ProblemCode};

/// Reason why a command was not committed.
#[derive(Debug)]
pub enum CommandError {
    /// The command rejects the request.
    Rejected(Box<ApiError>),
    /// The idempotency key has a stored response.
    Replay,
}

/// Error that aborts a command's transaction. `?` makes one of an [`ApiError`], a [`ProblemCode`] or a store error.
pub type Rollback = TransactionError<CommandError>;

impl From<ApiError> for CommandError {
    fn from(error: ApiError) -> Self {
        Self::Rejected(Box::new(error))
    }
}

impl From<ProblemCode> for CommandError {
    fn from(code: ProblemCode) -> Self {
        ApiError::from(code).into()
    }
}

impl From<ApiError> for Rollback {
    fn from(error: ApiError) -> Self {
        Self::Aborted(error.into())
    }
}

impl From<ProblemCode> for Rollback {
    fn from(code: ProblemCode) -> Self {
        ApiError::from(code).into()
    }
}
