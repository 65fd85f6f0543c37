//! Making happen what is planned, and counting what it really hit.

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
    load::Load,
    schedule::{Mishap, Planned, Trouble},
    stack::{LEASE, Services, Stores},
};
use crate::{
    faults::{Fault, FaultRule, Faults},
    process::Process,
    proxy::Proxy,
};

/// How often somebody looks whether a mishap has hit something, or a process has ended.
const LOOK: Duration = Duration::from_millis(50);
/// How long a mishap is kept up that has hit nothing: longer than all work rests after the worst of the others.
const NO_HIT: Duration = Duration::from_mins(1);
/// The share of an upstream's requests that a trouble hits: the others let some work go on.
const SHARE: f64 = 0.6;
/// How late each piece is that passes on the way to MongoDB: one request is several of them.
const MONGO_DELAY: Duration = Duration::from_millis(15);
/// The same for Redis, of which a request is two.
const REDIS_DELAY: Duration = Duration::from_millis(80);
/// The queues that have work.
const PAUSED_QUEUES: [Queue; 3] = [Queue::Provisioning, Queue::Dns, Queue::Maintenance];
/// How long connections to MongoDB stay cut: longer than its members need to notice, and not much longer.
const MONGO_CUT: Duration = Duration::from_secs(3);

/// How often a kind of mishap happened, and what it hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hits {
    /// How often it happened.
    pub happened: u64,
    /// How many processes, connections or requests it hit.
    pub hit: u64,
}

/// What happened so far.
#[derive(Debug)]
pub(super) struct Tally {
    begun: Instant,
    hits: Mutex<BTreeMap<Mishap, Hits>>,
}

impl Tally {
    /// The run begins now.
    pub(super) fn begin() -> Self {
        Self {
            begun: Instant::now(),
            hits: Mutex::default(),
        }
    }

