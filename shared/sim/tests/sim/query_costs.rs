//! Query costs: in a large database no query of a repository reads more than a constant of what it returns.

mod coverage;
mod fixture;

use std::{fmt::Debug, time::Duration};

use bson::{Document, doc};
use dezky_shared::{
    billing::{Cycle, Plan, month::Month},
    billing_totals::Scope,
    id::{InvitationId, MemberId, MemberImportId, PriceId, SnapshotId, SubscriptionId, TenantId},
    member_import::RowOutcome,
    partner::PartnerStatus,
    platform::clock,
    queue::job::Queue,
    storage_report::{PersonalSpace, SpaceUsage},
    store::{
        VersionedRepository as _,
        idempotency::IdempotencyKey,
        members::MemberFilter,
        report_months::Part,
        subscriptions::SubscriptionFilter,
        tenants::{TenantFilter, TenantOrder},
        users::UserFilter,
    },
    subscription::SubscriptionStatus,
    tenant::TenantStatus,
    upstream::Upstream,
};
use futures::{StreamExt as _, TryStreamExt as _};

use self::fixture::Fixture;

/// Documents of a page.
const PAGE: i64 = 25;
/// Keys and documents read for a page: each document and its key, and a few keys of each scan that is merged.
const PAGED: i64 = 4 * PAGE;
/// Keys and documents read for a page without a limit: MongoDB compares plans by their first 101 results.
const TRIED: i64 = 3 * 101;
/// Keys and documents read for one document, and again on a miss.
const ONE: i64 = 8;

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
            use futures::FutureExt as _;
            async move { Ok::<_, dezky_shared::store::TransactionError<()>>(repository.$method(session, $($argument),*).await?) }.boxed()
        });
        $costs
            .of(concat!(stringify!($repository), ".", stringify!($method)), $most, run)
            .await
    }};
}

// After the macros, which they use.
mod audit;
mod invoices;
mod jobs;
mod stripe;

