//! Every duration of the engine, in one struct, so that tests can shrink them together.

use std::time::Duration;

use dezky_upstreams::circuit_breaker::CircuitTimes;

/// The engine's durations. The default is for production.
#[derive(Debug, Clone)]
pub struct EngineTimings {
    /// The validity of a job's lease.
    pub lease: Duration,
    /// The period of lease renewal.
    pub renew_every: Duration,
    /// Margin before the expiry of a lease at which its holder stops relying on it.
    pub trust_margin: Duration,
    /// Margin before that deadline at which an upstream write must end.
    pub write_margin: Duration,
    /// The shortest timeout with which an upstream write is begun.
    pub min_write_timeout: Duration,
    /// The timeout of an attempt.
    pub attempt_timeout: Duration,
    /// Time of an attempt after which a long step continues in another one.
    pub yield_after: Duration,
    /// Time for which an in-doubt write may still land.
    pub in_doubt_wait: Duration,
    /// Time for which settlements and step records are collected for a batch, and in a backlog free slots for a claim.
    pub batch_window: Duration,
    /// Time for which the end of a step waits for the job's other running steps, to be recorded with theirs.
    pub sibling_window: Duration,
    /// The timeout of a bulk of claims, renewals or settlements, and of single commands that block a loop.
    pub bulk_deadline: Duration,
    /// The period of the rescue, and of clock synchronisation.
    pub rescue_every: Duration,
    /// The period of backlog metrics.
    pub measure_every: Duration,
    /// The period of dependency checks.
    pub probe_every: Duration,
    /// The period of the upstreams' setup checks. Each may be a failed login, of which some upstreams allow few a day.
    pub setup_every: Duration,
    /// The maximum delay of a job after its first crash. It doubles with each further one.
    pub rescue_spread: Duration,
    /// The mean delay of a rescued job while another has the turn of those that may have crashed a worker.
    pub isolation_wait: Duration,
    /// The validity of the leader's lease.
    pub leader_lease: Duration,
    /// The period of its renewal.
    pub leader_renew_every: Duration,
    /// Suspension of the rescue after a leader was elected or a command to MongoDB failed.
    pub rescue_grace: Duration,
    /// The timeout of one run of a leader's duty.
    pub duty_timeout: Duration,
    /// The period of the sweep and, without Redis, of the control state's poll and of each fetch loop's search.
    pub sweep_every: Duration,
    /// The period of the control state's poll beside the change feed, which announces each change.
    pub control_every: Duration,
    /// The period of the check for due schedules.
    pub cron_every: Duration,
    /// The period of audit sealing.
    pub seal_every: Duration,
    /// Horizon up to which a worker schedules the wake-up of a job that runs again. Later runs are left to the sweep.
    pub wakeup_horizon: Duration,
    /// Timeout of a blocking pop from the ready set.
    pub pop_block: Duration,
    /// The maximum delay of the first retry.
    pub retry_base: Duration,
    /// The minimum delay after an upstream could not verify our identity: its identity provider may be starting, and some
    /// upstreams ban an address that repeats a failed login.
    pub identity_wait: Duration,
    /// The delay of a step whose credentials or permissions are refused, and of one deferred by a pause.
    pub hold_backoff: Duration,
    /// Thresholds of the circuit breakers, and the times of their probes.
    pub circuit: CircuitTimes,
    /// Validity of a reservation in an upstream's rate budget.
    pub reservation_grace: Duration,
    /// Time for which running jobs may continue after a stop was requested.
    pub drain: Duration,
}

impl Default for EngineTimings {
    fn default() -> Self {
        Self {
            lease: Duration::from_mins(1),
            renew_every: Duration::from_secs(20),
            trust_margin: Duration::from_secs(5),
            write_margin: Duration::from_secs(5),
            min_write_timeout: Duration::from_secs(1),
            attempt_timeout: Duration::from_mins(5),
            yield_after: Duration::from_secs(150),
            in_doubt_wait: Duration::from_secs(30),
            batch_window: Duration::from_millis(5),
            sibling_window: Duration::from_millis(20),
            bulk_deadline: Duration::from_secs(3),
            rescue_every: Duration::from_secs(10),
            measure_every: Duration::from_secs(15),
            probe_every: Duration::from_secs(15),
            setup_every: Duration::from_hours(1),
            rescue_spread: Duration::from_secs(30),
            isolation_wait: Duration::from_secs(3),
            leader_lease: Duration::from_secs(15),
            leader_renew_every: Duration::from_secs(5),
            rescue_grace: Duration::from_mins(1),
            duty_timeout: Duration::from_secs(30),
            sweep_every: Duration::from_secs(1),
            control_every: Duration::from_secs(5),
            cron_every: Duration::from_secs(5),
            seal_every: Duration::from_secs(1),
            wakeup_horizon: Duration::from_mins(1),
            pop_block: Duration::from_secs(1),
            retry_base: Duration::from_secs(2),
            identity_wait: Duration::from_mins(1),
            hold_backoff: Duration::from_mins(30),
            circuit: CircuitTimes::default(),
            reservation_grace: Duration::from_mins(1),
            drain: Duration::from_secs(25),
        }
    }
}

impl EngineTimings {
    /// Delay between the expiry of a job's lease and its rescue. The last write of a lost holder ended both margins before
    /// the expiry, so by then it has landed, although that holder could not record that it was in doubt.
    #[must_use]
    pub fn rescue_delay(&self) -> Duration {
        self.in_doubt_wait
            .saturating_sub(self.trust_margin + self.write_margin)
    }

    /// Time by which a worker's view of the control state may lag behind: its announcement may be lost, and a few reads may
    /// fail.
    #[must_use]
    pub fn control_lag(&self) -> Duration {
        self.control_every + 5 * self.sweep_every
    }

    /// The default proportions around another lease: a shorter one detects a lost worker sooner, at the cost of more
    /// renewals.
    #[must_use]
    pub fn with_lease(lease: Duration) -> Self {
        let default = Self::default();
        let scale = lease.as_secs_f64() / default.lease.as_secs_f64();
        let scaled = |span: Duration| span.mul_f64(scale);
        Self {
            lease,
            renew_every: scaled(default.renew_every),
            trust_margin: scaled(default.trust_margin),
            write_margin: scaled(default.write_margin),
            min_write_timeout: scaled(default.min_write_timeout),
            attempt_timeout: scaled(default.attempt_timeout),
            yield_after: scaled(default.yield_after),
            in_doubt_wait: scaled(default.in_doubt_wait),
            rescue_every: scaled(default.rescue_every),
            measure_every: scaled(default.measure_every),
            rescue_spread: scaled(default.rescue_spread),
            isolation_wait: scaled(default.isolation_wait),
            leader_lease: scaled(default.leader_lease),
            leader_renew_every: scaled(default.leader_renew_every),
            rescue_grace: scaled(default.rescue_grace),
            retry_base: scaled(default.retry_base),
            identity_wait: scaled(default.identity_wait),
            hold_backoff: scaled(default.hold_backoff),
            circuit: CircuitTimes {
                first_probe: scaled(default.circuit.first_probe),
                last_probe: scaled(default.circuit.last_probe),
                ..default.circuit
            },
            ..default
        }
    }
}

/// A duration in the unit that MongoDB adds to dates.
pub(super) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rescue_waits_until_the_last_write_of_a_lost_holder_has_landed() {
        let times = EngineTimings::default();

        assert_eq!(times.rescue_delay(), Duration::from_secs(20));
    }
}
