//! Error codes: one enum that determines the stable code, the customer-facing message, and the retry policy of every
//! failure.

mod class;
mod schema;

use serde::{Deserialize, Serialize};

pub use self::class::ErrorClass;
use crate::{unknown_name::UnknownName, upstream::Upstream};

/// Retry policy of a failed step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryPolicy {
    /// Never retried: a retry cannot succeed.
    Never,
    /// Retried later; the attempt counts against the limit.
    Counted,
    /// Retried later without counting the attempt: not this job's fault.
    Free,
    /// Retried after a long pause without counting the attempt: a person has to intervene first.
    AfterHold,
}

/// Stable code of a failure. Stored, returned by the API, and documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Cannot connect to the upstream.
    UpstreamUnreachable,
    /// The upstream is unavailable.
    UpstreamUnavailable,
    /// The upstream could not authenticate us: its identity provider may be unavailable.
    UpstreamIdentityUnavailable,
    /// No response to a write: it may or may not have been applied.
    UpstreamAnswerLost,
    /// The upstream's rate limit is exceeded.
    UpstreamRateLimited,
    /// The upstream's circuit breaker is open; one job at a time probes the upstream.
    UpstreamCircuitOpen,
    /// An operator paused the upstream.
    UpstreamPaused,
    /// The upstream is still processing an earlier request.
    UpstreamNotReady,
    /// The upstream's state changed between the calls of an operation; a retry reads it again.
    UpstreamStateChanged,
    /// The upstream returned an unreadable or too large response to a read.
    UpstreamResponseInvalid,
    /// The upstream rejected the request; a retry cannot succeed.
    UpstreamRejected,
    /// The upstream rejected our credentials.
    UpstreamCredentialsRefused,
    /// Our account lacks a permission in the upstream.
    UpstreamPermissionMissing,
    /// The job's secrets cannot be decrypted: this worker lacks the key.
    SecretsUnreadable,
    /// The name is taken in the upstream by an object that is not ours.
    UpstreamConflict,
    /// The mail server rejects the domain name.
    DomainInvalid,
    /// The domain cannot be removed while mailboxes or lists use it.
    DomainInUse,
    /// A mailbox is not destroyed while mailing lists deliver to it.
    MailboxInUse,
    /// No recovery flow is configured on the sign-on service.
    RecoveryFlowMissing,
    /// The person belongs to another partner, or to a workspace of another partner.
    WorksElsewhere,
    /// The login has an account whose password another tenant may know, or is an address in another tenant's domain.
    AccountTaken,
    /// More billing periods are due than are invoiced without an operator's decision.
    TooManyPeriods,
    /// The payment provider declined the payment method.
    PaymentRefused,
    /// The card set-up is unknown, unfinished, or of another customer.
    SetupIntentUnusable,
    /// The payment provider's key or objects are of the other mode: live instead of test, or the reverse.
    PaymentProviderMode,
    /// An idempotency key was used for another request.
    IdempotencyMisused,
    /// The attempt exceeded the time limit of its kind.
    AttemptTimedOut,
    /// Three workers crashed while running this job.
    WorkerCrashed,
    /// The time limit for retries is over.
    GaveUp,
    /// A newer job with the same purpose replaced this one.
    Superseded,
    /// The job was cancelled on request.
    Cancelled,
    /// Unexpected internal error.
    Internal,
    /// A code of a newer build, stored by it. No failure of this build has it.
    #[serde(untagged)]
    Unknown(UnknownName),
}

