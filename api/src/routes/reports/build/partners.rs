//! Payments and shares of each partner in the selected months, one row for each partner.

use std::collections::{BTreeMap, BTreeSet};

use dezky_shared::{
    billing_totals::{MonthTotals, Scope},
    id::PartnerId,
    partner::Partner,
    report::{RowColumn, RowOrder},
};

use super::{Body, compare, shares::OF_PARTNERS};
use crate::{
    error::{ApiError, ProblemCode},
    routes::reports::{
        query::Selection,
        view::{Cell, Row, Unit},
    },
    state::AppState,
};

/// Maximum number of totals that are read: one for each partner, month and currency.
const MAX_TOTALS: i64 = 10_000;
/// Order of the rows without another one.
const LARGEST: RowOrder = RowOrder {
    column: RowColumn::Owed,
    is_descending: true,
};

/// Totals by currency and partner.
type Sums = BTreeMap<String, BTreeMap<PartnerId, MonthTotals>>;

/// Payments and shares by partner. A partner sees itself alone.
pub(super) async fn revenue(
    app: &AppState,
    scope: Scope,
    selection: &Selection,
) -> Result<Body, ApiError> {
    let order = selection.order.unwrap_or(LARGEST);
    let mut body = Body::default();
    for (currency, partners) in read(app, scope, selection).await? {
        let mut rows: Vec<Row> = partners.iter().map(row).collect();
        rows.sort_by(|one, other| compare(order, one, other));
        // Before the partners' names are read.
        rows.truncate(selection.limit);
        body.add_rows(&currency, rows);
    }
    name(app, &mut body).await?;
    Ok(body)
}

async fn read(app: &AppState, scope: Scope, selection: &Selection) -> Result<Sums, ApiError> {
    let (Some(from), Some(through)) = (selection.months.first(), selection.months.last()) else {
        return Ok(Sums::new());
    };
    let repository = &app.db.billing_totals;
    let totals = match scope {
        Scope::Platform => {
            let found = repository.list_of_partners(*from, *through, MAX_TOTALS);
            found.await?.ok_or_else(too_long)?
        }
        Scope::Partner(id) => {
            let own = repository.list(scope, *from, *through).await?;
            own.into_iter().map(|totals| (id, totals)).collect()
        }
    };
    let mut sums = Sums::new();
    for (partner, totals) in totals {
        if !selection.covers(&totals.currency) {
            continue;
        }
        let of_currency = sums.entry(totals.currency.clone()).or_default();
        let empty = || MonthTotals::new(totals.month, totals.currency.clone());
        let sum = of_currency.entry(partner).or_insert_with(empty);
        sum.add(&totals);
    }
    Ok(sums)
}

fn too_long() -> ApiError {
    let detail =
        "The partners have too many amounts in these months. Set from and to to fewer months.";
    ApiError::new(ProblemCode::ReportTooLong).with_detail(detail)
}

/// Row of a partner, under its id.
fn row((partner, totals): (&PartnerId, &MonthTotals)) -> Row {
    let cells =
        OF_PARTNERS.map(|(key, _, amount)| Cell::new(key, Unit::Minor, Some(amount(totals))));
    let id = partner.to_string();
    Row {
        key: id.clone(),
        label: id,
        cells: cells.into(),
    }
}

/// Replaces the ids of partners by their slugs and names.
async fn name(app: &AppState, body: &mut Body) -> Result<(), ApiError> {
    let rows = body.currencies.values().flat_map(|(_, rows)| rows);
    let ids: BTreeSet<PartnerId> = rows.filter_map(|row| row.key.parse().ok()).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let ids: Vec<PartnerId> = ids.into_iter().collect();
    let partners = app.db.partners.list_named(&ids, &[]).await?;
    let by_id = partners.into_iter().map(|it| (it.id.to_string(), it));
    let by_id: BTreeMap<String, Partner> = by_id.collect();
    for row in body.currencies.values_mut().flat_map(|(_, rows)| rows) {
        if let Some(partner) = by_id.get(&row.key) {
            row.key.clone_from(&partner.slug);
            row.label.clone_from(&partner.name);
        }
    }
    Ok(())
}
