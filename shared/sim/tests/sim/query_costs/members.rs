//! Query costs of members and their imports, and of changes to the resources of a tenant.

use dezky_shared::{
    id::{MemberId, MemberImportId},
    member_import::RowOutcome,
    storage_report::{PersonalSpace, SpaceUsage},
    store::{members::MemberFilter, users::UserFilter},
};

use super::{Costs, ONE, PAGE, PAGED, TRIED};

pub(super) async fn measure(costs: &mut Costs<'_>) {
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
    cost_in_transaction!(costs, ONE, members.list_places(user));
    cost_in_transaction!(costs, PAGED, members.is_elsewhere(member));
    cost_in_transaction!(costs, PAGED, members.has_removable(member));
    cost!(costs, PAGED, members.is_login_elsewhere(member));
    let (login, own) = (&member.email, Some(crowded));
    cost!(costs, ONE, members.has_account_elsewhere(login, own));
    cost!(costs, ONE, members.has_account_elsewhere(login, None));
    cost!(costs, ONE, members.has_login(crowded, "none@demo.test"));
    cost!(costs, PAGED, members.list_adopted(crowded, &["s1", "none"]));
    cost!(costs, PAGED, members.list_excluded_from_space(crowded));
    let watched = &fixture.tenant_ids[..25];
    // A key of each tenant in each collection.
    cost!(costs, 4 * PAGED, tenant_resource_changes.latest(watched));
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
    cost!(
        costs,
        PAGED,
        tenant_resource_changes.invoices_since(crowded, since, PAGE)
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
    imports(costs).await;
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
