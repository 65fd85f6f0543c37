//! SPF record parser (RFC 7208, sections 4.6, 5, 6 and 12).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::macros::{DomainSpec, is_macro_string};

/// A record with valid syntax.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SpfRecord {
    pub(super) directives: Vec<Directive>,
    pub(super) redirect: Option<DomainSpec>,
}

/// A mechanism, and the result for clients that match it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Directive {
    pub(super) qualifier: Qualifier,
    pub(super) mechanism: Mechanism,
    /// Its text in the record.
    pub(super) term: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Qualifier {
    Pass,
    Fail,
    SoftFail,
    Neutral,
}

/// Mechanisms without a domain refer to the domain of the record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mechanism {
    All,
    Include(DomainSpec),
    A(Option<DomainSpec>, PrefixLengths),
    Mx(Option<DomainSpec>, PrefixLengths),
    Ptr(Option<DomainSpec>),
    /// `ip4` and `ip6`.
    Network(IpNet),
    Exists(DomainSpec),
}

/// `/24//64`: how many bits of an IPv4 and of an IPv6 address have to match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PrefixLengths {
    v4: u8,
    v6: u8,
}

impl PrefixLengths {
    /// Whether `client` is in the network of `host`.
    pub(super) fn contain(self, host: IpAddr, client: IpAddr) -> bool {
        self.network(host)
            .is_some_and(|network| network.contains(&client))
    }

    /// The network of `host`.
    pub(super) fn network(self, host: IpAddr) -> Option<IpNet> {
        let length = if host.is_ipv4() { self.v4 } else { self.v6 };
        let network = IpNet::new(host, length).ok()?;
        Some(network.trunc())
    }
}

/// Whether a text is an SPF record, valid or not.
pub(super) fn is_spf(text: &str) -> bool {
    let version = text.split(' ').next().unwrap_or_default();
    version.eq_ignore_ascii_case("v=spf1")
}

/// Parses a record, or returns the first term that is invalid.
pub(super) fn parse(text: &str) -> Result<SpfRecord, &str> {
    let mut record = SpfRecord {
        directives: Vec::new(),
        redirect: None,
    };
    let mut explained = false;
    for term in text.split(' ').skip(1).filter(|term| !term.is_empty()) {
        match modifier(term) {
            Some((name, value)) if name.eq_ignore_ascii_case("redirect") => {
                let target = DomainSpec::parse(value).ok_or(term)?;
                if record.redirect.replace(target).is_some() {
                    return Err(term);
                }
            }
            Some((name, value)) if name.eq_ignore_ascii_case("exp") => {
                let is_domain = DomainSpec::parse(value).is_some();
                if !is_domain || std::mem::replace(&mut explained, true) {
                    return Err(term);
                }
            }
            Some((_, value)) if is_macro_string(value) => {}
            Some(_) => return Err(term),
            None => record.directives.push(directive(term).ok_or(term)?),
        }
    }
    Ok(record)
}

