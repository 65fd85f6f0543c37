//! Errors of upstream calls.

use std::{fmt, time::Duration};

use dezky_shared::{queue::error_code::ErrorCode, upstream::Upstream};
use http::StatusCode;

/// Failed call. Each variant is handled differently by callers.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// Cannot connect: nothing was sent.
    #[error("{0}: unreachable")]
    Unreachable(FailedCall),
    /// The upstream cannot serve the request now, and did not apply it.
    #[error("{0}: unavailable")]
    Unavailable(FailedCall),
    /// The upstream answered, but its state changed between the calls of the operation; a retry reads it again. Says nothing
    /// about other objects.
    #[error("{0}: changed meanwhile")]
    StateChanged(FailedCall),
    /// The upstream answered a read with an unreadable or too large response.
    #[error("{0}: unreadable")]
    InvalidResponse(FailedCall),
    /// The upstream's rate limit is exceeded.
    #[error("{call}: rate limited")]
    RateLimited {
        /// The failed call.
        call: FailedCall,
        /// `Retry-After`, if present.
        retry_after: Option<Duration>,
    },
    /// The upstream rejected our credentials.
    #[error("{0}: credentials refused")]
    Credentials(FailedCall),
    /// Our account lacks a permission.
    #[error("{0}: permission missing")]
    Permission(FailedCall),
    /// The upstream rejected the request; a retry cannot succeed.
    #[error("{0}: rejected")]
    Rejected(FailedCall),
    /// The object to create exists already and is not ours.
    #[error("{0}: conflict")]
    Conflict(FailedCall),
    /// A refusal with a code of its own, such as a value that only the customer can correct.
    #[error("{call}: {}", code.name())]
    UserAction {
        /// The failed call.
        call: FailedCall,
        /// Code of the problem.
        code: ErrorCode,
    },
    /// A write was sent, and its outcome is unknown.
    #[error("{0}: response lost")]
    AnswerLost(FailedCall),
    /// A write was not sent, because it could outlast the lease.
    #[error("{0}: not sent, the lease ends too soon")]
    LeaseExpiring(FailedCall),
}

/// Description of a failed call. `detail` is for operators: clients never put anything there that could contain a
/// secret.
#[derive(Debug, Clone)]
pub struct FailedCall {
    /// Called upstream.
    pub upstream: Upstream,
    /// Name of the operation, such as `create_group`.
    pub operation: &'static str,
    /// Status of the response, if any.
    pub status: Option<StatusCode>,
    /// Request id assigned by the upstream.
    pub request_id: Option<String>,
    /// Detail for operators.
    pub detail: String,
}

impl fmt::Display for FailedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.upstream, self.operation)?;
        if let Some(status) = self.status {
            write!(f, " returned {}", status.as_u16())?;
        }
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        Ok(())
    }
}

impl ClientError {
    /// Description of the failed call.
    pub fn call(&self) -> &FailedCall {
        match self {
            Self::RateLimited { call, .. }
            | Self::UserAction { call, .. }
            | Self::Unreachable(call)
            | Self::Unavailable(call)
            | Self::StateChanged(call)
            | Self::InvalidResponse(call)
            | Self::Credentials(call)
            | Self::Permission(call)
            | Self::Rejected(call)
            | Self::Conflict(call)
            | Self::AnswerLost(call)
            | Self::LeaseExpiring(call) => call,
        }
    }

    /// Stable error code.
    pub fn code(&self) -> ErrorCode {
        match self {
            // A write that was not sent is retried as if the upstream had been unreachable.
            Self::Unreachable(_) | Self::LeaseExpiring(_) => ErrorCode::UpstreamUnreachable,
            Self::Unavailable(call) if call.status == Some(StatusCode::UNAUTHORIZED) => {
                ErrorCode::UpstreamIdentityUnavailable
            }
            Self::Unavailable(_) => ErrorCode::UpstreamUnavailable,
            Self::StateChanged(_) => ErrorCode::UpstreamStateChanged,
            Self::InvalidResponse(_) => ErrorCode::UpstreamResponseInvalid,
            Self::RateLimited { .. } => ErrorCode::UpstreamRateLimited,
            Self::Credentials(_) => ErrorCode::UpstreamCredentialsRefused,
            Self::Permission(_) => ErrorCode::UpstreamPermissionMissing,
            Self::Rejected(_) => ErrorCode::UpstreamRejected,
            Self::Conflict(_) => ErrorCode::UpstreamConflict,
            Self::UserAction { code, .. } => *code,
            Self::AnswerLost(_) => ErrorCode::UpstreamAnswerLost,
        }
    }
}
