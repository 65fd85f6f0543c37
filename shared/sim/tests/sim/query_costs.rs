//! Query costs: in a large database no query of a repository reads more than a constant of what it returns.

mod coverage;
mod fixture;

use std::{fmt::Debug, time::Duration};

use bson::{Document, doc};
use dezky_shared::{
    audit::hash_chain::Chain,
    billing::{Cycle, Plan},
    id::{InvitationId, JobId, JobOperationId, PriceId, SnapshotId, SubscriptionId, TenantId},
    partner::PartnerStatus,
    platform::clock,
    queue::{
        error_code::{ErrorClass, ErrorCode},
        job::{JobState, Queue},
        job_operation::{ItemOutcome, JobSelection},
    },
    store::{
        TransactionError, VersionedRepository as _, audit::AuditFilter,
        idempotency::IdempotencyKey, jobs::JobFilter, subscriptions::SubscriptionFilter,
        tenants::TenantFilter, users::UserFilter,
    },
    subscription::SubscriptionStatus,
    tenant::TenantStatus,
    upstream::Upstream,
};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};

use self::fixture::Fixture;

/// Documents of a page.
const PAGE: i64 = 25;
/// Keys and documents read for a page: each document and its key, and a few keys of each scan that is merged.
const PAGED: i64 = 4 * PAGE;
/// Keys and documents read for a page without a limit: MongoDB compares plans by their first 101 results.
const TRIED: i64 = 3 * 101;
/// Keys and documents read for a page of tenants: at most as many as the caller may see, here half of all.
const VISIBLE: i64 = 6_000;
/// Keys and documents read for one document, and again on a miss.
const ONE: i64 = 8;
/// Limit on counted jobs, of which each is a key.
const COUNTED: i64 = 12_000;

/// The queries that were run, with the keys and documents that each read.
struct Costs<'a> {
    fixture: &'a Fixture,
    measured: Vec<(&'static str, i64, i64)>,
}

impl Costs<'_> {
    /// Runs a query that may read at most `most` keys and documents.
    async fn of<T, E: Debug>(
        &mut self,
        query: &'static str,
        most: i64,
        run: impl Future<Output = Result<T, E>>,
    ) -> T {
        let database = self.fixture.store.database();
        let _ = database
            .run_command(doc! { "drop": "system.profile" })
            .await;
        database.run_command(doc! { "profile": 2 }).await.unwrap();
        let result = run.await;
        database.run_command(doc! { "profile": 0 }).await.unwrap();
        let profile = self.fixture.store.collection::<Document>("system.profile");
        let entries: Vec<Document> = profile
            .find(doc! {})
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        let number = |entry: &Document, name: &str| {
            let number = entry
                .get_i64(name)
                .or_else(|_| entry.get_i32(name).map(i64::from));
            number.unwrap_or(0)
        };
        let read: i64 = entries
            .iter()
            .map(|entry| number(entry, "keysExamined") + number(entry, "docsExamined"))
            .sum();
        self.measured.push((query, most, read));
        result.unwrap_or_else(|error| panic!("{query}: {error:?}"))
    }
}

/// Measures a query of a repository.
macro_rules! cost {
    ($costs:ident, $most:expr, $repository:ident.$method:ident($($argument:expr),* $(,)?)) => {{
        let fixture = $costs.fixture;
        $costs
            .of(
                concat!(stringify!($repository), ".", stringify!($method), "(", stringify!($($argument),*), ")"),
                $most,
                fixture.$repository.$method($($argument),*),
            )
            .await
    }};
}