fn modifier(term: &str) -> Option<(&str, &str)> {
    let (name, value) = term.split_once('=')?;
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name
            .chars()
            .all(|it| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.'));
    is_name.then_some((name, value))
}

fn directive(text: &str) -> Option<Directive> {
    let (qualifier, term) = match text.as_bytes().first()? {
        b'+' => (Qualifier::Pass, &text[1..]),
        b'-' => (Qualifier::Fail, &text[1..]),
        b'~' => (Qualifier::SoftFail, &text[1..]),
        b'?' => (Qualifier::Neutral, &text[1..]),
        _ => (Qualifier::Pass, text),
    };
    let end = term.find([':', '/']).unwrap_or(term.len());
    let (name, rest) = term.split_at(end);
    let value = rest.strip_prefix(':');
    let mechanism = match (name.to_ascii_lowercase().as_str(), value) {
        ("all", None) if rest.is_empty() => Mechanism::All,
        ("include", Some(value)) => Mechanism::Include(DomainSpec::parse(value)?),
        ("exists", Some(value)) => Mechanism::Exists(DomainSpec::parse(value)?),
        ("ptr", None) if rest.is_empty() => Mechanism::Ptr(None),
        ("ptr", Some(value)) => Mechanism::Ptr(Some(DomainSpec::parse(value)?)),
        ("a", _) => {
            let (domain, prefixes) = domain_and_prefixes(rest)?;
            Mechanism::A(domain, prefixes)
        }
        ("mx", _) => {
            let (domain, prefixes) = domain_and_prefixes(rest)?;
            Mechanism::Mx(domain, prefixes)
        }
        ("ip4", Some(value)) => network::<Ipv4Addr>(value, 32)?,
        ("ip6", Some(value)) => network::<Ipv6Addr>(value, 128)?,
        _ => return None,
    };
    Some(Directive {
        qualifier,
        mechanism,
        term: text.to_owned(),
    })
}

/// `:domain/24//64`, each part optional.
fn domain_and_prefixes(rest: &str) -> Option<(Option<DomainSpec>, PrefixLengths)> {
    // A slash inside a macro does not begin a prefix length.
    let after_macros = rest.rfind('}').map_or(0, |at| at + 1);
    let slash = rest[after_macros..].find('/').map(|at| at + after_macros);
    let (name, prefixes) = rest.split_at(slash.unwrap_or(rest.len()));
    let (v4, v6) = match prefixes.split_once("//") {
        Some((v4, v6)) => (v4, Some(v6)),
        None => (prefixes, None),
    };
    let prefixes = PrefixLengths {
        v4: match v4 {
            "" => 32,
            v4 => prefix_length(v4.strip_prefix('/')?, 32)?,
        },
        v6: match v6 {
            None => 128,
            Some(v6) => prefix_length(v6, 128)?,
        },
    };
    match name.strip_prefix(':') {
        Some(name) => Some((Some(DomainSpec::parse(name)?), prefixes)),
        None => name.is_empty().then_some((None, prefixes)),
    }
}

fn network<A: std::str::FromStr + Into<IpAddr>>(value: &str, longest: u8) -> Option<Mechanism> {
    let (address, length) = match value.split_once('/') {
        Some((address, length)) => (address, prefix_length(length, longest)?),
        None => (value, longest),
    };
    let address: A = address.parse().ok()?;
    let network = IpNet::new(address.into(), length).ok()?;
    Some(Mechanism::Network(network))
}

fn prefix_length(text: &str, longest: u8) -> Option<u8> {
    let is_number = text.bytes().all(|digit| digit.is_ascii_digit());
    let has_no_leading_zero = text == "0" || !text.starts_with('0');
    let length = text.parse().ok().filter(|length| *length <= longest);
    length.filter(|_| is_number && has_no_leading_zero)
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::any, proptest};

    use super::*;

    proptest! {
        #[test]
        fn any_text_can_be_parsed(text in any::<String>()) {
            let _ = parse(&text);
            let _ = parse(&format!("v=spf1 a:{text} %{{{text} mx/{text}//{text} ip6:{text}"));
        }
    }

    #[test]
    fn valid_records_are_accepted() {
        for text in [
            "v=spf1",
            "v=spf1 ",
            "V=SPF1 MX -ALL",
            "v=spf1  mx   -all ",
            "v=spf1 a a:acme.test a/24 a//64 a/24//64 a:acme.test/24//64 mx/0 -all",
            "v=spf1 ip4:192.0.2.1 ip4:192.0.2.0/24 ip6:2001:db8::/32 ip6:::1 -all",
            "v=spf1 ptr ptr:acme.test ?all",
            "v=spf1 exists:%{ir}.%{v}._spf.%{d2} -all",
            "v=spf1 include:%{d1r+/}.acme.test a:%{h}/24 -all",
            "v=spf1 include:_spf.acme.test. redirect=acme.test exp=e.acme.test",
            "v=spf1 unknown=some%%thing other= -all",
        ] {
            assert!(parse(text).is_ok(), "{text}: {:?}", parse(text));
        }
    }

    #[test]
    fn the_first_invalid_term_is_returned() {
        for term in [
            "mxx",
            "include",
            "include:",
            "include:localhost",
            "include:acme.123",
            "include:acme.test-",
            "exists",
            "all:acme.test",
            "ip4:192.0.2.256",
            "ip4:192.0.2.0/33",
            "ip4:192.0.2.0/024",
            "ip4",
            "ip6:192.0.2.1",
            "ip6:2001:db8::/129",
            "a/",
            "a/33",
            "a//129",
            "a:/24",
            "a:%{x}.test",
            "a:%{c}.test",
            "a:%{d0}.test",
            "a:%{d}test",
            "a:%(d).test",
            "a:acme.test%",
            "a:\u{fc}.test",
            "mx,",
            "-",
            "=acme.test",
            "redirect=",
        ] {
            let text = format!("v=spf1 mx {term} -all");

            assert_eq!(parse(&text), Err(term));
        }
    }

    #[test]
    fn redirect_and_exp_occur_at_most_once() {
        assert!(parse("v=spf1 redirect=a.test redirect=b.test").is_err());
        assert!(parse("v=spf1 exp=a.test exp=b.test").is_err());
    }

    #[test]
    fn an_spf_record_begins_with_the_exact_version() {
        assert!(is_spf("v=spf1"));
        assert!(is_spf("V=spf1 -all"));
        assert!(!is_spf("v=spf10 -all"));
        assert!(!is_spf("v=spf1;-all"));
        assert!(!is_spf(" v=spf1 -all"));
        assert!(!is_spf("spf2.0/pra -all"));
    }
}
