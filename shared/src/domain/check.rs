//! DNS check results of a domain: one [`Check`] for each expected item.

use bson::DateTime;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Kind of check.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[schema(as = DnsCheckKind)]
pub enum CheckKind {
    /// Ownership token.
    Ownership,
    /// Mail routing (RFC 5321, 7505).
    Mx,
    /// Authorised senders (RFC 7208).
    Spf,
    /// Public key of one selector (RFC 6376, 8463).
    Dkim,
    /// DMARC policy (RFC 9989).
    Dmarc,
    /// Enforced TLS for inbound mail (RFC 8461).
    MtaSts,
    /// TLS reports (RFC 8460).
    TlsRpt,
    /// Mail client autoconfiguration.
    Autoconfig,
    /// Outlook autodiscovery.
    Autodiscover,
}

impl CheckKind {
    /// Name in documents and on the wire.
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

    /// Whether the check is optional. A failed optional check never affects the domain's status.
    pub const fn is_extra(self) -> bool {
        matches!(
            self,
            Self::MtaSts | Self::TlsRpt | Self::Autoconfig | Self::Autodiscover
        )
    }
}

/// Result of comparing found records with expected records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = DnsCheckState)]
pub enum CheckState {
    /// As expected.
    Ok,
    /// Works, but should be corrected.
    Warning,
    /// No record found.
    Missing,
    /// A different record was found.
    Mismatch,
    /// The record found violates its specification.
    Invalid,
    /// Inconclusive: resolvers failed, timed out, or contradict each other. Never a reason to degrade a domain.
    Unknown,
}

impl CheckState {
    /// Name in documents and on the wire.
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

    /// Whether the check definitely fails.
    pub const fn is_bad(self) -> bool {
        matches!(self, Self::Missing | Self::Mismatch | Self::Invalid)
    }
}

/// DNS record, as entered at a DNS provider.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    /// Fully qualified name, lower case, no trailing dot.
    pub name: String,
    /// Record type: `MX`, `TXT`, `CNAME`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Value in presentation form without quotes; the strings of a TXT record are joined.
    pub value: String,
    /// Check that requires the record; missing for a record that was only found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckKind>,
}

/// DNSSEC validation result (RFC 4033).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dnssec {
    /// Validated by the resolver.
    Secure,
    /// Unsigned, or the resolver does not validate.
    #[default]
    Insecure,
    /// Invalid signatures: validating resolvers reject the answer.
    Bogus,
}

/// Answer of one resolver, kept where resolvers disagree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolverAnswer {
    /// Resolver, as configured.
    pub resolver: String,
    /// Check state according to this resolver alone.
    pub state: CheckState,
    /// Code according to this resolver alone.
    pub code: String,
    /// Records returned.
    pub found: Vec<Record>,
}

/// Result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Kind of check.
    pub kind: CheckKind,
    /// DKIM selector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// State of the check.
    pub state: CheckState,
    /// Stable code in `snake_case`, such as `mx_foreign_extra`.
    pub code: String,
    /// Message for the customer, with a suggested action.
    pub message: String,
    /// Expected records.
    pub expected: Vec<Record>,
    /// Records found.
    pub found: Vec<Record>,
    /// Lowest TTL of all answers, in seconds, including negative answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    /// Answers of the individual resolvers where they disagree: a change is propagating.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolvers: Vec<ResolverAnswer>,
    /// Start of the current disagreement between resolvers; a check on which they agree ends it.
    #[serde(
        default,
        rename = "disagreeingSince",
        skip_serializing_if = "Option::is_none"
    )]
    pub disagreeing_since: Option<DateTime>,
    /// DNSSEC validation result.
    #[serde(default)]
    pub dnssec: Dnssec,
}
