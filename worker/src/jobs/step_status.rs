//! The provisioning state of a document in one upstream, as the end of a step leaves it: the same for tenants and members.

use bson::DateTime;
use dezky_shared::{
    queue::job::{Progress, StepState},
    tenant::{Condition, ConditionStatus, PerUpstream, ProvisioningState, condition_type, reason},
    upstream::Upstream,
};

use super::member;
use crate::steps::StepEnd;

/// The parts of a document that the ends of steps set.
pub(super) struct StepStatus<'a> {
    /// Generation whose state the step applied.
    pub(super) generation: i64,
    pub(super) status: &'a mut PerUpstream<ProvisioningState>,
    pub(super) errors: &'a mut PerUpstream<Option<String>>,
    pub(super) unknown_until: &'a mut PerUpstream<Option<DateTime>>,
}

impl StepStatus<'_> {
    /// Applies the end of a step: writes in doubt, provisioning state and error. Returns the condition to set, if the
    /// step's result is the document's state in its upstream.
    pub(super) fn apply(&mut self, end: &StepEnd, now: DateTime) -> Option<Condition> {
        let upstream = end.upstream.filter(|it| it.is_provisioned())?;
        if let Some(until) = end.in_doubt_until {
            *self.unknown_until.get_mut(upstream) = Some(until);
        }
        if end.success.is_some() {
            // The step read the upstream's state, so no write is in doubt any more.
            *self.unknown_until.get_mut(upstream) = None;
        }
        if !end.sets_condition {
            return None;
        }
        let error = end.step.error.as_ref();
        *self.status.get_mut(upstream) = end.step.state.into();
        *self.errors.get_mut(upstream) = error.map(|error| error.message.clone());
        Some(condition(self.generation, upstream, end, now))
    }
}

/// Whether every upstream has converged.
pub(super) fn is_converged(status: PerUpstream<ProvisioningState>) -> bool {
    Upstream::ALL
        .into_iter()
        .all(|upstream| is_done(*status.get(upstream)))
}

/// Whether a step that left this state has converged.
pub(super) const fn is_done(state: ProvisioningState) -> bool {
    matches!(state, ProvisioningState::Ok | ProvisioningState::Skipped)
}

/// Whether no upstream holds anything any more. The state `ok` alone does not distinguish suspended from removed.
pub(super) fn is_removed<'a>(condition: impl Fn(Upstream) -> Option<&'a Condition>) -> bool {
    Upstream::ALL.into_iter().all(|upstream| {
        condition(upstream).is_some_and(|condition| {
            condition.reason == reason::REMOVED || condition.reason == reason::INTEGRATION_DISABLED
        })
    })
}

fn condition(generation: i64, upstream: Upstream, end: &StepEnd, now: DateTime) -> Condition {
    let error = end.step.error.as_ref();
    let (status, reason, message) = match (&end.success, error) {
        (Some(success), _) => match &success.progress {
            Some(progress) => (
                ConditionStatus::Unknown,
                success.reason,
                in_progress(progress),
            ),
            None => (
                ConditionStatus::True,
                success.reason,
                message_for(success.reason).to_owned(),
            ),
        },
        (None, Some(error)) => {
            let status = match end.step.state {
                StepState::Unknown => ConditionStatus::Unknown,
                _ => ConditionStatus::False,
            };
            (status, error.code.reason(), error.message.clone())
        }
        (None, None) => (
            ConditionStatus::Unknown,
            reason::PENDING,
            message_for(reason::PENDING).to_owned(),
        ),
    };
    Condition {
        kind: condition_type(upstream).to_owned(),
        status,
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_at: now,
        // The time at which a queued step would ask again is not that of its turn.
        next_attempt_at: end.step.next_at.filter(|_| !end.step.queue_full),
        class: error.map(|error| error.class),
    }
}

/// The message of a step that continues, such as "In progress: 250 of 1000 members suspended."
fn in_progress(progress: &Progress) -> String {
    let Progress {
        done, total, note, ..
    } = progress;
    format!("In progress: {done} of {total} {note}.")
}

fn message_for(reason: &str) -> &'static str {
    match reason {
        reason::PROVISIONED => "Provisioned.",
        reason::SUSPENDED => "Suspended: sign-in is blocked, all data is kept.",
        reason::REMOVED => "Removed.",
        reason::INTEGRATION_DISABLED => "This integration is disabled.",
        reason::NO_DOMAIN => "The tenant has no mail domain.",
        member::reason::NO_MAILBOX => "The member has no mailbox.",
        member::reason::PASSWORD_MISSING => "Provisioned without a password: reset it.",
        _ => "Waiting to be provisioned.",
    }
}
