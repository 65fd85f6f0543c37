//! Fault injector: executes the schedule and counts the hits of each fault.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use dezky_shared::{queue::job::Queue, upstream::Upstream};
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    fault_kind::{FaultKind, UpstreamFault},
    isolation::{Isolation, hold_until_hit},
    load::LoadGenerator,
    primary::Primary,
    schedule::PlannedFault,
    stack::{REPLICAS, STOP_TIMEOUT, Services, Stores},
    timings::LEASE,
};
use crate::{
    faults::{Fault, FaultRule, Faults},
    process::Process,
    proxy::Proxy,
};

/// Interval of the checks for hits and for exited processes.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Probability that an upstream fault hits a request. Below 1, so that some work proceeds.
const FAULT_PROBABILITY: f64 = 0.6;
/// Delay of a late response or effect, in milliseconds.
const LATE: u64 = 900;
/// The same for oCIS, whose client waits longer.
const LATE_OCIS: u64 = 1_400;
/// Delay per chunk on connections to MongoDB. A request consists of several chunks.
const MONGO_DELAY: Duration = Duration::from_millis(15);
/// Delay per chunk on connections to Redis. A request consists of two chunks.
const REDIS_DELAY: Duration = Duration::from_millis(80);
/// Queues with jobs in a chaos run.
const PAUSED_QUEUES: [Queue; 4] = [
    Queue::Provisioning,
    Queue::Dns,
    Queue::Billing,
    Queue::Maintenance,
];
/// Maximum time that connections to MongoDB are cut: a little longer than its members need to detect it.
const MONGO_CUT: Duration = Duration::from_secs(3);

/// Number of injections of a fault kind, and of hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Injections {
    /// Number of injections.
    pub injected: u64,
    /// Number of processes, connections or requests hit.
    pub hit: u64,
}

/// Log of the injections so far.
#[derive(Debug)]
pub(super) struct InjectionLog {
    begun: Instant,
    hits: Mutex<BTreeMap<FaultKind, Injections>>,
}

impl InjectionLog {
    /// Starts the clock of the schedule.
    pub(super) fn begin() -> Self {
        Self {
            begun: Instant::now(),
            hits: Mutex::default(),
        }
    }

