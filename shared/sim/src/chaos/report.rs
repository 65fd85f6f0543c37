//! What a run did, what it hit, and what it checked: a table for people.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::{
    Options,
    invariants::Check,
    load::{Entry, Ledger},
    schedule::Mishap,
    strike::Hits,
};

/// How many violations of one promise are shown.
const SHOWN: usize = 5;

/// A run, in numbers.
#[derive(Debug)]
pub struct Report {
    /// Which run it was.
    pub options: Options,
    /// What happened, and what it hit.
    pub hits: BTreeMap<Mishap, Hits>,
    /// What was asked for: how often, how often accepted, how often refused.
    pub asked: BTreeMap<&'static str, Asked>,
    /// How many requests were sent, repeated ones included.
    pub sent: u64,
    /// How many jobs there were at the end, by state.
    pub jobs: BTreeMap<&'static str, u64>,
    /// How many leases ran out.
    pub rescues: u64,
    /// How long it took until all was final, once all was well.
    pub settled_in: Duration,
    /// How many tenants were left for a person to reconcile, such as those whose job was cancelled.
    pub left_over: usize,
    /// The promises.
    pub checks: Vec<Check>,
}

/// What became of one kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// Answered with 2xx.
    pub accepted: u64,
    /// Refused for good.
    pub refused: u64,
}

impl Report {
    /// Whether every promise holds.
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.violations.is_empty())
    }
}

/// What became of each kind of request.
pub(super) fn asked(ledger: &Ledger) -> BTreeMap<&'static str, Asked> {
    let mut asked: BTreeMap<&'static str, Asked> = BTreeMap::new();
    for Entry { action, answer, .. } in &ledger.entries {
        let of_action = asked.entry(action).or_default();
        match answer {
            Some(answer) if answer.is_accepted() => of_action.accepted += 1,
            _ => of_action.refused += 1,
        }
    }
    asked
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { seed, length, .. } = &self.options;
        writeln!(f, "Chaos for {} s with seed {seed}", length.as_secs())?;
        writeln!(f, "\n{:<42} {:>8} {:>8}", "mishap", "happened", "hit")?;
        for (mishap, hits) in &self.hits {
            let mishap = mishap.to_string();
            writeln!(f, "{mishap:<42} {:>8} {:>8}", hits.happened, hits.hit)?;
        }
        writeln!(f, "\n{:<42} {:>8} {:>8}", "intent", "accepted", "refused")?;
        for (action, asked) in &self.asked {
            writeln!(f, "{action:<42} {:>8} {:>8}", asked.accepted, asked.refused)?;
        }
        let jobs: Vec<String> = self
            .jobs
            .iter()
            .map(|(state, count)| format!("{count} {state}"))
            .collect();
        writeln!(
            f,
            "\n{} requests sent; jobs: {}; {} leases ran out; all final {:.1} s after the last mishap; \
             {} tenants left to reconcile",
            self.sent,
            jobs.join(", "),
            self.rescues,
            self.settled_in.as_secs_f64(),
            self.left_over
        )?;
        writeln!(f, "\n{:<56} {:>9}  holds", "promise", "looked at")?;
        for check in &self.checks {
            let holds = match check.violations.len() {
                0 => "yes".to_owned(),
                count => format!("NO, {count} violations"),
            };
            writeln!(f, "{:<56} {:>9}  {holds}", check.promise, check.looked_at)?;
            for violation in check.violations.iter().take(SHOWN) {
                writeln!(f, "    {violation}")?;
            }
        }
        Ok(())
    }
}
