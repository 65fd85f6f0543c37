//! Checks of a calm system: while every upstream answers, neither settings that no upstream holds nor steps that need more
//! than one attempt disturb anything.
//!
//! Measured once the faults are removed and all jobs are final: before, an open circuit may be due to a fault.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use bson::{Uuid, doc};
use dezky_shared::queue::job::{Job, JobState};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    DATABASE,
    check::Check,
    load::LoadGenerator,
    primary,
    stack::{Stack, Stores},
    stored::describe,
};
use crate::faults::{Fault, FaultRule};

/// Latency of Authentik: within the timeout of a call, and long enough that a large tenant needs several attempts.
const LATENCY_MILLIS: u64 = 150;
/// Time limit for a job of one tenant, and for the first attempt of a large one's.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Pause between two saves.
const PAUSE: Duration = Duration::from_millis(20);
/// Log message of a worker that opens a circuit breaker.
const OPENED: &str = "Circuit breaker opened";
/// The reasons of steps whose call was not answered, or only by a gateway or an upstream that cannot serve it, as a worker
/// logs them. An answer about one object, such as a list that changed meanwhile, has another reason.
const UNANSWERED: [&str; 4] = [
    "UpstreamUnreachable",
    "UpstreamUnavailable",
    "UpstreamIdentityUnavailable",
    "UpstreamAnswerLost",
];

/// Saves settings while a tenant is provisioned, and suspends a large tenant.
pub(super) async fn disturb(
    stack: &Stack,
    load: &LoadGenerator,
    logs: Vec<PathBuf>,
) -> anyhow::Result<[Check; 2]> {
    let logs = LogMark::at_end(logs)?;
    let latency = FaultRule::every(Fault::SlowAnswer {
        millis: LATENCY_MILLIS,
    });
    let authentik = &stack.upstreams.authentik;
    authentik.server.faults.add(latency.clone());
    let saved = save_settings(stack, load).await?;
    let suspended = load.suspend_large_tenant(authentik).await;
    let suspended = suspended.context("the suspension of a large tenant was refused")?;
    let attempted = |job: &Job| job.total_attempts() > 1 || job.state.is_final();
    let large = job_until(&stack.stores, &suspended, attempted).await?;
    authentik.server.faults.remove(&latency);
    Ok([
        saved,
        only_unanswered_calls_open_a_circuit(&large, &logs.entries_since()?),
    ])
}

/// A portal that saves settings all the time does not keep a tenant from being provisioned.
async fn save_settings(stack: &Stack, load: &LoadGenerator) -> anyhow::Result<Check> {
    let created = load.create_tenant("settings").await;
    let created = created.context("the creation of a tenant was refused")?;
    let is_over = CancellationToken::new();
    let saves = async {
        let mut saves = 0;
        while !is_over.is_cancelled() {
            saves += usize::from(load.save_settings(&created.slug, saves).await);
            sleep(PAUSE).await;
        }
        saves
    };
    let finished = async {
        let job = job_until(&stack.stores, &created.job, |job| job.state.is_final()).await;
        is_over.cancel();
        job
    };
    let (saves, job) = tokio::join!(saves, finished);
    let job = job?;
    let mut violations = Vec::new();
    if saves == 0 {
        violations.push("no settings were saved".to_owned());
    }
    if job.state != JobState::Completed {
        violations.push(format!("{saves} saves disturbed {}", describe(&job)));
    }
    let promise = "settings that no upstream holds disturb no job";
    Ok(Check::new(promise, saves, violations))
}

/// A step that needs more than an attempt says nothing about its upstream, as long as each of its calls is answered.
fn only_unanswered_calls_open_a_circuit(large: &Job, log: &str) -> Check {
    let opened = log.lines().filter(|entry| entry.contains(OPENED));
    let is_explained = UNANSWERED.iter().any(|reason| log.contains(reason));
    let violations = if is_explained {
        Vec::new()
    } else {
        opened.map(str::to_owned).collect()
    };
    let attempts = usize::try_from(large.total_attempts()).unwrap_or_default();
    Check::new("only unanswered calls open a circuit", attempts, violations)
}

/// The job with this id, once it is as expected or the time is over.
async fn job_until(
    stores: &Stores,
    id: &str,
    is_expected: impl Fn(&Job) -> bool,
) -> anyhow::Result<Job> {
    let id = Uuid::parse_str(id)?;
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let database = primary(stores).await?.database(DATABASE);
        let jobs = database.collection::<Job>("jobs");
        let job = jobs.find_one(doc! { "_id": id }).await?;
        let job = job.with_context(|| format!("job {id} is not stored"))?;
        if is_expected(&job) || Instant::now() > deadline {
            return Ok(job);
        }
        sleep(PAUSE).await;
    }
}

/// Positions in log files.
struct LogMark(Vec<(PathBuf, u64)>);

impl LogMark {
    fn at_end(logs: Vec<PathBuf>) -> anyhow::Result<Self> {
        let lengths = logs.into_iter().map(|log| {
            let length = log.metadata()?.len();
            Ok((log, length))
        });
        lengths.collect::<anyhow::Result<_>>().map(Self)
    }

    /// The entries logged since.
    fn entries_since(&self) -> anyhow::Result<String> {
        let mut entries = String::new();
        for (log, position) in &self.0 {
            let mut log = File::open(log)?;
            log.seek(SeekFrom::Start(*position))?;
            log.read_to_string(&mut entries)?;
        }
        Ok(entries)
    }
}
