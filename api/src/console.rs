//! Operators' console: pages rendered by the server. A script keeps an open page up to date, and another
//! confirms actions in a dialog; no action needs them.
//!
//! A page reads and writes through the handlers of the API, in the same process: permissions, validation, idempotency,
//! rate limits and the audit trail are theirs. What the console adds is the session of a browser: sign-in at the issuer
//! (`sign_in`), the session's cookie (`session`) and the protection of its forms (`submission`).

mod actions;
mod chart;
mod cookies;
mod failure;
mod form;
mod html;
mod page;
mod page_request;
mod pages;
mod query;
mod routes;
mod session;
mod shared_reads;
mod sign_in;
mod sparkline;
mod submission;
mod table;
mod text;
mod timeline;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware::from_fn_with_state,
    routing::{get, post},
};

use self::{cookies::Cookies, routes::Routes, shared_reads::SharedReads, sign_in::IssuerClient};
use crate::{config::ConsoleConfig, state::SharedState};

/// Maximum size of a form, in bytes. The largest one selects 100 jobs.
const FORM_LIMIT: usize = 64 * 1024;

/// State of the console's handlers.
#[derive(Debug)]
struct Console {
    app: SharedState,
    config: ConsoleConfig,
    issuer: IssuerClient,
    cookies: Cookies,
    routes: Routes,
    shared_reads: SharedReads,
}

type ConsoleState = Arc<Console>;

/// The routes of the console, which call `api`. There are none if the console is off.
pub(crate) fn router(app: &SharedState, api: &Router<SharedState>) -> Router<SharedState> {
    let Some(config) = &app.config.console else {
        return Router::new();
    };
    let console: ConsoleState = Arc::new(Console {
        app: app.clone(),
        config: config.clone(),
        issuer: IssuerClient::new(config, app.issuer_http.clone()),
        cookies: Cookies::new(config.is_secure),
        routes: Routes::new(api.clone().with_state(app.clone())),
        shared_reads: SharedReads::default(),
    });
    Router::new()
        .route("/console", get(pages::overview::show))
        .route("/console/", get(pages::overview::show))
        .route("/console/style.css", get(async || page::style()))
        .route("/console/live.js", get(async || page::live_script()))
        .route("/console/confirm.js", get(async || page::confirm_script()))
        .route("/console/sign-in", get(sign_in::begin))
        .route("/console/sign-in/callback", get(sign_in::complete))
        .route("/console/sign-out", post(sign_in::sign_out))
        .route("/console/signed-out", get(async || sign_in::signed_out()))
        .route("/console/jobs", get(pages::jobs::show))
        .route("/console/jobs/selected", post(actions::selected::run))
        .route("/console/jobs/matching", post(pages::matching::run))
        .route("/console/jobs/{id}", get(pages::job::show))
        .route("/console/operations", get(pages::operations::show))
        .route("/console/operations/{id}", get(pages::operation::show))
        .route("/console/queues", get(pages::queues::show))
        .route("/console/upstreams", get(pages::upstreams::show))
        .route("/console/schedules", get(pages::schedules::show))
        .route("/console/workers", get(pages::workers::show))
        .route("/console/tenants", get(pages::tenants::show))
        .route("/console/tenants/{slug}", get(pages::tenant::show))
        .route("/console/partners", get(pages::partners::show))
        .route("/console/partners/{slug}", get(pages::partner::show))
        .route("/console/billing", get(pages::billing::show))
        .route("/console/invoices", get(pages::invoices::show))
        .route("/console/payouts", get(pages::payouts::show))
        .route("/console/reports", get(pages::reports::show))
        .route("/console/reports/{name}", get(pages::report::show))
        .route(
            "/console/reports/{name}/report.csv",
            get(pages::report::csv),
        )
        .route("/console/flags", get(pages::flags::show))
        .route("/console/flags/{key}", get(pages::flag::show))
        .route("/console/audit", get(pages::audit::show))
        .route("/console/audit.csv", get(pages::audit::csv))
        .route("/console/audit/verify", get(pages::verification::show))
        .route("/console/{resource}/{id}/{action}", post(actions::run))
        .layer(DefaultBodyLimit::max(FORM_LIMIT))
        .layer(from_fn_with_state(console.clone(), page::secure))
        .with_state(console)
}
