//! Failure of each call: for every job kind, every upstream call fails once with every failure. The job is retried or ends
//! by the class of the failure, and upstreams and tenant end as without failures, with no effect happening twice.
//!
//! In one run all calls fail with the same failure, one after another, once each: the first call of an operation, then
//! each that follows an answered one. That is stricter than one failure at a time, and a hundred times as fast.

mod documents;
mod members;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bson::{DateTime, doc};
use dezky_shared::{
    queue::{
        args::{
            ApplyAllowance, ClosePayouts, ImportMembers, InvoiceSubscription, ProvisionApp,
            RecheckDomain, RecheckDueDomains, ReconcileTenants, ReleasePayout, RunInvoices,
            RunJobOperation, SnapshotSubscriptions, SummarizeMonths, SweepBilling, TrimAudit,
        },
        error_code::RetryPolicy,
        job::{Job, JobArgs as _, JobState, Step},
    },
    store::TransactionError,
    upstream::Upstream,
};
use dezky_sim::faults::{Fault, FaultRule};
use futures::{FutureExt as _, StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    answer_lost::writes_in_the_sources,
    harness::until,
    scenarios::{self, Scenario, Scene},
    world::World,
};

/// Number of worlds that run concurrently: a worker is busy also while it waits.
const AT_ONCE: usize = 3;
/// Timeout of an operator's wait.
const PATIENCE: Duration = Duration::from_secs(1);
/// Kinds that call none of these upstreams.
const SILENT: [&str; 14] = [
    ApplyAllowance::KIND,
    ClosePayouts::KIND,
    ImportMembers::KIND,
    InvoiceSubscription::KIND,
    RunInvoices::KIND,
    ReconcileTenants::KIND,
    ReleasePayout::KIND,
    RunJobOperation::KIND,
    RecheckDomain::KIND,
    RecheckDueDomains::KIND,
    SnapshotSubscriptions::KIND,
    SummarizeMonths::KIND,
    SweepBilling::KIND,
    TrimAudit::KIND,
];
/// Writes that may happen twice, where the second replaces the first. Their jobs have their own tests.
const REPLACED: [&str; 1] = ["create_recovery_link"];

#[tokio::test(flavor = "multi_thread")]
async fn provisioning_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::PROVISION).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provisioning_a_change_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::PROVISION_CHANGED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reconciling_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::RECONCILE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reconciling_a_suspended_tenant_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::RECONCILE_SUSPENDED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suspending_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::SUSPEND).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resuming_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::RESUME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deprovisioning_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::DEPROVISION).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provisioning_a_domain_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::PROVISION_DOMAIN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changing_the_dmarc_policy_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::SET_DMARC).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_domain_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::REMOVE_DOMAIN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inviting_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::INVITE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn synchronising_a_team_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::SYNC_TEAM).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provisioning_an_app_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::PROVISION_APP).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provisioning_an_app_of_a_suspended_tenant_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::PROVISION_APP_SUSPENDED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rotating_an_apps_secret_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::ROTATE_APP_SECRET).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_an_app_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::REMOVE_APP).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reconciling_apps_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::RECONCILE_APPS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suspending_apps_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::SUSPEND_APPS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resuming_apps_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::RESUME_APPS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deprovisioning_apps_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::DEPROVISION_APPS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checking_all_spaces_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::CHECK_SPACES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn measuring_a_tenant_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::MEASURE_STORAGE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn measuring_all_tenants_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::MEASURE_ALL_STORAGE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_up_second_factors_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::LOOK_UP_MFA).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resetting_second_factors_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::RESET_MFA).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn creating_a_customer_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::SYNC_BILLING).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changing_a_customer_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::SYNC_BILLING_CHANGED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn selling_by_card_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::SELL_BY_CARD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changing_a_card_subscription_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::CHANGE_BY_CARD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ending_a_card_subscription_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::END_BY_CARD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mirroring_a_subscription_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::MIRROR_SUBSCRIPTION).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn creating_a_setup_intent_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::CREATE_SETUP_INTENT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn setting_a_card_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::SET_DEFAULT_CARD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mirroring_a_customer_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::MIRROR_CUSTOMER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mirroring_an_invoice_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::MIRROR_INVOICE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn issuing_an_invoice_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::ISSUE_INVOICE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn voiding_an_invoice_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::VOID_INVOICE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_and_every_write_is_covered() {
    let kinds: BTreeSet<&str> = dezky_worker::jobs::registry().kinds().collect();
    let writes = writes_in_the_sources();

    let mut reached = BTreeSet::new();
    let mut undisturbed = stream::iter(scenarios::ALL)
        .map(|scenario| tell(scenario, None))
        .buffer_unordered(4);
    while let Some(told) = undisturbed.next().await {
        reached.extend(told.asked.into_keys().map(|(_, operation)| operation));
    }

    let spoken = scenarios::ALL.map(|scenario| scenario.kind);
    let tabled: BTreeSet<&str> = spoken.into_iter().chain(SILENT).collect();
    assert_eq!(tabled, kinds);
    reached.extend(REPLACED.map(str::to_owned));
    let missed: Vec<&String> = writes.difference(&reached).collect();
    assert_eq!(missed, [""; 0]);
}

