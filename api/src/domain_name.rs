//! Mail domain names: normalization, and the policy for names of tenants.
//!
//! Names are stored in a canonical form: lower case, A-labels, no trailing dot (UTS 46, non-transitional). [`unicode`]
//! is the display form.

use std::{collections::BTreeSet, net::IpAddr};

use icu_properties::props::{EnumeratedProperty as _, GeneralCategory, Script};
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

/// Maximum length of a name: that of a DNS name (253) minus the longest label that DNS records of the service prepend.
const MAX_LENGTH: usize = 220;
/// Maximum length of a label (RFC 1035, section 2.3.4).
const MAX_LABEL_LENGTH: usize = 63;

/// Special-use names that cannot be registered (RFC 6761, 6762, 7686, 8375, 9476, and ICANN for `internal`).
const SPECIAL_USE: [&str; 9] = [
    "alt",
    "example",
    "home.arpa",
    "internal",
    "invalid",
    "local",
    "localhost",
    "onion",
    "test",
];
/// Names reserved for documentation (RFC 2606).
const DOCUMENTATION: [&str; 3] = ["example.com", "example.net", "example.org"];

/// Scripts that may be mixed in a label (UTS 39, "highly restrictive").
const COMPATIBLE_SCRIPTS: [&[Script]; 3] = [
    &[
        Script::Latin,
        Script::Han,
        Script::Hiragana,
        Script::Katakana,
    ],
    &[Script::Latin, Script::Han, Script::Bopomofo],
    &[Script::Latin, Script::Han, Script::Hangul],
];

/// Reason for the rejection of a domain name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// The name is too long.
    #[error("A domain must be at most {MAX_LENGTH} characters.")]
    TooLong,
    /// A label is too long.
    #[error("Each label of a domain must be at most {MAX_LABEL_LENGTH} characters.")]
    LabelTooLong,
    /// A label is empty.
    #[error("A domain must not have empty labels.")]
    EmptyLabel,
    /// The name has a wildcard.
    #[error("Wildcards are not supported. Add each domain by its name.")]
    Wildcard,
    /// The name is an IP address.
    #[error("An IP address is not a domain.")]
    IsAddress,
    /// A label starts or ends with a hyphen, or has hyphens as its third and fourth character.
    #[error(
        "A label must not start or end with a hyphen, or have hyphens as its third and fourth character."
    )]
    Hyphens,
    /// A label starts with `xn--` and is not a valid A-label.
    #[error("A label that starts with xn-- is not valid Punycode.")]
    InvalidALabel,
    /// The name has invalid characters.
    #[error("A domain consists of letters, digits, single hyphens and dots.")]
    InvalidCharacters,
    /// A label mixes scripts, as lookalike names do.
    #[error("A label must not mix scripts, such as Latin and Cyrillic.")]
    MixedScripts,
    /// The name is a public suffix.
    #[error("{0} is a public suffix. Use a name registered under it.")]
    PublicSuffix(String),
    /// The top-level domain does not exist.
    #[error("The top-level domain {0} does not exist.")]
    UnknownSuffix(String),
    /// The name is reserved for tests, documentation or local networks.
    #[error("{0} is reserved for special use and cannot exist in the public DNS.")]
    SpecialUse(String),
    /// The name is below `arpa`.
    #[error("Names under arpa are reserved for DNS infrastructure.")]
    Reserved,
    /// The name is one of the domains of the service, or below one.
    #[error("{0} is a domain of this service.")]
    Ours(String),
}

impl InvalidName {
    /// Stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong => "domain_too_long",
            Self::LabelTooLong => "domain_label_too_long",
            Self::EmptyLabel => "domain_empty_label",
            Self::Wildcard => "domain_wildcard",
            Self::IsAddress => "domain_is_address",
            Self::Hyphens => "domain_hyphens",
            Self::InvalidALabel => "domain_invalid_a_label",
            Self::InvalidCharacters => "domain_invalid_characters",
            Self::MixedScripts => "domain_mixed_scripts",
            Self::PublicSuffix(_) => "domain_public_suffix",
            Self::UnknownSuffix(_) => "domain_unknown_suffix",
            Self::SpecialUse(_) => "domain_special_use",
            Self::Reserved => "domain_reserved",
            Self::Ours(_) => "domain_is_ours",
        }
    }
}

