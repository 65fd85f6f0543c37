//! Evidence and findings: the records that one resolver returned for one check, and the conclusion drawn from them.

use dezky_shared::domain::check::{Dnssec, Record};

use super::{
    code::Code,
    resolver::{Answer, Failure, Value},
};

/// Limits of the stored evidence, since third parties control its size: records, bytes per record, bytes in all.
const MAX_RECORDS: usize = 20;
const MAX_RECORD_BYTES: usize = 1024;
const MAX_TOTAL_BYTES: usize = 4096;

/// The answers that a check has examined so far.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    records: Vec<Record>,
    near_miss: Option<NearMiss>,
    ttl: Option<u32>,
    signed: bool,
    any_answer: bool,
}

impl Evidence {
    /// Adds all records of an answer.
    pub(super) fn add(&mut self, name: &str, answer: &Answer) {
        self.add_some(name, answer, |_| true);
    }

    /// Adds the relevant texts of an answer, for a name that holds records of other services too.
    pub(super) fn add_texts(
        &mut self,
        name: &str,
        answer: &Answer,
        is_relevant: impl Fn(&str) -> bool,
    ) {
        self.add_some(name, answer, |value| match value {
            Value::Text(text) => is_relevant(text),
            _ => true,
        });
    }

    /// Adds texts that receivers ignore. The TTL and the signature of the answer do not matter.
    pub(super) fn add_ignored(
        &mut self,
        name: &str,
        answer: &Answer,
        is_relevant: impl Fn(&str) -> bool,
    ) {
        for text in answer.texts().filter(|text| is_relevant(text)) {
            self.push(record(name, "TXT", text));
        }
    }

    /// Notes a record that receivers ignore.
    pub(super) fn near_miss(&mut self, near_miss: NearMiss) {
        self.near_miss = Some(near_miss);
    }

    fn add_some(&mut self, name: &str, answer: &Answer, keep: impl Fn(&Value) -> bool) {
        let alias = answer.aliases.first();
        let alias = alias.map(|target| record(name, "CNAME", target));
        let values = answer.values.iter().filter(|value| keep(value));
        let values = values.map(|value| match value {
            Value::Mx(preference, host) => {
                // A null MX has the root as its host.
                let host = if host.is_empty() { "." } else { host };
                record(name, "MX", &format!("{preference} {host}"))
            }
            Value::Text(text) => record(name, "TXT", text),
            Value::Address(address) => {
                let kind = if address.is_ipv4() { "A" } else { "AAAA" };
                record(name, kind, &address.to_string())
            }
            Value::Name(host) => record(name, "PTR", host),
        });
        for record in alias.into_iter().chain(values) {
            self.push(record);
        }
        self.ttl = self.ttl.into_iter().chain(answer.ttl).min();
        self.signed = answer.authentic && (self.signed || !self.any_answer);
        self.any_answer = true;
    }

    fn push(&mut self, record: Record) {
        let stored: usize = self.records.iter().map(|stored| stored.value.len()).sum();
        let fits =
            self.records.len() < MAX_RECORDS && stored + record.value.len() <= MAX_TOTAL_BYTES;
        if fits && !self.records.contains(&record) {
            self.records.push(record);
        }
    }

    /// Concludes with this code.
    pub(super) fn conclude(self, code: Code) -> Finding {
        Finding {
            code,
            subject: None,
            near_miss: self.near_miss,
            found: self.records,
            ttl: self.ttl,
            dnssec: if self.signed {
                Dnssec::Secure
            } else {
                Dnssec::Insecure
            },
        }
    }

    /// Concludes with this code because of a record, name, address or term.
    pub(super) fn conclude_about(self, code: Code, subject: impl Into<String>) -> Finding {
        Finding {
            subject: Some(shortened(&subject.into(), 100)),
            ..self.conclude(code)
        }
    }

    /// Concludes that the state is unknown because a lookup failed.
    pub(super) fn conclude_failure(self, failure: Failure) -> Finding {
        let finding = self.conclude(failure.into());
        match failure {
            Failure::Bogus => Finding {
                dnssec: Dnssec::Bogus,
                ..finding
            },
            _ => finding,
        }
    }
}

/// Reason why receivers ignore a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NearMiss {
    /// Quotation marks are part of the value.
    Quotes,
    /// Backslashes are part of the value.
    Backslashes,
    /// A no-break space, or another character that only looks like a space.
    NonBreakingSpace,
    /// The value does not begin with exactly this text.
    Beginning(&'static str),
    /// The record is at this name.
    Location(String),
}

impl NearMiss {
    /// A sentence for the customer.
    pub(super) fn sentence(&self) -> String {
        let reason = match self {
            Self::Quotes => "its value contains quotation marks; remove them".to_owned(),
            Self::Backslashes => "its value contains backslashes; remove them".to_owned(),
            Self::NonBreakingSpace => {
                "its value contains a no-break space; type an ordinary space".to_owned()
            }
            Self::Beginning(text) => format!("its value has to begin with exactly \"{text}\""),
            Self::Location(name) => format!("it is at the wrong name, {name}"),
        };
        format!("A similar record was found, but receivers ignore it: {reason}.")
    }
}

/// The conclusion of one check from the answers of one resolver.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub(super) code: Code,
    /// The record, name, address or term that the code is about.
    pub(super) subject: Option<String>,
    /// A record that receivers ignore, where the expected one is missing.
    pub(super) near_miss: Option<NearMiss>,
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
        value: shortened(value, MAX_RECORD_BYTES),
        check: None,
    }
}

/// Truncates a text to `bytes`, and replaces control characters, which terminals would execute.
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
