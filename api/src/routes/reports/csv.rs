//! A report as a CSV file: one line for each value.

use axum::response::{IntoResponse as _, Response};
use http::header;

use super::view::{ReportView, Row, Series, Unit};
use crate::{
    extract::Format,
    spreadsheet::{BOM, CSV, line},
};

/// Column names.
const COLUMNS: [&str; 8] = [
    "report", "currency", "exponent", "key", "label", "point", "unit", "value",
];

/// The file.
pub(super) fn file(report: &ReportView) -> Response {
    let name = report.report.name();
    let disposition = format!("attachment; filename=\"{name}.csv\"");
    let headers = [
        (header::CONTENT_TYPE, CSV),
        (header::CONTENT_DISPOSITION, disposition.as_str()),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (Format::Csv, headers, text(report)).into_response()
}

fn text(report: &ReportView) -> String {
    let mut file = BOM.to_owned() + &line(COLUMNS.map(str::to_owned));
    let name = report.report.name();
    let none = (String::new(), String::new());
    write(&mut file, name, &none, &report.series, &report.rows);
    for of in &report.currencies {
        let currency = (of.currency.clone(), of.exponent.to_string());
        write(&mut file, name, &currency, &of.series, &of.rows);
    }
    file
}

fn write(
    file: &mut String,
    report: &str,
    (currency, exponent): &(String, String),
    series: &[Series],
    rows: &[Row],
) {
    let mut push = |key: &str, label: &str, point: String, unit: Unit, value: Option<i64>| {
        file.push_str(&line([
            report.to_owned(),
            currency.clone(),
            exponent.clone(),
            key.to_owned(),
            label.to_owned(),
            point,
            unit.name().to_owned(),
            value.map(|value| value.to_string()).unwrap_or_default(),
        ]));
    };
    for it in series {
        for point in &it.points {
            let month = point.month.to_string();
            push(&it.key, &it.label, month, it.unit, point.value());
        }
    }
    for row in rows {
        for cell in &row.cells {
            let column = cell.key.clone();
            push(&row.key, &row.label, column, cell.unit, cell.value());
        }
    }
}
