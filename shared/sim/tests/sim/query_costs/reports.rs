//! Query costs of the reports, and of the snapshots that they sum up.

use dezky_shared::{billing::month::Month, billing_totals::Scope, store::report_months::Part};
use futures::{StreamExt as _, TryStreamExt as _};

use super::{Costs, ONE, PAGE, PAGED};

pub(super) async fn measure(costs: &mut Costs<'_>) {
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