/// A failure and its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    Reset,
    Unavailable,
    RateLimited,
    AnswerLost,
    Html,
    Truncated,
    Refused,
    Credentials,
}

impl Failure {
    const ALL: [Self; 8] = [
        Self::Reset,
        Self::Unavailable,
        Self::RateLimited,
        Self::AnswerLost,
        Self::Html,
        Self::Truncated,
        Self::Refused,
        Self::Credentials,
    ];

    fn fault(self) -> Fault {
        let status = |status, retry_after| Fault::Status {
            status,
            retry_after,
        };
        match self {
            Self::Reset => Fault::Reset,
            Self::Unavailable => status(503, None),
            // Without a Retry-After, Stalwart reports a banned address.
            Self::RateLimited => status(429, Some(0)),
            Self::AnswerLost => Fault::AnswerLost,
            Self::Html => Fault::Html,
            Self::Truncated => Fault::Truncated,
            Self::Refused => status(400, None),
            Self::Credentials => status(401, None),
        }
    }
}

/// Upstream and operation.
type Call = (Upstream, String);
/// Number of calls by upstream and operation.
type Asked = BTreeMap<Call, u32>;

/// The result of a scenario.
struct Told {
    asked: Asked,
    /// The calls that failed.
    failed: BTreeSet<Call>,
    /// Each time that the job was final or deferred.
    ends: Vec<End>,
    effects: Vec<String>,
    holdings: Value,
    fate: Value,
}

/// The state of a job that is final or deferred.
struct End {
    job: Job,
    /// Upstreams that had failed by then.
    failed: BTreeSet<Upstream>,
    /// Upstreams for which the tenant reports an error.
    told: BTreeSet<Upstream>,
}

