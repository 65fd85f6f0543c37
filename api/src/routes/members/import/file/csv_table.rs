//! CSV files: a header line names the columns, and each record is a row. An empty cell is a missing field.

use csv::{ReaderBuilder, StringRecord};

use super::{FileRow, count_lines, ensure_room, invalid_file};
use crate::{
    config::Config,
    error::{ApiError, FieldError},
    routes::members::create::CreateRequest,
};

/// Delimiters: spreadsheets of many countries write semicolons.
const DELIMITERS: [u8; 3] = [b',', b';', b'\t'];

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Email,
    LocalPart,
    Name,
    Role,
    Mailbox,
    Aliases,
    QuotaBytes,
}

impl Column {
    /// Every column with its name, which is that of the field.
    const ALL: [(&'static str, Self); 7] = [
        ("email", Self::Email),
        ("localPart", Self::LocalPart),
        ("name", Self::Name),
        ("role", Self::Role),
        ("mailbox", Self::Mailbox),
        ("aliases", Self::Aliases),
        ("mailboxQuotaBytes", Self::QuotaBytes),
    ];
}

/// Reads the rows of a file.
pub(super) fn read(text: &str, config: &Config) -> Result<Vec<FileRow>, ApiError> {
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter(text))
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut lines = LineCounter::default();
    let mut columns: Option<Vec<Column>> = None;
    let mut rows = Vec::new();
    let mut record = StringRecord::new();
    while reader
        .read_record(&mut record)
        .map_err(|error| invalid_file("invalid_csv", format!("{error}.")))?
    {
        let start = record.position().map_or(0, csv::Position::byte);
        let line = lines.line_of_record(text.as_bytes(), start);
        let Some(columns) = &columns else {
            columns = Some(header(&record)?);
            continue;
        };
        // A spreadsheet writes lines of delimiters alone for rows that were cleared.
        if record.iter().all(|cell| cell.trim().is_empty()) {
            continue;
        }
        ensure_room(rows.len())?;
        rows.push(FileRow::new(line, request(columns, &record), config));
    }
    Ok(rows)
}

/// The delimiter that the header line has; names of columns have none.
fn delimiter(text: &str) -> u8 {
    let header = text.trim_start().lines().next().unwrap_or_default();
    let found = |delimiter: &u8| header.as_bytes().contains(delimiter);
    DELIMITERS.into_iter().find(found).unwrap_or(b',')
}

/// The columns that a header line names.
fn header(record: &StringRecord) -> Result<Vec<Column>, ApiError> {
    let mut columns = Vec::new();
    for name in record {
        let mut known = Column::ALL.into_iter();
        let column = known.find(|(known, _)| known.eq_ignore_ascii_case(name.trim()));
        let Some((name, column)) = column else {
            let known = Column::ALL.map(|(name, _)| name).join(", ");
            let message = format!("The first line must name columns among {known}.");
            return Err(invalid_file("unknown_column", message));
        };
        if columns.contains(&column) {
            let message = format!("The first line names {name} twice.");
            return Err(invalid_file("duplicate_column", message));
        }
        columns.push(column);
    }
    Ok(columns)
}

/// The record as the request for one member.
fn request(columns: &[Column], record: &StringRecord) -> Result<CreateRequest, FieldError> {
    if record.len() != columns.len() {
        let (found, expected) = (record.len(), columns.len());
        let message = format!("The row has {found} cells, and the first line {expected}.");
        return Err(FieldError::at("", "wrong_cell_count", message));
    }
    let cell = |column| {
        let index = columns.iter().position(|found| *found == column)?;
        let text = record.get(index)?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    Ok(CreateRequest {
        email: cell(Column::Email),
        local_part: cell(Column::LocalPart),
        // Required fields: validation names them.
        name: cell(Column::Name).unwrap_or_default(),
        role: cell(Column::Role).unwrap_or_default(),
        mailbox: match cell(Column::Mailbox) {
            None => true,
            Some(text) => boolean(&text)?,
        },
        aliases: cell(Column::Aliases)
            .iter()
            .flat_map(|text| text.split_whitespace())
            .map(str::to_owned)
            .collect(),
        mailbox_quota_bytes: cell(Column::QuotaBytes)
            .map(|text| whole_number(&text))
            .transpose()?,
        password: None,
    })
}

/// `true` or `false`, in any case: spreadsheets write capitals.
fn boolean(text: &str) -> Result<bool, FieldError> {
    if text.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if text.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        let message = "Must be true or false.";
        Err(FieldError::at("/mailbox", "wrong_type", message))
    }
}

fn whole_number(text: &str) -> Result<i64, FieldError> {
    text.parse().map_err(|_| {
        let message = "Must be a whole number of bytes.";
        FieldError::at("/mailboxQuotaBytes", "wrong_type", message)
    })
}

/// Counts lines up to a record. A record may have several, and blank lines are no records.
#[derive(Default)]
struct LineCounter {
    at: usize,
    feeds: i64,
}

impl LineCounter {
    /// The line at which the record begins that was read from `start` on.
    fn line_of_record(&mut self, text: &[u8], start: u64) -> i64 {
        let start = usize::try_from(start).unwrap_or(text.len()).min(text.len());
        let skipped = text[start..]
            .iter()
            .take_while(|byte| b"\r\n".contains(byte));
        let start = start + skipped.count();
        self.feeds += count_lines(text.get(self.at..start).unwrap_or_default());
        self.at = self.at.max(start);
        self.feeds + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_the_file_whatever_ends_them() {
        for end in ["\n", "\r\n"] {
            let text = [
                "name,role",
                "",
                "\"a\nb\",member",
                "c,member",
                "",
                "d,member",
            ]
            .join(end);
            let mut reader = ReaderBuilder::new()
                .has_headers(false)
                .flexible(true)
                .from_reader(text.as_bytes());
            let mut lines = LineCounter::default();
            let mut found = Vec::new();
            let mut record = StringRecord::new();
            while reader.read_record(&mut record).unwrap() {
                let start = record.position().unwrap().byte();
                found.push(lines.line_of_record(text.as_bytes(), start));
            }

            assert_eq!(found, [1, 3, 5, 7], "{text:?}");
        }
    }

    #[test]
    fn the_delimiter_is_that_of_the_header() {
        for (text, expected) in [
            ("name,role\na;b,c", b','),
            ("name;role\na,b;c", b';'),
            ("name\trole", b'\t'),
            ("name", b','),
        ] {
            assert_eq!(delimiter(text), expected, "{text}");
        }
    }
}
