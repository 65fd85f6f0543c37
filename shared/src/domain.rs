//! Mail domain of a tenant: ownership, the expected DNS records, and the records found.
//!
//! Several tenants may claim a name, each with a token of its own; at most one owns it. Only owned domains are
//! provisioned upstream: an unproven domain would receive other tenants' mail for that name.

pub mod check;
mod lifecycle;

use std::{fmt, str::FromStr};

use bson::DateTime;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use self::check::{Check, Record};
use crate::{
    id::{DomainId, TenantId},
    tenant::Condition,
};

/// Status of a domain.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum DomainStatus {
    /// Not yet verified.
    Pending,
    /// Owned, and all required DNS records are in place.
    Verified,
    /// Previously verified; a check fails now.
    Attention,
    /// Ownership was not proved within seven days, or another tenant proved it first.
    Failed,
}

impl DomainStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Verified, Self::Attention, Self::Failed];

    /// Name in documents and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Verified => "verified",
            Self::Attention => "attention",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for DomainStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DomainStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|status| status.name() == text)
            .ok_or_else(|| "expected pending, verified, attention or failed".to_owned())
    }
}

/// DMARC policy (RFC 9989): requested handling of mail that fails DMARC, in order of strictness.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum DmarcPolicy {
    /// Deliver, and report.
    #[default]
    None,
    /// Treat as suspicious.
    Quarantine,
    /// Reject.
    Reject,
}

impl DmarcPolicy {
    /// Value of the `p=` tag.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        }
    }
}

/// Expected DMARC record of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Dmarc {
    /// Minimum policy.
    pub policy: DmarcPolicy,
    /// E-mail address for aggregate reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rua: Option<String>,
}

/// Proof of ownership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OwnershipProof {
    /// The token was found in the domain's DNS.
    Proof,
    /// Set by an operator.
    Operator,
}

impl OwnershipProof {
    /// Name in documents and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Proof => "proof",
            Self::Operator => "operator",
        }
    }
}

/// Entry of a domain's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Time of the change.
    pub at: DateTime,
    /// Changed item: `status`, or the name of a check.
    pub what: String,
    /// Previous value; missing for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// New value.
    pub to: String,
    /// Stable reason code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// Maximum number of history entries.
pub const HISTORY_LENGTH: usize = 50;

/// Maximum number of domains of a tenant, claims included.
pub const DOMAINS_PER_TENANT: usize = 100;

/// Reasons of domain conditions.
pub mod reason {
    /// Ownership is not proved yet.
    pub const AWAITING_PROOF: &str = "AwaitingProof";
    /// The token was found in the DNS.
    pub const PROVED: &str = "Proved";
    /// An operator set it.
    pub const SET_BY_OPERATOR: &str = "VouchedFor";
    /// The mail server has not generated the domain's DKIM keys in time.
    pub const KEYS_MISSING: &str = "KeysMissing";
    /// Another tenant owns the name.
    pub const TAKEN: &str = "TakenByAnother";
}

/// Condition type: whether the tenant owns the domain.
pub const OWNED: &str = "Owned";

/// A tenant's claim to a domain name, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Domain {
    /// Unique id.
    #[serde(rename = "_id")]
    pub id: DomainId,
    /// Claiming tenant.
    pub tenant_id: TenantId,
    /// Domain name: lower case, A-labels, no trailing dot.
    pub name: String,
    /// Ownership token to publish in the DNS.
    pub token: String,
    /// Proof of ownership. A name has at most one owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owned_by: Option<OwnershipProof>,
    /// Time at which ownership was established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owned_at: Option<DateTime>,
    /// Current status.
    pub status: DomainStatus,
    /// Removal requested; the domain is shown as removing until it is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removing: bool,
    /// Whether new mailboxes are created here. At most one domain of a tenant.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub primary: bool,
    /// Becomes the primary domain as soon as it is owned.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wants_primary: bool,
    /// Expected DMARC record.
    pub dmarc: Dmarc,
    /// Expected DNS records, once the mail server has provided them.
    #[serde(default)]
    pub expected: Vec<Record>,
    /// Results of the last check.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// Time of the last check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<DateTime>,
    /// Time of the next check; missing while none is scheduled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_check_at: Option<DateTime>,
    /// Time at which the expected records last changed; the initial, more frequent checks count from here.
    pub expected_since: DateTime,
    /// Time of the last manual recheck request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recheck_asked_at: Option<DateTime>,
    /// Conditions, such as `Owned` and `DnsInOrder`.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Most recent changes, latest last.
    #[serde(default)]
    pub history: Vec<HistoryEntry>,
    /// Incremented by every write of a caller.
    pub generation: i64,
    /// Incremented by every write.
    pub revision: i64,
    /// Time of the claim.
    pub created_at: DateTime,
    /// Time of the last change.
    pub updated_at: DateTime,
}
