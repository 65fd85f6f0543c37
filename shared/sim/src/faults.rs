//! Fault injection for one upstream, optionally limited to one operation.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use dezky_shared::platform::clock;
use jiff::fmt::rfc2822;
use serde::{Deserialize, Serialize};

/// Fault of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fault {
    /// Late response. The effect happens immediately.
    SlowAnswer {
        /// Delay in milliseconds.
        millis: u64,
    },
    /// Late effect: the request is executed after the delay, even if the client has given up.
    SlowEffect {
        /// Delay in milliseconds.
        millis: u64,
    },
    /// Effect after a timeout: the request gets no response, and is executed the delay after the client has given up.
    EffectAfterTimeout {
        /// Delay in milliseconds.
        millis: u64,
    },
    /// Error status without an effect.
    Status {
        /// HTTP status.
        status: u16,
        /// `Retry-After` header, in seconds.
        retry_after: Option<u64>,
    },
    /// Connection closed without a response and without an effect.
    Reset,
    /// Connection closed without a response, after the effect.
    AnswerLost,
    /// Status 200 with an HTML page, after the effect.
    Html,
    /// JSON response truncated in the middle, after the effect.
    Truncated,
    /// Status 200 with a JSON string that never ends, after the effect.
    Endless,
}

/// A fault and the requests it applies to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultRule {
    /// Operation, such as `create_group`. Default: all operations.
    #[serde(default)]
    pub operation: Option<String>,
    /// Limits the rule to operations that may change state.
    #[serde(default)]
    pub writes_only: bool,
    /// Number of matching requests to skip.
    #[serde(default)]
    pub after: u32,
    /// Number of requests to hit. Default: unlimited.
    #[serde(default)]
    pub times: Option<u32>,
    /// Probability of hitting a matching request, 0 to 1.
    #[serde(default = "always")]
    pub probability: f64,
    /// The fault to apply.
    pub fault: Fault,
}

fn always() -> f64 {
    1.0
}

impl FaultRule {
    /// Rule that hits every request.
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

    /// Rule that hits the next request of `operation`, once.
    pub fn once(operation: &str, fault: Fault) -> Self {
        Self::once_after(operation, 0, fault)
    }

    /// Rule that skips `after` requests of `operation` and hits the next one, once.
    pub fn once_after(operation: &str, after: u32, fault: Fault) -> Self {
        Self {
            operation: Some(operation.to_owned()),
            after,
            times: Some(1),
            ..Self::every(fault)
        }
    }
}

/// Active rules of one upstream, with counts of requests and hits per operation.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    rules: Vec<FaultRule>,
    down: bool,
    latency: Duration,
    rate_limit: Option<RateLimit>,
    requests: BTreeMap<String, u64>,
    hits: u64,
    outstanding: usize,
    /// Seconds by which the upstream's clock is ahead.
    clock_ahead: i64,
}

/// Token bucket of requests, which holds those of one second.
#[derive(Debug)]
struct RateLimit {
    per_second: f64,
    tokens: f64,
    refilled: Instant,
    /// Number of requests that were refused.
    refused: u64,
}