    pub(super) fn into_hits(self) -> BTreeMap<FaultKind, Injections> {
        self.hits
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn record(&self, fault: FaultKind, hit: u64) {
        let mut hits = self.lock();
        let hits = hits.entry(fault).or_default();
        hits.injected += 1;
        hits.hit += hit;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<FaultKind, Injections>> {
        self.hits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until this time of the schedule.
    pub(super) async fn until(&self, at: Duration) {
        sleep_until(self.begun + at).await;
    }
}

impl Services {
    /// Injects the faults of the processes. Restarts processes that exit unexpectedly in between.
    pub(super) async fn inject_faults(
        &mut self,
        track: &[PlannedFault],
        log: &InjectionLog,
    ) -> anyhow::Result<()> {
        for planned in track {
            while log.begun.elapsed() < planned.at {
                sleep(POLL_INTERVAL).await;
                self.restart_exited().await?;
            }
            let all = match planned.fault {
                FaultKind::ApiKilled | FaultKind::ApiStopped => &mut self.apis,
                _ => &mut self.workers,
            };
            let picked = planned.pick % all.len();
            let process = &mut all[picked];
            let was_running = process.expect_running().is_ok();
            match planned.fault {
                FaultKind::ApiKilled | FaultKind::WorkerKilled => {
                    kill(process, planned.lasts).await?;
                }
                FaultKind::ApiStopped => stop_and_continue(process, planned.lasts).await,
                FaultKind::WorkerReplaced => {
                    process.stop(STOP_TIMEOUT).await;
                    process.restart().await?;
                }
                _ => stop_and_continue(process, planned.lasts.max(LEASE + LEASE / 4)).await,
            }
            log.record(planned.fault, u64::from(was_running));
        }
        Ok(())
    }
}

async fn kill(process: &mut Process, duration: Duration) -> anyhow::Result<()> {
    process.kill().await;
    sleep(duration).await;
    process.restart().await
}

async fn stop_and_continue(process: &Process, duration: Duration) {
    process.signal(Signal::SIGSTOP);
    sleep(duration).await;
    process.signal(Signal::SIGCONT);
}

impl Stores {
    /// Injects the faults of the stores.
    pub(super) async fn inject_faults(
        &mut self,
        track: &[PlannedFault],
        log: &InjectionLog,
        ocis: &Faults,
        load: &LoadGenerator,
    ) -> anyhow::Result<()> {
        for planned in track {
            log.until(planned.at).await;
            let hit = match planned.fault {
                FaultKind::PrimaryKilled => {
                    let primary = self.mongo.until_primary().await?;
                    let member = &mut self.mongo.members[primary];
                    member.process.kill().await;
                    sleep(planned.lasts).await;
                    member.restart().await?;
                    1
                }
                FaultKind::RedisKilled => {
                    self.redis.kill().await;
                    sleep(planned.lasts).await;
                    self.redis.restart().await?;
                    1
                }
                FaultKind::RedisFlushed => {
                    flush(&self.redis.url).await.context("FLUSHALL")?;
                    1
                }
                FaultKind::MongoCut => {
                    let lasts = planned.lasts.min(MONGO_CUT);
                    disturb(&self.mongo_proxies(), lasts, Proxy::cut).await
                }
                FaultKind::MongoSlow => {
                    let delay = |proxy: &Proxy| proxy.delay(MONGO_DELAY);
                    disturb(&self.mongo_proxies(), planned.lasts, delay).await
                }
                FaultKind::WorkerIsolated => {
                    let isolation = Isolation {
                        any_worker: planned.pick % REPLICAS,
                        primary: &Primary::of(&self.mongo),
                        proxies: &self.mongo_proxies(),
                        ocis,
                        load,
                    };
                    isolation.inject().await?
                }
                FaultKind::RedisCut => {
                    disturb(&[&self.redis_proxy], planned.lasts, Proxy::cut).await
                }
                _ => {
                    let delay = |proxy: &Proxy| proxy.delay(REDIS_DELAY);
                    disturb(&[&self.redis_proxy], planned.lasts, delay).await
                }
            };
            log.record(planned.fault, hit);
        }
        Ok(())
    }

    fn mongo_proxies(&self) -> Vec<&Proxy> {
        self.mongo
            .members
            .iter()
            .map(|member| &member.proxy)
            .collect()
    }
}

async fn disturb(proxies: &[&Proxy], lasts: Duration, disturb: impl Fn(&Proxy)) -> u64 {
    let hits = || proxies.iter().map(|proxy| proxy.hits()).sum::<u64>();
    let before = hits();
    for proxy in proxies {
        disturb(proxy);
    }
    hold_until_hit(lasts, || hits() > before).await;
    for proxy in proxies {
        proxy.mend();
    }
    hits() - before
}

async fn flush(url: &str) -> redis::RedisResult<()> {
    let client = redis::Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    redis::cmd("FLUSHALL").exec_async(&mut connection).await
}

impl LoadGenerator {
    /// Pauses and resumes upstreams and queues as an operator.
    pub(super) async fn inject_pauses(&self, track: &[PlannedFault], log: &InjectionLog) {
        for planned in track {
            log.until(planned.at).await;
            let is_accepted = if planned.fault == FaultKind::QueuePaused {
                let queue = PAUSED_QUEUES[planned.pick % PAUSED_QUEUES.len()];
                let is_accepted = self.pause_queue(queue).await;
                sleep(planned.lasts).await;
                is_accepted && self.resume_queue(queue).await
            } else {
                let upstream = Upstream::CALLED[planned.pick % Upstream::CALLED.len()];
                let is_accepted = self.pause_upstream(upstream).await;
                sleep(planned.lasts).await;
                is_accepted && self.resume_upstream(upstream).await
            };
            log.record(planned.fault, u64::from(is_accepted));
        }
    }
}

/// Injects the faults of an upstream.
pub(super) async fn inject_upstream_faults(
    faults: &Faults,
    track: &[PlannedFault],
    log: &InjectionLog,
) {
    for planned in track {
        let FaultKind::Upstream(upstream, fault) = planned.fault else {
            continue;
        };
        log.until(planned.at).await;
        let before = faults.hits();
        let rule = rule(upstream, fault);
        match &rule {
            Some(rule) => faults.add(rule.clone()),
            None => faults.go_down(),
        }
        hold_until_hit(planned.lasts, || faults.hits() > before).await;
        match &rule {
            Some(rule) => faults.remove(rule),
            None => faults.come_up(),
        }
        log.record(planned.fault, faults.hits() - before);
    }
}

/// The rule of a fault; `None` if the upstream is down.
fn rule(upstream: Upstream, kind: UpstreamFault) -> Option<FaultRule> {
    // Later than the client's timeout, and earlier than the next look-up by a worker, half a lease after that.
    let millis = match upstream {
        Upstream::Ocis => LATE_OCIS,
        _ => LATE,
    };
    let fault = match kind {
        UpstreamFault::Down => return None,
        UpstreamFault::SlowAnswer => Fault::SlowAnswer { millis },
        UpstreamFault::SlowEffect => Fault::SlowEffect { millis },
        UpstreamFault::Unavailable => Fault::Status {
            status: 503,
            retry_after: None,
        },
        UpstreamFault::RateLimited => Fault::Status {
            status: 429,
            retry_after: Some(1),
        },
        UpstreamFault::Reset => Fault::Reset,
        UpstreamFault::AnswerLost => Fault::AnswerLost,
        UpstreamFault::Html => Fault::Html,
        UpstreamFault::Truncated => Fault::Truncated,
    };
    Some(FaultRule {
        probability: FAULT_PROBABILITY,
        ..FaultRule::every(fault)
    })
}
