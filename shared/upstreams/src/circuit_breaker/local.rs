//! Local fallback: the rules of the Redis scripts for one process, on its own clock. A property test in `agreement`
//! holds the two implementations equal.

use std::time::Duration;

use bson::DateTime;
use dezky_shared::queue::priority::Priority;

use super::{
    BreakerDecision, BreakerSnapshot, CallResult, CircuitTimes, QUEUE_MARK_TTL, RateBudget,
    Transition, horizon,
};

/// Circuit breaker and rate budget of one upstream. Times are on the boot clock.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LocalBreaker {
    /// Theoretical arrival time of the GCRA.
    arrival: Duration,
    floor: Duration,
    /// The most urgent lane with a queue, and until when that is known.
    queue: Option<(Priority, Duration)>,
    failures: u32,
    open: Option<Open>,
    /// Argument of the last `resume`.
    resumed: Option<DateTime>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    since: Duration,
    probe_at: Duration,
    interval: Duration,
}

impl LocalBreaker {
    pub(super) fn admit(
        &mut self,
        now: Duration,
        budget: RateBudget,
        has_reservation: bool,
        priority: Priority,
    ) -> BreakerDecision {
        if let Some(open) = &mut self.open {
            if now < open.probe_at {
                return BreakerDecision::Open(open.probe_at.saturating_sub(now));
            }
            // If the probing step vanishes, the next one probes after the interval.
            open.probe_at = now + open.interval;
            return BreakerDecision::Probe;
        }
        if has_reservation && now >= self.floor {
            return BreakerDecision::Allow;
        }
        let horizon = self.floor.max(now).saturating_add(horizon(priority));
        let joins_queue = self
            .queue
            .is_some_and(|(lane, until)| now < until && priority >= lane);
        if joins_queue {
            return BreakerDecision::Saturated(horizon.saturating_sub(now));
        }
        match self.take_slot(now, budget, horizon) {
            None => BreakerDecision::Saturated(horizon.saturating_sub(now)),
            Some(slot) if slot <= now => BreakerDecision::Allow,
            Some(slot) => BreakerDecision::Reserved(slot.saturating_sub(now)),
        }
    }

    pub(super) fn reserve(
        &mut self,
        now: Duration,
        budget: RateBudget,
        priority: Priority,
        count: usize,
    ) -> Vec<Duration> {
        if let Some(open) = &self.open {
            let is_due = now >= open.probe_at && count > 0;
            return if is_due {
                vec![Duration::ZERO]
            } else {
                Vec::new()
            };
        }
        let horizon = self.floor.max(now).saturating_add(horizon(priority));
        std::iter::from_fn(|| self.take_slot(now, budget, horizon))
            .map(|slot| slot.saturating_sub(now))
            .take(count)
            .collect()
    }

    pub(super) fn mark_queue(&mut self, now: Duration, lane: Option<Priority>) {
        self.queue = lane.map(|lane| (lane, now.saturating_add(QUEUE_MARK_TTL)));
    }

    /// Takes the next free slot, unless it is beyond `horizon`.
    fn take_slot(
        &mut self,
        now: Duration,
        budget: RateBudget,
        horizon: Duration,
    ) -> Option<Duration> {
        let arrival = self.arrival(now, budget);
        let slot = arrival.saturating_sub(budget.tolerance());
        if slot > horizon {
            return None;
        }
        self.arrival = arrival.saturating_add(budget.interval());
        Some(slot)
    }

    pub(super) fn record(
        &mut self,
        now: Duration,
        times: CircuitTimes,
        probing: bool,
        result: CallResult,
    ) -> Transition {
        if let CallResult::SlowDown(wait) = result {
            self.floor = self.floor.max(now.saturating_add(wait));
        }
        match (result, &mut self.open) {
            (CallResult::Answered | CallResult::SlowDown(_), None) => self.failures = 0,
            (CallResult::Answered | CallResult::SlowDown(_), Some(_)) if probing => {
                self.failures = 0;
                self.open = None;
                return Transition::Closed;
            }
            (CallResult::Failed | CallResult::TimedOut, None) => {
                self.failures += 1;
                if result == CallResult::TimedOut || self.failures >= times.failures {
                    self.open = Some(Open {
                        since: now,
                        probe_at: now + times.first_probe,
                        interval: times.first_probe,
                    });
                    return Transition::Opened;
                }
            }
            (CallResult::Failed | CallResult::TimedOut, Some(open)) if probing => {
                open.interval = (2 * open.interval).min(times.last_probe);
                open.probe_at = now + open.interval;
            }
            // A call that began before the circuit opened.
            (_, Some(_)) => {}
        }
        Transition::None
    }

    pub(super) fn force_half_open(&mut self, now: Duration) {
        if let Some(open) = &mut self.open {
            open.probe_at = now;
        }
    }

    pub(super) fn resume(&mut self, now: Duration, requested_at: DateTime) {
        if self.resumed == Some(requested_at) {
            return;
        }
        self.resumed = Some(requested_at);
        self.floor = Duration::ZERO;
        self.arrival = Duration::ZERO;
        self.force_half_open(now);
    }

    pub(super) fn snapshot(&self, now: Duration, budget: RateBudget) -> BreakerSnapshot {
        let remaining = |at: Duration| (at > now).then(|| at.saturating_sub(now));
        BreakerSnapshot {
            failures: self.failures,
            open_for: self.open.map(|open| now.saturating_sub(open.since)),
            probe_in: self.open.map(|open| open.probe_at.saturating_sub(now)),
            retry_after: remaining(self.floor),
            turn_in: remaining(self.arrival(now, budget).saturating_sub(budget.tolerance())),
        }
    }

    /// Theoretical arrival time of a step that asks now. Steps that waited for the floor get no burst.
    fn arrival(&self, now: Duration, budget: RateBudget) -> Duration {
        let arrival = self.arrival.max(now);
        if self.floor > now {
            arrival.max(self.floor.saturating_add(budget.tolerance()))
        } else {
            arrival
        }
    }
}

#[cfg(test)]
mod tests;
