//! Looks at a domain's public DNS and says how it compares with what should be there.
//!
//! Every configured resolver is asked everything, and what each of them answers is judged by itself, as a receiver of
//! mail would that asks it alone. Only then is one [`Check`] made of each thing that should be there. What is missing
//! and what is not known are kept apart from end to end: NXDOMAIN and an empty answer mean that something is missing;
//! failures, refusals and silence mean that nobody can tell.
//!
//! Nothing here reads or writes anything else than the DNS, and nothing is remembered between two looks: a record that
//! was mended is seen as soon as the resolvers see it.

mod code;
mod config;
mod dkim;
mod dmarc;
mod extras;
mod finding;
mod look;
mod merge;
mod mx;
mod nameserver;
mod ownership;
mod probe;
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
    config::{DnsConfig, ResolverAddress, Transport},
};
use self::{
    finding::Finding, look::Look, merge::Subject, nameserver::Nameserver, resolver::Resolver,
};

/// What a domain's DNS should say.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// Lower case, A-labels, no trailing dot.
    pub domain: String,
    /// What proves whose it is.
    pub token: String,
    /// The records, each with the check that it is for. Those without one are not looked at.
    pub records: Vec<Record>,
    /// What its DMARC record should ask for at least.
    pub dmarc: Dmarc,
    /// The domain whose SPF record ours is an `include:` of. Without one, `mx` must authorise our hosts, which is what
    /// Stalwart's zone file says: `v=spf1 mx -all`.
    pub spf_include: Option<String>,
}

impl Expectation {
    /// What is to be checked: ownership, and what there are records for. Each selector is checked by itself.
    fn subjects(&self) -> Vec<Subject> {
        let mut subjects = vec![ownership_of(&self.domain, &self.token)];
        for kind in KINDS {
            let records: Vec<Record> = self.records_for(kind).cloned().collect();
            if kind == CheckKind::Dkim {
                subjects.extend(records.into_iter().map(|record| Subject {
                    kind,
                    selector: record.name.split("._domainkey").next().map(str::to_owned),
                    expected: vec![record],
                }));
            } else if !records.is_empty() {
                subjects.push(Subject {
                    kind,
                    selector: None,
                    expected: records,
                });
            }
        }
        subjects
    }

    fn records_for(&self, kind: CheckKind) -> impl Iterator<Item = &Record> {
        let records = self.records.iter();
        records.filter(move |record| record.check == Some(kind))
    }
}

/// In the order in which they are shown, after ownership.
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

/// Asks every configured resolver. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Verifier {
    nameservers: Arc<[Nameserver]>,
    timeout: Duration,
}

impl Verifier {
    /// One that asks these resolvers.
    pub fn new(config: &DnsConfig) -> anyhow::Result<Self> {
        anyhow::ensure!(!config.resolvers.is_empty(), "there is no DNS resolver");
        let resolvers = config.resolvers.iter().cloned();
        Ok(Self {
            nameservers: resolvers
                .map(|resolver| Nameserver::new(resolver, config.timeout))
                .collect(),
            timeout: config.timeout,
        })
    }

    /// Everything that should be there: ownership first, then one check for each kind and selector that has a record.
    pub async fn verify(&self, expectation: &Expectation) -> Vec<Check> {
        self.look(expectation, expectation.subjects()).await
    }

    /// Whether the token is there.
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

    async fn look(&self, expectation: &Expectation, subjects: Vec<Subject>) -> Vec<Check> {
        let until = Instant::now() + self.timeout;
        let looks = self.nameservers.iter().map(async |nameserver| {
            let look = Look::new(nameserver, until);
            let findings = subjects
                .iter()
                .map(|subject| judge(&look, expectation, subject));
            join_all(findings).await
        });
        let mut by_resolver: Vec<_> = join_all(looks)
            .await
            .into_iter()
            .map(Vec::into_iter)
            .collect();
        let names = || self.nameservers.iter().map(Nameserver::name);
        let checks = subjects.into_iter().map(|subject| {
            let findings = by_resolver.iter_mut().filter_map(Iterator::next);
            let findings: Vec<(&str, Finding)> = names().zip(findings).collect();
            subject.merge(&findings)
        });
        checks.collect()
    }
}

/// What one resolver's answers say about one subject.
async fn judge(
    resolver: &impl Resolver,
    expectation: &Expectation,
    Subject { kind, expected, .. }: &Subject,
) -> Finding {
    let domain = &expectation.domain;
    match kind {
        CheckKind::Ownership => ownership::check(resolver, domain, &expectation.token).await,
        CheckKind::Mx => mx::check(resolver, domain, expected).await,
        CheckKind::Spf => spf::check(resolver, expectation).await,
        CheckKind::Dkim => dkim::check(resolver, &expected[0]).await,
        CheckKind::Dmarc => dmarc::check(resolver, domain, &expectation.dmarc).await,
        CheckKind::MtaSts | CheckKind::TlsRpt | CheckKind::Autoconfig | CheckKind::Autodiscover => {
            extras::check(resolver, *kind, expected).await
        }
    }
}

fn ownership_of(domain: &str, token: &str) -> Subject {
    Subject {
        kind: CheckKind::Ownership,
        selector: None,
        expected: vec![ownership::expected(domain, token)],
    }
}
