//! One report: charts and tables for each currency, and for numbers without one.

use askama::Template;
use axum::{extract::Path, response::Response};
use dezky_shared::report::ReportName;
use http::StatusCode;
use serde::Deserialize;

use super::{
    super::{
        chart::{Chart, Point as ChartPoint},
        failure::Failure,
        form::Field,
        html::respond,
        page::Frame,
        page_request::PageRequest,
        query::{Parameters, path_with},
        table::{Cell, Table},
        text::{Time, amount},
    },
    PLANS, reports,
};
use crate::error::ProblemCode;

/// Parameters of a report.
const FILTERS: [&str; 4] = ["from", "to", "currency", "plan"];

/// A report.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    as_of: Option<Time>,
    currencies: Vec<Part>,
    series: Vec<Series>,
    rows: Vec<Row>,
}

/// The part of a report in one currency.
#[derive(Debug, Deserialize)]
struct Part {
    currency: String,
    exponent: u8,
    series: Vec<Series>,
    rows: Vec<Row>,
}

#[derive(Debug, Deserialize)]
struct Series {
    label: String,
    unit: Unit,
    points: Vec<Point>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Point {
    month: String,
    value_minor: Option<i64>,
    value: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct Row {
    key: String,
    label: String,
    cells: Vec<RowCell>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RowCell {
    key: String,
    unit: Unit,
    value_minor: Option<i64>,
    value: Option<i64>,
}

/// Unit of values.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Unit {
    Minor,
    Count,
    BasisPoints,
}

impl Part {
    /// Name of the part in captions.
    fn name(&self) -> &str {
        if self.currency.is_empty() {
            "numbers"
        } else {
            &self.currency
        }
    }

    /// A value in its unit. A missing one is empty.
    fn shown(&self, unit: Unit, value: Option<i64>) -> String {
        let Some(value) = value else {
            return String::new();
        };
        match unit {
            Unit::Minor => amount(value, self.exponent, &self.currency),
            Unit::Count => value.to_string(),
            Unit::BasisPoints => amount(value, 2, "%"),
        }
    }

    fn charts(&self) -> impl Iterator<Item = Chart> {
        self.series.iter().filter_map(move |series| {
            let point = |point: &Point| {
                let value = point.value_minor.or(point.value);
                let label = format!("{}: {}", point.month, self.shown(series.unit, value));
                ChartPoint { value, label }
            };
            let points = series.points.iter().map(point).collect();
            Chart::new(format!("{}, {}", series.label, self.name()), points)
        })
    }

    /// The series by month.
    fn series_table(&self) -> Option<Table> {
        let first = self.series.first()?;
        let mut columns = vec!["Month".to_owned()];
        columns.extend(self.series.iter().map(|series| series.label.clone()));
        let row = |(index, month): (usize, &Point)| {
            let value = |series: &Series| {
                let point = series.points.get(index);
                let value = point.and_then(|point| point.value_minor.or(point.value));
                Cell::text(self.shown(series.unit, value))
            };
            let month = Cell::text(&month.month);
            std::iter::once(month)
                .chain(self.series.iter().map(value))
                .collect::<Vec<_>>()
        };
        let rows = first.points.iter().enumerate().map(row).collect();
        let caption = format!("By month, {}", self.name());
        Some(Table::with_columns(caption, columns, rows))
    }

    /// The rows, with a column for each key of their cells.
    fn row_table(&self) -> Option<Table> {
        let cells = self.rows.iter().flat_map(|row| &row.cells);
        let mut keys: Vec<&str> = Vec::new();
        for cell in cells {
            if !keys.contains(&cell.key.as_str()) {
                keys.push(&cell.key);
            }
        }
        if self.rows.is_empty() {
            return None;
        }
        let row = |row: &Row| {
            let value = |key: &&str| {
                let found = row.cells.iter().find(|cell| cell.key == **key);
                let shown =
                    found.map(|cell| self.shown(cell.unit, cell.value_minor.or(cell.value)));
                Cell::text(shown.unwrap_or_default())
            };
            let names = [Cell::text(&row.key), Cell::text(&row.label)];
            names
                .into_iter()
                .chain(keys.iter().map(value))
                .collect::<Vec<_>>()
        };
        let rows = self.rows.iter().map(row).collect();
        let names = ["Key", "Label"].into_iter().chain(keys.iter().copied());
        let columns = names.map(str::to_owned).collect();
        let caption = format!("Details, {}", self.name());
        Some(Table::with_columns(caption, columns, rows))
    }
}

#[derive(Debug, Template)]
#[template(path = "console/report.html")]
struct ReportPage {
    frame: Frame,
    contents: &'static str,
    as_of: Option<Time>,
    /// Address of the same values as a CSV file.
    csv: String,
    filters: Vec<Field>,
    charts: Vec<Chart>,
    tables: Vec<Table>,
}

/// The report with this name.
fn named(name: &str) -> Result<ReportName, Failure> {
    let name = name.parse();
    name.map_err(|()| Failure::new(ProblemCode::NotFound, "There is no such report."))
}

/// Path of the report in the API, with the filters of the page.
fn path_of(name: ReportName, parameters: &Parameters) -> String {
    let path = format!("/reports/{}", name.name());
    path_with(&path, parameters, &FILTERS, &[])
}

/// The report as a CSV file.
pub(in crate::console) async fn csv(
    request: PageRequest,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let path = path_of(named(&name)?, &request.parameters);
    request.csv(&path).await
}

pub(in crate::console) async fn show(
    request: PageRequest,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let name = named(&name)?;
    let path = path_of(name, &request.parameters);
    let report: Report = request.get(&path).await?;
    let mut parts = report.currencies;
    parts.push(Part {
        currency: String::new(),
        exponent: 0,
        series: report.series,
        rows: report.rows,
    });
    let (title, contents) = reports::description(name);
    let csv = format!("/console/reports/{}/report.csv", name.name());
    let value = |name| request.text(name);
    let tables = parts
        .iter()
        .flat_map(|part| [part.series_table(), part.row_table()]);
    let page = ReportPage {
        frame: request.frame("/console/reports", title)?,
        contents,
        as_of: report.as_of,
        csv: path_with(&csv, &request.parameters, &FILTERS, &[]),
        filters: vec![
            Field::text("From, such as 2026-01", "from", value("from")),
            Field::text("To", "to", value("to")),
            Field::text("Currency", "currency", value("currency")),
            Field::choice("Plan", "plan", &PLANS, value("plan")),
        ],
        charts: parts.iter().flat_map(Part::charts).collect(),
        tables: tables.flatten().collect(),
    };
    Ok(respond(StatusCode::OK, &page))
}
