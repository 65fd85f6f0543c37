//! Query costs of tenants and their reports.

use std::time::Duration;

use dezky_shared::{
    billing::Plan,
    id::TenantId,
    platform::clock,
    store::tenants::{TenantFilter, TenantOrder},
    tenant::TenantStatus,
};
use futures::{StreamExt as _, TryStreamExt as _};

use super::{Costs, ONE, PAGE, PAGED, TRIED};

pub(super) async fn measure(costs: &mut Costs<'_>) {
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
}