#[tokio::test(flavor = "multi_thread")]
async fn no_query_of_a_repository_reads_more_than_a_constant_of_what_it_returns() {
    let fixture = Fixture::new().await;
    let mut costs = Costs {
        fixture: &fixture,
        measured: Vec::new(),
    };

    jobs::measure(&mut costs).await;
    tenants(&mut costs).await;
    people(&mut costs).await;
    members(&mut costs).await;
    imports(&mut costs).await;
    sales(&mut costs).await;
    audit::measure(&mut costs).await;
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
            partner_id: Some(partner),
            plan: Some(Plan::Business),
            ..filter()
        },
        TenantFilter {
            partner_id: Some(partner),
            after: Some(fixture.tenant_ids[50_000]),
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
            plan: Some(Plan::Business),
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
            after: Some(fixture.tenant_ids[50_000]),
            ..filter()
        },
        TenantFilter {
            order: TenantOrder::Newest,
            ..filter()
        },
        TenantFilter {
            order: TenantOrder::Newest,
            partner_id: Some(partner),
            ..filter()
        },
        TenantFilter {
            order: TenantOrder::Slug,
            after_slug: Some("t5".to_owned()),
            ..filter()
        },
        TenantFilter {
            order: TenantOrder::SlugDescending,
            partner_id: Some(partner),
            ..filter()
        },
        TenantFilter {
            words: vec!["t77".to_owned()],
            ..filter()
        },
    ];
    for filter in &filters {
        cost!(costs, TRIED, tenants.list(filter, PAGE));
    }
    cost!(costs, PAGED, tenants.add_missing_words(None, PAGE));
    cost!(costs, ONE, tenants.find(id));
    cost!(costs, ONE, tenants.find(TenantId::new()));
    cost!(costs, ONE, tenants.find_by_slug("t5"));
    cost!(costs, ONE, tenants.find_by_slug("none"));
    cost!(
        costs,
        PAGED,
        tenants.list_by_slugs(&["t1".to_owned(), "none".to_owned()])
    );
    cost!(
        costs,
        PAGED,
        tenants.ids_by_slugs(&["t1".to_owned(), "none".to_owned()])
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
    // The groups of all members of a large tenant, which as they are would exceed the maximum size of a command.
    let group = "0000000000000000000000000000000000000007".to_owned();
    let groups = &vec![group; 400_000];
    cost!(costs, PAGED, tenants.groups_granting_sign_in(groups, id));
    cost!(costs, PAGED, tenants.tenants_blocking_sign_in(groups));
    cost!(costs, PAGED, tenants.list_group_holders(groups));
    cost!(costs, ONE, tenants.find_domain_owner("t1.test"));
    cost_in_transaction!(
        costs,
        PAGED,
        tenants.any_outside_partner(&[], groups, partner)
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
    for partner in [small, partner] {
        let customers = fixture.tenants.list_ids_of_partner(partner).await.unwrap();
        let customers = i64::try_from(customers.len()).unwrap();
        // The tenant and its subscription, each with its key.
        cost!(costs, 4 * customers, tenants.partner_revenue(&[partner]));
    }
    // A stream, of which the first batches are read.
    let first = async {
        let ids = fixture.tenants.ids_not_terminated(Some(id)).await?;
        ids.take(25).try_collect::<Vec<_>>().await
    };
    costs.of("tenants.ids_not_terminated(", 2_500, first).await;
    let first = async {
        let ids = fixture.tenants.ids_on_plan(Plan::Starter, Some(id)).await?;
        ids.take(25).try_collect::<Vec<_>>().await
    };
    // A batch in each of the four statuses.
    costs.of("tenants.ids_on_plan(", 5_000, first).await;
    // Proportional to the tenants of the plan, here half of all: once for each change of an allowance.
    cost!(costs, 50_000, tenants.count_on_plan(Plan::Starter));
    cost!(costs, PAGED, tenants.list_with_mail_domains(Some(id), PAGE));
    cost!(costs, ONE, storage_reports.find_page(id, None, PAGE));
    cost!(costs, PAGED, storage_reports.list_spaces(few));
    cost!(costs, ONE, mfa_reports.find(id));

    cost!(costs, PAGED, apps.list(id, None, PAGE));
    cost!(costs, PAGED, apps.list_all(id));
    cost!(costs, PAGED, apps.count_open(few));
    cost!(costs, PAGED, apps.count_by_tenant(few));
    cost!(costs, PAGED, apps.count_all_open());
    cost!(costs, ONE, apps.find_of(id, fixture.app_id(0)));
    cost_in_transaction!(costs, PAGED, apps.count_in(id));

    cost!(costs, PAGED, domains.list(id, None, PAGE));
    cost!(costs, PAGED, domains.list_owned(id));
    cost!(costs, PAGED, domains.count_owned(id));
    cost!(costs, PAGED, domains.count_by_status(few));
    cost!(costs, PAGED, domains.list_needing_attention(id));
    cost!(costs, ONE, domains.find(fixture.domain_ids[0]));
    cost!(costs, PAGED, domains.revisions(&fixture.domain_ids[..2]));
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
    let tenant = &fixture.tenants.find(id).await.unwrap().unwrap();
    cost_in_transaction!(costs, PAGED, domains.backfill(&mut tenant.clone(), now));
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
    // Proportional to the tenant's own people.
    cost!(costs, PAGED, users.count_mfa(tenant, fixture.now));
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
    cost_in_transaction!(
        costs,
        ONE,
        invitations.find_in_transaction(InvitationId::new())
    );
    let now = fixture.now;
    cost!(costs, PAGED, invitations.list_awaiting("unknown", now));
    cost_in_transaction!(costs, PAGED, invitations.count_pending(partner));
    cost_in_transaction!(costs, PAGED, invitations.revoke(partner, "i0@demo.test"));
    cost_in_transaction!(costs, PAGED, invitations.revoke_made_by(partner, id));
    let user = &fixture.users.find(id).await.unwrap().unwrap();
    cost_in_transaction!(costs, PAGED, invitations.revoke_from(partner, user));
    cost_in_transaction!(costs, PAGED, invitations.revoke_all(user));
}

async fn members(costs: &mut Costs<'_>) {
    let fixture = costs.fixture;
    let (crowded, user) = (fixture.crowded(), fixture.user_ids[7]);
    let filter = MemberFilter::default;
    let words = |words: &[&str]| MemberFilter {
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        ..filter()
    };
    for filter in [filter(), words(&["test"]), words(&["m9001"])] {
        cost!(costs, TRIED, members.list(crowded, &filter, PAGE));
    }
    let without_member = UserFilter {
        tenant_id: Some(crowded),
        without_member: true,
        ..UserFilter::default()
    };
    cost!(costs, TRIED, users.list(&without_member, PAGE));
    cost!(costs, PAGED, users.list_by_ids(&fixture.user_ids[..10]));
    cost!(
        costs,
        ONE,
        members.find_by_user(fixture.tenant_ids[7], user)
    );
    cost!(
        costs,
        PAGED,
        members.count_failing(&fixture.tenant_ids[..10])
    );
    let addresses = vec!["m1@t1.test".to_owned(); 10];
    cost!(costs, PAGED, members.list_by_addresses(crowded, &addresses));
    cost!(
        costs,
        TRIED,
        members.list_without_mailbox(crowded, None, PAGE)
    );
    let member = fixture.members.find_by_user(fixture.tenant_ids[7], user);
    let member = &member.await.unwrap().unwrap();
    cost_in_transaction!(costs, ONE, members.list_of_user(user));
    cost_in_transaction!(costs, PAGED, members.is_elsewhere(member));
    cost_in_transaction!(costs, PAGED, members.has_removable(member));
    cost!(costs, PAGED, members.is_login_elsewhere(member));
    cost!(costs, ONE, members.has_login(crowded, "none@demo.test"));
    cost!(costs, PAGED, members.list_adopted(crowded, &["s1", "none"]));
    cost!(costs, PAGED, members.list_excluded_from_space(crowded));
    let watched = &fixture.tenant_ids[..25];
    // A key of each tenant in each collection.
    cost!(costs, 3 * PAGED, tenant_resource_changes.latest(watched));
    cost!(costs, PAGED, tenant_resource_changes.latest(&[crowded]));
    let since = bson::DateTime::from_millis(0);
    cost!(
        costs,
        PAGED,
        tenant_resource_changes.members_since(crowded, since, PAGE)
    );
    cost!(
        costs,
        PAGED,
        tenant_resource_changes.apps_since(crowded, since, PAGE)
    );
    cost!(
        costs,
        PAGED,
        tenant_resource_changes.domains_since(crowded, since, PAGE)
    );
    cost_in_transaction!(
        costs,
        ONE,
        members.begin_purge(MemberId::new(), fixture.now)
    );
    let addresses = &[member.email.clone(), "a@demo.test".to_owned()];
    cost_in_transaction!(costs, PAGED, members.holders(addresses));
    cost!(costs, PAGED, users.known_emails(addresses));
    let domains = ["demo.test".to_owned(), "d7.test".to_owned()];
    cost!(costs, PAGED, tenants.domain_owners(&domains));
    cost!(
        costs,
        PAGED,
        members.list_by_ids(&[member.id, MemberId::new()])
    );
    cost_in_transaction!(costs, PAGED, members.find_in_domain(fixture.domain_ids[7]));
    // A count up to its limit.
    cost_in_transaction!(costs, 3 * PAGE, members.count(crowded, 25));
    let usage = SpaceUsage {
        total_bytes: 0,
        used_bytes: None,
    };
    let (gone, now) = (fixture.tenant_ids[11], fixture.now);
    let spaces = &[("none".to_owned(), PersonalSpace { as_of: now, usage })];
    cost_in_transaction!(costs, ONE, members.set_personal_spaces(spaces));
    // Proportional to what the tenant itself has.
    cost_in_transaction!(costs, PAGED, members.remove_all(gone, now));
    cost_in_transaction!(costs, PAGED, apps.delete_all(gone));
    cost_in_transaction!(costs, PAGED, domains.remove_all(gone, now));
}

async fn imports(costs: &mut Costs<'_>) {
    let fixture = costs.fixture;
    let (tenant, id) = (fixture.tenant_ids[7], MemberImportId::new());
    let refused = Some(RowOutcome::Refused);
    cost!(costs, ONE, member_imports.find(tenant, id));
    cost!(costs, PAGED, member_imports.list(tenant, None, PAGE));
    cost!(costs, PAGED, member_imports.list_rows(id, refused, 0, PAGE));
    cost_in_transaction!(costs, PAGED, member_imports.list_pending(id, 0, PAGE));
    cost_in_transaction!(costs, PAGED, member_imports.take_passwords(id));
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
    reports(costs).await;
    invoices::measure(costs).await;
    stripe::measure(costs).await;
    cost!(costs, ONE, prices.find(PriceId::new()));
    cost!(costs, PAGED, prices.list_page(None, PAGE));
    cost!(costs, PAGED, prices.list_all());
    cost!(costs, PAGED, allowances.list_all());
    cost!(costs, ONE, allowances.of_plan(Plan::Starter));
    cost!(costs, ONE, allowances.find(Plan::Starter));
    cost_in_transaction!(
        costs,
        ONE,
        prices.find_of(Plan::Starter, Cycle::Monthly, "DKK")
    );
}

async fn reports(costs: &mut Costs<'_>) {
    let fixture = costs.fixture;
    let month = |text: &str| text.parse().unwrap();
    let (first, last): (Month, Month) = (month("2024-01"), month("2026-12"));
    let months = std::iter::successors(Some(first), |month| Some(month.next()));
    let months: Vec<Month> = months.take_while(|month| *month <= last).collect();
    for scope in [Scope::Platform, Scope::Partner(fixture.partner_ids[0])] {
        // Each of the 36 months, with its key.
        for part in [Part::Revenue, Part::Cohorts, Part::All, Part::Existence] {
            cost!(costs, 4 * 36, report_months.list(scope, &months, part));
        }
    }
    let owner = fixture.user_ids[0];
    let saved = fixture
        .saved_reports
        .list(owner, Scope::Platform, None, PAGE);
    costs.of("saved_reports.list(", PAGED, saved).await;
    cost_in_transaction!(
        costs,
        2 * PAGED,
        saved_reports.count_in(owner, Scope::Platform)
    );
    cost_in_transaction!(costs, 2 * PAGED, saved_reports.delete_of(owner));
    cost!(costs, ONE, report_months.has_month(first));
    cost!(costs, ONE, snapshots.has_month(month("2025-01")));
    // Streams, of which the first batches are read.
    let batch = async {
        let snapshots = fixture.snapshots.of_month(month("2025-01")).await?;
        snapshots.take(25).try_collect::<Vec<_>>().await
    };
    costs.of("snapshots.of_month(", 2_500, batch).await;
    let stored = fixture.snapshots.of_month(month("2025-01")).await.unwrap();
    let stored: Vec<_> = stored.take(2).try_collect().await.unwrap();
    cost!(costs, ONE, snapshots.renew(&stored));
    let batch = async {
        let payments = fixture.report_months.first_payments().await?;
        payments.take(25).try_collect::<Vec<_>>().await
    };
    costs
        .of("report_months.first_payments(", 2_500, batch)
        .await;
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
