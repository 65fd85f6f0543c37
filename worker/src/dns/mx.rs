//! MX check (RFC 5321, RFC 7505): compares the set of hosts. Preferences matter only between our hosts and others.

use dezky_shared::domain::check::Record;

use super::{
    code::Code,
    evidence::{Evidence, Finding},
    resolver::{Answer, RecordType, Resolver, normalise},
};

/// The most foreign hosts that are looked up.
const MAX_FOREIGN_LOOKUPS: usize = 5;

pub(super) async fn check(resolver: &impl Resolver, domain: &str, expected: &[Record]) -> Finding {
    let mut evidence = Evidence::default();
    let answer = match resolver.lookup(domain, RecordType::MX).await {
        Ok(answer) => answer,
        Err(failure) => return evidence.conclude_failure(failure),
    };
    evidence.add(domain, &answer);
    let hosts = expected_hosts(expected);
    let is_ours = |host: &str| hosts.iter().any(|ours| ours == host);
    let foreign: Vec<&str> = answer
        .exchanges()
        .map(|(_, host)| host)
        .filter(|host| !is_ours(host))
        .collect();
    let code = match foreign.as_slice() {
        _ if answer.values.is_empty() => Code::MxMissing,
        [""] if answer.values.len() == 1 => Code::MxNull,
        foreign if foreign.contains(&"") => Code::MxNullWithOthers,
        foreign if foreign.len() == answer.values.len() => {
            return match host_error(resolver, foreign).await {
                Some((code, host)) => evidence.conclude_about(code, host),
                None => evidence.conclude(Code::MxElsewhere),
            };
        }
        [] if hosts.iter().any(|host| !holds(&answer, host)) => Code::MxIncomplete,
        [] => Code::MxOk,
        _ => mixed_hosts(&answer, is_ours),
    };
    evidence.conclude(code)
}

/// The hosts of the expected records, whose values are `preference host`.
pub(super) fn expected_hosts<'a>(expected: impl IntoIterator<Item = &'a Record>) -> Vec<String> {
    let values = expected.into_iter().map(|record| &record.value);
    values
        .filter_map(|value| value.split_whitespace().last())
        .map(normalise)
        .collect()
}

fn holds(answer: &Answer, host: &str) -> bool {
    answer.exchanges().any(|(_, other)| other == host)
}

/// The code for foreign hosts beside ours. Senders try the lowest preference first.
fn mixed_hosts(answer: &Answer, is_ours: impl Fn(&str) -> bool) -> Code {
    let lowest = |ours: bool| {
        let exchanges = answer.exchanges().filter(|(_, host)| is_ours(host) == ours);
        exchanges.map(|(preference, _)| preference).min()
    };
    if lowest(false) < lowest(true) {
        Code::MxForeignFirst
    } else {
        Code::MxForeignExtra
    }
}

/// The first of these hosts that cannot be an MX host, and why. A failed lookup is not held against a host.
async fn host_error<'a>(resolver: &impl Resolver, hosts: &[&'a str]) -> Option<(Code, &'a str)> {
    for host in hosts.iter().take(MAX_FOREIGN_LOOKUPS) {
        if host.parse::<std::net::IpAddr>().is_ok() {
            return Some((Code::MxAddress, host));
        }
        let Ok(v4) = resolver.lookup(host, RecordType::A).await else {
            continue;
        };
        if !v4.aliases.is_empty() {
            return Some((Code::MxCname, host));
        }
        if v4.values.is_empty() {
            let v6 = resolver.lookup(host, RecordType::AAAA).await;
            if v6.is_ok_and(|v6| v6.values.is_empty()) {
                return Some((Code::MxUnresolvable, host));
            }
        }
    }
    None
}
