//! Files of new members: CSV (RFC 4180) with a header line, or JSON lines.

mod csv_table;

use dezky_shared::{
    member::NewMember,
    member_import::{MAX_ROWS, RowError},
};
use http::HeaderMap;

use crate::{
    config::Config,
    error::{ApiError, FieldError, ProblemCode},
    extract::{FromBody, Validate as _, ensure_not_encoded, media_type, read_json, without_bom},
    routes::members::create::{CreateRequest, ValidMember},
};

/// Maximum size of a file: 5,000 rows of 400 bytes.
const FILE_LIMIT: usize = 2 * 1024 * 1024;
/// Maximum length of a label, in characters: that of an e-mail address.
const MAX_LABEL: usize = 254;

/// The rows of a file.
#[derive(Debug)]
pub(super) struct ImportFile {
    /// At least one row, at most [`MAX_ROWS`].
    pub(super) rows: Vec<FileRow>,
}

/// A row of a file.
#[derive(Debug)]
pub(super) struct FileRow {
    /// Line at which it begins, from 1.
    pub(super) line: i64,
    /// Login or local part as written, to recognize the row by.
    pub(super) label: String,
    /// The new member, or the errors of the row.
    pub(super) member: Result<NewMember, Vec<RowError>>,
}

impl FileRow {
    /// A row that was read as a request, or that could not be.
    fn new(line: i64, request: Result<CreateRequest, FieldError>, config: &Config) -> Self {
        let label = request.as_ref().ok().and_then(CreateRequest::label);
        let label = label.unwrap_or_default().trim();
        Self {
            line,
            label: label.chars().take(MAX_LABEL).collect(),
            member: request
                .map_err(|error| vec![error])
                .and_then(|request| ValidMember::validate(request, config))
                .map(|ValidMember(new)| new)
                .map_err(|errors| errors.into_iter().map(row_error).collect()),
        }
    }
}

fn row_error(error: FieldError) -> RowError {
    RowError {
        pointer: error.pointer,
        code: error.code,
        message: Some(error.message),
    }
}

impl FromBody for ImportFile {
    const LIMIT: usize = FILE_LIMIT;

    fn from_body(headers: &HeaderMap, bytes: &[u8], config: &Config) -> Result<Self, ApiError> {
        let read = match media_type(headers).as_str() {
            "text/csv" => csv_table::read,
            "application/x-ndjson" | "application/jsonl" => read_json_lines,
            _ => {
                let detail = "Send the file as text/csv or application/x-ndjson.";
                return Err(ApiError::new(ProblemCode::UnsupportedMediaType).with_detail(detail));
            }
        };
        ensure_not_encoded(headers)?;
        let bytes = without_bom(bytes);
        let text = str::from_utf8(bytes).map_err(|error| {
            let line = 1 + count_lines(&bytes[..error.valid_up_to()]);
            let message = format!("Line {line} is not UTF-8. Save the file as CSV UTF-8.");
            invalid_file("not_utf8", message)
        })?;
        let rows = read(text, config)?;
        if rows.is_empty() {
            return Err(invalid_file("no_rows", "The file has no rows."));
        }
        Ok(Self { rows })
    }
}

/// JSON lines: an object for each row, as the body of `POST /tenants/{slug}/users`.
fn read_json_lines(text: &str, config: &Config) -> Result<Vec<FileRow>, ApiError> {
    let mut rows = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        if text.trim().is_empty() {
            continue;
        }
        ensure_room(rows.len())?;
        rows.push(FileRow::new(line, read_json(text.as_bytes()), config));
    }
    Ok(rows)
}

/// Rejects a file with more than [`MAX_ROWS`] rows.
fn ensure_room(rows: usize) -> Result<(), ApiError> {
    if rows < MAX_ROWS {
        return Ok(());
    }
    let message = format!("The file has more than {MAX_ROWS} rows. Send it in parts.");
    Err(invalid_file("too_many_rows", message))
}

/// Error of the file as a whole.
fn invalid_file(code: &str, message: impl Into<String>) -> ApiError {
    ApiError::invalid(vec![FieldError::at("", code, message)])
}

/// Number of line feeds.
fn count_lines(bytes: &[u8]) -> i64 {
    let feeds = bytes.split(|byte| *byte == b'\n').count() - 1;
    i64::try_from(feeds).unwrap_or(i64::MAX)
}
