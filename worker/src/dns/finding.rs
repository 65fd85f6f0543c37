//! What one resolver's answers say about one thing that should be there.

use dezky_shared::domain::check::{Dnssec, Record};

use super::{
    code::Code,
    resolver::{Answer, Failure, Value},
};

/// The most records that are kept as evidence, and the most bytes of each and of all: what is there is for others to
/// choose.
const RECORDS: usize = 20;
const BYTES: usize = 1024;
const BYTES_OF_ALL: usize = 4096;

/// The answers that a check has looked at so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    records: Vec<Record>,
    ttl: Option<u32>,
    signed: bool,
    asked: bool,
}

impl Seen {
    /// Keeps all of an answer.
    pub(super) fn add(&mut self, name: &str, answer: &Answer) {
        self.add_some(name, answer, |_| true);
    }

    /// Keeps the texts that concern the check, of a name that others share.
    pub(super) fn add_texts(
        &mut self,
        name: &str,
        answer: &Answer,
        concern: impl Fn(&str) -> bool,
    ) {
        self.add_some(name, answer, |value| match value {
            Value::Text(text) => concern(text),
            _ => true,
        });
    }

    fn add_some(&mut self, name: &str, answer: &Answer, keep: impl Fn(&Value) -> bool) {
        let alias = answer.aliases.first();
        let alias = alias.map(|target| record(name, "CNAME", target));
        let values = answer.values.iter().filter(|value| keep(value));
        let values = values.map(|value| match value {
            Value::Mx(preference, host) => {
                // A null MX is written with the root's name.
                let host = if host.is_empty() { "." } else { host };
                record(name, "MX", &format!("{preference} {host}"))
            }
            Value::Text(text) => record(name, "TXT", text),
            Value::Address(address) => {
                let kind = if address.is_ipv4() { "A" } else { "AAAA" };
                record(name, kind, &address.to_string())
            }
        });
        for record in alias.into_iter().chain(values) {
            let kept: usize = self.records.iter().map(|kept| kept.value.len()).sum();
            let has_room =
                self.records.len() < RECORDS && kept + record.value.len() <= BYTES_OF_ALL;
            if has_room && !self.records.contains(&record) {
                self.records.push(record);
            }
        }
        self.ttl = self.ttl.into_iter().chain(answer.ttl).min();
        self.signed = answer.authentic && (self.signed || !self.asked);
        self.asked = true;
    }

    /// What it comes to.
    pub(super) fn says(self, code: Code) -> Finding {
        Finding {
            code,
            about: None,
            found: self.records,
            ttl: self.ttl,
            dnssec: if self.signed {
                Dnssec::Secure
            } else {
                Dnssec::Insecure
            },
        }
    }

    /// What it comes to, because of this record, name or term.
    pub(super) fn says_about(self, code: Code, about: impl Into<String>) -> Finding {
        Finding {
            about: Some(shortened(&about.into(), 100)),
            ..self.says(code)
        }
    }

    /// It cannot be said, because of this failure.
    pub(super) fn fails(self, failure: Failure) -> Finding {
        let finding = self.says(failure.into());
        match failure {
            Failure::Bogus => Finding {
                dnssec: Dnssec::Bogus,
                ..finding
            },
            _ => finding,
        }
    }
}

/// What one resolver's answers come to.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub(super) code: Code,
    /// What in particular is meant.
    pub(super) about: Option<String>,
    pub(super) found: Vec<Record>,
    pub(super) ttl: Option<u32>,
    pub(super) dnssec: Dnssec,
}

impl From<Failure> for Code {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Timeout => Self::Timeout,
            Failure::Unreachable => Self::Unreachable,
            Failure::ServFail => Self::ServerFailure,
            Failure::Bogus => Self::DnssecBogus,
            Failure::Refused => Self::Refused,
            Failure::Truncated => Self::Truncated,
            Failure::Lame => Self::Lame,
            Failure::Malformed => Self::Malformed,
            Failure::AliasLoop => Self::CnameLoop,
        }
    }
}

fn record(name: &str, kind: &str, value: &str) -> Record {
    Record {
        name: name.to_owned(),
        kind: kind.to_owned(),
        value: shortened(value, BYTES),
        check: None,
    }
}

/// At most so many bytes, without control characters, which nobody needs to see and terminals obey.
fn shortened(text: &str, bytes: usize) -> String {
    let mut shortened = String::new();
    for character in text.chars() {
        if shortened.len() + character.len_utf8() > bytes {
            shortened.push('…');
            break;
        }
        let visible = if character.is_control() {
            '\u{fffd}'
        } else {
            character
        };
        shortened.push(visible);
    }
    shortened
}
