//! Query costs of partners.

use dezky_shared::partner::PartnerStatus;

use super::{Costs, ONE, PAGE, PAGED};

pub(super) async fn measure(costs: &mut Costs<'_>) {
    let fixture = costs.fixture;
    let partner = fixture.partner_ids[0];
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
}
