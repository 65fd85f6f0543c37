//! Storage of a tenant, as last measured. The page reads the report as it is stored: the API would measure again, and an open
//! page is read every few seconds.

use bson::DateTime;
use dezky_shared::{id::TenantId, storage_report::QuotaState, store::storage_reports::ReportPage};

use super::super::super::{
    Console,
    failure::Failure,
    table::{Cell, Table},
    text::{State as Word, Time, bytes},
};

/// Mailboxes that are listed.
const MAILBOXES: i64 = 25;

/// The table of a tenant's storage.
pub(super) async fn table(console: &Console, tenant: &str) -> Result<Table, Failure> {
    let reports = &console.app.db.storage_reports;
    let report = match tenant.parse::<TenantId>() {
        Ok(id) => reports.find_page(id, None, MAILBOXES).await?,
        Err(_) => ReportPage::default(),
    };
    Ok(Table::new(
        format!("Storage, with the first {MAILBOXES} mailboxes"),
        ["Place", "Used", "Quota", "State", "Measured"],
        rows(&report),
        "The storage was not measured yet.",
    ))
}

fn rows(report: &ReportPage) -> Vec<[Cell; 5]> {
    let mut rows = Vec::new();
    if let Some(files) = &report.files
        && let Some(space) = files.space
    {
        let state = space.state();
        rows.push([
            Cell::text("Shared space"),
            Cell::text(space.used_bytes.map(bytes).unwrap_or_default()),
            quota(space.total_bytes),
            state.map(state_cell).unwrap_or_default(),
            time(files.as_of),
        ]);
    }
    let Some(mail) = report.mail else {
        return rows;
    };
    rows.push([
        Cell::text(format!("All {} mailboxes", mail.count)),
        Cell::text(bytes(mail.used_bytes)),
        Cell::default(),
        Cell::default(),
        time(mail.as_of),
    ]);
    rows.extend(report.mailboxes.iter().map(|mailbox| {
        let (used, total) = (mailbox.used_bytes, mailbox.quota_bytes);
        [
            Cell::text(&mailbox.address),
            Cell::text(bytes(used)),
            quota(total),
            state_cell(QuotaState::of(used, total)),
            time(mail.as_of),
        ]
    }));
    rows
}

fn quota(total: i64) -> Cell {
    if total == 0 {
        Cell::text("unlimited")
    } else {
        Cell::text(bytes(total))
    }
}

fn state_cell(state: QuotaState) -> Cell {
    Cell::state(&Word::new(match state {
        QuotaState::Normal => "normal",
        QuotaState::Nearing => "nearing",
        QuotaState::Critical => "critical",
        QuotaState::Exceeded => "exceeded",
    }))
}

fn time(at: DateTime) -> Cell {
    Cell::time(&Time::from(at))
}
