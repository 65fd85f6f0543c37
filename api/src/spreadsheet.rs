//! CSV files (RFC 4180) for spreadsheets: every cell stays one cell, and none becomes a formula.

/// Media type of the files.
pub(crate) const CSV: &str = "text/csv; charset=utf-8; header=present";
/// Characters that start a formula in a spreadsheet; some accept the full-width ones.
const FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];
/// Characters that some spreadsheets treat as field separators even in quoted fields.
const SEPARATORS: [char; 4] = [';', '\t', '\r', '\n'];
/// Byte order mark: without it, spreadsheets read UTF-8 in the encoding of the system.
pub(crate) const BOM: &str = "\u{feff}";

/// A line of the file.
pub(crate) fn line<const N: usize>(fields: [String; N]) -> String {
    let mut line = fields.map(|field| escaped(&field)).join(",");
    line.push_str("\r\n");
    line
}

fn escaped(field: &str) -> String {
    let mut escaped = String::with_capacity(field.len() + 2);
    escaped.push('"');
    // An amount below zero stays a number.
    let mut at_cell_start = !is_negative_number(field);
    for character in field.chars() {
        if at_cell_start && FORMULA.contains(&character) {
            // An apostrophe makes spreadsheets show the cell as text.
            escaped.push('\'');
        }
        if character == '"' {
            escaped.push('"');
        }
        escaped.push(character);
        let is_skipped = character == '"' || character.is_whitespace();
        at_cell_start = SEPARATORS.contains(&character) || at_cell_start && is_skipped;
    }
    escaped.push('"');
    escaped
}

fn is_negative_number(field: &str) -> bool {
    let digits = field.strip_prefix('-').unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_stays_one_field_and_never_becomes_a_formula() {
        let cases = [
            ("plain", "\"plain\""),
            ("", "\"\""),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\r\nlines", "\"two\r\nlines\""),
            ("=1+1", "\"'=1+1\""),
            ("+45 1", "\"'+45 1\""),
            ("-12", "\"-12\""),
            ("-", "\"'-\""),
            ("-1+1", "\"'-1+1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            (" =1", "\" '=1\""),
            ("\t=1", "\"\t'=1\""),
            ("\r=1", "\"\r'=1\""),
            ("a\r\n=1", "\"a\r\n'=1\""),
            ("a\n-1", "\"a\n'-1\""),
            ("a\t@b", "\"a\t'@b\""),
            ("a;=1", "\"a;'=1\""),
            ("a; \"=1\"", "\"a; \"\"'=1\"\"\""),
            ("＝1", "\"'＝1\""),
            ("a;＋1", "\"a;'＋1\""),
            ("－1", "\"'－1\""),
            ("＠SUM(A1)", "\"'＠SUM(A1)\""),
            ("=cmd|' /C calc'!A0,\"", "\"'=cmd|' /C calc'!A0,\"\"\""),
            ("a=1", "\"a=1\""),
            ("a;b=1", "\"a;b=1\""),
        ];

        for (field, expected) in cases {
            assert_eq!(escaped(field), expected, "{field:?}");
        }
    }
}