async fn each_call_fails(scenario: &Scenario) {
    let undisturbed = tell(scenario, None).await;
    assert_eq!(undisturbed.ends.len(), 1);
    assert_eq!(undisturbed.ends[0].job.state, JobState::Completed);
    assert!(!undisturbed.asked.is_empty());

    let failed: Vec<BTreeSet<Call>> = stream::iter(Failure::ALL)
        .map(async |failure| {
            let told = tell(scenario, Some((failure, &undisturbed.asked))).await;

            let about = format!("{failure:?}: {:#?}", told.ends.last().unwrap().job);
            for end in &told.ends {
                must_match_the_failure_class(failure, end, &format!("{failure:?}: {:#?}", end.job));
            }
            let is_rolled_back = failure == Failure::Refused && scenario.kind == ProvisionApp::KIND;
            let effects = if is_rolled_back {
                without_rollbacks(told.effects)
            } else {
                told.effects
            };
            assert_eq!(effects, undisturbed.effects, "{about}");
            assert_eq!(told.holdings, undisturbed.holdings, "{about}");
            assert_eq!(told.fate, undisturbed.fate, "{about}");
            told.failed
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;

    // A call may become unnecessary after another one failed, but then it fails in the run of another failure.
    let failed: BTreeSet<Call> = failed.into_iter().flatten().collect();
    assert!(undisturbed.asked.into_keys().eq(failed));
}

/// The effects without rollbacks, after each of which the job created the objects again. That none is there twice at the
/// end, the upstream's state shows.
fn without_rollbacks(mut effects: Vec<String>) -> Vec<String> {
    effects.retain(|effect| !effect.starts_with("delete_"));
    effects.dedup();
    effects
}

fn must_match_the_failure_class(failure: Failure, end: &End, about: &str) {
    let job = &end.job;
    match (failure, job.state) {
        (_, JobState::Completed) => {}
        // Not retried before an operator intervenes.
        (Failure::Refused, JobState::Discarded) => {
            assert_eq!(job.attempt, 1, "{about}");
            must_affect_only_failed_upstreams(end, about);
        }
        // As above, but uncharged.
        (Failure::Credentials, JobState::Available) => {
            assert_eq!(job.attempt, 0, "{about}");
            must_affect_only_failed_upstreams(end, about);
        }
        _ => panic!("{about}"),
    }
    // A write is in doubt, which is charged.
    let is_unknown = matches!(
        failure,
        Failure::Reset | Failure::AnswerLost | Failure::Html | Failure::Truncated
    );
    assert!(is_unknown || job.attempt <= 1, "{about}");
}

/// Asserts that only steps of failed upstreams failed, that the tenant reports exactly these, and that all others are done.
fn must_affect_only_failed_upstreams(end: &End, about: &str) {
    let (failed, others): (Vec<&Step>, Vec<&Step>) =
        end.job.steps.iter().partition(|step| step.error.is_some());
    assert!(!failed.is_empty(), "{about}");
    assert!(others.iter().all(|step| step.state.is_done()), "{about}");
    let upstreams = Upstream::ALL.into_iter();
    let named: BTreeSet<Upstream> = upstreams
        .filter(|upstream| failed.iter().any(|step| step.name == upstream.name()))
        .collect();
    assert!(named.is_subset(&end.failed), "{about}");
    // Steps of a domain have other names and do not report to the tenant.
    if named.len() == failed.len() {
        assert_eq!(end.told, named, "{about}");
    }
}

async fn tell(scenario: &Scenario, failure: Option<(Failure, &Asked)>) -> Told {
    let world = World::start_with(|_, times| {
        times.retry_base = Duration::ZERO;
        times.identity_wait = Duration::from_millis(50);
        times.in_doubt_wait = Duration::from_millis(50);
        // An open breaker would prevent calls that should fail.
        times.circuit.failures = u32::MAX;
    })
    .await;
    let scene = (scenario.prepare)(&world).await;
    let before = requests(&world);
    if let Some((failure, asked)) = failure {
        inject_failures(&world, failure, asked);
    }

    let job = (scenario.enqueue)(&world, &scene).await;
    let ends = until_completed(&world, scenario, &scene, job).await;
    until_followers_completed(&world).await;

    let failed = failure.map(|(_, asked)| failed(&world, asked));
    let mut asked = requests(&world);
    asked.retain(|call, times| {
        *times -= before.get(call).copied().unwrap_or_default();
        *times > 0
    });
    let told = Told {
        asked,
        failed: failed.unwrap_or_default(),
        ends,
        effects: world.sorted_effects(),
        holdings: world.upstream_state(),
        fate: json!([
            world.tenant_state(scene.tenant).await,
            documents::claim(&world, &scene).await,
            documents::app(&world, &scene).await,
            world.upstreams.authentik.openings(),
            documents::member(&world, &scene).await,
        ]),
    };
    world.stop().await;
    told
}

fn requests(world: &World) -> Asked {
    let servers = world.upstreams.servers();
    let requests = servers.iter().flat_map(|(upstream, server)| {
        let requests = server.faults.requests().into_iter();
        requests.map(|(operation, times)| ((*upstream, operation), u32::try_from(times).unwrap()))
    });
    requests.collect()
}

/// Injects one failure for each call of the undisturbed run: the first call of an operation, then each that follows an
/// answered one.
fn inject_failures(world: &World, failure: Failure, asked: &Asked) {
    for (name, server) in world.upstreams.servers() {
        for ((upstream, operation), times) in asked {
            for after in (0..*times).filter(|_| *upstream == name) {
                let rule = FaultRule::once_after(operation, after, failure.fault());
                server.faults.add(rule);
            }
        }
    }
}

/// Calls that failed at least once.
fn failed(world: &World, asked: &Asked) -> BTreeSet<Call> {
    let servers = world.upstreams.servers();
    let unmet: BTreeMap<Upstream, Vec<FaultRule>> = servers
        .iter()
        .map(|(upstream, server)| (*upstream, server.faults.unmet()))
        .collect();
    let has_failed = |(upstream, operation): &Call, times: u32| {
        let unmet = unmet[upstream].iter();
        let spared = unmet.filter(|rule| rule.operation.as_ref() == Some(operation));
        spared.count() < times as usize
    };
    let failed = asked
        .iter()
        .filter(|(call, times)| has_failed(call, **times));
    failed.map(|(call, _)| call.clone()).collect()
}

/// Acts as the operator whenever the job is final or deferred, until it completes.
async fn until_completed(
    world: &World,
    scenario: &Scenario,
    scene: &Scene,
    mut job: Job,
) -> Vec<End> {
    let harness = &world.harness;
    let mut ends = Vec::new();
    loop {
        // Unlimited attempts.
        let patient = doc! { "maxAttempts": 1_000 };
        harness.edit_job(job.id, patient).await;
        job = harness.job_until(job.id, needs_operator).await;
        let hits = hits(world);
        ends.push(End {
            job: job.clone(),
            failed: hits
                .iter()
                .filter(|(_, hits)| **hits > 0)
                .map(|(upstream, _)| *upstream)
                .collect(),
            told: told(world, scene).await,
        });
        match job.state {
            // A final job has no secrets any more: the password is issued again.
            JobState::Discarded if job.had_secrets => {
                job = (scenario.enqueue)(world, scene).await;
            }
            JobState::Discarded => job = requeue(world, &job).await,
            JobState::Available => {
                resume(world).await;
                // Repeated if nothing happens: on a busy machine the worker may have missed the hint.
                while !goes_on(world, &job, &hits).await {
                    resume(world).await;
                }
            }
            _ => return ends,
        }
    }
}

/// Waits for the jobs that the job enqueued. One that met the failure waits for the operator, too.
async fn until_followers_completed(world: &World) {
    for _ in 0..20 {
        if timeout(PATIENCE, world.until_idle()).await.is_ok() {
            return;
        }
        resume(world).await;
    }
    panic!("jobs that were enqueued by the job do not end");
}

/// Whether the job ends or fails again within the time limit.
async fn goes_on(world: &World, job: &Job, before: &BTreeMap<Upstream, u64>) -> bool {
    let look = async || {
        let is_over = world.harness.job(job.id).await.state.is_final();
        is_over || hits(world) != *before
    };
    timeout(PATIENCE, until(look, |&goes_on| goes_on))
        .await
        .is_ok()
}

/// Number of failures of each upstream.
fn hits(world: &World) -> BTreeMap<Upstream, u64> {
    let servers = world.upstreams.servers().into_iter();
    let hits = servers.map(|(upstream, server)| (upstream, server.faults.hits()));
    hits.collect()
}

/// Upstreams for which the tenant, or the member that the job is about, reports an error.
async fn told(world: &World, scene: &Scene) -> BTreeSet<Upstream> {
    let errors = match &scene.member {
        Some(member) => world.member(member.id).await.provisioning_errors,
        None => world.tenant(scene.tenant).await.provisioning_errors,
    };
    let told = Upstream::ALL.into_iter();
    told.filter(|upstream| errors.get(*upstream).is_some())
        .collect()
}

/// Whether the job is final, or deferred because of refused credentials.
fn needs_operator(job: &Job) -> bool {
    let is_held = job.state == JobState::Available
        && job.steps.iter().any(is_held)
        && job
            .steps
            .iter()
            .all(|step| step.state.is_done() || is_held(step));
    is_held || job.state.is_final()
}

fn is_held(step: &Step) -> bool {
    let error = step.error.as_ref();
    error.is_some_and(|error| error.code.retry_policy() == RetryPolicy::AfterHold)
}

/// Requeues the job, as an operator does after resolving the rejection.
async fn requeue(world: &World, job: &Job) -> Job {
    let again = world.harness.requeue(job.id).await.unwrap().job;
    let ready = &world.harness.context.ready;
    ready.notify(std::slice::from_ref(&again)).await;
    again
}

/// Resumes all upstreams, as an operator does after replacing the credentials.
async fn resume(world: &World) {
    let context = &world.harness.context;
    for upstream in Upstream::CALLED {
        let resumed: Result<_, TransactionError<()>> = context
            .store
            .transaction(context, |session, context| {
                async move {
                    let now: DateTime = context.store.now();
                    Ok(context.upstreams.resume(session, upstream, now).await?)
                }
                .boxed()
            })
            .await;
        resumed.unwrap();
    }
}
