//! Chaos runs: fault injection on the whole system. Two api and two worker processes run on a MongoDB replica set of
//! three, a Redis and the simulated upstreams, under load from simulated customers. At the end the faults are removed
//! and the system's promises are checked.
//!
//! The schedule of faults is a pure function of the seed. Their effects are not: processes run concurrently.

mod billing;
mod bulk;
mod calm;
mod check;
mod claim_pace;
mod client;
mod convergence;
mod drift;
mod exactly_once;
mod fault_injector;
mod fault_kind;
mod future_documents;
mod invariants;
mod isolation;
mod large_work;
mod load;
mod observations;
mod operator;
mod primary;
mod report;
mod schedule;
mod secret_search;
mod secrets;
mod stack;
mod stored;
mod tenant_resources;
mod timings;
mod watcher;

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use bson::{Document, doc};
use dezky_shared::upstream::Upstream;
use futures::future;
use mongodb::Client;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::{
    billing::{Billing, BillingRecords},
    fault_injector::{InjectionLog, inject_upstream_faults},
    future_documents::FutureDocuments,
    invariants::Evidence,
    load::LoadGenerator,
    primary::Primary,
    stack::{REPLICAS, Stack, Stores, worker_name},
    stored::Stored,
    watcher::Watcher,
};
pub use self::{
    check::Check,
    fault_injector::Injections,
    fault_kind::{FaultKind, FutureDocument, UpstreamFault},
    report::{Report, RequestCounts},
    schedule::{PlannedFault, Schedule},
};
use crate::copied_tenants::Template;

/// MongoDB database of a run.
const DATABASE: &str = "chaos";
/// Number of simulated customers.
const CUSTOMERS: u64 = 6;
/// Number of tenants that exist from the start, for bulk work.
const COPIES: usize = 300;
/// Time without another job becoming final after which a run has failed: longer than the longest delay that the faults
/// cause. The total time has no limit, since it depends on the machine, which has a backlog to work off.
const STALL_TIMEOUT: Duration = Duration::from_mins(4);
/// The same, for everything else while documents of a future build are stored.
const SHORT_STALL_TIMEOUT: Duration = Duration::from_mins(1);
/// Time limit for the first tenant, before any fault.
const FIRST_TENANT_TIMEOUT: Duration = Duration::from_secs(30);
/// Time the watcher has to catch up with the last change.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Number of open jobs that the error of a stalled run lists.
const MAX_LISTED: usize = 20;

/// Parameters of a run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Seed of the fault schedule.
    pub seed: u64,
    /// Duration of fault injection.
    pub length: Duration,
    /// Directory of `dezky-api` and `dezky-worker`.
    pub binaries: PathBuf,
    /// Directory for data and logs; an existing one is removed first.
    pub directory: PathBuf,
}

