//! Why something failed, and what happens next: one enum from which codes, the texts customers read and the
//! retry decision all come.

use serde::{Deserialize, Serialize};

use crate::upstream::Upstream;

/// Who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// The customer, for instance by correcting a domain.
    UserAction,
    /// The operators of the upstream; we retry meanwhile.
    Upstream,
    /// Nobody: we were too fast, and wait.
    RateLimited,
    /// Our operator: an upstream refuses our credentials or lacks a permission.
    Credentials,
    /// Our operator: something in an upstream belongs to somebody else.
    Conflict,
    /// Us.
    Bug,
}

impl ErrorClass {
    /// The name used in documents, on the wire and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UserAction => "user_action",
            Self::Upstream => "upstream",
            Self::RateLimited => "rate_limited",
            Self::Credentials => "credentials",
            Self::Conflict => "conflict",
            Self::Bug => "bug",
        }
    }
}

/// What the engine does with a step that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryPolicy {
    /// Never again: trying once more cannot help.
    Never,
    /// Later, and the attempt counts against the limit.
    Counted,
    /// Later, at no cost: it was not this job's fault.
    Free,
    /// Only after a long pause, at no cost: somebody has to mend something first.
    AfterHold,
}

/// A stable name for each way in which work can fail. It is stored, shown to callers and documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// No connection to the upstream.
    UpstreamUnreachable,
    /// The upstream answered that it cannot serve us now, or answered nonsense to a read.
    UpstreamUnavailable,
    /// The upstream could not tell who we are: its identity provider may be away.
    UpstreamIdentityUnavailable,
    /// A write was sent and its answer never came: it may or may not have happened.
    UpstreamAnswerLost,
    /// The upstream asked us to slow down.
    UpstreamRateLimited,
    /// The upstream has been away; one job at a time tries whether it is back.
    UpstreamCircuitOpen,
    /// A person stopped all work with the upstream for a while.
    UpstreamPaused,
    /// The upstream is still making what we asked for.
    UpstreamNotReady,
    /// The upstream refused the request for good.
    UpstreamRejected,
    /// The upstream does not accept our credentials.
    UpstreamCredentialsRefused,
    /// Our account at the upstream lacks a permission.
    UpstreamPermissionMissing,
    /// The secrets that the job carries do not open: this worker lacks their key.
    SecretsUnreadable,
    /// The name is taken in the upstream by something that is not ours.
    UpstreamConflict,
    /// The mail server does not accept the domain name.
    DomainInvalid,
    /// The domain cannot be removed while mailboxes or lists use it.
    DomainInUse,
    /// The sign-on service has no way for people to choose a new password.
    RecoveryFlowMissing,
    /// The person works for another partner, or belongs to a workspace that is not this partner's.
    WorksElsewhere,
    /// The attempt took longer than a job of its kind may.
    AttemptTimedOut,
    /// The worker died three times while running this job.
    WorkerCrashed,
    /// The time allowed for retrying is over.
    GaveUp,
    /// Another job with the same purpose took this one's place.
    Superseded,
    /// A person cancelled the job.
    Cancelled,
    /// Something failed that should not.
    Internal,
}

impl ErrorCode {
    /// Every code, for documentation and tests.
    pub const ALL: [Self; 23] = [
        Self::UpstreamUnreachable,
        Self::UpstreamUnavailable,
        Self::UpstreamIdentityUnavailable,
        Self::UpstreamAnswerLost,
        Self::UpstreamRateLimited,
        Self::UpstreamCircuitOpen,
        Self::UpstreamPaused,
        Self::UpstreamNotReady,
        Self::UpstreamRejected,
        Self::UpstreamCredentialsRefused,
        Self::UpstreamPermissionMissing,
        Self::SecretsUnreadable,
        Self::UpstreamConflict,
        Self::DomainInvalid,
        Self::DomainInUse,
        Self::RecoveryFlowMissing,
        Self::WorksElsewhere,
        Self::AttemptTimedOut,
        Self::WorkerCrashed,
        Self::GaveUp,
        Self::Superseded,
        Self::Cancelled,
        Self::Internal,
    ];

    /// Who has to act.
    pub const fn class(self) -> ErrorClass {
        match self {
            Self::DomainInvalid | Self::DomainInUse | Self::WorksElsewhere | Self::Cancelled => {
                ErrorClass::UserAction
            }
            Self::UpstreamUnreachable
            | Self::UpstreamUnavailable
            | Self::UpstreamIdentityUnavailable
            | Self::UpstreamAnswerLost
            | Self::UpstreamCircuitOpen
            | Self::UpstreamPaused
            | Self::UpstreamNotReady
            | Self::AttemptTimedOut
            | Self::GaveUp => ErrorClass::Upstream,
            Self::UpstreamRateLimited => ErrorClass::RateLimited,
            Self::UpstreamCredentialsRefused
            | Self::UpstreamPermissionMissing
            | Self::RecoveryFlowMissing
            | Self::SecretsUnreadable => ErrorClass::Credentials,
            Self::UpstreamConflict | Self::Superseded => ErrorClass::Conflict,
            Self::UpstreamRejected | Self::WorkerCrashed | Self::Internal => ErrorClass::Bug,
        }
    }