impl ErrorCode {
    /// Every code that this build defines.
    pub const ALL: [Self; 32] = [
        Self::UpstreamUnreachable,
        Self::UpstreamUnavailable,
        Self::UpstreamIdentityUnavailable,
        Self::UpstreamAnswerLost,
        Self::UpstreamRateLimited,
        Self::UpstreamCircuitOpen,
        Self::UpstreamPaused,
        Self::UpstreamNotReady,
        Self::UpstreamStateChanged,
        Self::UpstreamResponseInvalid,
        Self::UpstreamRejected,
        Self::UpstreamCredentialsRefused,
        Self::UpstreamPermissionMissing,
        Self::SecretsUnreadable,
        Self::UpstreamConflict,
        Self::DomainInvalid,
        Self::DomainInUse,
        Self::MailboxInUse,
        Self::RecoveryFlowMissing,
        Self::WorksElsewhere,
        Self::AccountTaken,
        Self::TooManyPeriods,
        Self::PaymentRefused,
        Self::SetupIntentUnusable,
        Self::PaymentProviderMode,
        Self::IdempotencyMisused,
        Self::AttemptTimedOut,
        Self::WorkerCrashed,
        Self::GaveUp,
        Self::Superseded,
        Self::Cancelled,
        Self::Internal,
    ];

    /// Class of the code: the party that has to act.
    pub const fn class(self) -> ErrorClass {
        match self {
            Self::DomainInvalid
            | Self::DomainInUse
            | Self::MailboxInUse
            | Self::WorksElsewhere
            | Self::AccountTaken
            | Self::PaymentRefused
            | Self::SetupIntentUnusable
            | Self::Cancelled => ErrorClass::UserAction,
            Self::UpstreamUnreachable
            | Self::UpstreamUnavailable
            | Self::UpstreamIdentityUnavailable
            | Self::UpstreamAnswerLost
            | Self::UpstreamCircuitOpen
            | Self::UpstreamPaused
            | Self::UpstreamNotReady
            | Self::UpstreamStateChanged
            | Self::UpstreamResponseInvalid
            | Self::AttemptTimedOut
            | Self::GaveUp => ErrorClass::Upstream,
            Self::UpstreamRateLimited => ErrorClass::RateLimited,
            Self::UpstreamCredentialsRefused
            | Self::UpstreamPermissionMissing
            | Self::RecoveryFlowMissing
            | Self::PaymentProviderMode
            | Self::SecretsUnreadable => ErrorClass::Credentials,
            Self::UpstreamConflict | Self::TooManyPeriods | Self::Superseded => {
                ErrorClass::Conflict
            }
            Self::UpstreamRejected
            | Self::IdempotencyMisused
            | Self::WorkerCrashed
            | Self::Internal
            | Self::Unknown(_) => ErrorClass::Bug,
        }
    }

    /// Retry policy of a step that failed with this code.
    pub const fn retry_policy(self) -> RetryPolicy {
        match self {
            Self::UpstreamRejected
            | Self::DomainInvalid
            | Self::DomainInUse
            | Self::MailboxInUse
            | Self::WorksElsewhere
            | Self::AccountTaken
            | Self::TooManyPeriods
            | Self::PaymentRefused
            | Self::SetupIntentUnusable
            | Self::IdempotencyMisused
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
            | Self::UpstreamNotReady
            | Self::UpstreamStateChanged
            | Self::UpstreamResponseInvalid
            | Self::Unknown(_) => RetryPolicy::Free,
            Self::UpstreamCredentialsRefused
            | Self::UpstreamPermissionMissing
            | Self::RecoveryFlowMissing
            | Self::PaymentProviderMode
            | Self::SecretsUnreadable => RetryPolicy::AfterHold,
        }
    }

