//! A domain, as callers see it.

use crate::domain_name;
use dezky_shared::domain::{
    Dmarc, Domain, DomainStatus, HistoryEntry, OwnershipProof,
    check::{Check, CheckKind, Dnssec, Record, ResolverAnswer},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::JobLink;
use crate::{routes::tenants::ConditionView, timestamp::Timestamp};

/// A domain of a tenant, or its claim to one.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DomainView {
    /// Its id.
    id: String,
    /// Its name: lower case, A-labels.
    #[schema(example = "xn--bcher-kva.example")]
    name: String,
    /// Its name as people read it.
    #[schema(example = "bücher.example")]
    unicode_name: String,
    /// Where it stands: `pending`, `verified`, `attention` or `failed`.
    #[schema(value_type = String)]
    status: DomainStatus,
    /// Why it is the tenant's: `proof` or `operator`. Missing while it is only claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    owned_by: Option<&'static str>,
    /// When it became the tenant's.
    #[serde(skip_serializing_if = "Option::is_none")]
    owned_at: Option<Timestamp>,
    /// Whether new mailboxes are made here.
    primary: bool,
    /// Whether it is on its way out.
    removing: bool,
    /// The DMARC policy that it should have.
    dmarc: DmarcView,
    /// The record that proves whose the domain is.
    ownership: RecordView,
    /// The records that mail needs. There are none before the domain is the tenant's and the mail server serves it.
    records: Vec<RecordView>,
    /// What the last look at its DNS found.
    checks: Vec<CheckView>,
    /// When that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    checked_at: Option<Timestamp>,
    /// When the next look is.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_check_at: Option<Timestamp>,
    /// What is known about it.
    conditions: Vec<ConditionView>,
    /// Its last changes, latest last.
    history: Vec<HistoryView>,
    /// + 1 with every change that somebody asked for.
    generation: i64,
    /// + 1 with every change.
    revision: i64,
    /// When it was claimed.
    created_at: Timestamp,
    /// When it last changed.
    updated_at: Timestamp,
    /// The job that carries out what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobLink>,
}

/// What receivers are asked to do with mail that fails DMARC.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct DmarcView {
    /// `none`, `quarantine` or `reject`.
    policy: &'static str,
    /// Where aggregate reports go.
    #[serde(skip_serializing_if = "Option::is_none")]
    rua: Option<String>,
}

/// A DNS record as it is typed at a DNS provider.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct RecordView {
    /// Its full name.
    #[schema(example = "_dezky.example.com")]
    name: String,
    /// Its type.
    #[serde(rename = "type")]
    #[schema(example = "TXT")]
    kind: String,
    /// Its value, without quotes.
    value: String,
    /// Which check it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<&'static str>,
}

/// What was found for one thing that should be in the DNS.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct CheckView {
    /// What was looked at: `ownership`, `mx`, `spf`, `dkim`, `dmarc`, `mta_sts`, `tls_rpt`, `autoconfig` or
    /// `autodiscover`.
    kind: &'static str,
    /// The selector, for DKIM.
    #[serde(skip_serializing_if = "Option::is_none")]
    selector: Option<String>,
    /// `ok`, `warning`, `missing`, `mismatch`, `invalid` or `unknown`.
    state: &'static str,
    /// A stable name for why.
    code: String,
    /// The same, for a person, with what to do.
    message: String,
    /// What should be there.
    expected: Vec<RecordView>,
    /// What is there.
    found: Vec<RecordView>,
    /// How long what was found may be cached, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u32>,
    /// What each resolver said, where they differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resolvers: Vec<SaidView>,
    /// Whether the answers were signed: `secure`, `insecure` or `bogus`.
    #[schema(value_type = String)]
    dnssec: Dnssec,
}

/// What one resolver said.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct SaidView {
    /// Which one.
    resolver: String,
    /// What the check would be by its answer alone.
    state: &'static str,
    /// A stable name for why.
    code: String,
    /// What it returned.
    found: Vec<RecordView>,
}

/// One change of a domain.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct HistoryView {
    /// When.
    at: Timestamp,
    /// What changed: `status`, or the name of a check.
    what: String,
    /// From what.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// To what.
    to: String,
    /// A stable name for why.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
}

impl DomainView {
    /// The same, with the job that carries out what was asked for.
    #[must_use]
    pub(super) fn with_job(mut self, job: JobLink) -> Self {
        self.job = Some(job);
        self
    }
}

impl From<Domain> for DomainView {
    fn from(domain: Domain) -> Self {
        Self {
            id: domain.id.to_string(),
            ownership: domain.ownership_record().into(),
            unicode_name: domain_name::unicode(&domain.name),
            name: domain.name,
            status: domain.status,
            owned_by: domain.owned_by.map(OwnershipProof::name),
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
            policy: dmarc.policy.name(),
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
            check: record.check.map(CheckKind::name),
        }
    }
}

impl From<Check> for CheckView {
    fn from(check: Check) -> Self {
        Self {
            kind: check.kind.name(),
            selector: check.selector,
            state: check.state.name(),
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

impl From<ResolverAnswer> for SaidView {
    fn from(said: ResolverAnswer) -> Self {
        Self {
            resolver: said.resolver,
            state: said.state.name(),
            code: said.code,
            found: views(said.found),
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

fn views<T, V: From<T>>(things: Vec<T>) -> Vec<V> {
    things.into_iter().map(V::from).collect()
}
