//! Faults on demand, for one upstream and, if wanted, for one of its operations.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// What goes wrong with a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fault {
    /// The answer comes late. The effect happens at once.
    SlowAnswer {
        /// How late, in milliseconds.
        millis: u64,
    },
    /// The request is taken late; whoever gave up before then has an effect coming all the same.
    SlowEffect {
        /// How late, in milliseconds.
        millis: u64,
    },
    /// The request is refused with this status and no effect.
    Status {
        /// The HTTP status.
        status: u16,
        /// The `Retry-After` header, in seconds.
        retry_after: Option<u64>,
    },
    /// The connection ends without an answer, and nothing happened.
    Reset,
    /// It happens, and then the connection ends without an answer.
    AnswerLost,
    /// It happens, and the answer is an HTML page with status 200.
    Html,
    /// It happens, and the answer breaks off in the middle of its JSON.
    Truncated,
}

/// A fault and the requests it hits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultRule {
    /// Only this operation, such as `create_group`; every operation when missing.
    #[serde(default)]
    pub operation: Option<String>,
    /// Only requests that may change something.
    #[serde(default)]
    pub writes_only: bool,
    /// How many of those requests pass before the first is hit.
    #[serde(default)]
    pub after: u32,
    /// How many requests are hit before the rule is used up; without end when missing.
    #[serde(default)]
    pub times: Option<u32>,
    /// The share of matching requests that are hit, from 0 to 1.
    #[serde(default = "always")]
    pub probability: f64,
    /// What happens to them.
    pub fault: Fault,
}

fn always() -> f64 {
    1.0
}

impl FaultRule {
    /// Hits every request.
    pub fn every(fault: Fault) -> Self {
        Self {
            operation: None,
            writes_only: false,
            after: 0,
            times: None,
            probability: 1.0,
            fault,
        }
    }

    /// Hits the next request of `operation`, once.
    pub fn once(operation: &str, fault: Fault) -> Self {
        Self::once_after(operation, 0, fault)
    }

    /// Lets so many requests of `operation` pass and hits the next one, once.
    pub fn once_after(operation: &str, after: u32, fault: Fault) -> Self {
        Self {
            operation: Some(operation.to_owned()),
            after,
            times: Some(1),
            ..Self::every(fault)
        }
    }
}

/// The rules in force for one upstream, and how often each operation was asked for and hit.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    rules: Vec<FaultRule>,
    down: bool,
    requests: BTreeMap<String, u64>,
    hits: u64,
    outstanding: usize,
}

impl Faults {
    /// Adds a rule. The first rule that matches a request decides.
    pub fn add(&self, rule: FaultRule) {
        self.lock().rules.push(rule);
    }

    /// Stops listening: connections are refused, and those that are open end.
    pub fn go_down(&self) {
        self.lock().down = true;
    }

    /// Ends every fault.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.rules.clear();
        state.down = false;
    }

    /// Whether the upstream refuses connections.
    pub fn is_down(&self) -> bool {
        self.lock().down
    }

    /// How many requests were hit so far; going down hits those connections that it ends.
    pub fn hits(&self) -> u64 {
        self.lock().hits
    }

    /// The rules that have hit nothing, or not as often as they were to.
    pub fn unmet(&self) -> Vec<FaultRule> {
        let mut rules = self.lock().rules.clone();
        rules.retain(|rule| rule.times != Some(0));
        rules
    }

    /// How many requests are still to take effect late.
    pub fn outstanding(&self) -> usize {
        self.lock().outstanding
    }

    /// How often each operation was asked for, hit or not.
    pub fn requests(&self) -> BTreeMap<String, u64> {
        self.lock().requests.clone()
    }

    /// What happens to this request.
    pub(crate) fn strike(&self, operation: &str, write: bool) -> Option<Fault> {
        let mut state = self.lock();
        *state.requests.entry(operation.to_owned()).or_default() += 1;
        let rule = state.rules.iter_mut().find_map(|rule| {
            let matches = rule.times != Some(0)
                && rule
                    .operation
                    .as_deref()
                    .is_none_or(|wanted| wanted == operation)
                && (write || !rule.writes_only);
            if matches && rule.after > 0 {
                rule.after -= 1;
                return None;
            }
            let hits =
                matches && (rule.probability >= 1.0 || rand::random::<f64>() < rule.probability);
            hits.then_some(rule)
        })?;
        rule.times = rule.times.map(|left| left - 1);
        let fault = rule.fault.clone();
        state.hits += 1;
        state.outstanding += usize::from(matches!(fault, Fault::SlowEffect { .. }));
        Some(fault)
    }

    /// Going down ended this many connections.
    pub(crate) fn ended(&self, connections: usize) {
        self.lock().hits += connections as u64;
    }

    /// A request took effect late.
    pub(crate) fn landed(&self) {
        self.lock().outstanding -= 1;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fault {
    /// Milliseconds as the duration that the fault delays.
    pub(crate) fn delay(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
