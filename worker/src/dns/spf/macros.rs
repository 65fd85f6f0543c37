//! Macros in SPF domain names (RFC 7208, section 7).

use std::net::IpAddr;

use crate::dns::resolver::normalise;

/// The longest name in presentation form (section 7.3).
pub(super) const MAX_NAME_LENGTH: usize = 253;

/// A domain-spec: a domain name that may contain macros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DomainSpec(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// `%%`, `%_` and `%-`.
    Escape(&'static str),
    Macro(Macro),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Macro {
    /// Lower case.
    letter: char,
    /// The letter is in upper case in the record: the value is URL-escaped.
    escaped: bool,
    /// Number of the rightmost labels that are kept.
    labels: Option<usize>,
    reversed: bool,
    /// Characters that separate labels; a dot if there are none.
    delimiters: String,
}

/// The values of macros for one SMTP client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Variables<'a> {
    /// The client's address.
    pub(super) address: IpAddr,
    /// The domain whose record is being evaluated.
    pub(super) domain: &'a str,
    /// The domain of the sender's address.
    pub(super) sender_domain: &'a str,
    /// The validated name of the client's address, if it has one.
    pub(super) validated: Option<&'a str>,
}

/// A domain-spec with its macros replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Expansion {
    Name(String),
    /// The name depends on the local part of the sender's address or on the host name in HELO.
    PerMessage,
}

impl DomainSpec {
    /// Parses a domain-spec: it ends with a top-level label or with a macro.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let parts = parse_parts(text, "slodiphv")?;
        let is_complete = match parts.last()? {
            Part::Macro(_) | Part::Escape(_) => true,
            Part::Literal(end) => ends_with_top_label(end, parts.len() > 1),
        };
        is_complete.then_some(Self(parts))
    }

    /// Replaces the macros.
    pub(super) fn expand(&self, variables: &Variables<'_>) -> Expansion {
        let mut name = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(text) => name.push_str(text),
                Part::Escape(text) => name.push_str(text),
                Part::Macro(it) => match it.value(variables) {
                    Some(value) => name.push_str(&value),
                    None => return Expansion::PerMessage,
                },
            }
        }
        let mut name = normalise(&name);
        while self.has_macros() && name.len() > MAX_NAME_LENGTH {
            let Some((_, rest)) = name.split_once('.') else {
                break;
            };
            name = rest.to_owned();
        }
        Expansion::Name(name)
    }

    /// Whether the name depends on the client or the message, so that each sender has another one.
    pub(super) fn varies(&self) -> bool {
        self.macros().any(|it| "sliph".contains(it.letter))
    }

    /// Whether the validated name of the client is needed.
    pub(super) fn needs_validated_name(&self) -> bool {
        self.macros().any(|it| it.letter == 'p')
    }

    fn has_macros(&self) -> bool {
        self.0.iter().any(|part| !matches!(part, Part::Literal(_)))
    }

    fn macros(&self) -> impl Iterator<Item = &Macro> {
        self.0.iter().filter_map(|part| match part {
            Part::Macro(it) => Some(it),
            _ => None,
        })
    }
}

/// Whether a text is a macro-string, as in the value of a modifier.
pub(super) fn is_macro_string(text: &str) -> bool {
    parse_parts(text, "slodiphcrtv").is_some()
}

fn ends_with_top_label(end: &str, follows_macro: bool) -> bool {
    let name = normalise(end);
    let Some((rest, last)) = name.rsplit_once('.') else {
        return false;
    };
    let is_label = last
        .bytes()
        .all(|it| it.is_ascii_alphanumeric() || it == b'-');
    !last.is_empty()
        && is_label
        && !last.bytes().all(|it| it.is_ascii_digit())
        && !last.starts_with('-')
        && !last.ends_with('-')
        && (follows_macro || !rest.is_empty())
}

fn parse_parts(text: &str, letters: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let literal = &rest[..rest.find('%').unwrap_or(rest.len())];
        if !literal.is_empty() {
            if !literal.chars().all(|it| it.is_ascii_graphic()) {
                return None;
            }
            parts.push(Part::Literal(literal.to_owned()));
            rest = &rest[literal.len()..];
            continue;
        }
        let (part, after) = match rest.as_bytes().get(1)? {
            b'%' => (Part::Escape("%"), &rest[2..]),
            b'_' => (Part::Escape(" "), &rest[2..]),
            b'-' => (Part::Escape("%20"), &rest[2..]),
            b'{' => {
                let (inside, after) = rest[2..].split_once('}')?;
                (Part::Macro(Macro::parse(inside, letters)?), after)
            }
            _ => return None,
        };
        parts.push(part);
        rest = after;
    }
    Some(parts)
}

