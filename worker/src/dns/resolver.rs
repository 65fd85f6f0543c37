//! The resolver interface: the results and failures of DNS lookups.

use std::net::IpAddr;

pub(super) use hickory_resolver::proto::rr::RecordType;

/// A source of DNS answers.
pub(super) trait Resolver: Send + Sync {
    /// Looks up the records of type `kind` at `name`, following aliases.
    fn lookup(
        &self,
        name: &str,
        kind: RecordType,
    ) -> impl Future<Output = Result<Answer, Failure>> + Send;
}

/// The records found. An answer without values is a reliable statement that there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// The records of the requested type, in the order of the response, without duplicates.
    pub(super) values: Vec<Value>,
    /// The chain of CNAME targets, in order.
    pub(super) aliases: Vec<String>,
    /// Whether the name exists, even without records of this type (NODATA, as opposed to NXDOMAIN).
    pub(super) name_exists: bool,
    /// Time to live of the answer, in seconds.
    pub(super) ttl: Option<u32>,
    /// The resolver validated the signatures.
    pub(super) authentic: bool,
}

/// The content of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// MX: preference and host. The host of a null MX is empty.
    Mx(u16, String),
    /// TXT: the strings joined. Invalid UTF-8 is replaced.
    Text(String),
    /// A or AAAA.
    Address(IpAddr),
    /// PTR.
    Name(String),
}

impl Answer {
    /// The texts of a TXT answer.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.values.iter().filter_map(|value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The addresses of an A or AAAA answer.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.values.iter().filter_map(|value| match value {
            Value::Address(address) => Some(*address),
            _ => None,
        })
    }

    /// The preferences and hosts of an MX answer.
    pub(super) fn exchanges(&self) -> impl Iterator<Item = (u16, &str)> {
        self.values.iter().filter_map(|value| match value {
            Value::Mx(preference, host) => Some((*preference, host.as_str())),
            _ => None,
        })
    }

    /// The names of a PTR answer.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.iter().filter_map(|value| match value {
            Value::Name(name) => Some(name.as_str()),
            _ => None,
        })
    }
}

/// Failure of a lookup without a reliable answer. No failure means that a record is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Failure {
    /// No response in time.
    Timeout,
    /// The resolver could not be reached, or closed the connection.
    Unreachable,
    /// SERVFAIL, not caused by DNSSEC validation.
    ServFail,
    /// SERVFAIL of a signed zone, and an answer without validation: DNSSEC validation fails.
    Bogus,
    /// REFUSED.
    Refused,
    /// Truncated over TCP, too.
    Truncated,
    /// A referral, or an empty answer of a server that is neither authoritative nor recursive.
    Lame,
    /// An error response code, or a response that could not be parsed.
    Malformed,
    /// A CNAME chain that loops or is too long.
    AliasLoop,
}

/// The canonical form of a name: lower case, no trailing dot.
pub(super) fn normalise(name: &str) -> String {
    let name = name.trim();
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}
