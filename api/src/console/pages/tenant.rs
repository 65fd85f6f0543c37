//! One tenant: its conditions, domains, members and jobs.

use askama::Template;
use axum::{
    extract::{Path, Query, State},
    response::Response,
};
use http::StatusCode;
use serde::Deserialize;

use super::{
    super::{
        ConsoleState,
        failure::Failure,
        page::{Frame, respond},
        query::{Parameters, segment},
        session::Session,
        text::{State as Word, Time},
    },
    List,
    jobs::JobRow,
    tenants::Health,
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tenant {
    slug: String,
    name: String,
    status: Word,
    plan: String,
    conditions: Vec<Condition>,
    purge_at: Option<Time>,
    created_at: Time,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: Word,
    message: String,
    last_transition_at: Time,
    next_attempt_at: Option<Time>,
}

#[derive(Debug, Deserialize)]
struct Summary {
    health: Health,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Domain {
    unicode_name: String,
    status: Word,
    checked_at: Option<Time>,
    checks: Vec<Check>,
}

#[derive(Debug, Deserialize)]
struct Check {
    kind: String,
    state: Word,
    message: String,
}

#[derive(Debug, Deserialize)]
struct Member {
    email: String,
    name: String,
    role: String,
    status: Word,
}

impl Tenant {
    fn can_suspend(&self) -> bool {
        self.status.is("active") || self.status.is("pending")
    }

    fn can_resume(&self) -> bool {
        self.status.is("suspended")
    }

    fn can_restore(&self) -> bool {
        self.status.is("terminating")
    }

    fn can_reconcile(&self) -> bool {
        !self.status.is("terminated")
    }
}

impl Domain {
    /// The checks that do not pass.
    fn problems(&self) -> Vec<&Check> {
        let checks = self.checks.iter();
        checks.filter(|check| !check.state.is("ok")).collect()
    }
}

#[derive(Debug, Template)]
#[template(path = "console/tenant.html")]
struct TenantPage {
    frame: Frame,
    tenant: Tenant,
    health: Health,
    domains: List<Domain>,
    members: List<Member>,
    jobs: List<JobRow>,
}

pub(in crate::console) async fn show(
    State(console): State<ConsoleState>,
    session: Session,
    Path(slug): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Failure> {
    let slug = segment(&slug)?;
    let tenant = format!("/tenants/{slug}");
    let summary = format!("/tenants/{slug}/summary");
    let domains = format!("/tenants/{slug}/domains");
    let members = format!("/tenants/{slug}/users?limit=25");
    let jobs = format!("/tenants/{slug}/jobs?limit=10");
    let (tenant, summary, domains, members, jobs) = tokio::try_join!(
        console.routes.get::<Tenant>(&session, &tenant),
        console.routes.get::<Summary>(&session, &summary),
        console.routes.get::<List<Domain>>(&session, &domains),
        console.routes.get::<List<Member>>(&session, &members),
        console.routes.get::<List<JobRow>>(&session, &jobs),
    )?;
    let page = TenantPage {
        frame: Frame::new(
            &session,
            "/console/tenants",
            tenant.name.as_str(),
            &parameters,
        )?,
        tenant,
        health: summary.health,
        domains,
        members,
        jobs,
    };
    Ok(respond(StatusCode::OK, &page))
}
