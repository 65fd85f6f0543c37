//! Upstreams, with the cause of their state in plain words.

use axum::response::Response;
use bson::DateTime;
use serde::Deserialize;

use super::{
    super::{
        failure::Failure,
        form::Form,
        page::Frame,
        page_request::PageRequest,
        table::{Cell, Table},
        text::{State as Word, Time, count},
    },
    List, ListPage,
    pause::pause_fields,
};

/// An upstream.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Upstream {
    name: String,
    state: Word,
    paused_at: Option<Time>,
    paused_reason: Option<String>,
    paused_until: Option<Time>,
    credentials: Credentials,
    permission: Option<MissingPermission>,
    circuit: Option<Circuit>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Credentials {
    refused_at: Option<Time>,
    next_probe_at: Option<Time>,
}

#[derive(Debug, Deserialize)]
struct MissingPermission {
    since: Time,
    operation: Option<String>,
    detail: String,
    jobs: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Circuit {
    failures: u32,
    opened_at: Option<Time>,
    next_probe_at: Option<Time>,
    slow_until: Option<Time>,
}

impl Upstream {
    /// Whether it has an obstacle.
    pub(super) fn has_obstacle(&self) -> bool {
        !self.state.is("ok")
    }

    fn is_paused(&self) -> bool {
        self.state.is("paused")
    }

    /// Whether a resume has an effect.
    fn can_resume(&self) -> bool {
        self.has_obstacle() && !self.state.is("slowed")
    }

    /// The table of these upstreams.
    pub(super) fn table(upstreams: &[Self]) -> Table {
        let row = |upstream: &Self| {
            [
                Cell::link("/console/upstreams", &upstream.name),
                Cell::state(&upstream.state),
                Cell::text(upstream.cause()),
            ]
        };
        Table::new(
            "Upstreams",
            ["Name", "State", "Cause"],
            upstreams.iter().map(row),
            "No upstream is configured.",
        )
    }

    fn forms(&self, frame: &Frame, now: DateTime) -> Vec<Form> {
        let form = |action: &str, verb: &str| {
            let label = format!("{verb} {}", self.name);
            frame.form("upstreams", &self.name, action, label)
        };
        let resume = form("resume", "Resume").filter(|_| self.can_resume());
        let pause = form("pause", "Pause").filter(|_| !self.is_paused());
        let pause = pause.map(|form| form.with_fields(pause_fields(now)));
        resume.into_iter().chain(pause).collect()
    }

    /// Why it is in its state, and what to do.
    pub(super) fn cause(&self) -> String {
        match self.state.0.as_str() {
            "ok" => "Works.".to_owned(),
            "paused" => self.pause(),
            "credentials_refused" => format!(
                "It rejects our credentials{}. Replace them in the configuration of the workers.{}",
                since(self.credentials.refused_at.as_ref()),
                next_probe(self.credentials.next_probe_at.as_ref()),
            ),
            "permission_missing" => self.missing_permission(),
            "away" => self.open_circuit(),
            "slowed" => {
                let until = self.circuit.as_ref().and_then(|it| it.slow_until.as_ref());
                format!("It asked for fewer requests{}.", to("until", until))
            }
            other => format!("State {other}."),
        }
    }

    fn pause(&self) -> String {
        let reason = self.paused_reason.as_ref();
        let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        format!(
            "An operator paused it{}{}{reason}.",
            since(self.paused_at.as_ref()),
            to("until", self.paused_until.as_ref()),
        )
    }

    fn missing_permission(&self) -> String {
        let Some(missing) = &self.permission else {
            return "It denies an operation to our account.".to_owned();
        };
        let operation = missing.operation.as_deref().unwrap_or("an operation");
        format!(
            "It denies {operation} to our account since {}: {}. {} held. Grant the permission, and resume the upstream.",
            missing.since,
            missing.detail.trim_end_matches('.'),
            count(missing.jobs, "job"),
        )
    }

    fn open_circuit(&self) -> String {
        let Some(circuit) = &self.circuit else {
            return "It does not answer.".to_owned();
        };
        format!(
            "It does not answer{}, after {}. Steps that call it wait.{}",
            since(circuit.opened_at.as_ref()),
            count(circuit.failures.into(), "failure"),
            next_probe(circuit.next_probe_at.as_ref()),
        )
    }
}

fn since(time: Option<&Time>) -> String {
    to("since", time)
}

fn to(word: &str, time: Option<&Time>) -> String {
    time.map_or_else(String::new, |time| format!(" {word} {time}"))
}

fn next_probe(time: Option<&Time>) -> String {
    time.map_or_else(String::new, |time| format!(" The next try is at {time}."))
}

pub(in crate::console) async fn show(request: PageRequest) -> Result<Response, Failure> {
    let upstreams: List<Upstream> = request.get("/upstreams").await?;
    let frame = request.frame("/console/upstreams", "Upstreams")?;
    let (upstreams, now) = (&upstreams.items, request.console.app.store.now());
    let mut table = Upstream::table(upstreams);
    if frame.may_write() {
        table = table.with_forms(upstreams.iter().map(|it| it.forms(&frame, now)));
    }
    Ok(ListPage::new(frame, table).respond())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_cause_says_what_is_wrong_and_what_to_do() {
        let cause = |fields: serde_json::Value| {
            let mut upstream = json!({ "name": "stalwart", "credentials": {} });
            let fields = fields.as_object().unwrap().clone();
            upstream.as_object_mut().unwrap().extend(fields);
            serde_json::from_value::<Upstream>(upstream)
                .unwrap()
                .cause()
        };
        let at = "2026-11-22T09:30:00.000Z";

        let paused = cause(json!({
            "state": "paused", "pausedAt": at, "pausedUntil": at, "pausedReason": "Maintenance",
        }));
        let denied = cause(json!({
            "state": "permission_missing",
            "permission": { "since": at, "operation": "create_group", "detail": "403", "jobs": 1 },
        }));
        let away = cause(json!({ "state": "away", "circuit": { "failures": 5 } }));

        let time = "2026-11-22 09:30:00 UTC";
        assert_eq!(
            paused,
            format!("An operator paused it since {time} until {time}: Maintenance.")
        );
        assert_eq!(
            denied,
            format!(
                "It denies create_group to our account since {time}: 403. 1 job held. Grant the permission, and resume the upstream."
            )
        );
        assert_eq!(
            away,
            "It does not answer, after 5 failures. Steps that call it wait."
        );
    }
}