/// Executes a run. An error means that the run could not be completed; violated promises are part of the report.
pub async fn run(options: Options) -> anyhow::Result<Report> {
    if options.directory.exists() {
        fs::remove_dir_all(&options.directory)?;
    }
    fs::create_dir_all(&options.directory)?;
    tracing::info!("Starting the stack");
    let mut stack = Stack::start(&options.binaries, &options.directory).await?;
    let operator = stack.upstreams.operator()?;
    let load = LoadGenerator::new(stack.services.urls.clone(), operator)?;
    load.register_operator().await?;

    copy_tenants(&stack, &load).await?;
    let billing = Billing::start(&load, &stack.stores, options.length).await?;
    let mut documents = FutureDocuments::new(Primary::of(&stack.stores.mongo));

    tracing::info!(seed = options.seed, "Injecting faults");
    let hits = run_under_faults(&mut stack, &load, &billing, &mut documents, &options).await?;

    tracing::info!("Faults removed; waiting until all jobs are final");
    let faults_removed = Instant::now();
    stack.services.restart_exited().await?;
    for upstream in Upstream::CALLED {
        load.resume_upstream(upstream).await;
    }
    for slug in Stored::suspended_with_member_jobs(primary(&stack.stores).await?).await? {
        load.resume(&slug).await;
    }
    let waited_for = bulk::change_behind_bulk(&stack, &load).await?;
    let except = documents.may_stay_open();
    let stalled = wait_until_final(&stack.stores, Some(&except), SHORT_STALL_TIMEOUT).await?;
    load.list().await;
    documents.repair().await?;
    expect_final(&stack.stores).await?;
    let drain_time = faults_removed.elapsed();
    let stored = read_stored(&stack.stores).await?;
    let logs = (0..REPLICAS).map(|n| options.directory.join(worker_name(n)).with_extension("log"));
    let logs: Vec<PathBuf> = logs.collect();
    let checks_before_reconcile = [
        convergence::documents_jobs_and_upstreams_agree(&stored, &stack.upstreams),
        large_work::every_member_of_a_suspended_tenant_is_suspended(&stored, &stack.upstreams),
        convergence::no_tenant_or_member_is_pending_without_a_job(&stored),
        documents.stop_nothing_else(stalled),
        documents.each_is_processed_once_it_is_repaired(&stored),
        documents.each_is_reported(&logs)?,
    ];
    let checks_in_calm = calm::disturb(&stack, &load, logs).await?;
    expect_final(&stack.stores).await?;
    let stored = read_stored(&stack.stores).await?;
    let unconverged = stored.unconverged();
    for slug in unconverged.keys() {
        load.reconcile(slug).await;
    }
    load.invoice_all().await;
    load.sync_all_billing().await;
    expect_final(&stack.stores).await?;
    load.fetch_stripe_events().await;
    expect_final(&stack.stores).await?;
    stack.services.restart_exited().await?;
    let stored = read_stored(&stack.stores).await?;
    wait_until_observed(&stack.watcher, &stored).await;

    let secrets = load.log().secrets.clone();
    let directory = &options.directory;
    let secrets_found =
        secret_search::no_told_secret_is_stored_or_logged(&secrets, &stack.stores, directory);
    let secrets_found = secrets_found.await?;
    let records = BillingRecords::read(primary(&stack.stores).await?).await?;
    let stripe = stack.upstreams.stripe.snapshot();
    let checks_of_billing = billing::check_all(&records, &stored, &stripe);
    let behind_bulk = bulk::a_change_does_not_wait_for_bulk_work(&waited_for, &stack.watcher);
    let report = {
        let requests = load.log();
        let observed = stack.watcher.observations();
        let checks = invariants::check_all(&Evidence {
            hits: &hits,
            requests: &requests,
            stored: &stored,
            observed: &observed,
            unexpected_exits: &stack.services.unexpected_exits,
            upstreams: &stack.upstreams,
            reconciled: unconverged.len(),
        });
        Report {
            hits,
            requests: report::request_counts(&requests),
            requests_sent: requests.sent(),
            jobs: stored.count_by_state(),
            rescues: observed.rescues,
            drain_time,
            unconverged: unconverged.len(),
            checks: checks
                .into_iter()
                .chain(checks_before_reconcile)
                .chain(checks_in_calm)
                .chain(checks_of_billing)
                .chain([secrets_found, behind_bulk])
                .collect(),
            options,
        }
    };
    stack.stop().await;
    Ok(report)
}

