//! The pages of the console.

pub(super) mod audit;
pub(super) mod job;
pub(super) mod jobs;
pub(super) mod matching;
pub(super) mod overview;
mod pause;
pub(super) mod queues;
pub(super) mod schedules;
pub(super) mod tenant;
pub(super) mod tenants;
pub(super) mod upstreams;
pub(super) mod workers;

use serde::Deserialize;

use super::query::{Parameters, path_with};

/// A page of a list of the API.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct List<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

impl<T> List<T> {
    /// Address of the console's next page, at `path` with the same filters. `None` on the last page.
    fn next_page(&self, path: &str, parameters: &Parameters, filters: &[&str]) -> Option<String> {
        let cursor = self.next_cursor.as_deref()?;
        Some(path_with(path, parameters, filters, &[("cursor", cursor)]))
    }
}

/// An option of a filter.
#[derive(Debug)]
struct Choice {
    value: &'static str,
    is_selected: bool,
}

/// The options of a filter, with the current one.
fn choices(values: &[&'static str], current: Option<&str>) -> Vec<Choice> {
    let choice = |&value: &&'static str| Choice {
        value,
        is_selected: current == Some(value),
    };
    values.iter().map(choice).collect()
}
