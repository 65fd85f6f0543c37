//! The addresses that mail of our customers is sent from, and strangers to compare them with.
//!
//! Where customers include an SPF record of ours, that record defines our addresses. Otherwise customers authorise their
//! MX hosts, which are ours.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use futures::future::BoxFuture;
use ipnet::IpNet;

use super::{
    evaluate::{Client, EvaluationError, Evaluator, Verdict, fetch_record},
    macros::{DomainSpec, Expansion, Variables},
    record::{Mechanism, Qualifier, SpfRecord},
};
use crate::dns::{
    code::Code,
    resolver::{RecordType, Resolver},
};

/// The most addresses of ours that a record is evaluated for.
const MAX_SENDERS: usize = 16;
/// The most records of ours that are followed.
const MAX_INCLUDES: usize = 10;

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

/// Our sending addresses: those that our own record authorises, or those of our MX hosts.
pub(super) async fn sending_clients(
    resolver: &impl Resolver,
    hosts: &[String],
    include: Option<&str>,
) -> Result<Vec<Client>, EvaluationError> {
    let addresses = match include {
        Some(include) => authorised_addresses(resolver, hosts, include).await?,
        None => host_addresses(resolver, hosts).await?,
    };
    Ok(addresses.into_iter().take(MAX_SENDERS).map(ours).collect())
}

async fn authorised_addresses(
    resolver: &impl Resolver,
    hosts: &[String],
    include: &str,
) -> Result<BTreeSet<IpAddr>, EvaluationError> {
    let record = fetch_record(resolver, include).await?;
    let mut collector = Collector {
        resolver,
        root: include,
        records: 0,
        addresses: BTreeSet::new(),
    };
    collector.add_record(include, &record).await?;
    let mut addresses = collector.addresses;
    // An MX host in a network of the record sends as well.
    let hosts = host_addresses(resolver, hosts).await.unwrap_or_default();
    for address in hosts {
        let evaluation = Evaluator::run(resolver, include, &record, ours(address)).await;
        if evaluation.is_ok_and(|evaluation| evaluation.verdict == Verdict::Pass) {
            addresses.insert(address);
        }
    }
    Ok(addresses)
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

/// Collects the addresses that a record of ours authorises. A network is represented by its first and its last address.
struct Collector<'a, R> {
    resolver: &'a R,
    root: &'a str,
    records: usize,
    addresses: BTreeSet<IpAddr>,
}

impl<R: Resolver> Collector<'_, R> {
    fn add_record<'b>(
        &'b mut self,
        domain: &'b str,
        record: &'b SpfRecord,
    ) -> BoxFuture<'b, Result<(), EvaluationError>> {
        Box::pin(async move {
            self.records += 1;
            let passing = record
                .directives
                .iter()
                .filter(|it| it.qualifier == Qualifier::Pass);
            for directive in passing {
                match &directive.mechanism {
                    Mechanism::Network(IpNet::V4(network)) => {
                        self.addresses.insert(network.network().into());
                        self.addresses.insert(network.broadcast().into());
                    }
                    Mechanism::Network(IpNet::V6(network)) => {
                        self.addresses.insert(network.network().into());
                        self.addresses.insert(network.broadcast().into());
                    }
                    Mechanism::A(target, _) => {
                        if let Some(host) = self.name(domain, target.as_ref()) {
                            self.add_hosts(&[host]).await?;
                        }
                    }
                    Mechanism::Mx(target, _) => {
                        if let Some(name) = self.name(domain, target.as_ref()) {
                            self.add_exchanges(&name).await?;
                        }
                    }
                    Mechanism::Include(target) => self.follow(domain, target).await?,
                    Mechanism::All | Mechanism::Ptr(_) | Mechanism::Exists(_) => {}
                }
            }
            match &record.redirect {
                Some(target) => self.follow(domain, target).await,
                None => Ok(()),
            }
        })
    }

    async fn follow(&mut self, domain: &str, target: &DomainSpec) -> Result<(), EvaluationError> {
        if let Some(name) = self.name(domain, Some(target))
            && self.records < MAX_INCLUDES
        {
            let record = fetch_record(self.resolver, &name).await?;
            self.add_record(&name, &record).await?;
        }
        Ok(())
    }

    async fn add_exchanges(&mut self, name: &str) -> Result<(), EvaluationError> {
        let answer = self.resolver.lookup(name, RecordType::MX).await;
        let answer = answer.map_err(|_| EvaluationError::new(Code::SpfTemperror, name))?;
        let hosts = answer.exchanges().map(|(_, host)| host.to_owned());
        self.add_hosts(&hosts.collect::<Vec<_>>()).await
    }

    async fn add_hosts(&mut self, hosts: &[String]) -> Result<(), EvaluationError> {
        let addresses = host_addresses(self.resolver, hosts).await?;
        self.addresses.extend(addresses);
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
