//! Revenue by month: the recurring payments at the end of each month, and the movements between two months.
//!
//! A month is added up once, from the snapshots of that month and of the one before. Reports read these sums, so that none
//! grows with the number of tenants.

mod arrangement;
mod builder;
mod month;
mod movements;
mod name;
mod paying;
mod saved;

pub use self::{
    arrangement::{GroupBy, RowColumn, RowOrder},
    builder::{MonthBuilder, TenantMonth},
    month::{Cohort, CurrencyMonth, HealthCount, MAX_TOP, ReportMonth, TopCustomer},
    movements::{Amount, Change, Movements, share},
    name::ReportName,
    paying::{HealthReason, RecurringPayment},
    saved::{MAX_SAVED, SavedQuery, SavedReport},
};