    pub(super) fn into_hits(self) -> BTreeMap<Mishap, Hits> {
        self.hits
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, mishap: Mishap, hit: u64) {
        let mut hits = self.lock();
        let hits = hits.entry(mishap).or_default();
        hits.happened += 1;
        hits.hit += hit;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Mishap, Hits>> {
        self.hits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn until(&self, at: Duration) {
        sleep_until(self.begun + at).await;
    }
}

/// Waits as long as a mishap lasts; longer if it has hit nothing by then.
async fn lasting(lasts: Duration, has_hit: impl Fn() -> bool) {
    sleep(lasts).await;
    let patience = Instant::now() + NO_HIT;
    while !has_hit() && Instant::now() < patience {
        sleep(LOOK).await;
    }
}

impl Services {
    /// Lets happen to the processes what is planned. Who ends by itself is started again meanwhile.
    pub(super) async fn suffer(&mut self, track: &[Planned], tally: &Tally) -> anyhow::Result<()> {
        for planned in track {
            while tally.begun.elapsed() < planned.at {
                sleep(LOOK).await;
                self.look_after().await?;
            }
            let all = match planned.mishap {
                Mishap::ApiKilled | Mishap::ApiStopped => &mut self.apis,
                _ => &mut self.workers,
            };
            let picked = planned.pick % all.len();
            let process = &mut all[picked];
            let was_running = process.expect_running().is_ok();
            match planned.mishap {
                Mishap::ApiKilled | Mishap::WorkerKilled => kill(process, planned.lasts).await?,
                Mishap::ApiStopped => stand_still(process, planned.lasts).await,
                _ => stand_still(process, planned.lasts.max(LEASE + LEASE / 4)).await,
            }
            tally.note(planned.mishap, u64::from(was_running));
        }
        Ok(())
    }
}

async fn kill(process: &mut Process, how_long: Duration) -> anyhow::Result<()> {
    process.kill().await;
    sleep(how_long).await;
    process.restart().await
}

async fn stand_still(process: &Process, how_long: Duration) {
    process.signal(Signal::SIGSTOP);
    sleep(how_long).await;
    process.signal(Signal::SIGCONT);
}

impl Stores {
    /// Lets happen to the stores what is planned.
    pub(super) async fn suffer(&mut self, track: &[Planned], tally: &Tally) -> anyhow::Result<()> {
        for planned in track {
            tally.until(planned.at).await;
            let hit = match planned.mishap {
                Mishap::PrimaryKilled => {
                    let primary = self.mongo.until_primary().await?;
                    let member = &mut self.mongo.members[primary];
                    member.process.kill().await;
                    sleep(planned.lasts).await;
                    member.restart().await?;
                    1
                }
                Mishap::RedisKilled => {
                    self.redis.kill().await;
                    sleep(planned.lasts).await;
                    self.redis.restart().await?;
                    1
                }
                Mishap::RedisFlushed => {
                    flush(&self.redis.url).await.context("FLUSHALL")?;
                    1
                }
                Mishap::MongoCut => {
                    let lasts = planned.lasts.min(MONGO_CUT);
                    hinder(&self.mongo_proxies(), lasts, Proxy::cut).await
                }
                Mishap::MongoSlow => {
                    let delay = |proxy: &Proxy| proxy.delay(MONGO_DELAY);
                    hinder(&self.mongo_proxies(), planned.lasts, delay).await
                }
                Mishap::RedisCut => hinder(&[&self.redis_proxy], planned.lasts, Proxy::cut).await,
                _ => {
                    let delay = |proxy: &Proxy| proxy.delay(REDIS_DELAY);
                    hinder(&[&self.redis_proxy], planned.lasts, delay).await
                }
            };
            tally.note(planned.mishap, hit);
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

async fn hinder(proxies: &[&Proxy], lasts: Duration, hinder: impl Fn(&Proxy)) -> u64 {
    let hits = || proxies.iter().map(|proxy| proxy.hits()).sum::<u64>();
    let before = hits();
    for proxy in proxies {
        hinder(proxy);
    }
    lasting(lasts, || hits() > before).await;
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

impl Load {
    /// Has operators do what is planned, and undo it.
    pub(super) async fn hold_up(&self, track: &[Planned], tally: &Tally) {
        for planned in track {
            tally.until(planned.at).await;
            let is_accepted = if planned.mishap == Mishap::QueuePaused {
                let queue = PAUSED_QUEUES[planned.pick % PAUSED_QUEUES.len()];
                let is_accepted = self.pause_queue(queue).await;
                sleep(planned.lasts).await;
                is_accepted && self.resume_queue(queue).await
            } else {
                let upstream = Upstream::ALL[planned.pick % Upstream::ALL.len()];
                let is_accepted = self.pause_upstream(upstream).await;
                sleep(planned.lasts).await;
                is_accepted && self.resume_upstream(upstream).await
            };
            tally.note(planned.mishap, u64::from(is_accepted));
        }
    }
}

/// Lets happen to an upstream what is planned.
pub(super) async fn trouble(faults: &Faults, track: &[Planned], tally: &Tally) {
    for planned in track {
        tally.until(planned.at).await;
        let before = faults.hits();
        match planned.mishap {
            Mishap::Upstream(_, trouble) => begin(faults, trouble),
            _ => continue,
        }
        lasting(planned.lasts, || faults.hits() > before).await;
        faults.clear();
        tally.note(planned.mishap, faults.hits() - before);
    }
}

fn begin(faults: &Faults, trouble: Trouble) {
    let fault = match trouble {
        Trouble::Down => return faults.go_down(),
        // Later than whoever asked waits, ...
        Trouble::SlowAnswer => Fault::SlowAnswer { millis: 900 },
        // ... and here sooner than anybody looks again.
        Trouble::SlowEffect => Fault::SlowEffect { millis: 900 },
        Trouble::Unavailable => Fault::Status {
            status: 503,
            retry_after: None,
        },
        Trouble::RateLimited => Fault::Status {
            status: 429,
            retry_after: Some(1),
        },
        Trouble::Reset => Fault::Reset,
        Trouble::AnswerLost => Fault::AnswerLost,
        Trouble::Html => Fault::Html,
        Trouble::Truncated => Fault::Truncated,
    };
    faults.add(FaultRule {
        probability: SHARE,
        ..FaultRule::every(fault)
    });
}
