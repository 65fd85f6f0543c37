//! Schedules of recurring jobs.

use askama::Template;
use axum::{
    extract::{Query, State},
    response::Response,
};
use http::StatusCode;
use serde::Deserialize;

use super::{
    super::{
        ConsoleState,
        failure::Failure,
        page::{Frame, respond},
        query::Parameters,
        session::Session,
        text::{State as Word, Time},
    },
    List,
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Schedule {
    name: String,
    purpose: String,
    expression: String,
    zone: String,
    can_dry_run: bool,
    next_at: Option<Time>,
    last: Option<Run>,
    missed: i64,
}

#[derive(Debug, Deserialize)]
struct Run {
    instant: Time,
    job: Option<RunJob>,
}

#[derive(Debug, Deserialize)]
struct RunJob {
    id: String,
    state: Word,
}

#[derive(Debug, Template)]
#[template(path = "console/schedules.html")]
struct SchedulesPage {
    frame: Frame,
    schedules: Vec<Schedule>,
}

pub(in crate::console) async fn show(
    State(console): State<ConsoleState>,
    session: Session,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Failure> {
    let schedules: List<Schedule> = console.routes.get(&session, "/schedules").await?;
    let page = SchedulesPage {
        frame: Frame::new(&session, "/console/schedules", "Schedules", &parameters)?,
        schedules: schedules.items,
    };
    Ok(respond(StatusCode::OK, &page))
}
