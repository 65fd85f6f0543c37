//! Verification of an audit trail. It may take longer than a request may: spaces are sent until the page follows, as the API
//! does, so that no proxy closes the connection.

use askama::Template as _;
use axum::{
    body::{Body, BodyDataStream, Bytes},
    response::{IntoResponse as _, Response},
};
use futures::{TryStreamExt as _, stream};
use http::header;
use serde::Deserialize;

use super::{
    super::{
        failure::Failure,
        page::Frame,
        page_request::PageRequest,
        query::{path_with, segment},
        table::{Cell, Table},
        text::{State as Word, count},
    },
    ListPage,
};

/// The result of a verification.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Verification {
    ok: bool,
    checked: u64,
    first_seq: Option<i64>,
    last_seq: Option<i64>,
    unsealed: u64,
    anchor: Link,
    head: Link,
    problems: Vec<Problem>,
}

/// A link of the hash chain.
#[derive(Debug, Deserialize)]
struct Link {
    seq: i64,
    hash: String,
}

/// A problem in the trail.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Problem {
    seq: i64,
    last_seq: i64,
    kind: Word,
    event_id: Option<String>,
}

impl Link {
    fn cell(&self) -> Cell {
        Cell::text(self.seq.to_string()).and(Cell::code(&self.hash))
    }
}

impl Problem {
    fn row(&self) -> [Cell; 4] {
        [
            Cell::text(self.seq.to_string()),
            Cell::text(self.last_seq.to_string()),
            Cell::text(self.kind.to_string()),
            Cell::code(self.event_id.as_deref().unwrap_or_default()),
        ]
    }
}

impl Verification {
    fn sentence(&self) -> String {
        let (checked, unsealed) = (self.checked, self.unsealed);
        let result = if self.ok {
            "The trail is intact".to_owned()
        } else {
            let problems = u64::try_from(self.problems.len()).unwrap_or(u64::MAX);
            format!("{} found", count(problems, "problem"))
        };
        let checked = count(checked, "event");
        format!("{result}: {checked} checked, {unsealed} not sealed yet.")
    }

    fn chain_table(&self) -> Table {
        let number =
            |seq: Option<i64>| Cell::text(seq.map(|seq| seq.to_string()).unwrap_or_default());
        let rows = [
            ("First checked event", number(self.first_seq)),
            ("Last checked event", number(self.last_seq)),
            ("Last expired event", self.anchor.cell()),
            ("Last sealed event", self.head.cell()),
        ];
        let rows = rows.map(|(name, cell)| [Cell::text(name), cell]);
        Table::new("Chain", ["Link", "Number and hash"], rows, "None.")
    }

    fn problem_table(&self) -> Table {
        Table::new(
            "Problems, at most 100",
            ["First event", "Last event", "Problem", "Event id"],
            self.problems.iter().map(Problem::row),
            "None.",
        )
    }

    fn page(&self, frame: Frame, trail: String) -> ListPage {
        ListPage::new(frame, self.problem_table())
            .with_sentence(self.sentence())
            .with_link(trail, "The events")
            .with_table(self.chain_table())
    }
}

/// A verification that may still run.
struct Running {
    body: BodyDataStream,
    /// Part of the result that was read.
    json: Vec<u8>,
    frame: Frame,
    /// Address of the events.
    trail: String,
}

impl Running {
    /// The next chunk of the response: a space, or at last the page.
    async fn next_chunk(mut self) -> anyhow::Result<(Bytes, Option<Self>)> {
        while let Some(chunk) = self.body.try_next().await? {
            if chunk.iter().all(u8::is_ascii_whitespace) {
                return Ok((chunk, Some(self)));
            }
            self.json.extend_from_slice(&chunk);
        }
        let found: Verification = serde_json::from_slice(&self.json)?;
        let page = found.page(self.frame, self.trail).render()?;
        Ok((Bytes::from(page), None))
    }
}

pub(in crate::console) async fn show(request: PageRequest) -> Result<Response, Failure> {
    let (path, title) = match request.text("tenant") {
        None => (
            "/audit/verify".to_owned(),
            "Audit trail of the platform".to_owned(),
        ),
        Some(slug) => {
            let slug = segment(slug)?;
            let path = format!("/tenants/{slug}/audit/verify");
            (path, format!("Audit trail of {slug}"))
        }
    };
    let frame = request.frame("/console/audit", title)?;
    let body = request.console.routes.open(&request.session, &path).await?;
    let running = Running {
        body: body.into_data_stream(),
        json: Vec::new(),
        frame: frame.still(),
        trail: path_with("/console/audit", &request.parameters, &["tenant"], &[]),
    };
    let chunks = stream::try_unfold(Some(running), async |running| {
        let Some(running) = running else {
            return Ok(None);
        };
        running.next_chunk().await.map(Some)
    });
    let content_type = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    Ok((content_type, Body::from_stream(chunks)).into_response())
}
