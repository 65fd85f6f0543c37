//! Query costs of users and invitations.

use dezky_shared::{id::InvitationId, store::users::UserFilter};

use super::{Costs, ONE, PAGE, PAGED};

pub(super) async fn measure(costs: &mut Costs<'_>) {
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
