//! Overview: what is wrong, in one sentence, and where to look.

mod history;

use std::cmp::Reverse;

use axum::response::Response;
use serde::Deserialize;

use self::history::History;
use super::{
    super::{
        failure::Failure,
        page_request::PageRequest,
        table::{Cell, Table},
        text::{State as Word, count},
    },
    List, ListPage,
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

impl StoreStatus {
    fn row(&self) -> [Cell; 3] {
        [
            Cell::text(&self.name),
            Cell::state(&self.state),
            Cell::text(self.error.as_deref().unwrap_or_default()),
        ]
    }
}

pub(in crate::console) async fn show(request: PageRequest) -> Result<Response, Failure> {
    let (upstreams, queues, workers, stats, infrastructure, events, history) = tokio::try_join!(
        request.get::<List<Upstream>>("/upstreams"),
        request.get::<List<Queue>>("/queues"),
        request.get::<List<Worker>>("/workers"),
        request.get::<JobStats>(JOB_STATS),
        request.get::<Infrastructure>("/infrastructure"),
        request.get::<List<Event>>("/audit?limit=10"),
        History::read(&request.console),
    )?;
    let workers = workers.items.iter().filter(|worker| worker.alive).count();
    let frame = request.frame("/console", "Overview")?;
    let page = ListPage::new(frame, Upstream::table(&upstreams.items))
        .with_sentence(sentence(&upstreams.items, &queues.items, &stats))
        .with_link("/console/upstreams", "Upstreams")
        .with_link("/console/queues", "Queues")
        .with_link("/console/workers", format!("Live workers: {workers}"))
        .with_table(queue_table(&queues.items))
        .with_table(history.table())
        .with_table(Table::new(
            "Stores",
            ["Name", "State", "Error"],
            infrastructure.stores.iter().map(StoreStatus::row),
            "None.",
        ))
        .with_table(error_table(stats))
        .with_table(Event::table(
            "Last changes",
            &events.items,
            "Nothing was changed yet.",
        ));
    Ok(page.respond())
}

fn queue_table(queues: &[Queue]) -> Table {
    let row = |queue: &Queue| {
        [
            Cell::link("/console/queues", &queue.name),
            Cell::state(&queue.state()),
            Cell::text(queue.due.to_string()),
            Cell::text(queue.workers.to_string()),
        ]
    };
    Table::new(
        "Queues",
        ["Name", "State", "Due jobs", "Workers"],
        queues.iter().map(row),
        "There is no queue.",
    )
}

/// Summary of obstacles, pauses and jobs, in one sentence.
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
fn error_table(stats: JobStats) -> Table {
    let caption = format!(
        "Waiting, running and discarded jobs by their last error{}",
        stats.scope()
    );
    let mut groups: Vec<(String, u64)> = stats.error_codes.into_iter().collect();
    groups.sort_by_key(|(_, number)| Reverse(*number));
    groups.truncate(MAX_ERRORS);
    let row = |(code, number): (String, u64)| {
        let path = format!("/console/jobs?errorCode={code}");
        [Cell::link(path, code), Cell::text(number.to_string())]
    };
    Table::new(
        caption,
        ["Code", "Jobs"],
        groups.into_iter().map(row),
        "No job has an error.",
    )
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
