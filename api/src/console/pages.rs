//! The pages of the console.

pub(super) mod audit;
pub(super) mod billing;
pub(super) mod flag;
pub(super) mod flags;
pub(super) mod invoices;
pub(super) mod job;
pub(super) mod jobs;
pub(super) mod matching;
pub(super) mod operation;
pub(super) mod operations;
pub(super) mod overview;
pub(super) mod partner;
pub(super) mod partners;
mod pause;
pub(super) mod payouts;
pub(super) mod queues;
pub(super) mod report;
pub(super) mod reports;
pub(super) mod schedules;
pub(super) mod tenant;
pub(super) mod tenants;
pub(super) mod upstreams;
pub(super) mod verification;
pub(super) mod workers;

use askama::Template;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    failure::Failure,
    form::{Field, Form},
    html::respond,
    page::Frame,
    page_request::PageRequest,
    query::path_with,
    table::Table,
};

/// Plans.
const PLANS: [&str; 3] = ["starter", "business", "enterprise"];

/// A page of a list of the API.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct List<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

impl<T: DeserializeOwned> List<T> {
    /// Reads the page that the parameters of the console's page select: these filters, and a cursor.
    async fn read(request: &PageRequest, path: &str, filters: &[&str]) -> Result<Self, Failure> {
        let cursor = request.text("cursor").unwrap_or_default();
        let more = [("limit", "50"), ("cursor", cursor)];
        let path = path_with(path, &request.parameters, filters, &more);
        request.get(&path).await
    }
}

impl<T> List<T> {
    /// Address of the console's next page, at `path` with the same filters. `None` on the last page.
    fn next_page(&self, request: &PageRequest, path: &str, filters: &[&str]) -> Option<String> {
        let cursor = self.next_cursor.as_deref()?;
        let more = [("cursor", cursor)];
        Some(path_with(path, &request.parameters, filters, &more))
    }

    /// Caption of a table that shows the first page only.
    fn caption(&self, name: &str) -> String {
        if self.next_cursor.is_some() {
            format!("{name} (the first of more)")
        } else {
            name.to_owned()
        }
    }
}

/// A page that is a list: a sentence, links, filters, tables and the forms of actions.
#[derive(Debug, Template)]
#[template(path = "console/list.html")]
pub(super) struct ListPage {
    frame: Frame,
    sentence: Option<String>,
    links: Vec<(String, String)>,
    filters: Vec<Field>,
    tables: Vec<Table>,
    forms: Vec<Form>,
}

impl ListPage {
    /// A page with this table.
    pub(super) fn new(frame: Frame, table: Table) -> Self {
        Self {
            frame,
            sentence: None,
            links: Vec::new(),
            filters: Vec::new(),
            tables: vec![table],
            forms: Vec::new(),
        }
    }

    /// The page with a sentence on top.
    pub(super) fn with_sentence(self, sentence: impl Into<String>) -> Self {
        Self {
            sentence: Some(sentence.into()),
            ..self
        }
    }

    /// The page with a link to another one.
    pub(super) fn with_link(mut self, path: impl Into<String>, label: impl Into<String>) -> Self {
        self.links.push((path.into(), label.into()));
        self
    }

    /// The page with these filters.
    fn with_filters(self, filters: Vec<Field>) -> Self {
        Self { filters, ..self }
    }

    /// The page with one more table.
    fn with_table(mut self, table: Table) -> Self {
        self.tables.push(table);
        self
    }

    /// The page with the forms of these actions.
    fn with_forms(self, forms: Vec<Form>) -> Self {
        Self { forms, ..self }
    }

    /// The page as a response.
    pub(super) fn respond(&self) -> Response {
        respond(StatusCode::OK, self)
    }
}