/// Measures a query of a repository in a transaction.
macro_rules! cost_in_transaction {
    ($costs:ident, $most:expr, $repository:ident.$method:ident($($argument:expr),* $(,)?)) => {{
        let fixture = $costs.fixture;
        let run = fixture.store.transaction(&fixture.$repository, |session, repository| {
            async move { Ok::<_, TransactionError<()>>(repository.$method(session, $($argument),*).await?) }.boxed()
        });
        $costs
            .of(concat!(stringify!($repository), ".", stringify!($method)), $most, run)
            .await
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn no_query_of_a_repository_reads_more_than_a_constant_of_what_it_returns() {
    let fixture = Fixture::new().await;
    let mut costs = Costs {
        fixture: &fixture,
        measured: Vec::new(),
    };

    jobs(&mut costs).await;
    tenants(&mut costs).await;
    people(&mut costs).await;
    sales(&mut costs).await;
    audit(&mut costs).await;
    control(&mut costs).await;

    let excessive: Vec<_> = costs
        .measured
        .iter()
        .filter(|(_, most, read)| read > most)
        .collect();
    assert!(
        excessive.is_empty(),
        "(query, limit, keys and documents read): {excessive:#?}"
    );
    assert!(
        costs.measured.iter().any(|(_, _, read)| *read > 0),
        "nothing was measured"
    );
}

async fn jobs(costs: &mut Costs<'_>) {
    let fixture = costs.fixture;
    let (now, parent, tenant) = (fixture.now, fixture.parent, fixture.tenant_ids[0]);
    let job = fixture.due_job().await;
    let rare = || Some("trim_audit".to_owned());
    let of_state = |state| JobFilter {
        state: Some(state),
        ..JobFilter::default()
    };
    let of_parent = JobFilter {
        parent: Some(parent),
        ..JobFilter::default()
    };
    let filters = [
        JobFilter::default(),
        of_state(JobState::Running),
        of_state(JobState::Cancelled),
        JobFilter {
            kind: rare(),
            ..JobFilter::default()
        },
        JobFilter {
            kind: rare(),
            ..of_state(JobState::Completed)
        },
        of_parent.clone(),
        JobFilter {
            state: Some(JobState::Cancelled),
            ..of_parent.clone()
        },
        JobFilter {
            changed: Some(true),
            ..of_parent.clone()
        },
        JobFilter {
            changed: Some(false),
            ..of_parent
        },
        JobFilter {
            tenants: Some(vec![tenant]),
            ..JobFilter::default()
        },
        JobFilter {
            tenants: Some(fixture.tenant_ids[..50].to_vec()),
            ..JobFilter::default()
        },
        JobFilter {
            tenants: Some(fixture.tenant_ids[..5_000].to_vec()),
            ..JobFilter::default()
        },
    ];
    for filter in &filters {
        // A scan for each of a few tenants is merged. The jobs of many are found newest first, within a time limit.
        let tenants = filter.tenants.as_ref().map_or(0, Vec::len);
        let scans = i64::try_from(tenants).unwrap() * if tenants > 100 { 3 } else { 2 };
        cost!(costs, TRIED + scans, jobs.list(filter, PAGE));
    }
    cost!(costs, ONE, jobs.find(job.id));
    cost!(costs, ONE, jobs.find(JobId::new()));
    cost!(costs, ONE, jobs.find_holder(&job.lock_key));
    cost!(costs, COUNTED, jobs.count_ahead(&job, now));
    cost!(costs, PAGED, jobs.list_by_ids(&[job.id, parent]));
    cost!(costs, PAGED, jobs.revisions(&[job.id, parent]));
    cost!(costs, 5 * COUNTED, jobs.count_children(parent));

    let selection = |state| JobSelection {
        state,
        kind: None,
        queue: None,
        tenant_id: None,
        error_code: None,
        error_class: None,
        created_after: None,
        created_before: None,
    };
    let discarded = || selection(JobState::Discarded);
    let selections = [
        selection(JobState::Completed),
        JobSelection {
            kind: rare(),
            ..discarded()
        },
        JobSelection {
            error_code: Some(ErrorCode::UpstreamConflict),
            ..discarded()
        },
        JobSelection {
            error_class: Some(ErrorClass::Conflict),
            ..discarded()
        },
        JobSelection {
            tenant_id: Some(tenant),
            ..discarded()
        },
    ];
    for selection in &selections {
        cost!(costs, PAGED, jobs.select(selection, PAGE));
        cost!(costs, PAGED, jobs.count_selected(selection, 25));
        cost!(costs, PAGED, jobs.sample_selected(selection, PAGE));
    }
    for queue in Queue::ALL {
        cost!(costs, 2 * COUNTED, queues.stats(queue, now));
    }
    cost!(costs, PAGED, job_operations.list(None, PAGE));
    cost!(costs, ONE, job_operations.find(JobOperationId::new()));
    cost!(
        costs,
        PAGED,
        job_operations.list_items(JobOperationId::new(), Some(ItemOutcome::Pending), 0, PAGE)
    );
}

async fn tenants(costs: &mut Costs<'_>) {
    let fixture = costs.fixture;
    let (id, partner) = (fixture.tenant_ids[0], fixture.partner_ids[0]);
    let few = &fixture.tenant_ids[..10];
    let filter = TenantFilter::default;
    let filters = [
        filter(),
        TenantFilter {
            status: Some(TenantStatus::Terminating),
            ..filter()
        },
        TenantFilter {
            plan: Some(Plan::Enterprise),
            ..filter()
        },
        TenantFilter {
            plan: Some(Plan::Business),
            ..filter()
        },
        TenantFilter {
            plan: Some(Plan::Starter),
            status: Some(TenantStatus::Terminated),
            ..filter()
        },
        TenantFilter {
            partner_id: Some(partner),
            ..filter()
        },
        TenantFilter {
            partner_id: Some(partner),
            status: Some(TenantStatus::Pending),
            ..filter()
        },
        TenantFilter {
            visible: Some(few.to_vec()),
            ..filter()
        },
        TenantFilter {
            visible: Some(few.to_vec()),
            visible_partner: Some(partner),
            ..filter()
        },
        TenantFilter {
            visible: Some(few.to_vec()),
            visible_partner: Some(partner),
            status: Some(TenantStatus::Pending),
            ..filter()
        },
        TenantFilter {
            visible: Some(fixture.tenant_ids.clone()),
            after: Some(fixture.tenant_ids[5_000]),
            ..filter()
        },
    ];
    for filter in &filters {
        cost!(costs, VISIBLE, tenants.list(filter, PAGE));
    }
    cost!(costs, ONE, tenants.find(id));
    cost!(costs, ONE, tenants.find(TenantId::new()));
    cost!(costs, ONE, tenants.find_by_slug("t5"));
    cost!(costs, ONE, tenants.find_by_slug("none"));
    cost!(
        costs,
        PAGED,
        tenants.list_by_slugs(&["t1".to_owned(), "none".to_owned()])
    );
    cost!(costs, PAGED, tenants.list_by_ids(few));
    cost!(costs, PAGED, tenants.revisions(few));
    cost!(costs, ONE, tenants.estimated_count());
    let later = clock::later(fixture.now, Duration::from_hours(1));
    cost!(
        costs,
        PAGED,
        tenants.list_for_snapshot(later, Some(id), PAGE)
    );
    let groups = ["g7".to_owned(), "none".to_owned()];
    cost!(costs, PAGED, tenants.groups_granting_sign_in(&groups, id));
    cost!(costs, PAGED, tenants.tenants_blocking_sign_in(&groups));
    cost_in_transaction!(
        costs,
        PAGED,
        tenants.any_outside_partner(&[], &["g7".to_owned()], partner)
    );
    cost!(
        costs,
        PAGED,
        tenants.list_space_holders(&["none".to_owned()])
    );
    cost!(costs, PAGED, tenants.list_spaces_of(&[id]));
    // Proportional to the partner's own tenants.
    let small = fixture.partner_ids[900];
    cost!(costs, PAGED, tenants.list_ids_of_partner(small));
    cost!(costs, 2 * PAGED, tenants.partner_revenue(&[small]));
    // A stream, of which the first batches are read.
    let first = async {
        let ids = fixture.tenants.ids_not_terminated(Some(id)).await?;
        ids.take(25).try_collect::<Vec<_>>().await
    };
    costs.of("tenants.ids_not_terminated(", 2_500, first).await;

    cost!(costs, PAGED, domains.list(id, None, PAGE));
    cost!(costs, PAGED, domains.list_owned(id));
    cost!(costs, PAGED, domains.count_owned(id));
    cost!(costs, PAGED, domains.count_by_status(few));
    cost!(costs, PAGED, domains.list_needing_attention(id));
    cost!(costs, ONE, domains.find(fixture.domain_ids[0]));
    cost!(costs, ONE, domains.find_by_name(id, "t0.test"));
    cost!(costs, PAGED, domains.list_due(later, PAGE));
    cost_in_transaction!(costs, ONE, domains.find_owner("t9.test"));
    cost_in_transaction!(costs, PAGED, domains.list_in(id));
    let now = fixture.now;
    cost_in_transaction!(
        costs,
        PAGED,
        domains.recheck_competing_claims(&["t9.test".to_owned()], now)
    );
}

async fn people(costs: &mut Costs<'_>) {
    let fixture = costs.fixture;
    let (id, tenant, partner) = (
        fixture.user_ids[0],
        fixture.tenant_ids[0],
        fixture.partner_ids[0],
    );
    let filter = UserFilter::default;
    let filters = [
        filter(),
        UserFilter {
            email: Some("u7@demo.test".to_owned()),
            ..filter()
        },
        UserFilter {
            partner_id: Some(partner),
            ..filter()
        },
        UserFilter {
            platform_admin: Some(true),
            ..filter()
        },
        UserFilter {
            platform_admin: Some(false),
            ..filter()
        },
        UserFilter {
            tenant_id: Some(tenant),
            ..filter()
        },
    ];
    for filter in &filters {
        cost!(costs, PAGED, users.list(filter, PAGE));
    }
    cost!(costs, ONE, users.find(id));
    cost!(costs, ONE, users.find_by_subject("s1"));
    cost!(costs, ONE, users.find_by_subject("none"));
    cost!(costs, PAGED, users.revisions(&[id]));
    cost!(costs, PAGED, users.count_members(&fixture.tenant_ids[..10]));
    cost!(costs, PAGED, users.list_operators(&["s1", "s999"]));
    cost!(costs, PAGED, users.list_team(partner));
    cost!(costs, PAGED, users.list_team_page(partner, None, PAGE));
    cost!(costs, PAGED, users.partners_of(&["s1", "none"]));
    cost_in_transaction!(costs, ONE, users.find_by_subject_in_transaction("s1"));
    cost_in_transaction!(costs, PAGED, users.count_owners(tenant));
    cost_in_transaction!(costs, PAGED, users.count_team(partner));
    cost_in_transaction!(costs, PAGED, users.count_partner_owners(partner));
    cost_in_transaction!(costs, PAGED, users.last_mfa_check(partner));

    cost!(costs, ONE, invitations.find(InvitationId::new()));
    cost_in_transaction!(costs, ONE, invitations.find_in(InvitationId::new()));
    let now = fixture.now;
    cost!(costs, PAGED, invitations.list_awaiting("unknown", now));
    cost_in_transaction!(costs, PAGED, invitations.count_pending(partner));
    cost_in_transaction!(costs, PAGED, invitations.revoke(partner, "i0@demo.test"));
    cost_in_transaction!(costs, PAGED, invitations.revoke_made_by(partner, id));
}

async fn sales(costs: &mut Costs<'_>) {
    let fixture = costs.fixture;
    let few = &fixture.tenant_ids[..10];
    let (tenant, partner) = (few[0], fixture.partner_ids[0]);
    cost!(costs, ONE, partners.find(partner));
    cost!(costs, ONE, partners.find_by_slug("p7"));
    cost!(costs, PAGED, partners.list(None, None, PAGE));
    cost!(
        costs,
        PAGED,
        partners.list(Some(PartnerStatus::Terminated), None, PAGE)
    );
    cost!(costs, PAGED, partners.revisions(&[partner]));
    cost!(costs, PAGED, partners.list_active(&[partner]));
    cost!(
        costs,
        PAGED,
        partners.list_named(&[partner], &["p7".to_owned()])
    );

    let filter = SubscriptionFilter::default;
    let filters = [
        filter(),
        SubscriptionFilter {
            tenant_id: Some(tenant),
            ..filter()
        },
        SubscriptionFilter {
            visible: Some(few.to_vec()),
            ..filter()
        },
        SubscriptionFilter {
            status: Some(SubscriptionStatus::Cancelled),
            ..filter()
        },
        SubscriptionFilter {
            plan: Some(Plan::Starter),
            ..filter()
        },
    ];
    for filter in &filters {
        cost!(costs, PAGED, subscriptions.list(filter, PAGE));
    }
    cost!(costs, ONE, subscriptions.find(SubscriptionId::new()));
    cost!(costs, PAGED, subscriptions.list_for(few));
    cost!(costs, PAGED, subscriptions.list_live(few));
    cost!(
        costs,
        PAGED,
        snapshots.list(
            "2026-11".parse().unwrap(),
            Some(SnapshotId::deterministic(tenant, "2026-11")),
            PAGE
        )
    );
    cost!(costs, ONE, prices.find(PriceId::new()));
    cost!(costs, PAGED, prices.list_page(None, PAGE));
    cost!(costs, PAGED, prices.list_all());
    cost_in_transaction!(
        costs,
        ONE,
        prices.find_of(Plan::Starter, Cycle::Monthly, "DKK")
    );
}

async fn audit(costs: &mut Costs<'_>) {
    let fixture = costs.fixture;
    let tenant = fixture.tenant_ids[0];
    let filter = AuditFilter::default;
    let filters = [
        filter(),
        AuditFilter {
            tenant: Some(tenant),
            ..filter()
        },
        AuditFilter {
            words: vec!["none".to_owned()],
            ..filter()
        },
        AuditFilter {
            tenant: Some(tenant),
            words: vec!["dezky".to_owned()],
            ..filter()
        },
    ];
    for filter in &filters {
        cost!(costs, PAGED, audit.list(filter, None, PAGE));
        let first = async {
            let events = fixture.audit.list_all(filter).await?;
            events.take(25).try_collect::<Vec<_>>().await
        };
        costs.of("audit.list_all(", 2_500, first).await;
    }
    cost!(costs, PAGED, audit.latest(tenant, PAGE));
    cost!(costs, ONE, audit.find_chain(Some(tenant)));
    cost!(costs, PAGED, audit.list_chains("", PAGE));
    cost!(costs, PAGED, audit.list_unsealed());
    cost!(costs, PAGED, audit.backlog());
    // Proportional to the trail's own events.
    cost!(costs, PAGED, audit.verify(Chain::new(Some(tenant))));
    cost!(costs, PAGED, audit.trim(Some(tenant), fixture.now));
    cost!(costs, PAGED, audit.seal(&[Some(tenant)]));
}

async fn control(costs: &mut Costs<'_>) {
    let key = IdempotencyKey {
        id: "none".to_owned(),
        fingerprint: String::new(),
    };
    cost!(costs, ONE, idempotency.find(&key));
    cost!(costs, PAGED, flags.revision());
    cost!(costs, PAGED, flags.all());
    cost!(costs, PAGED, flags.list_page(None, PAGE));
    cost!(costs, ONE, flags.find("none".to_owned()));
    cost_in_transaction!(costs, PAGED, flags.count_in());
    cost!(costs, PAGED, queues.paused());
    cost!(costs, ONE, queues.find(Queue::Dns));
    cost!(costs, PAGED, upstreams.list());
    cost!(costs, ONE, upstreams.find(Upstream::Ocis));
    cost!(costs, PAGED, workers.list());
    cost!(costs, PAGED, dependencies.list());
    cost!(costs, ONE, schedule_ledger.state("none"));
    cost!(costs, PAGED, schedule_ledger.last("none"));
}
