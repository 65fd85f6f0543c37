//! What is asked of the DNS, and the different ways in which there is no answer.

use std::net::IpAddr;

pub(super) use hickory_resolver::proto::rr::RecordType;

/// Somebody who can be asked.
pub(super) trait Resolver: Send + Sync {
    /// What is there of `kind` under `name`, after following its aliases.
    fn lookup(
        &self,
        name: &str,
        kind: RecordType,
    ) -> impl Future<Output = Result<Answer, Failure>> + Send;
}

/// What is there. Without values it says that there is nothing, which is known as well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// What was asked for, in the order of the answer.
    pub(super) values: Vec<Value>,
    /// The aliases on the way: each the target of the one before.
    pub(super) aliases: Vec<String>,
    /// Whether there is such a name, even if nothing of this kind is under it (NODATA, as opposed to NXDOMAIN).
    pub(super) name_exists: bool,
    /// How long this may be cached, in seconds.
    pub(super) ttl: Option<u32>,
    /// The resolver validated the signatures.
    pub(super) authentic: bool,
}

/// The content of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// Where mail goes: preference and host, the latter empty in a null MX.
    Mx(u16, String),
    /// The strings of a TXT, joined. What is not UTF-8 is replaced, and so equals nothing.
    Text(String),
    /// An A or AAAA.
    Address(IpAddr),
}

impl Answer {
    /// The texts of an answer to a question for TXT.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.values.iter().filter_map(|value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The addresses of an answer to a question for A or AAAA.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.values.iter().filter_map(|value| match value {
            Value::Address(address) => Some(*address),
            _ => None,
        })
    }

    /// Preference and host of an answer to a question for MX.
    pub(super) fn exchanges(&self) -> impl Iterator<Item = (u16, &str)> {
        self.values.iter().filter_map(|value| match value {
            Value::Mx(preference, host) => Some((*preference, host.as_str())),
            _ => None,
        })
    }
}

/// Why it is not known what is there. None of these means that something is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Failure {
    /// Nothing came back in time.
    Timeout,
    /// The resolver could not be reached, or broke off.
    Unreachable,
    /// SERVFAIL, also with validation switched off.
    ServFail,
    /// SERVFAIL, and an answer with validation switched off: the signatures are wrong.
    Bogus,
    /// REFUSED.
    Refused,
    /// Cut off by TCP too.
    Truncated,
    /// An empty answer of somebody who is neither responsible nor asked those who are.
    Lame,
    /// What came back is no answer to the question.
    Malformed,
    /// Aliases that lead back to themselves, or too far.
    AliasLoop,
}

/// A name as it is compared: lower case, no trailing dot.
pub(super) fn normalise(name: &str) -> String {
    let name = name.trim();
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}
