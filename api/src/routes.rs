//! Routes of the HTTP API.

pub mod allowances;
pub mod apps;
pub mod audit;
pub mod billing;
pub mod domains;
pub mod events;
pub mod flags;
pub mod health;
pub mod infrastructure;
pub mod invoices;
pub mod job_operations;
pub mod jobs;
pub mod ledger;
pub mod members;
pub mod mfa;
pub mod openapi;
mod outcome;
pub mod partner;
pub mod partner_team;
pub mod partners;
mod pauses;
pub mod payment_methods;
pub mod payouts;
pub mod plans;
pub mod prices;
pub mod queues;
mod refresh_on_read;
pub mod reports;
pub mod schedules;
pub mod snapshots;
pub mod storage;
pub mod subscriptions;
pub mod tenants;
pub mod upstreams;
pub mod users;
pub mod webhooks;
pub mod workers;

use utoipa_axum::router::OpenApiRouter;

use crate::state::SharedState;

/// Every documented route.
pub fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::with_openapi(openapi::document())
        .merge(health::router())
        .merge(tenants::router())
        .merge(domains::router())
        .merge(apps::router())
        .merge(users::router())
        .merge(members::router())
        .merge(subscriptions::router())
        .merge(billing::router())
        .merge(invoices::router())
        .merge(ledger::router())
        .merge(payouts::router())
        .merge(payment_methods::router())
        .merge(webhooks::router())
        .merge(reports::router())
        .merge(plans::router())
        .merge(prices::router())
        .merge(allowances::router())
        .merge(storage::router())
        .merge(mfa::router())
        .merge(partners::router())
        .merge(partner::router())
        .merge(partner_team::router())
        .merge(jobs::router())
        .merge(schedules::router())
        .merge(snapshots::router())
        .merge(queues::router())
        .merge(upstreams::router())
        .merge(workers::router())
        .merge(job_operations::router())
        .merge(events::router())
        .merge(audit::router())
        .merge(flags::router())
        .merge(infrastructure::router())
}
