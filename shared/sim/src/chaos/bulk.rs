//! Changes that a customer waits for, behind a bulk run of any age.
//!
//! Measured once the faults are removed: before, a wait may be due to a fault. The run's age is simulated, since a
//! backlog that has waited for minutes would take a run of minutes.

use std::time::Duration;

use anyhow::Context as _;
use bson::Uuid;
use tokio::time::{Instant, sleep};

use super::{COPIES, check::Check, load::LoadGenerator, stack::Stack, watcher::Watcher};
use crate::faults::{Fault, FaultRule};

/// Changes made behind the run.
const CHANGES: usize = 8;
/// Pause between two changes.
const PAUSE: Duration = Duration::from_millis(100);
/// Maximum wait of a change for its first attempt. On an idle machine it is a few milliseconds.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// Maximum number of bulk jobs that begin before it: a quarter of the run.
const MAX_BULK_CLAIMS: u64 = COPIES as u64 / 4;
/// Backlog behind which the changes are made.
const BACKLOG: usize = COPIES / 2;
/// Time limit for the backlog, which one job enqueues.
const BACKLOG_TIMEOUT: Duration = Duration::from_mins(1);
/// Latency of Authentik, so that the backlog lasts.
const LATENCY_MILLIS: u64 = 100;
/// Lets everything in the ready sets of provisioning have waited for five minutes more.
const AGE: &str = r"
for _, key in ipairs(redis.call('KEYS', '*:ready:provisioning*')) do
    if redis.call('TYPE', key).ok == 'zset' then
        for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
            redis.call('ZINCRBY', key, -300, member)
        end
    end
end
";

/// Creates tenants behind a reconcile of all tenants. Returns the ids of their jobs.
pub(super) async fn change_behind_bulk(
    stack: &Stack,
    load: &LoadGenerator,
) -> anyhow::Result<Vec<String>> {
    let latency = FaultRule::every(Fault::SlowAnswer {
        millis: LATENCY_MILLIS,
    });
    let authentik = &stack.upstreams.authentik.server.faults;
    authentik.add(latency.clone());
    load.reconcile_all().await;
    let deadline = Instant::now() + BACKLOG_TIMEOUT;
    while stack.watcher.observations().pace.open_bulk < BACKLOG && Instant::now() < deadline {
        sleep(Duration::from_millis(10)).await;
    }
    age(&stack.stores.redis.url)
        .await
        .context("aging the ready sets")?;
    let mut jobs = Vec::new();
    for _ in 0..CHANGES {
        let created = load.create_tenant("waited-for").await;
        jobs.extend(created.map(|created| created.job));
        sleep(PAUSE).await;
    }
    authentik.remove(&latency);
    Ok(jobs)
}

async fn age(url: &str) -> redis::RedisResult<()> {
    let client = redis::Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    redis::Script::new(AGE).invoke_async(&mut connection).await
}

/// The first attempt of a change begins within a bound, regardless of the number and age of bulk jobs.
pub(super) fn a_change_does_not_wait_for_bulk_work(jobs: &[String], watcher: &Watcher) -> Check {
    let observed = watcher.observations();
    let problem = |job: &String| {
        let id = Uuid::parse_str(job).ok();
        let Some(wait) = id.and_then(|id| observed.pace.first_wait(id)) else {
            return Some("was never attempted".to_owned());
        };
        let is_bounded = wait.time <= MAX_WAIT && wait.bulk_claims <= MAX_BULK_CLAIMS;
        (!is_bounded).then(|| {
            format!(
                "waited {:?}, while {} bulk jobs began",
                wait.time, wait.bulk_claims
            )
        })
    };
    let violations = jobs.iter().filter_map(|job| {
        let problem = problem(job)?;
        Some(format!("job {job} {problem}"))
    });
    let mut check = Check::new(
        "a change does not wait for bulk work",
        jobs.len(),
        violations.collect(),
    );
    if jobs.len() < CHANGES {
        let violation = format!("{} of {CHANGES} changes were accepted", jobs.len());
        check.violations.push(violation);
    }
    check
}
