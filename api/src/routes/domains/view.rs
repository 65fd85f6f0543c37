//! The representation of a domain.

use dezky_shared::domain::{
    Dmarc, DmarcPolicy, Domain, DomainStatus, HistoryEntry, OwnershipProof,
    check::{Check, CheckKind, CheckState, Dnssec, Record, ResolverAnswer},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    domain_name,
    timestamp::Timestamp,
    views::{ConditionView, JobLink},
};

/// A domain of a tenant, owned or claimed.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Domain)]
pub(in crate::routes) struct DomainView {
    /// Id.
    id: String,
    /// Name in lower case, with A-labels.
    #[schema(example = "xn--bcher-kva.example")]
    name: String,
    /// Name in Unicode.
    #[schema(example = "bücher.example")]
    unicode_name: String,
    /// Status: `pending`, `verified`, `attention` or `failed`.
    status: DomainStatus,
    /// Proof of ownership: `proof` or `operator`. Missing for a claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    owned_by: Option<OwnershipProof>,
    /// Time at which the tenant became the owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    owned_at: Option<Timestamp>,
    /// Whether it is the domain of new mailboxes.
    primary: bool,
    /// Whether it is being removed.
    removing: bool,
    /// Desired DMARC policy.
    dmarc: DmarcView,
    /// Record that proves ownership.
    ownership: RecordView,
    /// Records that mail requires. Empty until the tenant owns the domain and the mail server serves it.
    records: Vec<RecordView>,
    /// Results of the last DNS check.
    checks: Vec<CheckView>,
    /// Time of the last check.
    #[serde(skip_serializing_if = "Option::is_none")]
    checked_at: Option<Timestamp>,
    /// Time of the next check.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_check_at: Option<Timestamp>,
    /// Conditions in detail.
    conditions: Vec<ConditionView>,
    /// Last changes, newest last.
    history: Vec<HistoryView>,
    /// Incremented by every requested change.
    generation: i64,
    /// Incremented by every change.
    revision: i64,
    /// Creation time of the claim.
    created_at: Timestamp,
    /// Time of the last change.
    updated_at: Timestamp,
    /// Job that carries out the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) job: Option<JobLink>,
}

/// A DMARC policy: how receivers handle mail that fails DMARC.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Dmarc)]
struct DmarcView {
    /// `none`, `quarantine` or `reject`.
    policy: DmarcPolicy,
    /// Address for aggregate reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    rua: Option<String>,
}

/// A DNS record, as entered at a DNS provider.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = DnsRecord)]
struct RecordView {
    /// Full name.
    #[schema(example = "_dezky.example.com")]
    name: String,
    /// Type.
    #[serde(rename = "type")]
    #[schema(example = "TXT")]
    kind: String,
    /// Value without quotes.
    value: String,
    /// Check that the record belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<CheckKind>,
}

/// The result of one DNS check.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = DnsCheck)]
struct CheckView {
    /// Kind: `ownership`, `mx`, `spf`, `dkim`, `dmarc`, `mta_sts`, `tls_rpt`, `autoconfig` or
    /// `autodiscover`.
    kind: CheckKind,
    /// DKIM selector.
    #[serde(skip_serializing_if = "Option::is_none")]
    selector: Option<String>,
    /// State: `ok`, `warning`, `missing`, `mismatch`, `invalid` or `unknown`.
    state: CheckState,
    /// Stable reason code.
    code: String,
    /// Reason in plain text, with a remedy.
    message: String,
    /// Expected records.
    expected: Vec<RecordView>,
    /// Records found.
    found: Vec<RecordView>,
    /// TTL of the found records, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u32>,
    /// Results per resolver, where they differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resolvers: Vec<ResolverView>,
    /// DNSSEC validation: `secure`, `insecure` or `bogus`.
    dnssec: Dnssec,
}

/// The result of one resolver.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = DnsResolverResult)]
struct ResolverView {
    /// Resolver.
    resolver: String,
    /// State of the check by this resolver alone.
    state: CheckState,
    /// Stable reason code.
    code: String,
    /// Records found.
    found: Vec<RecordView>,
}

/// One change of a domain.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = DomainHistoryEntry)]
struct HistoryView {
    /// Time.
    at: Timestamp,
    /// Changed property: `status`, or the name of a check.
    what: String,
    /// Previous value.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// New value.
    to: String,
    /// Stable reason code.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
}

impl From<Domain> for DomainView {
    fn from(domain: Domain) -> Self {
        Self {
            id: domain.id.to_string(),
            ownership: domain.ownership_record().into(),
            unicode_name: domain_name::unicode(&domain.name),
            name: domain.name,
            status: domain.status,
            owned_by: domain.owned_by,
            owned_at: domain.owned_at.map(Timestamp::from),
            primary: domain.primary,
            removing: domain.removing,
            dmarc: domain.dmarc.into(),
            records: views(domain.expected),
            checks: views(domain.checks),
            checked_at: domain.checked_at.map(Timestamp::from),
            next_check_at: domain.next_check_at.map(Timestamp::from),
            conditions: views(domain.conditions),
            history: views(domain.history),
            generation: domain.generation,
            revision: domain.revision,
            created_at: domain.created_at.into(),
            updated_at: domain.updated_at.into(),
            job: None,
        }
    }
}

impl From<Dmarc> for DmarcView {
    fn from(dmarc: Dmarc) -> Self {
        Self {
            policy: dmarc.policy,
            rua: dmarc.rua,
        }
    }
}

impl From<Record> for RecordView {
    fn from(record: Record) -> Self {
        Self {
            name: record.name,
            kind: record.kind,
            value: record.value,
            check: record.check,
        }
    }
}

impl From<Check> for CheckView {
    fn from(check: Check) -> Self {
        Self {
            kind: check.kind,
            selector: check.selector,
            state: check.state,
            code: check.code,
            message: check.message,
            expected: views(check.expected),
            found: views(check.found),
            ttl: check.ttl,
            resolvers: views(check.resolvers),
            dnssec: check.dnssec,
        }
    }
}

impl From<ResolverAnswer> for ResolverView {
    fn from(result: ResolverAnswer) -> Self {
        Self {
            resolver: result.resolver,
            state: result.state,
            code: result.code,
            found: views(result.found),
        }
    }
}

impl From<HistoryEntry> for HistoryView {
    fn from(entry: HistoryEntry) -> Self {
        Self {
            at: entry.at.into(),
            what: entry.what,
            from: entry.from,
            to: entry.to,
            code: entry.code,
        }
    }
}

fn views<T, V: From<T>>(documents: Vec<T>) -> Vec<V> {
    documents.into_iter().map(V::from).collect()
}
