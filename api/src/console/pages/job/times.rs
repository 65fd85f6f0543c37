//! The times of a job's attempts and steps, drawn on an axis.

use super::{
    super::super::timeline::{Span, Timeline},
    Attempt, Job, Step,
};

impl Job {
    /// The drawing. `None` if nothing was attempted. The stored times of a step are those of its last attempt.
    pub(super) fn times(&self, now: i64) -> Option<Timeline> {
        let attempts = self.attempts.iter().map(Attempt::span);
        let steps = self
            .steps
            .iter()
            .filter_map(|step| step.span(self.is_running()));
        let spans: Vec<Span> = attempts.chain(steps).collect();
        Timeline::new("Attempts and steps", &spans, now)
    }

    fn is_running(&self) -> bool {
        self.state.is("running")
    }
}

impl Attempt {
    fn span(&self) -> Span {
        Span {
            label: format!("Attempt {}", self.n),
            state: self.outcome.clone(),
            start: self.started_at.clone(),
            end: Some(self.finished_at.clone()),
        }
    }
}

impl Step {
    /// The last attempt of the step. It lasts until now only while the job runs: a lost worker leaves a start without an end.
    fn span(&self, is_running: bool) -> Option<Span> {
        let start = self.started_at.as_ref()?;
        let end = self.finished_at.as_ref();
        let end = end.filter(|end| end.millis() >= start.millis());
        let unfinished = (!is_running).then_some(start);
        Some(Span {
            label: self.name.clone(),
            state: self.state.clone(),
            start: start.clone(),
            end: end.or(unfinished).cloned(),
        })
    }
}
