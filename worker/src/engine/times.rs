//! Every span of time the engine knows, in one place, so that tests shrink them together.

use std::time::Duration;

use dezky_upstreams::circuit_breaker::CircuitTimes;

/// The engine's times. The default is what production runs with.
#[derive(Debug, Clone)]
pub struct EngineTimings {
    /// How long a claim holds.
    pub lease: Duration,
    /// How often it is renewed.
    pub renew_every: Duration,
    /// How long before its lease a worker stops trusting it.
    pub trust_margin: Duration,
    /// How much of the trust must be left over when a write upstream ends.
    pub write_margin: Duration,
    /// The shortest write worth beginning.
    pub min_write_timeout: Duration,
    /// How long an attempt may take.
    pub attempt_timeout: Duration,
    /// How long a write of unknown outcome may still land.
    pub in_doubt_wait: Duration,
    /// How long settlements are gathered.
    pub batch_window: Duration,
    /// How long a bulk of claims, renewals or settlements may take.
    pub bulk_deadline: Duration,
    /// How often leases that ran out are looked for.
    pub rescue_every: Duration,
    /// How often the queues are measured.
    pub measure_every: Duration,
    /// How often the infrastructure is looked at.
    pub probe_every: Duration,
    /// Over how long the first rescue spreads a job; doubled with each crash.
    pub rescue_spread: Duration,
    /// How long the leader leads without renewing.
    pub leader_lease: Duration,
    /// How often it renews.
    pub leader_renew_every: Duration,
    /// How long a leader rescues nothing after it became one, or after MongoDB was not well.
    pub rescue_grace: Duration,
    /// How often the sweep runs, and how often each loop of a queue without Redis looks for work.
    pub sweep_every: Duration,
    /// How often the schedules are looked at.
    pub cron_every: Duration,
    /// How often what is new in the audit trail is sealed.
    pub seal_every: Duration,
    /// Within what time a job's next run is remembered by the worker that put it off.
    pub wakeup_horizon: Duration,
    /// How long a pop from the ready set blocks.
    pub pop_block: Duration,
    /// The first retry's longest delay.
    pub retry_base: Duration,
    /// The least time to wait for an upstream that could not tell who we are: that may be its identity provider
    /// starting, and some upstreams ban whoever goes on.
    pub identity_wait: Duration,
    /// How long a step whose credentials or permissions are refused waits.
    pub hold_backoff: Duration,
    /// When the circuits of upstreams open, and when they are tried.
    pub circuit: CircuitTimes,
    /// How long after its turn in an upstream's budget a step may still take it.
    pub reservation_grace: Duration,
    /// How long running jobs may go on after the worker was asked to stop.
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
            in_doubt_wait: Duration::from_secs(30),
            batch_window: Duration::from_millis(5),
            bulk_deadline: Duration::from_secs(3),
            rescue_every: Duration::from_secs(10),
            measure_every: Duration::from_secs(15),
            probe_every: Duration::from_secs(15),
            rescue_spread: Duration::from_secs(30),
            leader_lease: Duration::from_secs(15),
            leader_renew_every: Duration::from_secs(5),
            rescue_grace: Duration::from_mins(1),
            sweep_every: Duration::from_secs(1),
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
    /// The same proportions around another lease. For tests, and for whoever must notice a lost worker sooner and
    /// can afford more renewals.
    #[must_use]
    pub fn with_lease(lease: Duration) -> Self {
        let usual = Self::default();
        let scale = lease.as_secs_f64() / usual.lease.as_secs_f64();
        let scaled = |span: Duration| span.mul_f64(scale);
        Self {
            lease,
            renew_every: scaled(usual.renew_every),
            trust_margin: scaled(usual.trust_margin),
            write_margin: scaled(usual.write_margin),
            min_write_timeout: scaled(usual.min_write_timeout),
            attempt_timeout: scaled(usual.attempt_timeout),
            in_doubt_wait: scaled(usual.in_doubt_wait),
            rescue_every: scaled(usual.rescue_every),
            measure_every: scaled(usual.measure_every),
            rescue_spread: scaled(usual.rescue_spread),
            leader_lease: scaled(usual.leader_lease),
            leader_renew_every: scaled(usual.leader_renew_every),
            rescue_grace: scaled(usual.rescue_grace),
            retry_base: scaled(usual.retry_base),
            identity_wait: scaled(usual.identity_wait),
            hold_backoff: scaled(usual.hold_backoff),
            circuit: CircuitTimes {
                first_probe: scaled(usual.circuit.first_probe),
                last_probe: scaled(usual.circuit.last_probe),
                ..usual.circuit
            },
            ..usual
        }
    }
}
