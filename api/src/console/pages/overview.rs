//! Overview: what is wrong, in one sentence, and where to look.

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
        text::{State as Word, count},
    },
    List,
    audit::Event,
    jobs::JobStats,
    queues::Queue,
    upstreams::Upstream,
    workers::Worker,
};

/// Error codes that are listed.
const MAX_ERRORS: usize = 10;
/// Numbers of jobs, without those that are done: a discarded job counts however many jobs are newer.
const JOB_STATS: &str = "/jobs/stats?state=available,running,discarded";

/// The part of the infrastructure status that the page shows.
#[derive(Debug, Deserialize)]
struct Infrastructure {
    stores: Vec<StoreStatus>,
}

#[derive(Debug, Deserialize)]
struct StoreStatus {
    name: String,
    state: Word,
    error: Option<String>,
}

/// Jobs with the same error.
#[derive(Debug)]
struct ErrorGroup {
    code: String,
    number: u64,
}

#[derive(Debug, Template)]
#[template(path = "console/overview.html")]
struct Overview {
    frame: Frame,
    sentence: String,
    upstreams: Vec<Upstream>,
    queues: Vec<Queue>,
    stores: Vec<StoreStatus>,
    workers: usize,
    /// The jobs that their numbers are limited to.
    scope: String,
    errors: Vec<ErrorGroup>,
    events: Vec<Event>,
}

pub(in crate::console) async fn show(
    State(console): State<ConsoleState>,
    session: Session,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Failure> {
    let routes = &console.routes;
    let (upstreams, queues, workers, stats, infrastructure, events) = tokio::try_join!(
        routes.get::<List<Upstream>>(&session, "/upstreams"),
        routes.get::<List<Queue>>(&session, "/queues"),
        routes.get::<List<Worker>>(&session, "/workers"),
        routes.get::<JobStats>(&session, JOB_STATS),
        routes.get::<Infrastructure>(&session, "/infrastructure"),
        routes.get::<List<Event>>(&session, "/audit?limit=10"),
    )?;
    let page = Overview {
        frame: Frame::new(&session, "/console", "Overview", &parameters)?,
        sentence: sentence(&upstreams.items, &queues.items, &stats),
        upstreams: upstreams.items,
        queues: queues.items,
        stores: infrastructure.stores,
        workers: workers.items.iter().filter(|worker| worker.alive).count(),
        scope: stats.scope(),
        errors: errors(stats),
        events: events.items,
    };
    Ok(respond(StatusCode::OK, &page))
}

/// What an operator has to know first.
fn sentence(upstreams: &[Upstream], queues: &[Queue], stats: &JobStats) -> String {
    let number = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let obstructed = upstreams.iter().filter(|it| it.has_obstacle()).count();
    let paused = queues.iter().filter(|queue| queue.paused).count();
    let mut parts = Vec::new();
    if obstructed > 0 {
        let upstreams = count(number(obstructed), "upstream");
        parts.push(format!("{upstreams} not available"));
    }
    if paused > 0 {
        parts.push(format!("{} paused", count(number(paused), "queue")));
    }
    let waiting = count(stats.in_state("available"), "job");
    parts.push(format!("{waiting} waiting"));
    parts.push(format!("{} discarded", stats.in_state("discarded")));
    format!("{}{}.", parts.join(", "), stats.scope())
}

/// The most frequent errors.
fn errors(stats: JobStats) -> Vec<ErrorGroup> {
    let groups = stats.error_codes.into_iter();
    let mut groups: Vec<ErrorGroup> = groups
        .map(|(code, number)| ErrorGroup { code, number })
        .collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.number));
    groups.truncate(MAX_ERRORS);
    groups
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_sentence_says_which_jobs_were_counted() {
        let sentence = |counted: u64, is_complete: bool| {
            let stats = json!({
                "states": { "available": 1, "discarded": 2 }, "errorCodes": {}, "counted": counted,
                "isComplete": is_complete,
            });
            sentence(&[], &[], &serde_json::from_value(stats).unwrap())
        };

        assert_eq!(sentence(3, true), "1 job waiting, 2 discarded.");
        assert_eq!(
            sentence(10_000, false),
            "1 job waiting, 2 discarded among the newest 10000."
        );
    }
}
