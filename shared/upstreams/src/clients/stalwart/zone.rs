//! Parser of the zone file that Stalwart computes for a domain.
//!
//! Lines are `name. IN TYPE data`, without a TTL. A TXT record longer than one string of 255 bytes spans several lines
//! in parentheses.

use dezky_shared::domain::check::Record;

/// Records of a zone file. Lines that are not records are skipped, because the server controls the file.
pub fn records(zone: &str) -> Vec<Record> {
    statements(zone)
        .iter()
        .filter_map(|line| record(line))
        .collect()
}

/// Lines, each joined with the continuation in parentheses. Parentheses within quotes are literal.
fn statements(zone: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut statement = String::new();
    let (mut quoted, mut depth) = (false, 0_usize);
    for character in zone.chars() {
        match character {
            '"' => {
                quoted = !quoted;
                statement.push('"');
            }
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth = depth.saturating_sub(1),
            '\n' if depth == 0 => {
                quoted = false;
                statements.push(std::mem::take(&mut statement));
            }
            '\n' => statement.push(' '),
            other => statement.push(other),
        }
    }
    statements.push(statement);
    statements
}

fn record(line: &str) -> Option<Record> {
    let (name, rest) = line.trim().split_once(char::is_whitespace)?;
    let rest = rest.trim_start().strip_prefix("IN")?;
    let (kind, data) = rest.trim_start().split_once(char::is_whitespace)?;
    let data = data.trim();
    let value = if data.starts_with('"') {
        // Every second part between quotes is a string.
        data.split('"').skip(1).step_by(2).collect()
    } else {
        data.strip_suffix('.').unwrap_or(data).to_owned()
    };
    Some(Record {
        name: name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase(),
        kind: kind.to_ascii_uppercase(),
        value,
        check: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(zone: &str) -> Vec<(String, String, String)> {
        records(zone)
            .into_iter()
            .map(|record| (record.name, record.kind, record.value))
            .collect()
    }

    fn record(name: &str, kind: &str, value: &str) -> (String, String, String) {
        (name.to_owned(), kind.to_owned(), value.to_owned())
    }

    #[test]
    fn each_line_is_a_record_without_dots_and_quotes() {
        let zone = "ACME.test. IN MX 10 mail.provider.test.\n\
            acme.test. IN TXT \"v=spf1 mx -all\"\n\
            _imaps._tcp.acme.test. IN SRV 0 1 993 mail.provider.test.\n\
            autoconfig.acme.test. IN CNAME mail.provider.test.\n";

        assert_eq!(
            read(zone),
            [
                record("acme.test", "MX", "10 mail.provider.test"),
                record("acme.test", "TXT", "v=spf1 mx -all"),
                record("_imaps._tcp.acme.test", "SRV", "0 1 993 mail.provider.test"),
                record("autoconfig.acme.test", "CNAME", "mail.provider.test"),
            ]
        );
    }

    #[test]
    fn the_strings_of_a_long_text_are_joined_without_spaces() {
        let zone = "a._domainkey.acme.test. IN TXT (\n    \"v=DKIM1; k=rsa; p=MII\"\n    \"BCg(K\"\n)\n\
            acme.test. IN MX 10 mail.test.\n";

        assert_eq!(
            read(zone),
            [
                record(
                    "a._domainkey.acme.test",
                    "TXT",
                    "v=DKIM1; k=rsa; p=MIIBCg(K"
                ),
                record("acme.test", "MX", "10 mail.test"),
            ]
        );
    }

    #[test]
    fn lines_that_are_not_records_are_skipped() {
        for zone in [
            "",
            "\n\n",
            "; a comment",
            "acme.test.",
            "acme.test. IN",
            "(",
            "\"",
        ] {
            assert!(records(zone).is_empty(), "{zone:?}");
        }
    }
}
