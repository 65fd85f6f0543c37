//! Report of a run: injected faults, requests, and the result of each promise.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::{
    Options,
    check::Check,
    fault_injector::Injections,
    fault_kind::FaultKind,
    load::{RequestLog, RequestRecord},
};

/// Maximum number of violations shown per promise.
const MAX_SHOWN: usize = 5;

/// Result of a run.
#[derive(Debug)]
pub struct Report {
    /// Parameters of the run.
    pub options: Options,
    /// Injections and hits per fault kind.
    pub hits: BTreeMap<FaultKind, Injections>,
    /// Accepted and refused requests per action.
    pub requests: BTreeMap<&'static str, RequestCounts>,
    /// Number of requests sent, retries and replays included.
    pub requests_sent: u64,
    /// Number of jobs at the end, by state.
    pub jobs: BTreeMap<&'static str, u64>,
    /// Number of expired leases.
    pub rescues: u64,
    /// Time until all jobs were final, after the faults were removed.
    pub drain_time: Duration,
    /// Number of tenants that required a reconcile by an operator, for example after a cancelled job.
    pub unconverged: usize,
    /// Results of the promises.
    pub checks: Vec<Check>,
}

/// Final responses of one kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestCounts {
    /// Responses with 2xx.
    pub accepted: u64,
    /// All others.
    pub refused: u64,
}

impl Report {
    /// Whether every promise holds.
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.violations.is_empty())
    }

    /// The promises that do not hold, with their first violations.
    pub fn violations(&self) -> String {
        let violated = self.checks.iter().filter(|it| !it.violations.is_empty());
        let lines = violated.map(|check| {
            let shown = check.violations.iter().take(MAX_SHOWN);
            let shown: Vec<&str> = shown.map(String::as_str).collect();
            format!("{}\n    {}", check.promise, shown.join("\n    "))
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Counts the responses per action.
pub(super) fn request_counts(requests: &RequestLog) -> BTreeMap<&'static str, RequestCounts> {
    let mut counts: BTreeMap<&'static str, RequestCounts> = BTreeMap::new();
    for RequestRecord { action, reply, .. } in &requests.records {
        let of_action = counts.entry(action).or_default();
        match reply {
            Some(reply) if reply.is_accepted() => of_action.accepted += 1,
            _ => of_action.refused += 1,
        }
    }
    counts
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { seed, length, .. } = &self.options;
        writeln!(
            f,
            "Chaos run: {} s of faults, seed {seed}",
            length.as_secs()
        )?;
        writeln!(f, "\n{:<42} {:>8} {:>8}", "fault", "injected", "hit")?;
        for (fault, hits) in &self.hits {
            let fault = fault.to_string();
            writeln!(f, "{fault:<42} {:>8} {:>8}", hits.injected, hits.hit)?;
        }
        writeln!(f, "\n{:<42} {:>8} {:>8}", "request", "accepted", "refused")?;
        for (action, counts) in &self.requests {
            writeln!(
                f,
                "{action:<42} {:>8} {:>8}",
                counts.accepted, counts.refused
            )?;
        }
        let jobs: Vec<String> = self
            .jobs
            .iter()
            .map(|(state, count)| format!("{count} {state}"))
            .collect();
        writeln!(
            f,
            "\n{} requests sent; jobs: {}; {} expired leases; all jobs final {:.1} s after the last fault; \
             {} tenants required a reconcile",
            self.requests_sent,
            jobs.join(", "),
            self.rescues,
            self.drain_time.as_secs_f64(),
            self.unconverged
        )?;
        writeln!(f, "\n{:<56} {:>9}  holds", "promise", "checked")?;
        for check in &self.checks {
            let holds = match check.violations.len() {
                0 => "yes".to_owned(),
                count => format!("NO, {count} violations"),
            };
            writeln!(f, "{:<56} {:>9}  {holds}", check.promise, check.checked)?;
            for violation in check.violations.iter().take(MAX_SHOWN) {
                writeln!(f, "    {violation}")?;
            }
        }
        Ok(())
    }
}
