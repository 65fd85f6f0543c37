//! The whole system under fire: several processes of the api and the worker, a replica set of three, Redis and the
//! upstreams, under a load of intents, while everything fails that can fail. At the end all is healed, and the promises
//! that Dezky makes are checked.
//!
//! The schedule of mishaps follows from the seed alone. What they meet does not: processes run as they run.

mod agreement;
mod client;
mod invariants;
mod load;
mod once;
mod report;
mod schedule;
mod stack;
mod strike;
mod watcher;

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use dezky_shared::upstream::Upstream;
use futures::future;
use mongodb::Client;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

pub use self::{
    invariants::Check,
    report::{Asked, Report},
    schedule::{Mishap, Planned, Schedule, Trouble},
    strike::Hits,
};
use self::{
    invariants::Stored,
    load::Load,
    stack::{Stack, Stores},
    strike::{Tally, trouble},
    watcher::Watcher,
};

/// How many customers there are.
const CUSTOMERS: u64 = 6;
/// How long may pass without one more job becoming final once all is well: longer than the longest delay that the
/// mishaps led to. How long all take together depends on the machine, which has a backlog to work off.
const SETTLE: Duration = Duration::from_mins(4);
/// How often one looks.
const LOOK: Duration = Duration::from_millis(250);
/// How many open jobs are listed when they are too many.
const LISTED: usize = 20;

/// Which run.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the schedule of mishaps follows from.
    pub seed: u64,
    /// For how long things go wrong.
    pub length: Duration,
    /// Where `dezky-api` and `dezky-worker` are.
    pub binaries: PathBuf,
    /// Where data and logs go. What is there is removed first.
    pub directory: PathBuf,
}

/// Runs it. An error is a run that could not be brought to its end; whether the promises hold is in the report.
pub async fn run(options: Options) -> anyhow::Result<Report> {
    if options.directory.exists() {
        fs::remove_dir_all(&options.directory)?;
    }
    fs::create_dir_all(&options.directory)?;
    tracing::info!("Starting everything");
    let mut stack = Stack::start(&options.binaries, &options.directory).await?;
    let operator = stack.upstreams.operator()?;
    let load = Load::new(stack.services.urls.clone(), operator)?;
    load.introduce().await?;

    tracing::info!(seed = options.seed, "Things go wrong");
    let hits = under_fire(&mut stack, &load, &options).await?;

    tracing::info!("All is well again; waiting until all is final");
    let healed = Instant::now();
    stack.services.look_after().await?;
    for upstream in Upstream::ALL {
        load.resume_upstream(upstream).await;
    }
    until_final(&stack.stores).await?;
    let settled_in = healed.elapsed();
    let stored = read(&stack.stores).await?;
    let agreed = invariants::tenants_jobs_and_upstreams_agree(&stored, &stack.upstreams);
    let left = stored.left_over();
    load.reconcile(&left).await;
    until_final(&stack.stores).await?;
    stack.services.look_after().await?;
    let stored = read(&stack.stores).await?;
    until_watched(&stack.watcher, &stored).await;

    let report = {
        let ledger = load.ledger();
        let seen = stack.watcher.seen();
        let mut jobs: BTreeMap<&'static str, u64> = BTreeMap::new();
        for job in &stored.jobs {
            *jobs.entry(job.state.name()).or_default() += 1;
        }
        Report {
            asked: report::asked(&ledger),
            sent: ledger
                .entries
                .iter()
                .map(|entry| u64::from(entry.tries))
                .sum::<u64>()
                + ledger.repeated,
            jobs,
            rescues: seen.rescues,
            settled_in,
            left_over: left.len(),
            checks: vec![
                invariants::every_kind_of_mishap_has_hit(&hits),
                invariants::no_process_ended_by_itself(&stack.services.fallen),
                invariants::every_request_is_answered(&ledger),
                invariants::a_repeated_request_is_answered_alike(&ledger),
                invariants::every_accepted_intent_has_a_fate(&ledger, &stored),
                invariants::the_audit_trail_is_what_was_accepted(&ledger, &stored),
                invariants::the_watcher_saw_all(&seen, &stored),
                invariants::never_two_live_leases_on_one_lock(&seen),
                invariants::final_is_final(&seen),
                invariants::every_open_job_has_a_next_time(&seen),
                once::every_instant_of_a_schedule_is_run_once(&stored),
                once::every_item_of_an_operation_is_done_once(&stored),
                invariants::attempts_and_crashes_stay_within_their_limits(&stored),
                invariants::no_failure_is_mistaken_for_another(&stored),
                invariants::nothing_happens_twice_upstream(&stack.upstreams),
                once::tenants_show_the_domains_that_are_theirs(&stored),
                agreed,
                invariants::one_reconcile_mends_what_was_left(
                    left.len(),
                    &stored,
                    &stack.upstreams,
                ),
            ],
            hits,
            options,
        }
    };
    stack.stop().await;
    Ok(report)
}

/// Lets everything go wrong that is planned, while customers ask for things.
async fn under_fire(
    stack: &mut Stack,
    load: &Load,
    options: &Options,
) -> anyhow::Result<BTreeMap<Mishap, Hits>> {
    let schedule = Schedule::new(options.seed, options.length);
    let tally = Tally::begin();
    let Stack {
        services,
        stores,
        upstreams,
        watcher: _,
    } = stack;
    let end = CancellationToken::new();
    let customers = (0..CUSTOMERS).map(|number| {
        let seed = options.seed.wrapping_mul(CUSTOMERS).wrapping_add(number);
        load.customer(seed, &end)
    });
    let troubles = schedule
        .upstreams
        .iter()
        .map(|(upstream, track)| trouble(upstreams.faults(*upstream), track, &tally));
    let mishaps = async {
        let (processes, stores, (), _) = tokio::join!(
            services.suffer(&schedule.processes, &tally),
            stores.suffer(&schedule.stores, &tally),
            load.hold_up(&schedule.operators, &tally),
            future::join_all(troubles),
        );
        end.cancel();
        processes.context("a mishap of the processes")?;
        stores.context("a mishap of the stores")
    };
    let (outcome, _) = tokio::join!(mishaps, future::join_all(customers));
    outcome?;
    Ok(tally.into_hits())
}

async fn primary(stores: &Stores) -> anyhow::Result<&Client> {
    let primary = stores.mongo.until_primary().await?;
    Ok(&stores.mongo.members[primary].client)
}

async fn read(stores: &Stores) -> anyhow::Result<Stored> {
    Ok(Stored::read(primary(stores).await?).await?)
}

/// Waits until no job is left to run, or says which are.
async fn until_final(stores: &Stores) -> anyhow::Result<()> {
    let mut deadline = Instant::now() + SETTLE;
    let mut fewest = usize::MAX;
    loop {
        let open = Stored::open_jobs(primary(stores).await?).await?;
        if open.is_empty() {
            return Ok(());
        }
        if open.len() < fewest {
            fewest = open.len();
            deadline = Instant::now() + SETTLE;
        }
        if Instant::now() > deadline {
            let shown = open[..open.len().min(LISTED)].join("\n  ");
            bail!(
                "{} jobs are not final, and no more have become so for {SETTLE:?}:\n  {shown}",
                open.len()
            );
        }
        sleep(LOOK).await;
    }
}

/// Waits until the watcher has seen what is stored; whether it did is checked later.
async fn until_watched(watcher: &Watcher, stored: &Stored) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let has_seen = || {
        let seen = watcher.seen();
        stored.jobs.iter().all(|job| seen.knows_end_of(job))
    };
    while !has_seen() && Instant::now() < deadline {
        sleep(LOOK).await;
    }
}