/// Policy for the domain names of tenants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamePolicy {
    /// Whether to accept names that cannot exist in the public DNS, for development.
    pub allow_special_use: bool,
    /// Domains of the service. These and the names below them are rejected.
    pub own_domains: Vec<String>,
}

impl NamePolicy {
    /// Normalizes `text` and checks it against the policy.
    pub fn parse(&self, text: &str) -> Result<String, InvalidName> {
        let name = normalise(text)?;
        if let Some(own) = self.own_domains.iter().find(|own| is_within(&name, own)) {
            return Err(InvalidName::Ours(own.clone()));
        }
        if let Some(special) = SPECIAL_USE.iter().find(|special| is_within(&name, special)) {
            return if name == *special {
                Err(InvalidName::PublicSuffix(name))
            } else if self.allow_special_use {
                Ok(name)
            } else {
                Err(InvalidName::SpecialUse(name))
            };
        }
        let is_documentation = DOCUMENTATION.iter().any(|zone| is_within(&name, zone));
        if is_documentation && !self.allow_special_use {
            return Err(InvalidName::SpecialUse(name));
        }
        if is_within(&name, "arpa") {
            return Err(InvalidName::Reserved);
        }
        check_suffix(&name)?;
        Ok(name)
    }
}

/// The canonical form of a name.
pub fn normalise(text: &str) -> Result<String, InvalidName> {
    if text.chars().count() > MAX_LENGTH + 1 {
        return Err(InvalidName::TooLong);
    }
    if text.contains('*') {
        return Err(InvalidName::Wildcard);
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<IpAddr>().is_ok() {
        return Err(InvalidName::IsAddress);
    }
    let name = Uts46::new()
        .to_ascii(
            text.as_bytes(),
            AsciiDenyList::STD3,
            Hyphens::Check,
            DnsLength::Ignore,
        )
        .map_err(|_| classify(text))?;
    let name = name.strip_suffix('.').unwrap_or(&name);
    let labels: Vec<&str> = name.split('.').collect();
    if labels.iter().any(|label| label.is_empty()) {
        return Err(InvalidName::EmptyLabel);
    }
    if labels.iter().any(|label| label.len() > MAX_LABEL_LENGTH) {
        return Err(InvalidName::LabelTooLong);
    }
    if name.len() > MAX_LENGTH {
        return Err(InvalidName::TooLong);
    }
    if labels.last().is_some_and(|last| is_number(last)) {
        return Err(InvalidName::IsAddress);
    }
    unicode(name).split('.').try_for_each(check_label)?;
    Ok(name.to_owned())
}

/// The display form of a name. An ASCII name is its own display form.
pub fn unicode(name: &str) -> String {
    let (unicode, _) =
        Uts46::new().to_unicode(name.as_bytes(), AsciiDenyList::STD3, Hyphens::Check);
    unicode.into_owned()
}

/// Finds the reason why UTS 46 processing failed, which its error does not include.
fn classify(text: &str) -> InvalidName {
    let labels = || text.split(['.', '\u{3002}', '\u{ff0e}', '\u{ff61}']);
    let has_prefix = |label: &str| label.to_lowercase().starts_with("xn--");
    let has_odd_hyphens = |label: &str| {
        label.starts_with('-')
            || label.ends_with('-')
            || label.chars().skip(2).take(2).eq("--".chars())
    };
    if labels().any(|label| has_prefix(label) && label.is_ascii()) {
        InvalidName::InvalidALabel
    } else if labels().any(has_odd_hyphens) {
        InvalidName::Hyphens
    } else {
        InvalidName::InvalidCharacters
    }
}

/// Rejects symbols, emoji and mixed scripts, which UTS 46 accepts and registries do not (RFC 5892).
fn check_label(label: &str) -> Result<(), InvalidName> {
    let is_letter_or_digit = |c: char| {
        matches!(
            GeneralCategory::for_char(c),
            GeneralCategory::LowercaseLetter
                | GeneralCategory::OtherLetter
                | GeneralCategory::ModifierLetter
                | GeneralCategory::NonspacingMark
                | GeneralCategory::SpacingMark
                | GeneralCategory::DecimalNumber
        )
    };
    // The hyphen, the exceptions of RFC 5892, and the joiners, whose context UTS 46 has checked.
    let is_exception = |c: char| {
        matches!(
            c,
            '-' | '\u{b7}'
                | '\u{375}'
                | '\u{5f3}'
                | '\u{5f4}'
                | '\u{6fd}'
                | '\u{6fe}'
                | '\u{f0b}'
                | '\u{200c}'
                | '\u{200d}'
                | '\u{3007}'
                | '\u{30fb}'
        )
    };
    if !label
        .chars()
        .all(|c| is_letter_or_digit(c) || is_exception(c))
    {
        return Err(InvalidName::InvalidCharacters);
    }
    let scripts: BTreeSet<Script> = label
        .chars()
        .map(Script::for_char)
        .filter(|script| !matches!(*script, Script::Common | Script::Inherited))
        .collect();
    let are_compatible =
        |allowed: &&[Script]| scripts.iter().all(|script| allowed.contains(script));
    if scripts.len() > 1 && !COMPATIBLE_SCRIPTS.iter().any(are_compatible) {
        return Err(InvalidName::MixedScripts);
    }
    Ok(())
}

fn check_suffix(name: &str) -> Result<(), InvalidName> {
    let top = || name.rsplit('.').next().unwrap_or(name).to_owned();
    match psl::suffix(name.as_bytes()) {
        Some(suffix) if !suffix.is_known() => Err(InvalidName::UnknownSuffix(top())),
        Some(suffix) if suffix == name.as_bytes() => {
            Err(InvalidName::PublicSuffix(name.to_owned()))
        }
        Some(_) => Ok(()),
        None => Err(InvalidName::UnknownSuffix(top())),
    }
}

/// Whether a host name can be in the public DNS, or is in a zone for tests and documentation, which never resolves.
pub fn is_public_name(name: &str) -> bool {
    let is_in = |zones: &[&str]| zones.iter().any(|zone| is_within(name, zone));
    is_in(&["test", "example"])
        || !is_in(&SPECIAL_USE) && !is_in(&["arpa"]) && check_suffix(name).is_ok()
}

/// Whether a last label makes programs read the name as an IPv4 address (WHATWG URL, "ends in a number").
fn is_number(label: &str) -> bool {
    let is_hex = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    label.bytes().all(|byte| byte.is_ascii_digit()) || label.strip_prefix("0x").is_some_and(is_hex)
}

/// Whether `name` is `zone` or below it.
fn is_within(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> NamePolicy {
        NamePolicy {
            allow_special_use: false,
            own_domains: vec!["dezky.com".to_owned()],
        }
    }

    fn code(text: &str) -> &'static str {
        policy()
            .parse(text)
            .map_or_else(|error| error.code(), |_| "ok")
    }

    #[test]
    fn names_are_normalized() {
        for (text, name) in [
            ("Acme.DK.", "acme.dk"),
            ("Bücher.de", "xn--bcher-kva.de"),
            ("XN--BCHER-KVA.de", "xn--bcher-kva.de"),
            ("bu\u{308}cher.de", "xn--bcher-kva.de"),
            ("straße.de", "xn--strae-oqa.de"),
            ("ａｃｍｅ。dk", "acme.dk"),
            ("\u{212a}elvin.dk", "kelvin.dk"),
            ("食狮.中国", "xn--85x722f.xn--fiqs8s"),
            ("ブログ東京tokyo.jp", "xn--tokyo-0o4dwjqg094xy09b.jp"),
            ("mail.acme.co.uk", "mail.acme.co.uk"),
            ("acme.github.io", "acme.github.io"),
            ("1und1.de", "1und1.de"),
        ] {
            assert_eq!(policy().parse(text).as_deref(), Ok(name), "{text}");
        }
    }

    #[test]
    fn the_display_form_is_unicode() {
        assert_eq!(unicode("xn--bcher-kva.de"), "bücher.de");
        assert_eq!(unicode("acme.dk"), "acme.dk");
    }

    #[test]
    fn invalid_names_are_rejected_with_their_code() {
        let long_label = format!("{}.dk", "a".repeat(64));
        let long = format!("{}dk", "abcdefg.".repeat(28));
        let hostile = "a".repeat(300);
        for (text, expected) in [
            ("", "domain_empty_label"),
            (".", "domain_empty_label"),
            ("acme..dk", "domain_empty_label"),
            (".acme.dk", "domain_empty_label"),
            ("acme.dk..", "domain_empty_label"),
            (hostile.as_str(), "domain_too_long"),
            (long.as_str(), "domain_too_long"),
            (long_label.as_str(), "domain_label_too_long"),
            ("*.acme.dk", "domain_wildcard"),
            ("10.0.0.1", "domain_is_address"),
            ("１０.０.０.１", "domain_is_address"),
            ("::1", "domain_is_address"),
            ("[2001:db8::1]", "domain_is_address"),
            ("0x7f.0x1", "domain_is_address"),
            ("acme.1", "domain_is_address"),
            ("-acme.dk", "domain_hyphens"),
            ("acme-.dk", "domain_hyphens"),
            ("ab--cd.dk", "domain_hyphens"),
            ("💩.la", "domain_invalid_characters"),
            ("xn--ls8h.la", "domain_invalid_characters"),
            ("i❤.ws", "domain_invalid_characters"),
            ("_dmarc.acme.dk", "domain_invalid_characters"),
            ("ac me.dk", "domain_invalid_characters"),
            ("acme.dk/x", "domain_invalid_characters"),
            ("acme.dk:25", "domain_invalid_characters"),
            ("ada@acme.dk", "domain_invalid_characters"),
            ("acme\0.dk", "domain_invalid_characters"),
            ("acme\n.dk", "domain_invalid_characters"),
            ("ac\u{202e}me.dk", "domain_invalid_characters"),
            ("אa.co.il", "domain_invalid_characters"),
            ("xn--acme.dk", "domain_invalid_a_label"),
            ("xn--acme-.dk", "domain_invalid_a_label"),
            ("xn--.dk", "domain_invalid_a_label"),
            ("xn--a.dk", "domain_invalid_a_label"),
            ("xn--zzzzzzzzzzzz.dk", "domain_invalid_a_label"),
            ("раypal.com", "domain_mixed_scripts"),
            ("xn--ypal-43d9g.com", "domain_mixed_scripts"),
            ("αcme.dk", "domain_mixed_scripts"),
            ("dk", "domain_public_suffix"),
            ("co.uk", "domain_public_suffix"),
            ("github.io", "domain_public_suffix"),
            ("foo.ck", "domain_public_suffix"),
            ("中国", "domain_public_suffix"),
            ("intranet", "domain_unknown_suffix"),
            ("acme.notatld", "domain_unknown_suffix"),
            ("acme.test", "domain_special_use"),
            ("acme.localhost", "domain_special_use"),
            ("abc.onion", "domain_special_use"),
            ("nas.home.arpa", "domain_special_use"),
            ("www.example.com", "domain_special_use"),
            ("test", "domain_public_suffix"),
            ("1.168.192.in-addr.arpa", "domain_reserved"),
            ("dezky.com", "domain_is_ours"),
            ("Mail.DEZKY.com.", "domain_is_ours"),
        ] {
            assert_eq!(code(text), expected, "{text:?}");
        }
        assert_eq!(code("notdezky.com"), "ok");
    }

    #[test]
    fn special_use_names_are_accepted_if_the_policy_allows_them() {
        let development = NamePolicy {
            allow_special_use: true,
            ..policy()
        };

        assert_eq!(development.parse("Acme.test").as_deref(), Ok("acme.test"));
        assert_eq!(
            development.parse("example.com").as_deref(),
            Ok("example.com")
        );
        assert_eq!(
            development.parse("test").map_err(|error| error.code()),
            Err("domain_public_suffix")
        );
    }

    proptest! {
        #[test]
        fn normalization_is_idempotent_and_accepts_the_display_form(text in "\\PC{0,40}\\.(dk|com|中国)") {
            if let Ok(name) = policy().parse(&text) {
                prop_assert_eq!(policy().parse(&name), Ok(name.clone()));
                prop_assert_eq!(policy().parse(&unicode(&name)), Ok(name.clone()));
                prop_assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte)));
            }
        }
    }
}
