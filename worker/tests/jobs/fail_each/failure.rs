//! Failures of an upstream call, and the effect of each on its job.

use std::collections::BTreeSet;

use dezky_shared::{
    queue::job::{JobState, Step},
    upstream::Upstream,
};
use dezky_sim::faults::Fault;

use super::operator::End;

/// A failure and its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Reset,
    Unavailable,
    RateLimited,
    AnswerLost,
    Html,
    Truncated,
    Refused,
    Credentials,
}

impl Failure {
    pub(super) const ALL: [Self; 8] = [
        Self::Reset,
        Self::Unavailable,
        Self::RateLimited,
        Self::AnswerLost,
        Self::Html,
        Self::Truncated,
        Self::Refused,
        Self::Credentials,
    ];

    pub(super) fn fault(self) -> Fault {
        let status = |status, retry_after| Fault::Status {
            status,
            retry_after,
        };
        match self {
            Self::Reset => Fault::Reset,
            Self::Unavailable => status(503, None),
            // Without a Retry-After, Stalwart reports a banned address.
            Self::RateLimited => status(429, Some(0)),
            Self::AnswerLost => Fault::AnswerLost,
            Self::Html => Fault::Html,
            Self::Truncated => Fault::Truncated,
            Self::Refused => status(400, None),
            Self::Credentials => status(401, None),
        }
    }
}

/// Asserts that the job is retried, deferred or ends as the failure calls for, and is charged for the attempt or not.
pub(super) fn must_match_the_failure_class(failure: Failure, end: &End, about: &str) {
    let job = &end.job;
    match (failure, job.state) {
        (_, JobState::Completed) => {}
        // Not retried before an operator intervenes.
        (Failure::Refused, JobState::Discarded) => {
            assert_eq!(job.attempt, 1, "{about}");
            must_affect_only_failed_upstreams(end, about);
        }
        // As above, but uncharged.
        (Failure::Credentials, JobState::Available) => {
            assert_eq!(job.attempt, 0, "{about}");
            must_affect_only_failed_upstreams(end, about);
        }
        _ => panic!("{about}"),
    }
    // A write is in doubt, which is charged.
    let is_unknown = matches!(
        failure,
        Failure::Reset | Failure::AnswerLost | Failure::Html | Failure::Truncated
    );
    assert!(is_unknown || job.attempt <= 1, "{about}");
}

/// Asserts that only steps of failed upstreams failed, that the tenant reports exactly these, and that all others are done.
fn must_affect_only_failed_upstreams(end: &End, about: &str) {
    let (failed, others): (Vec<&Step>, Vec<&Step>) =
        end.job.steps.iter().partition(|step| step.error.is_some());
    assert!(!failed.is_empty(), "{about}");
    assert!(others.iter().all(|step| step.state.is_done()), "{about}");
    let upstreams = Upstream::ALL.into_iter();
    let named: BTreeSet<Upstream> = upstreams
        .filter(|upstream| failed.iter().any(|step| step.name == upstream.name()))
        .collect();
    assert!(named.is_subset(&end.failed), "{about}");
    // Steps of a domain have other names and do not report to the tenant.
    if named.len() == failed.len() {
        assert_eq!(end.reported, named, "{about}");
    }
}