/// Injects all scheduled faults while customers send requests.
async fn run_under_faults(
    stack: &mut Stack,
    load: &LoadGenerator,
    billing: &Billing,
    documents: &mut FutureDocuments,
    options: &Options,
) -> anyhow::Result<BTreeMap<FaultKind, Injections>> {
    let schedule = Schedule::new(options.seed, options.length);
    let log = InjectionLog::begin();
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
    let stripe = &upstreams.stripe;
    let billed = (0..billing::OPERATORS).map(|number| {
        let seed = options.seed.wrapping_mul(billing::OPERATORS);
        billing.operate(load, stripe, seed.wrapping_add(number), &end)
    });
    let at_stripe = billing::live_at_stripe(stripe, &load.client.urls, options.seed, &end);
    let upstream_faults = schedule
        .upstreams
        .iter()
        .map(|(upstream, track)| inject_upstream_faults(upstreams.faults(*upstream), track, &log));
    let faults = async {
        let ocis = upstreams.faults(Upstream::Ocis);
        let (processes, stores, documents, (), (), _) = tokio::join!(
            services.inject_faults(&schedule.processes, &log),
            stores.inject_faults(&schedule.stores, &log, ocis, load),
            documents.place(&schedule.documents, load, &upstreams.authentik, &log),
            load.inject_pauses(&schedule.operators, &log),
            load.request_large_work(&upstreams.authentik, &schedule.large_work, &log),
            future::join_all(upstream_faults),
        );
        end.cancel();
        processes.context("injecting faults into processes")?;
        stores.context("injecting faults into stores")?;
        documents.context("placing documents")
    };
    let (outcome, _, _, ()) = tokio::join!(
        faults,
        future::join_all(customers),
        future::join_all(billed),
        at_stripe,
    );
    outcome?;
    Ok(log.into_hits())
}

async fn primary(stores: &Stores) -> anyhow::Result<&Client> {
    let primary = stores.mongo.until_primary().await?;
    Ok(&stores.mongo.members[primary].client)
}

async fn read_stored(stores: &Stores) -> anyhow::Result<Stored> {
    Ok(Stored::read(primary(stores).await?).await?)
}

/// Waits until every job is final, `except` for those that match. Returns the open jobs if none of them has become final
/// for this time.
async fn wait_until_final(
    stores: &Stores,
    except: Option<&Document>,
    stall_timeout: Duration,
) -> anyhow::Result<Vec<String>> {
    let mut deadline = Instant::now() + stall_timeout;
    let mut fewest = usize::MAX;
    loop {
        let open = Stored::open_jobs(primary(stores).await?, except).await?;
        if open.is_empty() {
            return Ok(open);
        }
        if open.len() < fewest {
            fewest = open.len();
            deadline = Instant::now() + stall_timeout;
        }
        if Instant::now() > deadline {
            return Ok(open);
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Waits until every job is final. Fails with a list of the open jobs if there is no progress.
async fn expect_final(stores: &Stores) -> anyhow::Result<()> {
    let open = wait_until_final(stores, None, STALL_TIMEOUT).await?;
    let listed = open[..open.len().min(MAX_LISTED)].join("\n  ");
    ensure!(
        open.is_empty(),
        "{} jobs are not final, without progress for {STALL_TIMEOUT:?}:\n  {listed}",
        open.len()
    );
    Ok(())
}

/// Stores copies of a first tenant, once it is provisioned.
async fn copy_tenants(stack: &Stack, load: &LoadGenerator) -> anyhow::Result<()> {
    let first = load.create_tenant("first").await;
    let slug = first.context("the first tenant was refused")?.slug;
    let database = primary(&stack.stores).await?.database(DATABASE);
    let tenants = database.collection::<Document>("tenants");
    let active = doc! { "slug": &slug, "status": "active" };
    let deadline = Instant::now() + FIRST_TENANT_TIMEOUT;
    while tenants.find_one(active.clone()).await?.is_none() {
        ensure!(Instant::now() < deadline, "the first tenant is not active");
        sleep(POLL_INTERVAL).await;
    }
    let template = Template {
        slug: &slug,
        database: &database,
        authentik: &stack.upstreams.authentik,
        ocis: &stack.upstreams.ocis,
    };
    template.copy("copy", COPIES).await
}

/// Waits until the watcher has observed the end of every stored job. A timeout is found later, by a check.
async fn wait_until_observed(watcher: &Watcher, stored: &Stored) {
    let deadline = Instant::now() + CATCH_UP_TIMEOUT;
    let has_caught_up = || {
        let observed = watcher.observations();
        stored.jobs.iter().all(|job| observed.saw_end_of(job))
    };
    while !has_caught_up() && Instant::now() < deadline {
        sleep(POLL_INTERVAL).await;
    }
}
