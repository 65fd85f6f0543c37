//! A mail domain of a tenant: whose it is, what its public DNS should say, and what it says.
//!
//! Several tenants may claim a name, each with a token of its own; one owns it. Only what is owned is made upstream:
//! an unproven domain would receive what other tenants send to it.

pub mod check;
mod lifecycle;

use std::{fmt, str::FromStr};

use bson::DateTime;
use serde::{Deserialize, Serialize};

use self::check::{Check, Record};
use crate::{
    id::{DomainId, TenantId},
    tenant::Condition,
};

/// Where a domain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DomainStatus {
    /// Not all of it is in place yet.
    Pending,
    /// It is ours to serve and its DNS says what it should.
    Verified,
    /// It was verified, and something is off now.
    Attention,
    /// Nobody proved within seven days that it is theirs, or another tenant did.
    Failed,
}

impl DomainStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Verified, Self::Attention, Self::Failed];

    /// The name used in documents and on the wire.
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

/// What receivers are asked to do with mail that fails DMARC (RFC 9989). In order of strictness.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum DmarcPolicy {
    /// Deliver it, and report.
    #[default]
    None,
    /// Treat it as suspicious.
    Quarantine,
    /// Refuse it.
    Reject,
}

impl DmarcPolicy {
    /// The value of `p=`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        }
    }
}

/// The DMARC record a domain should have.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Dmarc {
    /// At least this strict.
    pub policy: DmarcPolicy,
    /// Where aggregate reports go: an e-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rua: Option<String>,
}

/// Why a domain belongs to its tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OwnershipProof {
    /// The token was found in its DNS.
    Proof,
    /// An operator set it.
    Operator,
}

impl OwnershipProof {
    /// The name used in documents and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Proof => "proof",
            Self::Operator => "operator",
        }
    }
}

/// One change worth remembering.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When.
    pub at: DateTime,
    /// What changed: `status`, or the name of a check.
    pub what: String,
    /// From what; missing for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// To what.
    pub to: String,
    /// The stable code of why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// How many changes a domain remembers.
pub const HISTORY_LENGTH: usize = 50;

/// The most domains of a tenant, claims included.
pub const DOMAINS_PER_TENANT: usize = 100;

/// Why a condition of a domain is as it is.
pub mod reason {
    /// Nobody has proved yet that the name is theirs.
    pub const AWAITING_PROOF: &str = "AwaitingProof";
    /// The token was found in the DNS.
    pub const PROVED: &str = "Proved";
    /// An operator set it.
    pub const SET_BY_OPERATOR: &str = "VouchedFor";
    /// Another tenant has the name.
    pub const TAKEN: &str = "TakenByAnother";
}

/// The type of the condition that says whether the domain is its tenant's.
pub const OWNED: &str = "Owned";

/// A claim of one tenant to one name, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Domain {
    /// Its id.
    #[serde(rename = "_id")]
    pub id: DomainId,
    /// The tenant that claims it.
    pub tenant_id: TenantId,
    /// Lower case, A-labels, no trailing dot.
    pub name: String,
    /// What its owner puts in the DNS to prove that it is theirs.
    pub token: String,
    /// Why it is the tenant's. A name is owned at most once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owned_by: Option<OwnershipProof>,
    /// When it became the tenant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owned_at: Option<DateTime>,
    /// Where it stands.
    pub status: DomainStatus,
    /// It is to be removed, and is shown as that until it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removing: bool,
    /// Whether new mailboxes are made here. At most one of a tenant's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub primary: bool,
    /// It becomes the primary one as soon as it is the tenant's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wants_primary: bool,
    /// The DMARC record that it should have.
    pub dmarc: Dmarc,
    /// The records that should be in its DNS, once the mail server said which.
    #[serde(default)]
    pub expected: Vec<Record>,
    /// What the last check found.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// When that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<DateTime>,
    /// When it is checked next; missing while it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_check_at: Option<DateTime>,
    /// When the expectation last changed, from which the first, closer checks count.
    pub expected_since: DateTime,
    /// When somebody last asked for a look at its DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recheck_asked_at: Option<DateTime>,
    /// What is known about it, such as `Owned` and `DnsInOrder`.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Its last changes, latest last.
    #[serde(default)]
    pub history: Vec<HistoryEntry>,
    /// + 1 with every write by a caller.
    pub generation: i64,
    /// + 1 with every write.
    pub revision: i64,
    /// When it was claimed.
    pub created_at: DateTime,
    /// When it last changed.
    pub updated_at: DateTime,
}
