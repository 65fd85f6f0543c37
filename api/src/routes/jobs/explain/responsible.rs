//! Responsible party for a failure, and the advice given to it.

use dezky_shared::queue::{
    error_code::ErrorClass,
    job::{Job, JobFailure, JobState},
};
use serde::Serialize;
use utoipa::ToSchema;

/// Party that has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = JobResponsible)]
pub(super) enum Responsible {
    /// The customer, who has to correct something.
    Customer,
    /// The operators of the upstream.
    Upstream,
    /// The operators of this service.
    Operators,
    /// The developers of this service.
    Developers,
    /// No party: the job continues by itself, or has ended.
    None,
}

/// Party that has to act on the failure of a job.
pub(super) fn responsible(job: &Job, failure: &JobFailure) -> Responsible {
    let is_over = job.requeued_to.is_some() || job.dismissed.is_some();
    if is_over || matches!(job.state, JobState::Completed | JobState::Cancelled) {
        return Responsible::None;
    }
    match failure.class {
        ErrorClass::UserAction => Responsible::Customer,
        // A job that gave up does not notice that the upstream is back.
        ErrorClass::Upstream | ErrorClass::RateLimited if job.state == JobState::Discarded => {
            Responsible::Operators
        }
        ErrorClass::Upstream => Responsible::Upstream,
        ErrorClass::RateLimited => Responsible::None,
        ErrorClass::Credentials | ErrorClass::Conflict => Responsible::Operators,
        ErrorClass::Bug | ErrorClass::Unknown(_) => Responsible::Developers,
    }
}

/// Advice for the failure of a job, as text.
pub(super) fn advice(job: &Job, failure: &JobFailure) -> String {
    let (code, class) = (failure.code.name(), failure.class.name());
    let who = match responsible(job, failure) {
        Responsible::Customer => "The customer has to correct it.",
        Responsible::Upstream => "The operators of the upstream have to act.",
        Responsible::Operators => "Our operators have to act.",
        Responsible::Developers => "Our developers have to act.",
        Responsible::None => "No action is needed.",
    };
    let then = match job.state {
        JobState::Discarded if job.requeued_to.is_some() => " It was requeued.",
        JobState::Discarded if job.dismissed.is_some() => " It was dismissed.",
        JobState::Discarded => " It is not retried: requeue it once the cause is removed.",
        _ => "",
    };
    format!(
        "{} ({code}, {class}). {who}{then}",
        failure.message.trim_end_matches('.')
    )
}