impl RateLimit {
    /// Whether another request may be sent now.
    fn admits(&mut self) -> bool {
        let now = Instant::now();
        let gained = now.duration_since(self.refilled).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + gained).min(self.per_second);
        self.refilled = now;
        if self.tokens < 1.0 {
            self.refused += 1;
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

impl Faults {
    /// Adds a rule. The first matching rule applies.
    pub fn add(&self, rule: FaultRule) {
        self.lock().rules.push(rule);
    }

    /// Adds a rule that precedes the others.
    pub fn add_first(&self, rule: FaultRule) {
        self.lock().rules.insert(0, rule);
    }

    /// Removes the rules equal to `rule`, which has to be one without `times`.
    pub fn remove(&self, rule: &FaultRule) {
        self.lock().rules.retain(|known| known != rule);
    }

    /// Delays every response, which is no fault.
    pub fn set_latency(&self, latency: Duration) {
        self.lock().latency = latency;
    }

    /// Refuses requests with 429 beyond this many a second, which is no fault.
    pub fn set_rate_limit(&self, per_second: u32) {
        self.lock().rate_limit = Some(RateLimit {
            per_second: f64::from(per_second),
            tokens: f64::from(per_second),
            refilled: Instant::now(),
            refused: 0,
        });
    }

    /// Number of requests that the rate limit refused.
    pub fn rate_limited(&self) -> u64 {
        let state = self.lock();
        state.rate_limit.as_ref().map_or(0, |limit| limit.refused)
    }

    /// Delay of every response.
    pub(crate) fn latency(&self) -> Duration {
        self.lock().latency
    }

    /// Stops listening: refuses new connections and closes the open ones.
    pub fn go_down(&self) {
        self.lock().down = true;
    }

    /// Listens again, with the rules as they are.
    pub fn come_up(&self) {
        self.lock().down = false;
    }

    /// Removes every fault.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.rules.clear();
        state.down = false;
    }

    /// Puts the upstream's clock, which the header `Date` shows, ahead by this many seconds.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.lock().clock_ahead = seconds;
    }

    /// Value of the header `Date`, if the upstream's clock is wrong.
    pub(crate) fn wrong_date(&self) -> Option<String> {
        let ahead = Some(self.lock().clock_ahead).filter(|ahead| *ahead != 0)?;
        let now = jiff::Timestamp::from_millisecond(clock::now().timestamp_millis()).ok()?;
        let wrong = now + jiff::SignedDuration::from_secs(ahead);
        rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&wrong)
            .ok()
    }

    /// Whether the upstream refuses connections.
    pub fn is_down(&self) -> bool {
        self.lock().down
    }

    /// Number of requests hit, plus connections closed by going down.
    pub fn hits(&self) -> u64 {
        self.lock().hits
    }

    /// Rules with hits outstanding.
    pub fn unmet(&self) -> Vec<FaultRule> {
        let mut rules = self.lock().rules.clone();
        rules.retain(|rule| rule.times != Some(0));
        rules
    }

    /// Number of late effects still pending.
    pub fn outstanding(&self) -> usize {
        self.lock().outstanding
    }

    /// Number of requests per operation, hit or not.
    pub fn requests(&self) -> BTreeMap<String, u64> {
        self.lock().requests.clone()
    }

    /// The fault for a request, if a rule matches.
    pub(crate) fn next_fault(&self, operation: &str, write: bool) -> Option<Fault> {
        let mut state = self.lock();
        *state.requests.entry(operation.to_owned()).or_default() += 1;
        let limit = state.rate_limit.as_mut();
        if limit.is_some_and(|limit| !limit.admits()) {
            return Some(Fault::Status {
                status: 429,
                retry_after: Some(1),
            });
        }
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
        state.outstanding += usize::from(matches!(
            fault,
            Fault::SlowEffect { .. } | Fault::EffectAfterTimeout { .. }
        ));
        Some(fault)
    }

    /// Records the connections closed by going down.
    pub(crate) fn ended(&self, connections: usize) {
        self.lock().hits += connections as u64;
    }

    /// Records that a late effect has happened.
    pub(crate) fn landed(&self) {
        self.lock().outstanding -= 1;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fault {
    /// The delay as a `Duration`.
    pub(crate) fn delay(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_beyond_the_rate_limit_are_refused_and_counted() {
        let faults = Faults::default();
        faults.set_rate_limit(2);

        let found = [(); 3].map(|()| faults.next_fault("list", false));

        let refused = Fault::Status {
            status: 429,
            retry_after: Some(1),
        };
        assert_eq!(found, [None, None, Some(refused)]);
        assert_eq!(faults.rate_limited(), 1);
        assert_eq!(faults.requests()["list"], 3);
    }
}