    /// What the engine does with a step that failed this way.
    pub const fn retry_policy(self) -> RetryPolicy {
        match self {
            Self::UpstreamRejected
            | Self::DomainInvalid
            | Self::DomainInUse
            | Self::WorksElsewhere
            | Self::WorkerCrashed
            | Self::GaveUp
            | Self::Superseded
            | Self::Cancelled => RetryPolicy::Never,
            Self::UpstreamAnswerLost
            | Self::UpstreamConflict
            | Self::AttemptTimedOut
            | Self::Internal => RetryPolicy::Counted,
            Self::UpstreamUnreachable
            | Self::UpstreamUnavailable
            | Self::UpstreamIdentityUnavailable
            | Self::UpstreamRateLimited
            | Self::UpstreamCircuitOpen
            | Self::UpstreamPaused
            | Self::UpstreamNotReady => RetryPolicy::Free,
            Self::UpstreamCredentialsRefused
            | Self::UpstreamPermissionMissing
            | Self::RecoveryFlowMissing
            | Self::SecretsUnreadable => RetryPolicy::AfterHold,
        }
    }

    /// A sentence that is safe to show to a customer.
    pub fn customer_text(self, upstream: Option<Upstream>) -> String {
        let service = upstream.map_or("The service", |upstream| match upstream {
            Upstream::Authentik => "The sign-on service",
            Upstream::Stalwart => "The mail service",
            Upstream::Ocis => "The files service",
        });
        match self {
            Self::UpstreamUnreachable
            | Self::UpstreamUnavailable
            | Self::UpstreamIdentityUnavailable
            | Self::UpstreamCircuitOpen => {
                format!("{service} cannot be reached at the moment. We keep trying.")
            }
            Self::UpstreamAnswerLost => {
                format!("{service} did not answer in time. We will look again and finish the work.")
            }
            Self::UpstreamRateLimited => format!("{service} is busy. We keep trying."),
            Self::UpstreamPaused => {
                format!("{service} is being worked on. We go on when that is over.")
            }
            Self::UpstreamNotReady => {
                format!("{service} is still setting this up. We look again in a moment.")
            }
            Self::UpstreamRejected => {
                format!("{service} refused the change. Our team has to look at it.")
            }
            Self::UpstreamCredentialsRefused | Self::UpstreamPermissionMissing => {
                format!(
                    "{service} does not accept our access at the moment. Our team has to look at it."
                )
            }
            Self::UpstreamConflict => {
                format!(
                    "{service} already holds something of this name. Our team has to look at it."
                )
            }
            Self::DomainInvalid => {
                "The mail service does not accept this domain. Please check its name.".to_owned()
            }
            Self::DomainInUse => {
                "The domain still has mailboxes or lists. Remove them first, then try again."
                    .to_owned()
            }
            Self::RecoveryFlowMissing => {
                "Links to choose a password cannot be made at the moment. Our team has to look at it."
                    .to_owned()
            }
            Self::WorksElsewhere => {
                "This person belongs to another partner or workspace, and has to leave there first."
                    .to_owned()
            }
            Self::AttemptTimedOut => "The work took too long. We will try again.".to_owned(),
            Self::SecretsUnreadable | Self::WorkerCrashed | Self::Internal => {
                "Something went wrong on our side. Our team has to look at it.".to_owned()
            }
            Self::GaveUp => {
                "The work could not be finished in time. It starts afresh with the next reconcile."
                    .to_owned()
            }
            Self::Superseded => "A newer job does this work.".to_owned(),
            Self::Cancelled => "The job was cancelled.".to_owned(),
        }
    }

    /// The same name in `CamelCase`, as conditions show their reason.
    pub fn reason(self) -> &'static str {
        match self {
            Self::UpstreamUnreachable => "UpstreamUnreachable",
            Self::UpstreamUnavailable => "UpstreamUnavailable",
            Self::UpstreamIdentityUnavailable => "UpstreamIdentityUnavailable",
            Self::UpstreamAnswerLost => "UpstreamAnswerLost",
            Self::UpstreamRateLimited => "UpstreamRateLimited",
            Self::UpstreamCircuitOpen => "UpstreamCircuitOpen",
            Self::UpstreamPaused => "UpstreamPaused",
            Self::UpstreamNotReady => "UpstreamNotReady",
            Self::UpstreamRejected => "UpstreamRejected",
            Self::UpstreamCredentialsRefused => "UpstreamCredentialsRefused",
            Self::UpstreamPermissionMissing => "UpstreamPermissionMissing",
            Self::SecretsUnreadable => "SecretsUnreadable",
            Self::UpstreamConflict => "UpstreamConflict",
            Self::DomainInvalid => "DomainInvalid",
            Self::DomainInUse => "DomainInUse",
            Self::RecoveryFlowMissing => "RecoveryFlowMissing",
            Self::WorksElsewhere => "WorksElsewhere",
            Self::AttemptTimedOut => "AttemptTimedOut",
            Self::WorkerCrashed => "WorkerCrashed",
            Self::GaveUp => "GaveUp",
            Self::Superseded => "Superseded",
            Self::Cancelled => "Cancelled",
            Self::Internal => "Internal",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_the_code_in_camel_case() {
        for code in ErrorCode::ALL {
            let snake = serde_json::to_string(&code).unwrap();
            let camel: String = snake
                .trim_matches('"')
                .split('_')
                .map(|word| word[..1].to_uppercase() + &word[1..])
                .collect();

            assert_eq!(code.reason(), camel);
        }
    }

    #[test]
    fn texts_for_customers_name_our_services_and_never_the_software() {
        for code in ErrorCode::ALL {
            for upstream in Upstream::ALL {
                let text = code.customer_text(Some(upstream));

                assert!(text.ends_with('.'), "{text}");
                assert!(!text.to_lowercase().contains(upstream.name()), "{text}");
            }
        }
    }

    #[test]
    fn what_only_an_operator_can_mend_is_held_and_costs_nothing() {
        for code in ErrorCode::ALL {
            let held = code.retry_policy() == RetryPolicy::AfterHold;

            assert_eq!(held, code.class() == ErrorClass::Credentials, "{code:?}");
        }
    }
}