    /// Customer-facing message.
    pub fn customer_text(self, upstream: Option<Upstream>) -> String {
        let service = upstream.map_or("The service", |upstream| match upstream {
            Upstream::Authentik => "The sign-on service",
            Upstream::Stalwart => "The mail service",
            Upstream::Ocis => "The files service",
            Upstream::Stripe => "The payment service",
        });
        match self {
            Self::UpstreamUnreachable
            | Self::UpstreamUnavailable
            | Self::UpstreamIdentityUnavailable
            | Self::UpstreamCircuitOpen => {
                format!("{service} is currently unavailable. We will retry automatically.")
            }
            Self::UpstreamAnswerLost => {
                format!(
                    "{service} did not respond in time. We will check the result and finish the work."
                )
            }
            Self::UpstreamRateLimited => format!("{service} is busy. We will retry automatically."),
            Self::UpstreamPaused => {
                format!("{service} is under maintenance. We will continue afterwards.")
            }
            Self::UpstreamNotReady => {
                format!("{service} is still setting this up. We will check again shortly.")
            }
            Self::UpstreamStateChanged => {
                format!("{service} was changed at the same time. We will retry automatically.")
            }
            Self::UpstreamResponseInvalid => {
                format!("{service} sent an unexpected response. We will retry automatically.")
            }
            Self::UpstreamRejected => {
                format!("{service} rejected the change. Our team will look into it.")
            }
            Self::UpstreamCredentialsRefused | Self::UpstreamPermissionMissing => {
                format!("{service} currently rejects our access. Our team will look into it.")
            }
            Self::UpstreamConflict => {
                format!(
                    "{service} already has an object with this name. Our team will look into it."
                )
            }
            Self::DomainInvalid => {
                "The mail service rejected this domain. Check its name.".to_owned()
            }
            Self::DomainInUse => {
                "The domain still has mailboxes or lists. Remove them, then try again.".to_owned()
            }
            Self::MailboxInUse => {
                "Mailing lists still deliver to this mailbox. Remove it from them, then try again."
                    .to_owned()
            }
            Self::RecoveryFlowMissing => {
                "Password links are currently unavailable. Our team will look into it.".to_owned()
            }
            Self::WorksElsewhere => {
                "This person belongs to another partner or workspace and must leave it first."
                    .to_owned()
            }
            Self::AccountTaken => {
                "This address has an account that another workspace set up, or belongs to another workspace's domain. Use another address, or contact support."
                    .to_owned()
            }
            Self::TooManyPeriods => {
                "Several billing periods have no invoice yet. Our team will look into it."
                    .to_owned()
            }
            Self::PaymentRefused => {
                "The payment was declined. Use another payment method, or contact your bank."
                    .to_owned()
            }
            Self::SetupIntentUnusable => {
                "The card was not set up completely. Enter it again.".to_owned()
            }
            Self::PaymentProviderMode => {
                "Payments are currently unavailable. Our team will look into it.".to_owned()
            }
            Self::AttemptTimedOut => {
                "The job took too long. We will retry automatically.".to_owned()
            }
            Self::SecretsUnreadable
            | Self::IdempotencyMisused
            | Self::WorkerCrashed
            | Self::Internal
            | Self::Unknown(_) => {
                "An internal error occurred. Our team will look into it.".to_owned()
            }
            Self::GaveUp => {
                "The job could not be finished in time. The next reconcile starts over.".to_owned()
            }
            Self::Superseded => "A newer job replaced this one.".to_owned(),
            Self::Cancelled => "The job was cancelled.".to_owned(),
        }
    }

