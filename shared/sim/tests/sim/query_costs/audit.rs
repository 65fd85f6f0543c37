//! Query costs of the audit trail.

use std::time::Duration;

use dezky_shared::{
    audit::hash_chain::Chain,
    id::AuditEventId,
    platform::clock,
    store::audit::{AcceptedAction, AuditFilter},
};
use futures::{StreamExt as _, TryStreamExt as _};

use super::{Costs, ONE, PAGE, PAGED};

pub(super) async fn measure(costs: &mut Costs<'_>) {
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
        let page = async {
            let events = fixture.audit.list(filter, None, PAGE).await?;
            events.try_collect::<Vec<_>>().await
        };
        costs.of("audit.list(", PAGED, page).await;
        let first = async {
            let events = fixture.audit.list_all(filter).await?;
            events.take(25).try_collect::<Vec<_>>().await
        };
        costs.of("audit.list_all(", 2_500, first).await;
    }
    cost!(
        costs,
        PAGED,
        audit.list_accepted(Some(AuditEventId::new()), PAGE)
    );
    let action = AcceptedAction {
        event_id: AuditEventId::new(),
        job_id: fixture.parent,
    };
    let ended = [(action, None)];
    cost!(costs, PAGED, audit.record_outcomes(&ended, fixture.now));
    cost!(costs, PAGED, audit.latest(tenant, PAGE));
    cost!(costs, ONE, audit.find_chain(Some(tenant)));
    let later = clock::later(fixture.now, Duration::from_hours(1));
    let expired = cost!(costs, PAGED, audit.list_expired(later, None, PAGE));
    let last = expired.last().copied();
    cost!(costs, PAGED, audit.list_expired(later, last, PAGE));
    cost!(costs, PAGED, audit.list_unsealed());
    cost!(costs, PAGED, audit.backlog());
    // Proportional to the trail's own events.
    cost!(costs, PAGED, audit.verify(Chain::new(Some(tenant))));
    cost!(costs, PAGED, audit.trim(Some(tenant), later, PAGE));
    cost!(costs, PAGED, audit.seal(&[Some(tenant)]));
}
