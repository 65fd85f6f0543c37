//! Where a domain's mail goes (RFC 5321, 7505): the set of hosts counts, and their order only between ours and others.

use dezky_shared::domain::check::Record;

use super::{
    code::Code,
    finding::{Finding, Seen},
    resolver::{Answer, RecordType, Resolver, normalise},
};

/// The most foreign hosts that are looked up.
const LOOKED_UP: usize = 5;

pub(super) async fn check(resolver: &impl Resolver, domain: &str, expected: &[Record]) -> Finding {
    let mut seen = Seen::default();
    let answer = match resolver.lookup(domain, RecordType::MX).await {
        Ok(answer) => answer,
        Err(failure) => return seen.fails(failure),
    };
    seen.add(domain, &answer);
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
            return match fault(resolver, foreign).await {
                Some((code, host)) => seen.says_about(code, host),
                None => seen.says(Code::MxElsewhere),
            };
        }
        [] if hosts.iter().any(|host| !holds(&answer, host)) => Code::MxIncomplete,
        [] => Code::MxOk,
        _ => beside_ours(&answer, is_ours),
    };
    seen.says(code)
}

/// The hosts of expected records, whose values are preference and host.
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

/// Others stand beside ours. Mail goes to the lowest preference first.
fn beside_ours(answer: &Answer, is_ours: impl Fn(&str) -> bool) -> Code {
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

/// What is wrong with these hosts in themselves, and with which. One that cannot be looked up is foreign all the same.
async fn fault<'a>(resolver: &impl Resolver, hosts: &[&'a str]) -> Option<(Code, &'a str)> {
    for host in hosts.iter().take(LOOKED_UP) {
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