impl Macro {
    /// A letter, a number of labels, `r` for reversed, and delimiters.
    fn parse(inside: &str, letters: &str) -> Option<Self> {
        let first = inside.chars().next()?;
        let letter = first.to_ascii_lowercase();
        let after_letter = &inside[first.len_utf8()..];
        let rest = after_letter.trim_start_matches(|it: char| it.is_ascii_digit());
        let labels = match &after_letter[..after_letter.len() - rest.len()] {
            "" => None,
            // More labels than a name can have are all labels.
            digits => Some(digits.parse::<usize>().unwrap_or(usize::MAX)),
        };
        let delimiters = rest.strip_prefix(['r', 'R']).unwrap_or(rest);
        let is_macro = letters.contains(letter)
            && labels != Some(0)
            && delimiters.chars().all(|it| ".-+,/_=".contains(it));
        is_macro.then(|| Self {
            letter,
            escaped: first.is_ascii_uppercase(),
            labels,
            reversed: delimiters.len() < rest.len(),
            delimiters: delimiters.to_owned(),
        })
    }

    /// Its value, or `None` if that depends on the message.
    fn value(&self, variables: &Variables<'_>) -> Option<String> {
        let value = match self.letter {
            'd' => variables.domain.to_owned(),
            'o' => variables.sender_domain.to_owned(),
            'p' => variables.validated.unwrap_or("unknown").to_owned(),
            'i' => dotted(variables.address),
            'v' if variables.address.is_ipv4() => "in-addr".to_owned(),
            'v' => "ip6".to_owned(),
            _ => return None,
        };
        let is_delimiter = |it: char| match self.delimiters.as_str() {
            "" => it == '.',
            delimiters => delimiters.contains(it),
        };
        let mut labels: Vec<&str> = value.split(is_delimiter).collect();
        if self.reversed {
            labels.reverse();
        }
        let dropped = labels
            .len()
            .saturating_sub(self.labels.unwrap_or(usize::MAX));
        let value = labels[dropped..].join(".");
        Some(if self.escaped {
            url_escaped(&value)
        } else {
            value
        })
    }
}

/// An address as labels: decimal bytes of IPv4, nibbles of IPv6.
fn dotted(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => nibbles(address.octets()).collect::<Vec<_>>().join("."),
    }
}

/// The hexadecimal digits of an IPv6 address.
pub(super) fn nibbles(octets: [u8; 16]) -> impl DoubleEndedIterator<Item = String> {
    octets
        .into_iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|nibble| format!("{nibble:x}"))
}

fn url_escaped(value: &str) -> String {
    let escape = |byte: u8| {
        let character = char::from(byte);
        if character.is_ascii_alphanumeric() || "-._~".contains(character) {
            character.to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    value.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The variables of the examples in RFC 7208, section 7.4, as far as they do not depend on the message.
    fn expand(text: &str, address: &str) -> String {
        let variables = Variables {
            address: address.parse().unwrap(),
            domain: "email.example.com",
            sender_domain: "email.example.com",
            validated: Some("mx.example.org"),
        };
        match DomainSpec::parse(text).unwrap().expand(&variables) {
            Expansion::Name(name) => name,
            Expansion::PerMessage => "per message".to_owned(),
        }
    }

    #[test]
    fn the_examples_of_the_rfc_expand_as_stated() {
        for (text, expanded) in [
            ("%{o}", "email.example.com"),
            ("%{d}", "email.example.com"),
            ("%{d4}", "email.example.com"),
            ("%{d3}", "email.example.com"),
            ("%{d2}", "example.com"),
            ("%{d1}", "com"),
            ("%{dr}", "com.example.email"),
            ("%{d2r}", "example.email"),
            ("%{l}", "per message"),
            (
                "%{ir}.%{v}._spf.%{d2}",
                "3.2.0.192.in-addr._spf.example.com",
            ),
            (
                "%{d2}.trusted-domains.example.net",
                "example.com.trusted-domains.example.net",
            ),
            ("%{p2}.x.test", "example.org.x.test"),
            ("%{h}._spf.%{d}", "per message"),
            ("a%%b.%{d1}", "a%b.com"),
        ] {
            assert_eq!(expand(text, "192.0.2.3"), expanded, "{text}");
        }
        assert_eq!(
            expand("%{ir}.%{v}._spf.%{d2}", "2001:db8::cb01"),
            "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6._spf.example.com"
        );
    }

    #[test]
    fn an_upper_case_letter_escapes_the_value() {
        assert_eq!(expand("%{D}", "192.0.2.3"), "email.example.com");
        assert_eq!(url_escaped("a b/\u{fc}"), "a%20b%2F%C3%BC");
    }

    #[test]
    fn a_name_that_is_too_long_loses_labels_on_the_left() {
        let text = format!("first.{}%{{d}}", "a.".repeat(120));

        let name = expand(&text, "192.0.2.3");

        assert!(name.len() <= MAX_NAME_LENGTH);
        assert!(name.starts_with("a.") && name.ends_with(".a.email.example.com"));
    }
}
