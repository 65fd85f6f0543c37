//! What a look at a domain's public DNS found: one [`Check`] for each thing that should be there.

use serde::{Deserialize, Serialize};

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// The token that proves whose domain it is.
    Ownership,
    /// Where its mail goes (RFC 5321, 7505).
    Mx,
    /// Who may send its mail (RFC 7208).
    Spf,
    /// The key of one selector (RFC 6376, 8463).
    Dkim,
    /// What receivers do with mail that fails (RFC 9989).
    Dmarc,
    /// That mail to it travels encrypted (RFC 8461).
    MtaSts,
    /// Where reports about that go (RFC 8460).
    TlsRpt,
    /// Where mail programs find their settings.
    Autoconfig,
    /// Where Outlook finds its settings.
    Autodiscover,
}

impl CheckKind {
    /// The name used in documents and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ownership => "ownership",
            Self::Mx => "mx",
            Self::Spf => "spf",
            Self::Dkim => "dkim",
            Self::Dmarc => "dmarc",
            Self::MtaSts => "mta_sts",
            Self::TlsRpt => "tls_rpt",
            Self::Autoconfig => "autoconfig",
            Self::Autodiscover => "autodiscover",
        }
    }

    /// Whether mail works without it: an extra never turns a domain bad.
    pub const fn is_extra(self) -> bool {
        matches!(
            self,
            Self::MtaSts | Self::TlsRpt | Self::Autoconfig | Self::Autodiscover
        )
    }
}

/// How what was found compares with what should be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// It is there.
    Ok,
    /// It works, and something about it should be mended.
    Warning,
    /// Nothing is there.
    Missing,
    /// Something else is there.
    Mismatch,
    /// What is there breaks the rules of its kind.
    Invalid,
    /// Nobody could tell: resolvers failed, were silent, or contradict each other. Never a reason to turn a domain bad.
    Unknown,
}

impl CheckState {
    /// The name used in documents and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Missing => "missing",
            Self::Mismatch => "mismatch",
            Self::Invalid => "invalid",
            Self::Unknown => "unknown",
        }
    }

    /// Whether it surely does not do what it should.
    pub const fn is_bad(self) -> bool {
        matches!(self, Self::Missing | Self::Mismatch | Self::Invalid)
    }
}

/// A record as a person types it at their DNS provider.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    /// The full name, lower case, no trailing dot.
    pub name: String,
    /// `MX`, `TXT`, `CNAME`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// In presentation form without quotes; the strings of a TXT are joined.
    pub value: String,
    /// Which check it is for; missing for a record that was only found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckKind>,
}

/// Whether the answers were signed (RFC 4033).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dnssec {
    /// The resolver validated them.
    Secure,
    /// They are not signed, or the resolver does not validate.
    #[default]
    Insecure,
    /// The signatures are wrong: validating resolvers refuse the answer.
    Bogus,
}

/// What one resolver said, kept where resolvers differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolverAnswer {
    /// Which resolver, as configured.
    pub resolver: String,
    /// What the check would be by its answer alone.
    pub state: CheckState,
    /// The code that goes with it.
    pub code: String,
    /// What it returned.
    pub found: Vec<Record>,
}

/// What was found for one thing that should be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub kind: CheckKind,
    /// The selector, for DKIM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// How it compares.
    pub state: CheckState,
    /// A stable name for why, in `snake_case`, such as `mx_foreign_extra`.
    pub code: String,
    /// A sentence that a customer can act on.
    pub message: String,
    /// What should be there.
    pub expected: Vec<Record>,
    /// What is there.
    pub found: Vec<Record>,
    /// How long the answers may be cached, in seconds: the least of all, also of those that there is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    /// What each resolver said, where they differ: a change is spreading.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolvers: Vec<ResolverAnswer>,
    /// Whether the answers were signed.
    #[serde(default)]
    pub dnssec: Dnssec,
}
