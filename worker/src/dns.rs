//! Checks of a domain's public DNS against the records that it should have.
//!
//! Every query is sent to every configured resolver, and each check is evaluated separately for each of them, as a receiver
//! of mail that uses this resolver would. The findings are then merged into one [`Check`]. Missing and unknown are separate
//! states throughout: NXDOMAIN and an empty answer mean that a record is missing; failures, refusals and timeouts mean that
//! its state is unknown.
//!
//! The verifier has no side effects and keeps no state between checks, so a corrected record is found as soon as the
//! resolvers return it.

mod code;
mod config;
mod dkim;
mod dmarc;
mod evidence;
mod lookup_cache;
mod merge;
mod mx;
mod nameserver;
mod near_miss;
mod optional_records;
mod ownership;
mod probe;
mod report_uri;
mod resolver;
mod spf;
mod tags;

use std::{sync::Arc, time::Duration};

use dezky_shared::domain::{
    Dmarc,
    check::{Check, CheckKind, Record},
};
use futures::future::join_all;
use tokio::time::Instant;

pub use self::{
    code::Code,
    config::{DnsConfig, ResolverAddress, Transport, parse_spf_include},
};
use self::{
    evidence::Finding, lookup_cache::CachedResolver, merge::CheckTarget, nameserver::Nameserver,
    resolver::Resolver,
};

/// The records that a domain should have.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// Lower case, A-labels, no trailing dot.
    pub domain: String,
    /// The ownership token.
    pub token: String,
    /// The records, each with the kind of its check. Records without a kind are not checked.
    pub records: Vec<Record>,
    /// The weakest acceptable DMARC policy.
    pub dmarc: Dmarc,
    /// The domain with the SPF record of our sending addresses, which customers include. Without it, our MX hosts send, and
    /// customers publish the record of Stalwart's zone file: `v=spf1 mx -all`.
    pub spf_include: Option<String>,
}

impl Expectation {
    /// The things to check: ownership, and each kind that has records. DKIM has one check per selector.
    fn targets(&self) -> Vec<CheckTarget> {
        let mut targets = vec![ownership_of(&self.domain, &self.token)];
        for kind in KINDS {
            let records: Vec<Record> = self.records_for(kind).cloned().collect();
            if kind == CheckKind::Dkim {
                targets.extend(records.into_iter().map(|record| CheckTarget {
                    kind,
                    selector: record.name.split("._domainkey").next().map(str::to_owned),
                    expected: vec![record],
                }));
            } else if !records.is_empty() {
                targets.push(CheckTarget {
                    kind,
                    selector: None,
                    expected: records,
                });
            }
        }
        targets
    }

    fn records_for(&self, kind: CheckKind) -> impl Iterator<Item = &Record> {
        let records = self.records.iter();
        records.filter(move |record| record.check == Some(kind))
    }
}

/// The kinds of checks in display order, after ownership.
const KINDS: [CheckKind; 8] = [
    CheckKind::Mx,
    CheckKind::Spf,
    CheckKind::Dkim,
    CheckKind::Dmarc,
    CheckKind::MtaSts,
    CheckKind::TlsRpt,
    CheckKind::Autoconfig,
    CheckKind::Autodiscover,
];

/// Verifier of public DNS with every configured resolver. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Verifier {
    nameservers: Arc<[Nameserver]>,
    timeout: Duration,
}

impl Verifier {
    /// Creates a verifier.
    pub fn new(config: &DnsConfig) -> anyhow::Result<Self> {
        anyhow::ensure!(
            !config.resolvers.is_empty(),
            "no DNS resolver is configured"
        );
        let resolvers = config.resolvers.iter().cloned();
        Ok(Self {
            nameservers: resolvers
                .map(|resolver| Nameserver::new(resolver, config.timeout))
                .collect(),
            timeout: config.timeout,
        })
    }

    /// Checks everything: ownership first, then each kind and selector that has a record.
    pub async fn verify(&self, expectation: &Expectation) -> Vec<Check> {
        self.check_targets(expectation, expectation.targets()).await
    }

    /// Checks ownership only.
    pub async fn verify_ownership(&self, domain: &str, token: &str) -> Check {
        let expectation = Expectation {
            domain: domain.to_owned(),
            token: token.to_owned(),
            records: Vec::new(),
            dmarc: Dmarc::default(),
            spf_include: None,
        };
        let mut checks = self.verify(&expectation).await;
        checks.swap_remove(0)
    }

    async fn check_targets(
        &self,
        expectation: &Expectation,
        targets: Vec<CheckTarget>,
    ) -> Vec<Check> {
        let deadline = Instant::now() + self.timeout;
        let by_resolver = self.nameservers.iter().map(async |nameserver| {
            let resolver = CachedResolver::new(nameserver, deadline);
            let findings = targets
                .iter()
                .map(|target| check_target(&resolver, expectation, target));
            join_all(findings).await
        });
        let mut by_resolver: Vec<_> = join_all(by_resolver)
            .await
            .into_iter()
            .map(Vec::into_iter)
            .collect();
        let names = || self.nameservers.iter().map(Nameserver::name);
        let checks = targets.into_iter().map(|target| {
            let findings = by_resolver.iter_mut().filter_map(Iterator::next);
            let findings: Vec<(&str, Finding)> = names().zip(findings).collect();
            target.merge(&findings)
        });
        checks.collect()
    }
}

/// Checks one target with one resolver.
async fn check_target(
    resolver: &impl Resolver,
    expectation: &Expectation,
    CheckTarget { kind, expected, .. }: &CheckTarget,
) -> Finding {
    let domain = &expectation.domain;
    match kind {
        CheckKind::Ownership => ownership::check(resolver, domain, &expectation.token).await,
        CheckKind::Mx => mx::check(resolver, domain, expected).await,
        CheckKind::Spf => spf::check(resolver, expectation).await,
        CheckKind::Dkim => dkim::check(resolver, domain, &expected[0]).await,
        CheckKind::Dmarc => dmarc::check(resolver, domain, &expectation.dmarc).await,
        CheckKind::MtaSts | CheckKind::TlsRpt | CheckKind::Autoconfig | CheckKind::Autodiscover => {
            optional_records::check(resolver, domain, *kind, expected).await
        }
    }
}

fn ownership_of(domain: &str, token: &str) -> CheckTarget {
    CheckTarget {
        kind: CheckKind::Ownership,
        selector: None,
        expected: vec![ownership::expected(domain, token)],
    }
}