    /// The code as it is stored, in the API, in logs and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamUnavailable => "upstream_unavailable",
            Self::UpstreamIdentityUnavailable => "upstream_identity_unavailable",
            Self::UpstreamAnswerLost => "upstream_answer_lost",
            Self::UpstreamRateLimited => "upstream_rate_limited",
            Self::UpstreamCircuitOpen => "upstream_circuit_open",
            Self::UpstreamPaused => "upstream_paused",
            Self::UpstreamNotReady => "upstream_not_ready",
            Self::UpstreamStateChanged => "upstream_state_changed",
            Self::UpstreamResponseInvalid => "upstream_response_invalid",
            Self::UpstreamRejected => "upstream_rejected",
            Self::UpstreamCredentialsRefused => "upstream_credentials_refused",
            Self::UpstreamPermissionMissing => "upstream_permission_missing",
            Self::SecretsUnreadable => "secrets_unreadable",
            Self::UpstreamConflict => "upstream_conflict",
            Self::DomainInvalid => "domain_invalid",
            Self::DomainInUse => "domain_in_use",
            Self::MailboxInUse => "mailbox_in_use",
            Self::RecoveryFlowMissing => "recovery_flow_missing",
            Self::WorksElsewhere => "works_elsewhere",
            Self::AccountTaken => "account_taken",
            Self::TooManyPeriods => "too_many_periods",
            Self::PaymentRefused => "payment_refused",
            Self::SetupIntentUnusable => "setup_intent_unusable",
            Self::PaymentProviderMode => "payment_provider_mode",
            Self::IdempotencyMisused => "idempotency_misused",
            Self::AttemptTimedOut => "attempt_timed_out",
            Self::WorkerCrashed => "worker_crashed",
            Self::GaveUp => "gave_up",
            Self::Superseded => "superseded",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
            Self::Unknown(name) => name.as_str(),
        }
    }

    /// The code in `CamelCase`, used as the reason of conditions. An unknown code is as stored.
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
            Self::UpstreamStateChanged => "UpstreamStateChanged",
            Self::UpstreamResponseInvalid => "UpstreamResponseInvalid",
            Self::UpstreamRejected => "UpstreamRejected",
            Self::UpstreamCredentialsRefused => "UpstreamCredentialsRefused",
            Self::UpstreamPermissionMissing => "UpstreamPermissionMissing",
            Self::SecretsUnreadable => "SecretsUnreadable",
            Self::UpstreamConflict => "UpstreamConflict",
            Self::DomainInvalid => "DomainInvalid",
            Self::DomainInUse => "DomainInUse",
            Self::MailboxInUse => "MailboxInUse",
            Self::RecoveryFlowMissing => "RecoveryFlowMissing",
            Self::WorksElsewhere => "WorksElsewhere",
            Self::AccountTaken => "AccountTaken",
            Self::TooManyPeriods => "TooManyPeriods",
            Self::PaymentRefused => "PaymentRefused",
            Self::SetupIntentUnusable => "SetupIntentUnusable",
            Self::PaymentProviderMode => "PaymentProviderMode",
            Self::IdempotencyMisused => "IdempotencyMisused",
            Self::AttemptTimedOut => "AttemptTimedOut",
            Self::WorkerCrashed => "WorkerCrashed",
            Self::GaveUp => "GaveUp",
            Self::Superseded => "Superseded",
            Self::Cancelled => "Cancelled",
            Self::Internal => "Internal",
            Self::Unknown(name) => name.as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_code_and_the_reason_is_in_camel_case() {
        for code in ErrorCode::ALL {
            let snake = serde_json::to_string(&code).unwrap();
            let camel: String = snake
                .trim_matches('"')
                .split('_')
                .map(|word| word[..1].to_uppercase() + &word[1..])
                .collect();

            assert_eq!(code.reason(), camel);
            assert_eq!(code.name(), snake.trim_matches('"'));
        }
    }

    #[test]
    fn customer_texts_name_services_and_never_software() {
        for code in ErrorCode::ALL {
            for upstream in Upstream::ALL {
                let text = code.customer_text(Some(upstream));

                assert!(text.ends_with('.'), "{text}");
                assert!(!text.to_lowercase().contains(upstream.name()), "{text}");
            }
        }
    }

    #[test]
    fn a_code_of_a_newer_build_is_read_and_stored_unchanged() {
        #[derive(Serialize, Deserialize)]
        struct Failure {
            code: ErrorCode,
            class: ErrorClass,
        }

        let stored = bson::doc! { "code": "of_the_next_release", "class": "weather" };
        let read: Failure = bson::deserialize_from_document(stored.clone()).unwrap();

        assert!(matches!(read.code, ErrorCode::Unknown(_)));
        assert_eq!(
            (read.code.reason(), read.class.name()),
            ("of_the_next_release", "weather")
        );
        assert_eq!(bson::serialize_to_document(&read).unwrap(), stored);
        let known: ErrorCode = serde_json::from_str("\"internal\"").unwrap();
        assert_eq!(known, ErrorCode::Internal);
    }

    #[test]
    fn errors_for_operators_are_retried_after_a_hold_without_counting() {
        for code in ErrorCode::ALL {
            let held = code.retry_policy() == RetryPolicy::AfterHold;

            assert_eq!(held, code.class() == ErrorClass::Credentials, "{code:?}");
        }
    }
}
