//! The addresses that mail of our customers is sent from, and strangers to compare them with.
//!
//! Where customers include an SPF record of ours, that record defines our addresses. Otherwise customers authorise their
//! MX hosts, which are ours.
//!
//! Networks of ours are not evaluated address by address. Between two ends of the networks that either record names, the
//! result is the same for all addresses, so that one beside each end stands for them.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use futures::future::BoxFuture;
use ipnet::IpNet;

use super::{
    evaluate::{
        Client, EvaluationError, Evaluator, MAX_EXCHANGES, MAX_LOOKUPS, Verdict, fetch_record,
    },
    macros::{DomainSpec, Expansion, Variables},
    record::{Mechanism, PrefixLengths, SpfRecord},
};
use crate::dns::{
    code::Code,
    resolver::{RecordType, Resolver},
};

/// The most addresses of ours that a record is evaluated for: each may cost queries, if the record has macros.
const MAX_SENDERS: usize = 64;

/// Clients that no record authorises on purpose: reserved addresses in either half of IPv4, and one of IPv6.
pub(super) const STRANGERS: [Client; 3] = [
    stranger(IpAddr::V4(Ipv4Addr::new(100, 127, 255, 77))),
    stranger(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77))),
    stranger(IpAddr::V6(Ipv6Addr::new(
        0x3fff, 0xfff, 0xffff, 0, 0, 0, 0, 0x77,
    ))),
];

const fn stranger(address: IpAddr) -> Client {
    Client {
        address,
        is_stranger: true,
    }
}

/// The record of the domain that is checked.
#[derive(Clone, Copy)]
pub(super) struct CheckedRecord<'a> {
    pub(super) domain: &'a str,
    pub(super) record: &'a SpfRecord,
}

/// Our sending addresses: those that our own record authorises, or those of our MX hosts. Of our networks, those that
/// `checked` may tell apart.
pub(super) async fn sending_clients(
    resolver: &impl Resolver,
    hosts: &[String],
    include: Option<&str>,
    checked: CheckedRecord<'_>,
) -> Result<Vec<Client>, EvaluationError> {
    let addresses = match include {
        Some(include) => authorised_addresses(resolver, hosts, include, checked).await?,
        None => host_addresses(resolver, hosts).await?.into_iter().collect(),
    };
    Ok(addresses.into_iter().take(MAX_SENDERS).map(ours).collect())
}

