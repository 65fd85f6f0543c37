//! Numbering of invoices: the counter of a legal entity and year, and the number at a position of it.

use bson::DateTime;
use jiff::{Timestamp, tz::TimeZone};

/// Key of the counter of invoice numbers: one for each legal entity and year (UTC).
pub fn counter_key(legal_entity: &str, issued_at: DateTime) -> String {
    let time = Timestamp::from_millisecond(issued_at.timestamp_millis()).unwrap_or_default();
    let year = time.to_zoned(TimeZone::UTC).year();
    format!("{legal_entity}/{year}")
}

/// The invoice number at this position of a counter: `DEZKY-2026-000001`.
pub fn number(counter_key: &str, position: i64) -> String {
    format!("{}-{position:06}", counter_key.replace('/', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_names_its_legal_entity_and_year() {
        let at = |text| DateTime::parse_rfc3339_str(text).unwrap();
        for (time, position, expected) in [
            ("2026-12-31T23:59:59.999Z", 1, "DEZKY-2026-000001"),
            ("2027-01-01T00:00:00Z", 42, "DEZKY-2027-000042"),
            ("2027-01-01T00:00:00Z", 1_234_567, "DEZKY-2027-1234567"),
        ] {
            let key = counter_key("DEZKY", at(time));
            assert_eq!(number(&key, position), expected);
        }
    }
}
