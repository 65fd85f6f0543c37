//! The text of an SPF record, taken apart (RFC 7208, sections 4.6, 5, 6 and 12).

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::dns::resolver::normalise;

/// A record whose syntax is right.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SpfRecord {
    pub(super) mechanisms: Vec<Mechanism>,
    pub(super) redirect: Option<Target>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mechanism {
    /// Its qualifier is `+`: who matches may send.
    pub(super) passes: bool,
    pub(super) kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    All,
    Include(Target),
    /// Without a target: the domain that the record is of.
    A(Option<Target>),
    /// As above.
    Mx(Option<Target>),
    Ptr,
    /// `ip4` and `ip6`, which take no lookup.
    Address,
    Exists(Target),
}

/// A domain that a term names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Name(String),
    /// With macros: another for every mail, so it cannot be looked up here.
    Macro,
}

/// Whether a text is an SPF record at all.
pub(super) fn is_spf(text: &str) -> bool {
    let version = text.split(' ').next().unwrap_or_default();
    version.eq_ignore_ascii_case("v=spf1")
}

/// Takes a record apart, or returns the first term that is wrong.
pub(super) fn parse(text: &str) -> Result<SpfRecord, &str> {
    let mut record = SpfRecord {
        mechanisms: Vec::new(),
        redirect: None,
    };
    let mut explained = false;
    for term in text.split(' ').skip(1).filter(|term| !term.is_empty()) {
        match modifier(term) {
            Some((name, value)) if name.eq_ignore_ascii_case("redirect") => {
                let target = target(value).ok_or(term)?;
                if record.redirect.replace(target).is_some() {
                    return Err(term);
                }
            }
            Some((name, value)) if name.eq_ignore_ascii_case("exp") => {
                if target(value).is_none() || std::mem::replace(&mut explained, true) {
                    return Err(term);
                }
            }
            Some((_, value)) => {
                macros(value).ok_or(term)?;
            }
            None => record.mechanisms.push(mechanism(term).ok_or(term)?),
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

fn mechanism(term: &str) -> Option<Mechanism> {
    let (passes, term) = match term.as_bytes().first()? {
        b'+' => (true, &term[1..]),
        b'-' | b'~' | b'?' => (false, &term[1..]),
        _ => (true, term),
    };
    let end = term.find([':', '/']).unwrap_or(term.len());
    let (name, rest) = term.split_at(end);
    let value = rest.strip_prefix(':');
    let kind = match (name.to_ascii_lowercase().as_str(), value) {
        ("all", None) if rest.is_empty() => Kind::All,
        ("include", Some(value)) => Kind::Include(target(value)?),
        ("exists", Some(value)) => Kind::Exists(target(value)?),
        ("ptr", None) if rest.is_empty() => Kind::Ptr,
        ("ptr", Some(value)) => target(value).map(|_| Kind::Ptr)?,
        ("a", _) => Kind::A(target_and_prefixes(rest)?),
        ("mx", _) => Kind::Mx(target_and_prefixes(rest)?),
        ("ip4", Some(value)) => network::<Ipv4Addr>(value, 32)?,
        ("ip6", Some(value)) => network::<Ipv6Addr>(value, 128)?,
        _ => return None,
    };
    Some(Mechanism { passes, kind })
}

/// `:domain/24//64`, each part of which may be missing.
#[expect(clippy::option_option, reason = "a wrong target is not a missing one")]
fn target_and_prefixes(rest: &str) -> Option<Option<Target>> {
    // A slash within a macro is none before a prefix.
    let after_macros = rest.rfind('}').map_or(0, |at| at + 1);
    let slash = rest[after_macros..].find('/').map(|at| at + after_macros);
    let (name, prefixes) = rest.split_at(slash.unwrap_or(rest.len()));
    let (v4, v6) = match prefixes.split_once("//") {
        Some((v4, v6)) => (v4, Some(v6)),
        None => (prefixes, None),
    };
    let v4 = match v4 {
        "" => None,
        v4 => Some(v4.strip_prefix('/')?),
    };
    let are_prefixes =
        v4.is_none_or(|it| is_prefix(it, 32)) && v6.is_none_or(|it| is_prefix(it, 128));
    if !are_prefixes {
        return None;
    }
    match name.strip_prefix(':') {
        Some(name) => target(name).map(Some),
        None => name.is_empty().then_some(None),
    }
}

fn network<A: std::str::FromStr>(value: &str, longest: u8) -> Option<Kind> {
    let (address, prefix) = match value.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (value, None),
    };
    let is_network = address.parse::<A>().is_ok() && prefix.is_none_or(|it| is_prefix(it, longest));
    is_network.then_some(Kind::Address)
}

fn is_prefix(text: &str, longest: u8) -> bool {
    let is_number = text.bytes().all(|digit| digit.is_ascii_digit());
    let has_no_leading_zero = text == "0" || !text.starts_with('0');
    is_number && has_no_leading_zero && text.parse::<u8>().is_ok_and(|length| length <= longest)
}

/// A domain-spec (section 7.1).
fn target(text: &str) -> Option<Target> {
    if macros(text)? {
        return Some(Target::Macro);
    }
    let name = normalise(text);
    let (rest, last) = name.rsplit_once('.')?;
    let is_top_label = !last.is_empty()
        && last
            .bytes()
            .all(|it| it.is_ascii_alphanumeric() || it == b'-')
        && !last.bytes().all(|it| it.is_ascii_digit())
        && !last.starts_with('-')
        && !last.ends_with('-');
    (is_top_label && !rest.is_empty()).then_some(Target::Name(name))
}

/// Whether a macro-string has macros; `None` where it is none.
fn macros(text: &str) -> Option<bool> {
    let mut found = false;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if !first.is_ascii_graphic() {
            return None;
        }
        rest = &rest[1..];
        if first != '%' {
            continue;
        }
        found = true;
        rest = match rest.as_bytes().first()? {
            b'%' | b'_' | b'-' => &rest[1..],
            b'{' => {
                let (inside, after) = rest[1..].split_once('}')?;
                is_macro(inside).then_some(after)?
            }
            _ => return None,
        };
    }
    Some(found)
}

/// A letter, a number of labels, `r` for reversed, and delimiters.
fn is_macro(inside: &str) -> bool {
    let Some(letter) = inside.chars().next() else {
        return false;
    };
    let rest = inside[letter.len_utf8()..].trim_start_matches(|it: char| it.is_ascii_digit());
    let rest = rest.strip_prefix(['r', 'R']).unwrap_or(rest);
    "slodiphcrtv".contains(letter.to_ascii_lowercase())
        && rest.chars().all(|delimiter| ".-+,/_=".contains(delimiter))
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::any, proptest};

    use super::*;

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = parse(&text);
            let _ = parse(&format!("v=spf1 a:{text} %{{{text} mx/{text}//{text} ip6:{text}"));
        }
    }

    #[test]
    fn what_the_grammar_allows_is_accepted() {
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
    fn what_it_does_not_is_named() {
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
    fn redirect_and_exp_stand_at_most_once() {
        assert!(parse("v=spf1 redirect=a.test redirect=b.test").is_err());
        assert!(parse("v=spf1 exp=a.test exp=b.test").is_err());
    }

    #[test]
    fn only_the_exact_version_makes_an_spf_record() {
        assert!(is_spf("v=spf1"));
        assert!(is_spf("V=spf1 -all"));
        assert!(!is_spf("v=spf10 -all"));
        assert!(!is_spf("v=spf1;-all"));
        assert!(!is_spf(" v=spf1 -all"));
        assert!(!is_spf("spf2.0/pra -all"));
    }
}
