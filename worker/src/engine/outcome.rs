//! The outcome of an attempt, as a pure function of the job's steps.

use bson::DateTime;
use dezky_shared::queue::job::Step;

use super::settle::Outcome;

/// Retry or snooze at the earliest next attempt of a step, if any may still succeed. Otherwise discard with the first
/// permanent failure, or complete.
pub(crate) fn outcome_of(steps: &[Step], charged: bool, now: DateTime) -> Outcome {
    let open = || {
        steps
            .iter()
            .filter(|step| !step.state.is_done() && !step.is_permanently_failed())
    };
    if let Some(at) = open().map(|step| step.next_at.unwrap_or(now)).min() {
        let error = open().find_map(|step| step.error.clone());
        return match error {
            Some(error) if charged => Outcome::Retry { at, error },
            error => Outcome::Snooze { at, error },
        };
    }
    match steps
        .iter()
        .filter(|step| !step.state.is_done())
        .find_map(|step| step.error.clone())
    {
        Some(error) => Outcome::Discard { error },
        None => Outcome::Complete,
    }
}

#[cfg(test)]
mod tests {
    use dezky_shared::queue::{
        error_code::ErrorCode,
        job::{JobFailure, StepState},
    };
    use proptest::prelude::*;

    use super::*;

    fn step(state: StepState, next_at: Option<i64>) -> Step {
        let failed = matches!(state, StepState::Error | StepState::Unknown);
        Step {
            state,
            next_at: next_at.map(DateTime::from_millis),
            error: failed
                .then(|| JobFailure::permanent(ErrorCode::UpstreamUnavailable, "unavailable")),
            ..Step::pending("step")
        }
    }

    fn outcome(steps: &[Step], charged: bool) -> Outcome {
        outcome_of(steps, charged, DateTime::from_millis(1))
    }

    #[test]
    fn a_job_whose_steps_are_all_done_is_complete() {
        let steps = [step(StepState::Ok, None), step(StepState::Skipped, None)];

        assert_eq!(outcome(&steps, false), Outcome::Complete);
        assert_eq!(outcome(&[], false), Outcome::Complete);
    }

    #[test]
    fn a_job_runs_again_at_the_earliest_next_attempt_of_its_steps() {
        let steps = [
            step(StepState::Error, Some(30)),
            step(StepState::Unknown, Some(20)),
            step(StepState::Ok, None),
        ];

        assert!(
            matches!(outcome(&steps, true), Outcome::Retry { at, .. } if at.timestamp_millis() == 20)
        );
        assert!(
            matches!(outcome(&steps, false), Outcome::Snooze { at, .. } if at.timestamp_millis() == 20)
        );
    }

    #[test]
    fn a_permanent_failure_does_not_stop_a_step_that_may_still_succeed() {
        let steps = [
            step(StepState::Error, None),
            step(StepState::Error, Some(20)),
        ];

        assert!(
            matches!(outcome(&steps, false), Outcome::Snooze { at, .. } if at.timestamp_millis() == 20)
        );
    }

    #[test]
    fn a_job_with_only_permanent_failures_left_is_discarded() {
        for last in [StepState::Error, StepState::Unknown] {
            let steps = [step(StepState::Ok, None), step(last, None)];

            assert!(matches!(outcome(&steps, true), Outcome::Discard { .. }));
        }
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let state = prop_oneof![
            Just(StepState::Pending),
            Just(StepState::Ok),
            Just(StepState::Skipped),
            Just(StepState::Error),
            Just(StepState::Unknown),
        ];
        (state, prop::option::of(1_i64..100)).prop_map(|(state, next_at)| step(state, next_at))
    }

    proptest! {
        #[test]
        fn no_open_step_is_dropped_and_none_runs_early(
            steps in prop::collection::vec(any_step(), 0..5),
            charged: bool,
        ) {
            let open: Vec<i64> = steps
                .iter()
                .filter(|step| !step.state.is_done() && !step.is_permanently_failed())
                .map(|step| step.next_at.map_or(1, DateTime::timestamp_millis))
                .collect();
            let failed = steps.iter().any(Step::is_permanently_failed);

            match outcome(&steps, charged) {
                Outcome::Retry { at, .. } | Outcome::Snooze { at, .. } => {
                    prop_assert_eq!(Some(at.timestamp_millis()), open.into_iter().min());
                }
                Outcome::Discard { error } => prop_assert!(open.is_empty() && failed && !error.detail.is_empty()),
                other => prop_assert!(other == Outcome::Complete && open.is_empty() && !failed),
            }
        }
    }
}