async fn authorised_addresses(
    resolver: &impl Resolver,
    hosts: &[String],
    include: &str,
    checked: CheckedRecord<'_>,
) -> Result<Vec<IpAddr>, EvaluationError> {
    let record = fetch_record(resolver, include).await?;
    let mut our_networks = NetworkCollector::new(resolver, include);
    our_networks.add_record(include, &record).await?;
    let our_networks = our_networks.networks;
    let mut their_networks = NetworkCollector::new(resolver, checked.domain);
    // The evaluation meets the same error, unless it is decided before.
    let _ = their_networks
        .add_record(checked.domain, checked.record)
        .await;

    let mut addresses = Vec::new();
    // An MX host that our record authorises sends as well.
    for address in host_addresses(resolver, hosts).await.unwrap_or_default() {
        let evaluation = Evaluator::run(resolver, include, &record, ours(address)).await;
        if evaluation.is_ok_and(|evaluation| evaluation.verdict == Verdict::Pass) {
            addresses.push(address);
        }
    }
    let mut known: BTreeSet<IpAddr> = addresses.iter().copied().collect();
    let networks = our_networks.iter().chain(&their_networks.networks);
    let mut boundaries: Vec<IpAddr> = networks.flat_map(boundaries_of).collect();
    let is_ours = |address: &IpAddr| our_networks.iter().any(|network| network.contains(address));
    boundaries.retain(|address| is_ours(address) && known.insert(*address));
    for address in boundaries {
        if addresses.len() == MAX_SENDERS {
            break;
        }
        let evaluation = Evaluator::run(resolver, include, &record, ours(address)).await;
        if !evaluation.is_ok_and(|evaluation| evaluation.verdict == Verdict::NotPass) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// The addresses at which results may change: both ends of the network, and what follows it.
fn boundaries_of(network: &IpNet) -> impl Iterator<Item = IpAddr> {
    let (first, last) = (network.network(), network.broadcast());
    let next = match last {
        IpAddr::V4(last) => last
            .to_bits()
            .checked_add(1)
            .map(|it| IpAddr::V4(it.into())),
        IpAddr::V6(last) => last
            .to_bits()
            .checked_add(1)
            .map(|it| IpAddr::V6(it.into())),
    };
    [Some(first), Some(last), next].into_iter().flatten()
}

fn ours(address: IpAddr) -> Client {
    Client {
        address,
        is_stranger: false,
    }
}

async fn host_addresses(
    resolver: &impl Resolver,
    hosts: &[String],
) -> Result<BTreeSet<IpAddr>, EvaluationError> {
    let mut addresses = BTreeSet::new();
    for host in hosts {
        for kind in [RecordType::A, RecordType::AAAA] {
            let answer = resolver.lookup(host, kind).await;
            let answer = answer.map_err(|_| EvaluationError::new(Code::SpfTemperror, host))?;
            addresses.extend(answer.addresses());
        }
    }
    Ok(addresses)
}

/// Collects the networks that a record names, whatever the result for them. Names that depend on the client or the message
/// are left out.
struct NetworkCollector<'a, R> {
    resolver: &'a R,
    root: &'a str,
    lookups: usize,
    networks: BTreeSet<IpNet>,
}

impl<'a, R: Resolver> NetworkCollector<'a, R> {
    fn new(resolver: &'a R, root: &'a str) -> Self {
        Self {
            resolver,
            root,
            lookups: 0,
            networks: BTreeSet::new(),
        }
    }

    fn add_record<'b>(
        &'b mut self,
        domain: &'b str,
        record: &'b SpfRecord,
    ) -> BoxFuture<'b, Result<(), EvaluationError>> {
        Box::pin(async move {
            for directive in &record.directives {
                if !self.may_collect(&directive.mechanism) {
                    return Ok(());
                }
                match &directive.mechanism {
                    Mechanism::Network(network) => {
                        self.networks.insert(network.trunc());
                    }
                    Mechanism::A(target, prefixes) => {
                        if let Some(host) = self.name(domain, target.as_ref()) {
                            self.add_hosts(&[host], *prefixes).await?;
                        }
                    }
                    Mechanism::Mx(target, prefixes) => {
                        if let Some(name) = self.name(domain, target.as_ref()) {
                            self.add_exchanges(&name, *prefixes).await?;
                        }
                    }
                    Mechanism::Include(target) => self.follow(domain, target).await?,
                    Mechanism::All | Mechanism::Ptr(_) | Mechanism::Exists(_) => {}
                }
            }
            match &record.redirect {
                Some(target) if self.count_lookup() => self.follow(domain, target).await,
                _ => Ok(()),
            }
        })
    }

    /// Whether receivers evaluate the mechanism: its lookup is none too many.
    fn may_collect(&mut self, mechanism: &Mechanism) -> bool {
        matches!(mechanism, Mechanism::All | Mechanism::Network(_)) || self.count_lookup()
    }

    fn count_lookup(&mut self) -> bool {
        self.lookups += 1;
        self.lookups <= MAX_LOOKUPS
    }

    async fn follow(&mut self, domain: &str, target: &DomainSpec) -> Result<(), EvaluationError> {
        if let Some(name) = self.name(domain, Some(target)) {
            let record = fetch_record(self.resolver, &name).await?;
            self.add_record(&name, &record).await?;
        }
        Ok(())
    }

    async fn add_exchanges(
        &mut self,
        name: &str,
        prefixes: PrefixLengths,
    ) -> Result<(), EvaluationError> {
        let answer = self.resolver.lookup(name, RecordType::MX).await;
        let answer = answer.map_err(|_| EvaluationError::new(Code::SpfTemperror, name))?;
        let hosts = answer.exchanges().filter(|(_, host)| !host.is_empty());
        let hosts = hosts.map(|(_, host)| host.to_owned());
        let hosts: Vec<String> = hosts.take(MAX_EXCHANGES).collect();
        self.add_hosts(&hosts, prefixes).await
    }

    async fn add_hosts(
        &mut self,
        hosts: &[String],
        prefixes: PrefixLengths,
    ) -> Result<(), EvaluationError> {
        let addresses = host_addresses(self.resolver, hosts).await?;
        let networks = addresses.into_iter();
        let networks = networks.filter_map(|address| prefixes.network(address));
        self.networks.extend(networks);
        Ok(())
    }

    /// The name that a term refers to; `None` if it depends on the client or the message.
    fn name(&self, domain: &str, target: Option<&DomainSpec>) -> Option<String> {
        let Some(target) = target else {
            return Some(domain.to_owned());
        };
        let variables = Variables {
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            domain,
            sender_domain: self.root,
            validated: None,
        };
        match target.expand(&variables) {
            Expansion::Name(name) if !target.varies() => Some(name),
            _ => None,
        }
    }
}
